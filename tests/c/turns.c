/* turns.c - what the thread pool promises to its users, with tasks that compute nothing: the order of turns, groups
 * that do not wait for one another, stops, workers that sleep and wake in time, callers that are counted.
 *
 *   turns
 *
 * Prints a line for each promise; exit status 1 if one is broken. pool.c has the pool's results under stress. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "../../csrc/internal/internal.h"
#include "../../csrc/system/cores.h"

enum { MUCH = 1000000000, GROUPS_MOST = 8, SLICES_MOST = 8, TRIES = 3 };

static void nap(int64_t us) {
  nanosleep(&(struct timespec){(time_t)(us / 1000000), (long)(us % 1000000 * 1000)}, NULL);
}

static int64_t microseconds_of(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static int failures;

static void tell(int right, const char *promise) {
  printf("%s %s\n", right ? "PASS" : "FAIL", promise);
  failures += !right;
}

/* The clock that the pool reads, which a test sets back. */
static _Atomic int64_t seconds_back;

int timespec_get(struct timespec *time, int base) {
  clock_gettime(CLOCK_REALTIME, time);
  time->tv_sec -= (time_t)atomic_load(&seconds_back);
  return base;
}

static void quick(void *context, int part, int parts) { (void)context, (void)part, (void)parts; }

/* Starts the workers that a call may use, and leaves them awake. */
static void start_workers(int threads) {
  frnn_run run;
  frnn_set_threads(threads);
  frnn_begin(&run, MUCH, threads, NULL);
  frnn_parallel(&run, MUCH, quick, NULL, threads);
  frnn_end(&run);
}

/* ---- other callers: threads in a call that posts no job ------------------------------------------------------ */

typedef struct {
  pthread_t thread;
  int64_t delay, us; /* from the sign to the call; of the call */
  atomic_int waits, began, ended;
} caller;

static atomic_int sign; /* for callers to begin */

static void *call(void *context) {
  caller *c = context;
  frnn_run run;
  atomic_store(&c->waits, 1);
  while (!atomic_load(&sign));
  if (c->delay) nap(c->delay);
  frnn_begin(&run, MUCH, 1, NULL);
  atomic_store(&c->began, 1);
  nap(c->us);
  frnn_end(&run);
  atomic_store(&c->ended, 1);
  return NULL;
}

static void start(caller *c, int64_t delay, int64_t us) {
  c->delay = delay;
  c->us = us;
  atomic_store(&c->waits, 0);
  atomic_store(&c->began, 0);
  atomic_store(&c->ended, 0);
  pthread_create(&c->thread, NULL, call, c);
  while (!atomic_load(&c->waits)) nap(100);
}

/* Does `work` beside as many other callers as there are other cores, so that none is left to a worker. `work` makes a
 * call of its own and, in the middle of it, gives the sign for the others to begin. */
static void do_in_crowd(void (*work)(void), int64_t delay) {
  static caller crowd[FRNN_THREADS];
  int count = frnn_cores() > 2 ? frnn_cores() - 1 : 1;
  if (count > FRNN_THREADS) count = FRNN_THREADS;
  atomic_store(&sign, 0);
  for (int i = 0; i < count; i++) start(&crowd[i], delay, 200000);
  work();
  for (int i = 0; i < count; i++) pthread_join(crowd[i].thread, NULL);
}

/* ---- turns ------------------------------------------------------------------------------------------------------ */

typedef struct {
  int slices, turns;
  atomic_int turn[GROUPS_MOST], done[GROUPS_MOST][SLICES_MOST], wrong;
  uint64_t naps; /* a bit for each part: whether it takes some time */
} job;

static void count_part(void *context, int part, int parts) {
  job *j = context;
  int group = part / j->slices, slice = part % j->slices, turn = atomic_load(&j->turn[group]);
  (void)parts;
  for (int i = 0; i < j->slices; i++) {
    int done = atomic_load(&j->done[group][i]);
    if (done != turn && (i == slice || done != turn + 1)) atomic_fetch_add(&j->wrong, 1);
  }
  if (j->naps >> part & 1) nap(30);
  atomic_fetch_add(&j->done[group][slice], 1);
}

/* A group has one turn more than the group before it. */
static int next_turn(void *context, int group) {
  job *j = context;
  for (int i = 0; i < j->slices; i++)
    if (atomic_load(&j->done[group][i]) != atomic_load(&j->turn[group]) + 1) atomic_fetch_add(&j->wrong, 1);
  return atomic_fetch_add(&j->turn[group], 1) + 1 < j->turns + group;
}

