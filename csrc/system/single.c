/* single.c - calls without a pool: the caller's thread does all parts of a job. For builds with FRNN_SINGLE
 * defined. One of the files with preprocessor conditions.
 *
 * It must not know: cells, layouts, Python. */
#if defined(FRNN_SINGLE)
#include "run.h"

void frnn_begin(frnn_run *run, double work, int parts, int (*interrupted)(void)) {
  (void)parts;
  begin_run(run, work, interrupted);
}

int frnn_stopped(frnn_run *run) {
  poll_run(run);
  return atomic_load(&run->stop);
}

int frnn_end(frnn_run *run) {
  set_environment(&run->environment_before);
  return atomic_load(&run->stop);
}

void frnn_flush_subnormals(frnn_run *run) { flush_run(run); }

void frnn_set_threads(int n) { (void)n; }
void frnn_set_threads_here(int n) { (void)n; }
int frnn_threads(void) { return 1; }
void frnn_take_turns(frnn_run *run, double work, frnn_task *task, frnn_next_turn *next, void *context, int groups,
                     int slices) {
  (void)work;
  do_alone(run, task, next, context, groups, slices);
}

#endif
