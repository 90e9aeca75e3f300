/* schedule.c - the schedule of a forward pass, for inference and for training: it divides the work of step.c into parts
 * and gives them to threads.
 *
 * If rows are divided among threads (see sequence.h), each part takes all of time. If units are, each phase of a step
 * is a job of its own.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "step.h"

/* A job: all its parts read this. */
typedef struct {
  const forward_pass *passes;
  frnn_run *run;
  job_parts job_parts;
  chunk chunk; /* with i and phase: set if each phase is a job of its own */
  int64_t i;
  frnn_phase phase;
} forward_job;

static range rows_of(const forward_job *p, job_part mine) {
  const frnn_forward_call *call = p->passes[mine.call].call;
  return rows_of_part(&call->shape, &call->rows, mine.group, mine.groups);
}

void frnn_run_rows(frnn_run *run, const forward_pass *w, range rows, int64_t steps_between) {
  job_part all = {0, 0, 1, 0, 1};
  int64_t until_poll = 0, some = 1;
  int steady = frnn_is_steady(w);
  frnn_begin_rows(w, rows);
  for (chunk c = chunk_of(w, w->begin); c.from < w->end; c = chunk_of(w, c.to)) {
    frnn_gather(w, c, rows);
    frnn_project(w, c, rows, (range){0, vectors_of_gates(w->shape, w->kernels)});
    for (int64_t i = c.from; i < c.to; i += some, until_poll -= some) {
      if (until_poll <= 0) {
        until_poll = steps_between;
        if (frnn_stopped(run)) return;
      }
      if (steady) {
        some = least(until_poll, c.to - i);
        frnn_take_steps(w, c, (range){i, some}, rows);
        continue;
      }
      frnn_prepare_step(w, i, rows);
      const frnn_phase *phase = next_phase(w->shape, w->cell->forward);
      for (; phase->kind != FRNN_NO_PHASE; phase = next_phase(w->shape, phase + 1)) {
        if (w->products->convert) frnn_prepare_phase(w, i, *phase, rows);
        frnn_take_step(w, c, i, *phase, rows, all);
      }
      frnn_settle_step(w, i, rows);
    }
  }
  frnn_end_rows(w, rows);
}

static void rows_part(void *context, int part, int parts) {
  forward_job *p = context;
  job_part mine = part_of_job(&p->job_parts, part);
  range rows = rows_of(p, mine);
  (void)parts;
  for (int64_t done = 0, all = rows.count; done < all; done += rows.count, rows.begin += rows.count) {
    rows.count = next_count(p->job_parts.rows_at_once, all - done);
    frnn_run_rows(p->run, &p->passes[mine.call], rows, p->job_parts.steps_between);
  }
}

static void project_part(void *context, int part, int parts) {
  forward_job *p = context;
  job_part mine = part_of_job(&p->job_parts, part);
  const forward_pass *w = &p->passes[mine.call];
  (void)parts;
  frnn_project(w, p->chunk, rows_of(p, mine),
               range_of(vectors_of_gates(w->shape, w->kernels), mine.slice, mine.slices));
}

static void step_part(void *context, int part, int parts) {
  forward_job *p = context;
  job_part mine = part_of_job(&p->job_parts, part);
  const forward_pass *w = &p->passes[mine.call];
  (void)parts;
  frnn_take_step(w, p->chunk, p->i, p->phase, rows_of(p, mine), mine);
}

