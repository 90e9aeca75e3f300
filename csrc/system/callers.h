/* callers.h - the functions of callers.c, which counts the threads that compute, so that pool.c leaves each of them a
 * core.
 *
 * It must not know: jobs, workers. */
#ifndef FRNN_CALLERS_H
#define FRNN_CALLERS_H

/* The calling thread begins a call, or a call within a call, and ends it. */
void frnn_enter_call(void);
void frnn_leave_call(void);

/* Other threads than the calling one that are in calls, or that were when this was asked last, not long ago. */
int frnn_other_callers(void);

/* Cores that callers leave to workers. One caller alone leaves `all`, even if the process has fewer. */
int frnn_cores_left(int all);

/* In a forked child: the calling thread is the only one. */
void frnn_forget_callers(void);

#endif
