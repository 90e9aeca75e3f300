/* cores.h - on which cores the workers of the thread pool run: what pool.c asks of cores.c.
 *
 * It must not know: calls, jobs. */
#ifndef FRNN_CORES_H
#define FRNN_CORES_H

#include <pthread.h>

/* A worker gets the cores that the process has when it is made: who makes it notes them before, and the worker takes
 * them as it begins. So it does not inherit its maker's cores, which may be few, and only for a while. */
void frnn_note_cores(int worker);
void frnn_take_cores(int worker);

/* Posts to a worker that sleeps. It wakes on another core than the calling thread's where it may use one; the cores
 * that it may use are the same afterwards, or more if the process has got more. */
void frnn_wake_elsewhere(int worker, pthread_cond_t *posted);

#endif
