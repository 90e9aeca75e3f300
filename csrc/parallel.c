/* parallel.c - the thread pool: a few workers that wait for one job at a time. One of the three places with
 * preprocessor conditions.
 *
 * A job is a task and a number of parts. Whoever is free takes the next part: the caller itself, and workers as they
 * wake. So a worker that wakes late costs nothing, its parts having been done, and a job ends when its parts have.
 * Workers spin for a bounded while, then sleep. A caller that finds the pool busy does all parts itself; so does a
 * child after fork, whose pool starts afresh.
 *
 * Which part a thread takes never shows in a result: parts share no sum.
 *
 * It must not know: cells, layouts, Python. */
#include "internal.h"

#if defined(_WIN32)

void frnn_set_threads(int n) { (void)n; }
int frnn_threads(void) { return 1; }
void frnn_parallel(frnn_task *task, void *context, int parts) {
  for (int part = 0; part < parts; part++) task(context, part, parts);
}

#else

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

enum { WORKERS_MOST = 255, SPINS = 4000 };

/* The job in hand. Generation, parts and the next part stand in one word, so that a part is taken only of the job it
 * was seen in: the other fields are read after taking it, when the job cannot end. */
static struct {
  _Atomic uint64_t word; /* generation << 32 | parts << 16 | next */
  frnn_task *task;
  void *context;
  fenv_t environment; /* of the caller: workers compute in it */
  _Atomic int done;
} job;

static atomic_int wanted = 1; /* threads a call may use, its own included */
static atomic_flag busy = ATOMIC_FLAG_INIT;
static int workers; /* started; changed only by who holds `busy` */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t posted = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;
static atomic_int sleepers, caller_sleeps;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t generation_of(uint64_t word) { return (uint32_t)(word >> 32); }
static int parts_of(uint64_t word) { return (int)(word >> 16 & 0xffff); }
static int next_of(uint64_t word) { return (int)(word & 0xffff); }

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Takes and does parts until none is left. */
static void do_parts(int is_worker) {
  uint64_t word = atomic_load(&job.word);
  while (next_of(word) < parts_of(word)) {
    if (!atomic_compare_exchange_weak(&job.word, &word, word + 1)) continue;
    int parts = parts_of(word);
    if (is_worker) fesetenv(&job.environment);
    job.task(job.context, next_of(word), parts);
    if (atomic_fetch_add(&job.done, 1) + 1 == parts && atomic_load(&caller_sleeps)) {
      pthread_mutex_lock(&mutex);
      pthread_cond_signal(&finished);
      pthread_mutex_unlock(&mutex);
    }
    word = atomic_load(&job.word);
  }
}

static void *work(void *unused) {
  uint32_t seen = 0;
  (void)unused;
  for (;;) {
    int spins = 0;
    while (generation_of(atomic_load(&job.word)) == seen && spins < SPINS) {
      pause_briefly();
      spins++;
    }
    if (spins == SPINS) {
      pthread_mutex_lock(&mutex);
      atomic_fetch_add(&sleepers, 1);
      while (generation_of(atomic_load(&job.word)) == seen) pthread_cond_wait(&posted, &mutex);
      atomic_fetch_sub(&sleepers, 1);
      pthread_mutex_unlock(&mutex);
    }
    seen = generation_of(atomic_load(&job.word));
    do_parts(1);
  }
  return NULL;
}

/* A forked child has the forking thread and no other. */
static void begin_afresh(void) {
  pthread_mutex_init(&mutex, NULL);
  pthread_cond_init(&posted, NULL);
  pthread_cond_init(&finished, NULL);
  atomic_store(&job.word, 0);
  atomic_store(&sleepers, 0);
  atomic_store(&caller_sleeps, 0);
  workers = 0;
  atomic_flag_clear(&busy);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, begin_afresh); }

/* Starts workers up to a number; carries on with fewer where the system refuses. Signals are the caller's. */
static void start_workers(int count) {
  sigset_t all, before;
  pthread_once(&once, watch_forks);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (; workers < count; workers++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) != 0) break;
    pthread_detach(thread);
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void wait_for(int parts) {
  for (int spins = 0; spins < SPINS; spins++) {
    if (atomic_load(&job.done) == parts) return;
    pause_briefly();
  }
  pthread_mutex_lock(&mutex);
  atomic_store(&caller_sleeps, 1);
  while (atomic_load(&job.done) != parts) pthread_cond_wait(&finished, &mutex);
  atomic_store(&caller_sleeps, 0);
  pthread_mutex_unlock(&mutex);
}

void frnn_set_threads(int n) { atomic_store(&wanted, n < 1 ? 1 : n > WORKERS_MOST + 1 ? WORKERS_MOST + 1 : n); }

int frnn_threads(void) { return atomic_load(&wanted); }

void frnn_parallel(frnn_task *task, void *context, int parts) {
  if (parts <= 1 || atomic_flag_test_and_set(&busy)) {
    for (int part = 0; part < parts; part++) task(context, part, parts);
    return;
  }
  int threads = frnn_threads();
  if (workers < threads - 1) start_workers(threads - 1);
  job.task = task;
  job.context = context;
  fegetenv(&job.environment);
  atomic_store(&job.done, 0);
  uint64_t generation = generation_of(atomic_load(&job.word)) + 1u;
  if ((uint32_t)generation == 0) generation = 1;
  atomic_store(&job.word, generation << 32 | (uint64_t)parts << 16);
  if (atomic_load(&sleepers) > 0) {
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&posted);
    pthread_mutex_unlock(&mutex);
  }
  do_parts(0);
  wait_for(parts);
  atomic_flag_clear(&busy);
}

#endif