static int are_in_order(int groups, int slices, int turns, uint64_t naps) {
  static job j;
  j = (job){.slices = slices, .turns = turns, .naps = naps};
  frnn_run run;
  frnn_begin(&run, MUCH, groups * slices, NULL);
  frnn_take_turns(&run, MUCH, count_part, next_turn, &j, groups, slices);
  int right = frnn_end(&run) == 0 && atomic_load(&j.wrong) == 0;
  for (int i = 0; i < groups * slices; i++) right &= atomic_load(&j.done[i / slices][i % slices]) == turns + i / slices;
  return right;
}

static void every_part_is_done_once_in_each_turn(void) {
  int right = 1;
  uint64_t naps = 1;
  for (int threads = 1; threads <= 6; threads++) {
    frnn_set_threads(threads);
    for (int groups = 1; groups <= GROUPS_MOST; groups *= 2)
      for (int slices = 1; slices <= SLICES_MOST; slices++)
        for (int turns = 1; turns <= 9; turns += 4) {
          naps = naps * 6364136223846793005u + 1442695040888963407u;
          right &= are_in_order(groups, slices, turns, turns == 1 ? naps & naps >> 7 : 0);
        }
  }
  tell(right, "every part is done once in each turn, and none before the turn begins");
}

/* ---- groups ----------------------------------------------------------------------------------------------------- */

static atomic_int second_is_over;

/* The first group's only part waits for all turns of the second one. */
static void wait_for_second(void *context, int part, int parts) {
  (void)parts;
  for (int i = 0; part == 0 && !atomic_load(&second_is_over) && i < 20000; i++) nap(100);
  if (part == 0) *(int *)context = atomic_load(&second_is_over);
}

static int ten_turns_of_second(void *context, int group) {
  static atomic_int turns;
  (void)context;
  if (group == 0) return 0;
  if (atomic_fetch_add(&turns, 1) < 9) return 1;
  atomic_store(&second_is_over, 1);
  return 0;
}

static void a_group_does_not_wait_for_another(void) {
  int waited_well = 0;
  frnn_run run;
  start_workers(2);
  frnn_begin(&run, MUCH, 2, NULL);
  frnn_take_turns(&run, MUCH, wait_for_second, ten_turns_of_second, &waited_well, 2, 1);
  frnn_end(&run);
  tell(waited_well, "a group does not wait for another one");
}

/* ---- stops ------------------------------------------------------------------------------------------------------ */

static int stop(void) { return 1; }

static atomic_int parts_done;

static void take_long(void *context, int part, int parts) {
  (void)context, (void)part, (void)parts;
  atomic_fetch_add(&parts_done, 1);
  nap(20000);
}

static int for_ever(void *context, int group) {
  (void)context, (void)group;
  return 1;
}

static void a_stopped_call_ends(void) {
  frnn_run run;
  start_workers(2);
  frnn_begin(&run, MUCH, 4, stop);
  frnn_take_turns(&run, MUCH, take_long, for_ever, NULL, 2, 2);
  tell(frnn_end(&run) == FRNN_INTERRUPTED && atomic_load(&parts_done) < 100, "a call whose caller is interrupted ends");
}

/* ---- workers beside other callers ---------------------------------------------------------------------------- */

static pthread_t first_thread;
static _Atomic int64_t used; /* microseconds of its core by the worker until it last took a part */
static atomic_int parts_of_worker;

static void note_use(void *us_of_caller, int part, int parts) {
  (void)part, (void)parts;
  if (pthread_equal(pthread_self(), first_thread)) {
    atomic_store(&sign, 1);
    nap(*(int64_t *)us_of_caller);
    return;
  }
  atomic_store(&used, microseconds_of(CLOCK_THREAD_CPUTIME_ID));
  atomic_fetch_add(&parts_of_worker, 1);
}

static void give_worker_a_part(int64_t us_of_caller) {
  for (int before = atomic_load(&parts_of_worker); atomic_load(&parts_of_worker) == before;) {
    frnn_run run;
    frnn_begin(&run, MUCH, 2, NULL);
    frnn_parallel(&run, MUCH, note_use, &us_of_caller, 2);
    frnn_end(&run);
    nap(2000); /* longer than callers are remembered */
  }
}

static void give_worker_a_part_for_long(void) { give_worker_a_part(200000); }

