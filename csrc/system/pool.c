/* pool.c - the thread pool: a few workers that wait for one job at a time. One of the files with preprocessor
 * conditions; single.c is for systems without threads.
 *
 * A job is a task and a number of parts. Its parts are in groups, and a group's parts are done turn by turn: no part of
 * a turn begins before all parts of the turn before are done. Groups do not wait for one another. The thread that does
 * the last part of a turn prepares the next one. Jobs without turns have groups of one part, and one turn.
 *
 * A thread first takes the part with its own number. If it has to wait, it takes parts of its group that nobody has
 * begun. The caller, when its group is over, does so with all groups; if there are more parts than threads, workers do
 * so too. So a part runs on the same thread turn after turn, and finds its data in that core's cache. Nobody waits for
 * a worker that wakes late or has lost its core to another process, unless it is in the middle of a part. Workers spin
 * for a bounded time, then sleep. If another caller has the pool, a caller does all parts itself. If several callers
 * compute, they have no more workers than there are cores left.
 *
 * A child after fork has one thread, the one that forked, and starts with an empty pool. If that thread is in the
 * middle of a call, for a signal's handler forked, it goes on with the call alone. If other threads were computing
 * parts of a job, the child has lost these parts, and the call ends with FRNN_FORKED.
 *
 * Results do not depend on the thread that takes a part: no two parts add to the same sum.
 *
 * It must not know: cells, layouts, operating systems, Python. */
#if !defined(FRNN_SINGLE)
#include "callers.h"
#include "cores.h"
#include "run.h"
#include "threads.h"

/* Workers spin for some 100 us after a call, and for some 2 ms between two jobs of a call, while the caller computes
 * alone. After 25 us they yield the core now and then to other threads. Work is counted in multiply-adds, some 50 of
 * which are a nanosecond. A job costs 0.3 us if workers are awake. If they sleep, the caller takes 5 us to wake one,
 * which starts after 20 to 30 us. */
enum {
  PATIENCE = 64,           /* spins that others leave a thread to begin its part */
  SPINS_TO_TRY = 256,      /* from one look for a part that nobody has begun to the next */
  SPINS_OF_A_CORE = 64,    /* from one look on which core a worker is to the next */
  SPINS_ALONE = 1000,      /* before a spinning thread first yields */
  SPINS = 4000,            /* before a thread sleeps: a worker after a call, the caller within a job */
  SPINS_IN_A_CALL = 80000, /* before a worker sleeps within a call */
  WORTH_A_JOB = 40000,     /* multiply-adds of a job for workers that are awake */
  WORTH_WAKING = 2500000,  /* multiply-adds of a job for workers that sleep */
  LINE = 64                /* bytes of a line of the cache */
};

/* A ticket names one turn of one group: they grow from job to job, and from turn to turn.
 *
 * The current job. Its first ticket, its parts and its groups are in one word, so that a thread reads them together.
 * The other fields are read after taking a part, for until the part is done the job cannot end. `threads` alone is read
 * earlier, and may then be that of a later job: it decides who helps, not what is computed. */
static struct {
  _Atomic uint64_t word; /* first ticket << 16 | parts - 1 << 8 | parts of a group - 1 */
  atomic_int threads;    /* that it may use */
  frnn_task *task;
  frnn_next_turn *next;
  void *context;
  frnn_run *run;
} job;
static uint64_t last_ticket; /* of all jobs; changed only by the thread that holds `busy` */

/* The current turn of each group: its ticket << 1; after the last turn the next ticket << 1, plus 1. Below it, the
 * number of its parts that are not done. They are in one word because the last part's thread then needs no second line
 * of the cache. */
enum { LEFT_BITS = 9 };
static struct {
  _Alignas(LINE) _Atomic uint64_t state; /* turn << LEFT_BITS | parts left */
} groups[FRNN_PARTS];

static uint64_t turn_of_group(int group) { return atomic_load(&groups[group].state) >> LEFT_BITS; }

static void begin_turn(int group, uint64_t turn, int parts) {
  atomic_store(&groups[group].state, turn << LEFT_BITS | (uint64_t)parts);
}

/* For each part the last ticket with which it was taken. A thread takes a part by raising this to the turn's ticket. */
static struct {
  _Alignas(LINE) _Atomic uint64_t ticket;
} taken[FRNN_PARTS];

static atomic_int threads_of_process = 1;
static _Thread_local int threads_here; /* 0: as many as the process may use */

static _Thread_local frnn_run *holder; /* the call of this thread that has the pool, if one has */
static atomic_int busy;                /* a call has the pool */
static atomic_int workers;             /* started; changed only by the thread that holds `busy` */

static atomic_int in_a_call;
static atomic_int sleeps[FRNN_THREADS]; /* by the threads' numbers: the caller has 0, workers count from 1 */
static atomic_int sleepers;             /* threads that sleep in the middle of a job */

