/* cores.h - on which cores the workers of the thread pool run: what parallel.c asks of cores.c.
 *
 * It must not know: calls, jobs. */
#ifndef FRNN_CORES_H
#define FRNN_CORES_H

#include <pthread.h>

/* By the worker itself, as it begins: it leaves the cores of the thread that made it, which may be few and for a while
 * alone, for those of the process. */
void frnn_take_cores(int worker);

/* Posts to a worker that sleeps. It wakes on another core than the calling thread's where it may use one; the cores
 * that it may use are the same afterwards, or more if the process has got more. */
void frnn_wake_elsewhere(int worker, pthread_cond_t *posted);

#endif
