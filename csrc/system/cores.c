/* cores.c - on which cores the workers of the thread pool run. One of the places with preprocessor conditions:
 * systems other than Linux are left to decide themselves.
 *
 * The cores of a process are those of its main thread, as Linux' tools have it. A worker has them when it is made, and
 * gets more when the process does; but cores that somebody gave a worker on purpose it keeps.
 *
 * It must not know: calls, jobs. */
#define _GNU_SOURCE /* for sets of cores */
#if !defined(_WIN32) && !defined(FRNN_SINGLE)
#include "cores.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../internal/internal.h"

/* By the workers' numbers: the system's, and the cores that the worker was given here. Nobody reads them before the
 * worker sleeps for the first time. */
static struct {
  int id;
  cpu_set_t given;
} workers[FRNN_THREADS];

static int cores_of(int id, cpu_set_t *cores) { return sched_getaffinity(id, sizeof *cores, cores) == 0; }

void frnn_note_cores(int worker) {
  cpu_set_t *given = &workers[worker].given;
  if (!cores_of(getpid(), given)) cores_of(0, given);
}

void frnn_take_cores(int worker) {
  cpu_set_t *given = &workers[worker].given;
  workers[worker].id = (int)syscall(SYS_gettid);
  sched_setaffinity(0, sizeof *given, given);
  cores_of(0, given); /* what came of it */
}

/* The cores that a worker is to have, in place of those that it has. */
static void widen(int worker, cpu_set_t *cores) {
  cpu_set_t process, common, *given = &workers[worker].given;
  if (!CPU_EQUAL(cores, given) || !cores_of(getpid(), &process)) return;
  CPU_AND(&common, &process, cores);
  if (CPU_EQUAL(&common, cores)) *cores = *given = process;
}

/* A sleeping worker is often woken on its waker's own core, and the system is slow to part the two: meanwhile a call
 * takes longer than alone. So it is woken with leave to use any core but this one, and gets its own cores back at once.
 */
void frnn_wake_elsewhere(int worker, pthread_cond_t *posted) {
  cpu_set_t cores, others;
  int id = workers[worker].id, moves = cores_of(id, &cores), core = sched_getcpu();
  if (moves) {
    widen(worker, &cores);
    others = cores;
    if (core >= 0 && core < CPU_SETSIZE) CPU_CLR((size_t)core, &others);
    if (CPU_COUNT(&others) > 0) sched_setaffinity(id, sizeof others, &others);
  }
  pthread_cond_signal(posted);
  if (moves) sched_setaffinity(id, sizeof cores, &cores);
}

#else

void frnn_note_cores(int worker) { (void)worker; }
void frnn_take_cores(int worker) { (void)worker; }

void frnn_wake_elsewhere(int worker, pthread_cond_t *posted) {
  (void)worker;
  pthread_cond_signal(posted);
}

#endif
#endif