/* Takes all rows step by step; all threads work on each phase. */
static void run_in_step(forward_job *p, int count) {
  const forward_pass *first = &p->passes[0];
  int parts = parts_of(&p->job_parts);
  range all = {0, first->shape->batch};
  double projection = (double)vectors_of_gates(first->shape, first->kernels) * first->kernels->lanes *
                      (double)first->shape->input * (double)first->layout->steps * (double)all.count * count;
  for (int i = 0; i < count; i++) frnn_begin_rows(&p->passes[i], all);
  for (p->chunk = chunk_of(first, first->begin); p->chunk.from < first->end; p->chunk = chunk_of(first, p->chunk.to)) {
    for (int i = 0; i < count; i++) frnn_gather(&p->passes[i], p->chunk, all);
    if (!first->layout->in_step) frnn_parallel(p->run, projection, project_part, p, parts);
    for (p->i = p->chunk.from; p->i < p->chunk.to; p->i++) {
      if (p->i % p->job_parts.steps_between == 0 && frnn_stopped(p->run)) return;
      for (int i = 0; i < count; i++) frnn_prepare_step(&p->passes[i], p->i, all);
      const frnn_phase *phase = next_phase(first->shape, first->cell->forward);
      for (; phase->kind != FRNN_NO_PHASE; phase = next_phase(first->shape, phase + 1)) {
        p->phase = *phase;
        for (int i = 0; i < count && first->products->convert; i++)
          frnn_prepare_phase(&p->passes[i], p->i, *phase, all);
        frnn_parallel(p->run, p->job_parts.work, step_part, p, parts);
      }
      for (int i = 0; i < count; i++) frnn_settle_step(&p->passes[i], p->i, all);
    }
  }
  for (int i = 0; i < count; i++) frnn_end_rows(&p->passes[i], all);
}

static job_parts job_parts_of(const forward_pass *passes, int count) {
  const frnn_shape *s = passes->shape, full = as_if_full(s, &passes->call->rows);
  double row = passes->layout->in_step ? weights_of(s) : recurrent_weights_of(s);
  return part_by_steps(&full, count, row, vectors_of_units(s, passes->kernels));
}

static double multiply_adds_of(const forward_pass *w) {
  frnn_shape full = as_if_full(w->shape, &w->call->rows);
  return weights_of(&full) * (double)full.batch * (double)least(full.steps, w->end - w->begin);
}

static void run_passes(forward_job *p, int count) {
  if (p->job_parts.slices > 1)
    run_in_step(p, count);
  else
    frnn_parallel(p->run, p->job_parts.work, rows_part, p, parts_of(&p->job_parts));
}

void frnn_run_passes(frnn_run *run, const forward_pass *passes, int count) {
  forward_job p = {.passes = passes, .run = run, .job_parts = job_parts_of(passes, count)};
  run_passes(&p, count);
}

/* The status of a call with a plan, whose shape was checked then: some instructions, for a short step has few. */
static int planned_status(const frnn_forward_call *call) {
  const forward_layout *plan = call->plan;
  uintptr_t work = (uintptr_t)call->work, packed = (uintptr_t)call->packed;
  return work == 0 || packed == 0 || (work | packed) % FRNN_ALIGN || plan->in_step == REFUSED ? FRNN_INVALID : 0;
}

int frnn_forward(const frnn_forward_call *calls, int count, int (*interrupted)(void)) {
  forward_pass passes[FRNN_TOGETHER];
  frnn_forward_call widened[FRNN_TOGETHER];
  const frnn_forward_call *narrow = NULL;
  frnn_run run;
  int status = count == 1 && calls && calls->plan ? planned_status(calls) : frnn_forward_status(calls, count);
  if (status < 0 || calls->shape.batch == 0) return status;
  if (calls->shape.precision != FRNN_FULL && frnn_widens(&calls->shape)) {
    for (int i = 0; i < count; i++) widened[i] = frnn_widened_call(&calls[i]);
    narrow = calls;
    calls = widened;
  }
  for (int i = 0; i < count; i++) frnn_begin_forward(&passes[i], &calls[i]);
  forward_job p = {.passes = passes, .run = &run, .job_parts = job_parts_of(passes, count)};
  frnn_begin(&run, multiply_adds_of(passes) * count, parts_of(&p.job_parts), interrupted);
  if (passes->shape->precision == FRNN_BFLOAT16) frnn_flush_subnormals(&run);
  if (narrow) frnn_widen(&run, narrow, widened, count);
  run_passes(&p, count);
  return frnn_end(&run);
}
