/* cores.c - chooses the cores on which the workers of the thread pool run, on Linux alone; other systems choose
 * themselves. One of the files with preprocessor conditions.
 *
 * The cores of a process are those of its main thread, as in Linux' own tools. A worker gets them when it starts, and
 * gets more when the process does. If somebody else changed a worker's cores, it keeps these.
 *
 * It must not know: calls, jobs. */
#define _GNU_SOURCE /* for sets of cores */
#if !defined(FRNN_SINGLE)
#include "cores.h"
#include "threads.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../internal/internal.h"

/* By the workers' numbers: the thread's id, and the cores that this file gave it. Another thread reads them only after
 * the worker has begun to wait for its first job: pool.c does not know its place or its sleep before. */
static struct {
  int id;
  cpu_set_t given;
} workers[FRNN_THREADS];

static int cores_of(int id, cpu_set_t *cores) { return sched_getaffinity(id, sizeof *cores, cores) == 0; }

static atomic_int count; /* of the cores of the process; 0: not counted yet */

static int cores_of_process(cpu_set_t *cores) {
  int known = cores_of(getpid(), cores);
  atomic_store(&count, known ? CPU_COUNT(cores) : frnn_online_cores());
  return known;
}

int frnn_cores(void) {
  cpu_set_t cores;
  if (atomic_load_explicit(&count, memory_order_relaxed) == 0) cores_of_process(&cores);
  return atomic_load_explicit(&count, memory_order_relaxed);
}

void frnn_note_cores(int worker) {
  cpu_set_t *given = &workers[worker].given;
  if (!cores_of_process(given)) cores_of(0, given);
}

void frnn_take_cores(int worker) {
  cpu_set_t *given = &workers[worker].given;
  workers[worker].id = (int)syscall(SYS_gettid);
  sched_setaffinity(0, sizeof *given, given);
  cores_of(0, given); /* the cores that the system granted */
}

/* Adds to a worker's cores those that the process got since, if the worker still has the cores that this file gave
 * it. */
static void widen(int worker, cpu_set_t *cores) {
  cpu_set_t process, common, *given = &workers[worker].given;
  if (!cores_of_process(&process) || !CPU_EQUAL(cores, given)) return;
  CPU_AND(&common, &process, cores);
  if (CPU_EQUAL(&common, cores)) *cores = *given = process;
}

int frnn_core(void) { return sched_getcpu(); }

/* Takes a core from a worker for as long as `wake` lasts, if it may use others. */
static void do_elsewhere(int worker, int core, void (*wake)(int worker)) {
  cpu_set_t cores, others;
  int id = workers[worker].id, moves = cores_of(id, &cores);
  if (moves) {
    if (wake) widen(worker, &cores);
    others = cores;
    if (core >= 0 && core < CPU_SETSIZE) CPU_CLR((size_t)core, &others);
    if (CPU_COUNT(&others) > 0) sched_setaffinity(id, sizeof others, &others);
  }
  if (wake) wake(worker);
  if (moves) sched_setaffinity(id, sizeof cores, &cores);
}

/* A sleeping worker is often woken on its waker's own core, and the system is slow to part the two: meanwhile a call
 * takes longer than alone. So while it is woken it may use any core but this one; then it gets its own cores back. */
void frnn_wake_elsewhere(int worker) { do_elsewhere(worker, frnn_core(), frnn_wake); }

void frnn_move_elsewhere(int worker, int core) { do_elsewhere(worker, core, NULL); }

#else

int frnn_cores(void) { return frnn_online_cores(); }

void frnn_note_cores(int worker) { (void)worker; }
void frnn_take_cores(int worker) { (void)worker; }

int frnn_core(void) { return -1; }

void frnn_wake_elsewhere(int worker) { frnn_wake(worker); }

void frnn_move_elsewhere(int worker, int core) { (void)worker, (void)core; }

#endif
#endif