/* Callers begin between the moment when a worker is woken and that when it looks for a part. */
static void a_worker_that_callers_leave_no_core_sleeps(void) {
  int64_t most = 0;
  start_workers(2);
  give_worker_a_part(1000);
  for (int i = 0; i < TRIES; i++) {
    int64_t before = atomic_load(&used);
    do_in_crowd(give_worker_a_part_for_long, 0);
    give_worker_a_part(1000);
    if (most < atomic_load(&used) - before) most = atomic_load(&used) - before;
  }
  tell(most < 25000, "a worker that callers leave no core sleeps");
}

/* Two groups of two slices. The caller's group is over early, and the caller sleeps. The other group's first turn is
 * long; meanwhile callers begin, and one of its two workers leaves in the second turn. The caller must wake at once and
 * take that worker's part. */
static atomic_int turn_of_second;
static _Atomic int64_t began_last, longest_pause;

static void note_pause(void *context, int part, int parts) {
  (void)context, (void)parts;
  if (part < 2) {
    atomic_store(&sign, 1);
    nap(15000);
    return;
  }
  if (atomic_load(&turn_of_second) > 0) {
    int64_t pause = microseconds_of(CLOCK_MONOTONIC) - atomic_load(&began_last);
    if (pause > atomic_load(&longest_pause)) atomic_store(&longest_pause, pause);
  }
  nap(atomic_load(&turn_of_second) > 0 ? 100 : part == 2 ? 40000 : 45000);
}

static int note_turn(void *context, int group) {
  (void)context;
  if (group == 0) return 0;
  atomic_store(&began_last, microseconds_of(CLOCK_MONOTONIC));
  return atomic_fetch_add(&turn_of_second, 1) < 3;
}

static void take_uneven_turns(void) {
  frnn_run run;
  frnn_begin(&run, MUCH, 4, NULL);
  frnn_take_turns(&run, MUCH, note_pause, note_turn, NULL, 2, 2);
  frnn_end(&run);
}

static void a_caller_wakes_for_parts_that_workers_leave(void) {
  int64_t least = INT64_MAX;
  for (int i = 0; i < TRIES; i++) {
    atomic_store(&turn_of_second, 0);
    atomic_store(&longest_pause, 0);
    nap(2000);
    start_workers(4);
    do_in_crowd(take_uneven_turns, 20000);
    if (least > atomic_load(&longest_pause)) least = atomic_load(&longest_pause);
  }
  tell(least < 12000, "a caller wakes for the parts that workers leave");
}

/* ---- the count of callers ---------------------------------------------------------------------------------------- */

static int all_threads(void) {
  nap(5000); /* until the callers of before are forgotten */
  frnn_set_threads(frnn_cores() > 1 ? frnn_cores() : 2);
  return frnn_threads();
}

/* A thread that asks as long as another one is in a call, and again at once when that call is over. */
static void a_caller_counts_between_its_calls(void) {
  int all = all_threads(), remembered = 0;
  atomic_store(&sign, 1);
  for (int i = 0; i < 20 && !remembered; i++) { /* the system may stop a thread for longer than the memory lasts */
    caller other;
    start(&other, 0, 2000);
    while (!atomic_load(&other.ended)) frnn_threads();
    remembered = frnn_threads() < all;
    pthread_join(other.thread, NULL);
  }
  tell(remembered, "a caller counts between its calls");
}

static void other_callers_are_forgotten(const char *promise, int64_t set_back) {
  int all = all_threads();
  caller other;
  atomic_store(&sign, 1);
  start(&other, 0, 20000);
  while (!atomic_load(&other.began)) nap(100);
  int beside = frnn_threads();
  pthread_join(other.thread, NULL);
  atomic_store(&seconds_back, set_back);
  nap(5000);
  tell(beside < all && frnn_threads() == all, promise);
  atomic_store(&seconds_back, 0);
}

int main(void) {
  first_thread = pthread_self();
  every_part_is_done_once_in_each_turn();
  a_group_does_not_wait_for_another();
  a_stopped_call_ends();
  a_worker_that_callers_leave_no_core_sleeps();
  a_caller_wakes_for_parts_that_workers_leave();
  a_caller_counts_between_its_calls();
  other_callers_are_forgotten("callers are forgotten after some milliseconds", 0);
  other_callers_are_forgotten("callers are forgotten if the clock is set back", 3600);
  return failures > 0;
}
