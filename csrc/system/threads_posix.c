/* threads_posix.c - threads by POSIX. One of the files with preprocessor conditions.
 *
 * It must not know: calls, jobs. */
#if !defined(_WIN32) && !defined(FRNN_SINGLE)
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "../internal/internal.h"
#include "threads.h"

static pthread_mutex_t mutex;
static pthread_cond_t woken[FRNN_THREADS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void (*work_of[FRNN_THREADS])(int number);
static void (*_Atomic child_begins)(void);
static atomic_int prepared; /* set once the locks are made */

static void make_locks(void) {
  pthread_mutex_init(&mutex, NULL);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
#if !defined(__APPLE__)
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
  for (int i = 0; i < FRNN_THREADS; i++) pthread_cond_init(&woken[i], &attributes);
  pthread_condattr_destroy(&attributes);
}

static void begin_child(void) {
  make_locks();
  void (*begins)(void) = atomic_load(&child_begins);
  begins();
}

static void prepare(void) {
  make_locks();
  pthread_atfork(NULL, NULL, begin_child);
  atomic_store(&prepared, 1);
}

void frnn_prepare_threads(void (*in_child)(void)) {
  if (atomic_load(&prepared)) return; /* all calls but the first, which may be short ones */
  atomic_store(&child_begins, in_child);
  pthread_once(&once, prepare);
}

uintptr_t frnn_this_thread(void) { return (uintptr_t)pthread_self(); }

static void *run(void *numbered) {
  int number = (int)(intptr_t)numbered;
  work_of[number](number);
  return NULL;
}

/* A thread starts with the signal mask of the one that starts it. */
int frnn_start_thread(int number, void (*work)(int number)) {
  sigset_t all, before;
  pthread_t thread;
  work_of[number] = work;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int refused = pthread_create(&thread, NULL, run, (void *)(intptr_t)number);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (!refused) pthread_detach(thread);
  return !refused;
}

int frnn_online_cores(void) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  return cores < 1 ? 1 : (int)cores;
}

void frnn_yield(void) { sched_yield(); }

void frnn_lock(void) { pthread_mutex_lock(&mutex); }
void frnn_unlock(void) { pthread_mutex_unlock(&mutex); }

/* The wall clock may be set back during the wait, so it does not decide. */
void frnn_sleep(int number, int64_t nanoseconds) {
  struct timespec time = {0, 0};
  if (nanoseconds == 0) {
    pthread_cond_wait(&woken[number], &mutex);
    return;
  }
#if defined(__APPLE__)
  time = (struct timespec){nanoseconds / 1000000000, nanoseconds % 1000000000};
  pthread_cond_timedwait_relative_np(&woken[number], &mutex, &time);
#else
  clock_gettime(CLOCK_MONOTONIC, &time);
  nanoseconds += time.tv_nsec;
  time = (struct timespec){time.tv_sec + nanoseconds / 1000000000, nanoseconds % 1000000000};
  pthread_cond_timedwait(&woken[number], &mutex, &time);
#endif
}

void frnn_wake(int number) { pthread_cond_signal(&woken[number]); }

#endif
