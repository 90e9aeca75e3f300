/* cores.h - the functions of cores.c, by which pool.c chooses the cores of its workers.
 *
 * It must not know: calls, jobs. */
#ifndef FRNN_CORES_H
#define FRNN_CORES_H

/* A worker gets the cores that the process has when it starts: frnn_note_cores notes them in the thread that starts it,
 * and the worker takes them first. So it does not inherit the cores of that thread, which may be few, or few for a
 * while. */
void frnn_note_cores(int worker);
void frnn_take_cores(int worker);

/* Wakes a worker that sleeps, on another core than the calling thread's if it may use one. Its cores are the same
 * afterwards, or more if the process has got more. */
void frnn_wake_elsewhere(int worker);

/* Moves an awake worker from a core to another one, if it may use one. Its cores are the same afterwards. */
void frnn_move_elsewhere(int worker, int core);

/* The core of the calling thread; -1 if the system does not tell. */
int frnn_core(void);

/* The number of cores of the process when a worker was started or woken last; before, when first asked. */
int frnn_cores(void);

#endif