/* For each worker 1 + the core on which it looked for a job last; 0 if it was sent away from there since, or if the
 * system does not tell. */
static struct {
  _Alignas(LINE) atomic_int core;
} place[FRNN_THREADS];

static uint64_t first_ticket_of(uint64_t word) { return word >> 16; }
static int parts_of(uint64_t word) { return (int)(word >> 8 & 0xff) + 1; }
static int slices_of(uint64_t word) { return (int)(word & 0xff) + 1; }
static int groups_of(uint64_t word) { return parts_of(word) / slices_of(word); }

/* The groups of a job that has just been posted may still have their last turn of an earlier job. */
static int is_of_job(uint64_t turn, uint64_t word) { return turn >> 1 >= first_ticket_of(word); }
static int is_over(uint64_t turn, uint64_t word) { return turn & 1 && is_of_job(turn, word); }

/* Pauses between two reads of an awaited value: briefly, and after some time by yielding the core now and then. */
static void pause_after(int looks) {
  if (looks >= SPINS_ALONE && looks % 64 == 0) frnn_yield();
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Only one thread can take a part in a turn, and none a part of a turn that has ended. */
static int take(int part, uint64_t ticket) {
  uint64_t last = atomic_load(&taken[part].ticket);
  return last < ticket && atomic_compare_exchange_strong(&taken[part].ticket, &last, ticket);
}

/* Wakes those who sleep in the middle of the job and wait for this: the workers of a group, and the caller, if it is
 * its group or over. */
static void wake_for_turn(int group, int over, uint64_t word) {
  if (!atomic_load(&sleepers)) return;
  int slices = slices_of(word);
  frnn_lock();
  for (int i = group * slices; i < (group + 1) * slices; i++)
    if (i > 0 && i < FRNN_THREADS && atomic_exchange(&sleeps[i], 0)) frnn_wake_elsewhere(i);
  if ((group == 0 || over) && atomic_exchange(&sleeps[0], 0)) frnn_wake(0);
  frnn_unlock();
}

/* The last one of a turn's parts begins the next turn, if there is one. */
static void end_part(int group, uint64_t ticket, uint64_t word) {
  if (atomic_fetch_sub(&groups[group].state, 1) % (1 << LEFT_BITS) > 1) return;
  int over = !job.next || atomic_load(&job.run->stop) || !job.next(job.context, group);
  begin_turn(group, (ticket + 1) << 1 | (uint64_t)over, slices_of(word));
  wake_for_turn(group, over, word);
}

/* Does a part unless another thread has taken it; returns 1 if it did. If the task forked, `job` may belong to a later
 * call when it returns. */
static int do_part(int part, uint64_t ticket, uint64_t word, frnn_environment *environment) {
  if (!take(part, ticket)) return 0;
  if (environment && !same_environment(environment, &job.run->environment)) {
    *environment = job.run->environment;
    set_environment(environment);
  }
  if (!frnn_stopped(job.run)) job.task(job.context, part, parts_of(word));
  if (atomic_load(&job.word) == word) end_part(part / slices_of(word), ticket, word);
  return 1;
}

enum { NONE = -1 };

/* Does a part of a group that nobody has begun in the current turn, `first` if it is one of them; returns its number.
 */
static int do_one_of(int group, int first, uint64_t word, frnn_environment *environment) {
  int slices = slices_of(word);
  uint64_t turn = turn_of_group(group);
  if (turn & 1 || !is_of_job(turn, word)) return NONE;
  if (atomic_load(&job.word) != word) return NONE; /* read after the turn, which may be a later job's */
  for (int i = 0; i < slices; i++) {
    int part = group * slices + (first + i) % slices;
    if (do_part(part, turn >> 1, word, environment)) return part;
  }
  return NONE;
}

/* The same for a thread's own group, and for the others if it may help there. */
static int do_one(int thread, int helps, uint64_t word, frnn_environment *environment) {
  int all = groups_of(word), own = thread / slices_of(word), part = NONE;
  for (int i = 0; part == NONE && i < (helps ? all : 1); i++)
    part = do_one_of((own + i) % all, i == 0 ? thread % slices_of(word) : 0, word, environment);
  return part;
}

/* Sleeps until a group is no longer in that turn, or for some time. */
static void sleep_in_job(int thread, int group, uint64_t turn) {
  frnn_lock();
  atomic_store(&sleeps[thread], 1);
  atomic_fetch_add(&sleepers, 1);
  if (turn_of_group(group) == turn) frnn_sleep(thread, POLL_NANOSECONDS);
  atomic_fetch_sub(&sleepers, 1);
  atomic_store(&sleeps[thread], 0);
  frnn_unlock();
}

static int spins_of(int thread) {
  if (thread > frnn_cores_left(FRNN_THREADS)) return 0;
  return atomic_load(&in_a_call) ? SPINS_IN_A_CALL : SPINS;
}

/* A thread that waits for a turn to end does not look at once for parts that others have not begun: that would move
 * lines of the cache which they are about to write. It does so after some spins, or at once if it had to before. */
typedef struct {
  uint64_t turn; /* whose end the thread waits for */
  int spins;     /* since it began */
  int patience;  /* spins after which the thread helps */
} waiting;

static void wait_for(waiting *w, uint64_t turn) {
  w->spins++;
  if (w->turn == turn) return;
  w->turn = turn;
  w->spins = 0;
}

/* Does the thread's own part, or one that nobody has begun, if it is time for that; returns its number. */
static int do_some(waiting *w, int thread, int has_own, int helps, uint64_t word, frnn_environment *environment) {
  if (w->spins == 0 && has_own)
    return is_of_job(w->turn, word) && do_part(thread, w->turn >> 1, word, environment) ? thread : NONE;
  if (w->spins % SPINS_TO_TRY != w->patience) return NONE;
  int part = do_one(thread, helps, word, environment);
  w->patience = part == NONE ? PATIENCE : 1;
  w->spins = part == NONE ? w->spins : 0;
  return part;
}

/* For a worker that leaves parts of its group to the caller. */
static void wake_caller(void) {
  frnn_lock();
  if (atomic_exchange(&sleeps[0], 0)) frnn_wake(0);
  frnn_unlock();
}

/* Takes part in the turns of a worker's group until it is over. */
static void do_as_worker(int thread, uint64_t word, frnn_environment *environment) {
  int group = thread / slices_of(word), threads = atomic_load(&job.threads);
  if (thread >= parts_of(word) || thread >= threads) return;
  waiting w = {.patience = PATIENCE};
  for (;;) {
    wait_for(&w, turn_of_group(group));
    if (atomic_load(&job.word) != word) return;
    int over = is_over(w.turn, word), helps = parts_of(word) > threads && (over || slices_of(word) == 1);
    if (over && helps) w.spins = w.patience;
    if (do_some(&w, thread, !over, helps, word, environment) != NONE) continue;
    if (over) return;
    if (thread > frnn_cores_left(FRNN_THREADS)) {
      wake_caller();
      return;
    }
    if (w.spins < SPINS_IN_A_CALL) {
      pause_after(w.spins);
      continue;
    }
    sleep_in_job(thread, group, w.turn);
    w.spins = w.patience - 1; /* it looks for parts at once */
  }
}

/* The next job after the one seen. */
static uint64_t await_job(int thread, uint64_t seen) {
  uint64_t word;
  for (;;) {
    for (int spins = 0; spins < spins_of(thread); spins++) {
      word = atomic_load(&job.word);
      if (word != seen) return word;
      if (spins % SPINS_OF_A_CORE == 0) atomic_store(&place[thread].core, 1 + frnn_core());
      pause_after(spins);
    }
    frnn_lock();
    atomic_store(&sleeps[thread], 1);
    while (atomic_load(&job.word) == seen && atomic_load(&sleeps[thread])) frnn_sleep(thread, 0);
    atomic_store(&sleeps[thread], 0);
    frnn_unlock();
    word = atomic_load(&job.word);
    if (word != seen) return word;
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

/* A forked child has the forking thread and no other. Other threads went on while its memory was copied, so what is
 * taken and the turns need not agree: a part may seem taken in a turn yet to come, or free in one that is over. So all
 * parts are marked as taken in a later turn than any: they are free in the next job. */
static void begin_afresh(void) {
  uint64_t ticket = last_ticket + 1;
  for (int i = 0; i < FRNN_PARTS; i++) {
    uint64_t turns = turn_of_group(i) >> 1, parts = atomic_load(&taken[i].ticket);
    if (ticket <= turns) ticket = turns + 1;
    if (ticket <= parts) ticket = parts + 1;
  }
  last_ticket = ticket;
  atomic_store(&job.word, ticket << 16); /* no other job has this one */
  for (int part = 0; part < FRNN_PARTS; part++) atomic_store(&taken[part].ticket, ticket);
  atomic_store(&sleepers, 0);
  atomic_store(&workers, 0);
  for (int thread = 0; thread < FRNN_THREADS; thread++) {
    atomic_store(&sleeps[thread], 0);
    atomic_store(&place[thread].core, 0);
  }
  atomic_store(&in_a_call, 0);
  frnn_forget_callers();
  if (holder) leave_pool(holder);
  atomic_store(&busy, 0);
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

/* The system may put an awake worker on its caller's core, where neither gets on, and may leave them so for a second,
 * even if another core has nothing to do. The caller sees that such a worker has not begun its part, and sends it
 * away. */
static void part_from_workers(int count) {
  int here = frnn_core();
  for (int i = 1; i <= count && here >= 0; i++) {
    if (atomic_load(&place[i].core) != 1 + here) continue;
    frnn_lock(); /* nobody else changes the worker's cores meanwhile */
    if (!atomic_load(&sleeps[i])) frnn_move_elsewhere(i, here);
    atomic_store(&place[i].core, 0);
    frnn_unlock();
  }
}

/* Takes part in the turns of the first group until it is over, then does what is left of the others, and waits for
 * them. In a forked child, which has no workers, it returns at once. */
static void do_as_caller(frnn_run *run, uint64_t word, int threads) {
  int all = groups_of(word);
  waiting w = {.patience = PATIENCE};
  for (int group = 0; run->shared && group < all;) {
    wait_for(&w, turn_of_group(group));
    if (is_over(w.turn, word)) {
      group++;
      w.turn = 0;
      continue;
    }
    int part = do_some(&w, 0, group == 0, group > 0, word, NULL);
    if (part > 0 && part < threads) part_from_workers(threads - 1);
    if (part != NONE) continue;
    if (w.spins < SPINS) {
      pause_after(w.spins);
      continue;
    }
    sleep_in_job(0, group, w.turn);
    w.spins = w.patience - 1; /* it looks for parts at once */
    poll_run(run);            /* `interrupted` may take long, or fork */
  }
}

void frnn_set_threads(int n) { atomic_store(&threads_of_process, n < 1 ? 1 : n > FRNN_THREADS ? FRNN_THREADS : n); }

void frnn_set_threads_here(int n) { threads_here = n < 0 ? 0 : n > FRNN_THREADS ? FRNN_THREADS : n; }

static int least_of(int a, int b) { return a < b ? a : b; }

/* Beside other callers there are fewer threads, and one if another call has the pool: a call takes longer if it divides
 * its work among threads that it does not get. */
int frnn_threads(void) {
  int all = threads_here ? threads_here : atomic_load(&threads_of_process);
  int others = all > 1 ? frnn_other_callers() : 0;
  if (others < 1) return all;
  if (!holder && atomic_load_explicit(&busy, memory_order_relaxed)) return 1;
  int idle = frnn_cores() - others;
  return idle < 1 ? 1 : least_of(all, idle);
}

/* The number of workers that pay for a job of so much work and so many parts. */
static int workers_for(double work, int parts, int threads) {
  int others = least_of(least_of(parts, threads) - 1, frnn_cores_left(FRNN_THREADS));
  if (others < 1) return 0;
  return work < WORTH_WAKING && asleep(others) ? 0 : others;
}

void frnn_begin(frnn_run *run, double work, int parts, int (*interrupted)(void)) {
  begin_run(run, work, interrupted);
  run->caller = frnn_this_thread();
  run->shared = 0;
  run->counted = work >= WORTH_A_JOB;
  if (!run->counted) return;
  frnn_prepare_threads(begin_afresh); /* a child must not count callers that it does not have */
  frnn_enter_call();
  if (parts < 2) return;
  run->threads = frnn_threads();
  int others = workers_for(work, parts, run->threads);
  if (others < 1) return;
  if (atomic_exchange(&busy, 1)) return;
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
    atomic_store(&busy, 0);
  }
  if (run->counted) frnn_leave_call();
  set_environment(&run->environment_before);
  return atomic_load(&run->stop);
}

void frnn_flush_subnormals(frnn_run *run) { flush_run(run); }

/* A new job's turns are posted after its word: a thread that reads such a turn, and then still the word of an earlier
 * job, knows that the turn is not that job's. */
static uint64_t post(int all, int slices) {
  uint64_t first = last_ticket + 1;
  uint64_t word = first << 16 | (uint64_t)(all * slices - 1) << 8 | (uint64_t)(slices - 1);
  atomic_store(&job.word, word);
  for (int i = 0; i < all; i++) begin_turn(i, first << 1, slices);
  return word;
}

void frnn_take_turns(frnn_run *run, double work, frnn_task *task, frnn_next_turn *next, void *context, int all,
                     int slices) {
  int parts = all * slices;
  int others = run->has_pool && work >= WORTH_A_JOB ? workers_for(work, parts, run->threads) : 0;
  if (others < 1) {
    do_alone(run, task, next, context, all, slices);
    return;
  }
  job.task = task;
  job.next = next;
  job.context = context;
  job.run = run;
  atomic_store(&job.threads, others + 1);
  run->shared = 1;
  uint64_t word = post(all, slices);
  wake(others); /* a worker that this misses is not waited for */
  do_as_caller(run, word, others + 1);
  if (!run->shared) return; /* a forked child */
  for (int i = 0; i < all; i++) {
    uint64_t ticket = turn_of_group(i) >> 1;
    if (last_ticket < ticket) last_ticket = ticket;
  }
  run->shared = 0;
}

#endif
