/* run.h - the functions of a running call that pool.c and single.c both use: the floating-point environment, and polls
 * for interrupts. One of the files with preprocessor conditions.
 *
 * It must not know: threads. */
#ifndef FRNN_RUN_H
#define FRNN_RUN_H

#include <string.h>
#include <time.h>

#include "../internal/internal.h"

enum { POLL_NANOSECONDS = 50000000, WORTH_POLLING = 10000000 };

/* The floating-point environment. On x86-64 the kernels use the vector unit alone, and its control word is some 50 ns
 * quicker to save and to restore than the environment with the x87 unit. */
#if defined(__x86_64__)
enum { EXCEPTION_FLAGS = 0x3f, FLUSH_RESULTS = 0x8000, FLUSH_OPERANDS = 0x40 };
static inline void keep_environment(frnn_environment *e) { e->word = __builtin_ia32_stmxcsr(); }
static inline void set_environment(const frnn_environment *e) { __builtin_ia32_ldmxcsr(e->word); }
static inline void flush_in(frnn_environment *e) { e->word |= FLUSH_RESULTS | FLUSH_OPERANDS; }
static inline int same_environment(const frnn_environment *a, const frnn_environment *b) {
  return ((a->word ^ b->word) & ~(unsigned)EXCEPTION_FLAGS) == 0;
}
#else
static inline void keep_environment(frnn_environment *e) { fegetenv(&e->whole); }
static inline void set_environment(const frnn_environment *e) { fesetenv(&e->whole); }
#if defined(__aarch64__)
static inline void flush_in(frnn_environment *e) { /* C has no name for this bit of the control word */
  uint64_t word;
  __asm__ volatile("mrs %0, fpcr" : "=r"(word));
  __asm__ volatile("msr fpcr, %0" : : "r"(word | 1u << 24));
  keep_environment(e);
}
#else
static inline void flush_in(frnn_environment *e) { (void)e; }
#endif
static inline int same_environment(const frnn_environment *a, const frnn_environment *b) {
  return memcmp(&a->whole, &b->whole, sizeof a->whole) == 0;
}
#endif

static inline int64_t nanoseconds(void) {
  struct timespec now;
  timespec_get(&now, TIME_UTC);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A call that is too short to be polled does not read the clock, which has a cost. */
static inline void begin_run(frnn_run *run, double work, int (*interrupted)(void)) {
  keep_environment(&run->environment);
  run->environment_before = run->environment;
  run->interrupted = work < WORTH_POLLING ? NULL : interrupted;
  run->polled = run->interrupted ? nanoseconds() : 0;
  atomic_init(&run->stop, 0);
  run->has_pool = 0;
}

static inline void flush_run(frnn_run *run) {
  flush_in(&run->environment);
  set_environment(&run->environment);
}

/* On the caller's thread alone: group after group, each turn by turn. */
static inline void do_alone(frnn_run *run, frnn_task *task, frnn_next_turn *next, void *context, int groups,
                            int slices) {
  for (int group = 0; group < groups; group++) {
    do {
      for (int slice = 0; slice < slices && !frnn_stopped(run); slice++)
        task(context, group * slices + slice, groups * slices);
    } while (next && !frnn_stopped(run) && next(context, group));
  }
}

/* On the caller's thread: polls for an interrupt if it is time, or if the clock was set back. `interrupted` may do
 * anything meanwhile: make calls, raise an exception, fork. */
static inline void poll_run(frnn_run *run) {
  if (!run->interrupted || atomic_load_explicit(&run->stop, memory_order_relaxed)) return;
  int64_t now = nanoseconds();
  if (now - run->polled < POLL_NANOSECONDS && now >= run->polled) return;
  run->polled = now;
  set_environment(&run->environment_before);
  if (run->interrupted()) atomic_store(&run->stop, FRNN_INTERRUPTED);
  set_environment(&run->environment);
}

#endif
