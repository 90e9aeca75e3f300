/* pool.c - the thread pool: a few workers that wait for one job at a time. One of the files with preprocessor
 * conditions; single.c is for systems without threads.
 *
 * A job is a task and a number of parts. A thread first takes the part with its own number. The caller, after its own
 * part, takes those that nobody has begun, at once or some moments later; if there are more parts than threads, workers
 * do so too. So a part runs on the same thread step after step, and finds its data in that core's cache. The caller
 * waits for a worker only if it is in the middle of a part, not if it wakes late or has lost its core to another
 * process. Threads do not read the state of each other's parts before, for such a read moves a line between caches.
 * Workers spin for a bounded time, then sleep. If another caller has the pool, a caller does all parts itself.
 *
 * A child after fork has one thread, the one that forked, and starts with an empty pool. If that thread is in the
 * middle of a call, for a signal's handler forked, it goes on with the call alone. If other threads were computing
 * parts of a job, the child has lost these parts, and the call ends with FRNN_FORKED.
 *
 * Results do not depend on the thread that takes a part: no two parts add to the same sum.
 *
 * It must not know: cells, layouts, operating systems, Python. */
#if !defined(FRNN_SINGLE)
#include "cores.h"
#include "run.h"
#include "threads.h"

/* Workers spin for some 100 us after a call, and for some 2 ms between two jobs of a call, while the caller computes
 * alone. After 25 us they yield the core now and then to other threads. Work is counted in multiply-adds, some 50 of
 * which are a nanosecond. A job costs 0.3 us if workers are awake. If they sleep, the caller takes 5 us to wake one,
 * which starts after 20 to 30 us. */
enum {
  SPINS_FOR_A_WORKER = 32, /* in which a worker may begin its part */
  SPINS_ALONE = 1000,
  SPINS = 4000,
  SPINS_IN_A_CALL = 80000,
  WORTH_A_JOB = 40000,
  WORTH_WAKING = 2500000,
  LINE = 64
};

/* The current job. Its number, its parts and the threads it may use are in one word, so that a thread reads them
 * together. The other fields are read after taking a part, while the job cannot end. */
static struct {
  _Atomic uint64_t word; /* number << 16 | parts - 1 << 8 | threads - 1 */
  frnn_task *task;
  void *context;
  frnn_run *run;
  _Alignas(LINE) _Atomic uint64_t done; /* parts that workers have done, of all jobs */
} job;

/* For each part the number of the last job in which it was taken. A thread takes a part by raising this to the job's
 * number. */
static struct {
  _Alignas(LINE) _Atomic uint64_t number;
} taken[FRNN_PARTS];

static atomic_int threads_of_process = 1;
static _Thread_local int threads_here; /* 0: as many as the process may use */

static _Thread_local frnn_run *holder; /* the call of this thread that has the pool, if one has */
static atomic_flag busy = ATOMIC_FLAG_INIT;
static atomic_int workers; /* started; changed only by the thread that holds `busy` */

static atomic_int in_a_call;
static atomic_int sleeps[FRNN_THREADS]; /* by the threads' numbers: the caller has 0, workers count from 1 */

static uint64_t number_of(uint64_t word) { return word >> 16; }
static int parts_of(uint64_t word) { return (int)(word >> 8 & 0xff) + 1; }
static int threads_of(uint64_t word) { return (int)(word & 0xff) + 1; }

