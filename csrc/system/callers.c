/* callers.c - counts the threads that are in calls worth a job, with or without the pool. One of the files with
 * preprocessor conditions.
 *
 * A caller is not counted between two of its calls, but will soon be back: so callers of the last millisecond count.
 *
 * It must not know: jobs, workers. */
#if !defined(FRNN_SINGLE)
#include "callers.h"

#include "cores.h"
#include "run.h"

enum { MEMORY_NANOSECONDS = 1000000 };

static atomic_int callers;
static _Thread_local int depth; /* of calls in this thread */

/* Other callers than this thread that a call saw when it began, and when. */
static struct {
  atomic_int others;
  _Atomic int64_t when;
} crowd;

static int others_now(void) { return atomic_load_explicit(&callers, memory_order_relaxed) - (depth > 0); }

void frnn_enter_call(void) {
  if (depth++ == 0) atomic_fetch_add(&callers, 1);
}

void frnn_leave_call(void) {
  if (--depth == 0) atomic_fetch_sub(&callers, 1);
}

int frnn_other_callers(void) {
  int others = others_now();
  if (others > 0) {
    atomic_store(&crowd.when, nanoseconds());
    atomic_store(&crowd.others, others);
    return others;
  }
  int before = atomic_load_explicit(&crowd.others, memory_order_relaxed);
  if (before == 0) return 0;
  int64_t age = nanoseconds() - atomic_load(&crowd.when);
  if (age >= 0 && age < MEMORY_NANOSECONDS) return before; /* the clock may be set back */
  atomic_store(&crowd.others, 0);
  return 0;
}

int frnn_cores_left(int all) {
  int computing = atomic_load_explicit(&callers, memory_order_relaxed);
  return computing > 1 ? frnn_cores() - computing : all;
}

void frnn_forget_callers(void) {
  atomic_store(&callers, depth > 0);
  atomic_store(&crowd.others, 0);
}

#endif