/* Pauses between two reads of an awaited value: briefly, and after some time by yielding the core now and then. */
static void pause_after(int looks) {
  if (looks >= SPINS_ALONE && looks % 64 == 0) frnn_yield();
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Only one thread can take a part of a job, and none a part of a job that has ended. */
static int take(int part, uint64_t number) {
  uint64_t last = atomic_load(&taken[part].number);
  return last < number && atomic_compare_exchange_strong(&taken[part].number, &last, number);
}

/* Does a part unless another thread has taken it; returns 1 if it did. If the task forked, `job` may belong to a later
 * call when it returns: nothing here reads it after the task. */
static int do_part(int part, uint64_t word, frnn_environment *environment) {
  if (!take(part, number_of(word))) return 0;
  if (environment && !same_environment(environment, &job.run->environment)) {
    *environment = job.run->environment;
    set_environment(environment);
  }
  if (!frnn_stopped(job.run)) job.task(job.context, part, parts_of(word));
  return 1;
}

static int do_others(int thread, uint64_t word, frnn_environment *environment) {
  int parts = parts_of(word), done = 0;
  for (int i = 1; i < parts; i++) done += do_part((thread + i) % parts, word, environment);
  return done;
}

static void do_as_worker(int thread, uint64_t word, frnn_environment *environment) {
  if (thread >= parts_of(word) || thread >= threads_of(word)) return;
  int done = do_part(thread, word, environment);
  if (parts_of(word) > threads_of(word)) done += do_others(thread, word, environment);
  if (done == 0) return;
  atomic_fetch_add(&job.done, (uint64_t)done);
  if (!atomic_load(&sleeps[0])) return;
  frnn_lock();
  frnn_wake(0);
  frnn_unlock();
}

/* The next job after the one seen. */
static uint64_t await_job(int thread, uint64_t seen) {
  uint64_t word;
  for (;;) {
    for (int spins = 0; spins < (atomic_load(&in_a_call) ? SPINS_IN_A_CALL : SPINS); spins++) {
      word = atomic_load(&job.word);
      if (word != seen) return word;
      pause_after(spins);
    }
    frnn_lock();
    atomic_store(&sleeps[thread], 1);
    if (atomic_load(&job.word) != seen) atomic_store(&sleeps[thread], 0);
    while (atomic_load(&sleeps[thread])) frnn_sleep(thread, 0);
    frnn_unlock();
  }
}

static void work(int thread) {
  uint64_t word = 0;
  frnn_environment environment;
  keep_environment(&environment);
  frnn_take_cores(thread);
  for (;;) {
    word = await_job(thread, word);
    do_as_worker(thread, word, &environment);
  }
}

/* In a child: takes the pool from the call that this thread is in the middle of. */
static void leave_pool(frnn_run *run) {
  if (run->shared) atomic_store(&run->stop, FRNN_FORKED);
  run->has_pool = run->shared = 0;
  holder = NULL;
}

/* A forked child has the forking thread and no other. Other threads went on while its memory was copied, so `taken` and
 * `job` need not agree: a part may seem taken in a job yet to come, or free in one that is over. So all parts are
 * marked as taken in the last job: they are free in the next. */
static void begin_afresh(void) {
  uint64_t number = number_of(atomic_load(&job.word));
  atomic_store(&job.word, number << 16); /* the job has one part, which the caller does */
  for (int part = 0; part < FRNN_PARTS; part++) atomic_store(&taken[part].number, number);
  atomic_store(&workers, 0);
  for (int thread = 0; thread < FRNN_THREADS; thread++) atomic_store(&sleeps[thread], 0);
  atomic_store(&in_a_call, 0);
  if (holder) leave_pool(holder);
  atomic_flag_clear(&busy);
}

/* Starts workers up to a number; fewer if the system refuses. */
static void start_workers(int count) {
  for (; workers < count; workers++) {
    frnn_note_cores(workers + 1);
    if (!frnn_start_thread(workers + 1, work)) break;
  }
}

static int asleep(int count) {
  for (int i = 1; i <= count; i++)
    if (i > workers || atomic_load(&sleeps[i])) return 1;
  return 0;
}

static void wake(int count) {
  if (workers < count) start_workers(count);
  for (int i = 1; i <= workers && i <= count; i++) {
    if (!atomic_load(&sleeps[i])) continue;
    frnn_lock();
    atomic_store(&sleeps[i], 0);
    frnn_wake_elsewhere(i);
    frnn_unlock();
  }
}

/* Waits until workers have done so many parts in all, or until this is a forked child, which has no workers. */
static void wait_until(frnn_run *run, uint64_t done) {
  for (int spins = 0; spins < SPINS && run->shared; spins++) {
    if (atomic_load(&job.done) == done) return;
    pause_after(spins);
  }
  frnn_lock();
  atomic_store(&sleeps[0], 1);
  while (run->shared && atomic_load(&job.done) != done) {
    frnn_sleep(0, POLL_NANOSECONDS);
    if (atomic_load(&job.done) == done) break;
    frnn_unlock(); /* `interrupted` may take long */
    poll_run(run);
    frnn_lock();
  }
  atomic_store(&sleeps[0], 0);
  frnn_unlock();
}

/* Does the caller's own part and those that workers do not begin, then waits for the others. `before`: parts of earlier
 * jobs that workers have done. */
static void do_as_caller(frnn_run *run, uint64_t word, uint64_t before) {
  uint64_t done = before + (uint64_t)parts_of(word) - (uint64_t)do_part(0, word, NULL);
  int spins = parts_of(word) > threads_of(word) ? SPINS_FOR_A_WORKER : 0;
  for (; spins < SPINS_FOR_A_WORKER && atomic_load(&job.done) != done; spins++) pause_after(spins);
  if (atomic_load(&job.done) != done) done -= (uint64_t)do_others(0, word, NULL);
  wait_until(run, done);
}

void frnn_set_threads(int n) { atomic_store(&threads_of_process, n < 1 ? 1 : n > FRNN_THREADS ? FRNN_THREADS : n); }

void frnn_set_threads_here(int n) { threads_here = n < 0 ? 0 : n > FRNN_THREADS ? FRNN_THREADS : n; }

int frnn_threads(void) { return threads_here ? threads_here : atomic_load(&threads_of_process); }

/* The number of workers that pay for a job of so much work and so many parts. */
static int workers_for(double work, int parts, int threads) {
  int others = (parts < threads ? parts : threads) - 1;
  return work < WORTH_WAKING && asleep(others) ? 0 : others;
}

void frnn_begin(frnn_run *run, double work, int parts, int (*interrupted)(void)) {
  begin_run(run, work, interrupted);
  run->caller = frnn_this_thread();
  run->shared = 0;
  if (work < WORTH_A_JOB || parts < 2) return;
  run->threads = frnn_threads();
  int others = workers_for(work, parts, run->threads);
  if (others < 1) return;
  frnn_prepare_threads(begin_afresh);
  if (atomic_flag_test_and_set(&busy)) return;
  run->has_pool = 1;
  holder = run;
  atomic_store(&in_a_call, 1);
  wake(others);
}

int frnn_stopped(frnn_run *run) {
  if (run->interrupted && run->caller == frnn_this_thread()) poll_run(run);
  return atomic_load_explicit(&run->stop, memory_order_relaxed);
}

int frnn_end(frnn_run *run) {
  if (run->has_pool) {
    holder = NULL;
    atomic_store(&in_a_call, 0);
    atomic_flag_clear(&busy);
  }
  set_environment(&run->callers);
  return atomic_load(&run->stop);
}

void frnn_flush_subnormals(frnn_run *run) { flush_run(run); }

void frnn_parallel(frnn_run *run, double work, frnn_task *task, void *context, int parts) {
  int others = run->has_pool && work >= WORTH_A_JOB ? workers_for(work, parts, run->threads) : 0;
  if (others < 1) {
    do_alone(run, task, context, parts);
    return;
  }
  job.task = task;
  job.context = context;
  job.run = run;
  uint64_t number = number_of(atomic_load(&job.word)) + 1, before = atomic_load(&job.done);
  uint64_t word = number << 16 | (uint64_t)(parts - 1) << 8 | (uint64_t)(run->threads - 1);
  run->shared = 1;
  atomic_store_explicit(&job.word, word, memory_order_release); /* a worker that wake() misses is not waited for */
  wake(others);
  do_as_caller(run, word, before);
  run->shared = 0;
}

#endif
