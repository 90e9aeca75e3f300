/* schedule.c - the schedule of a forward pass, for inference and for training: it divides the work of step.c into parts
 * and gives them to threads.
 *
 * If rows are divided among threads (see sequence.h), each part takes all of time. If units are, each phase of a step
 * is a turn (see internal.h) of the parts that share rows.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "step.h"

/* The turn of a group, if each phase of a step is a turn. phase NULL: the chunk's x is projected. */
typedef struct {
  chunk chunk;
  int64_t i;
  const frnn_phase *phase;
} forward_turn;

/* A job: all its parts read this. */
typedef struct {
  const forward_pass *passes;
  frnn_run *run;
  job_parts job_parts;
  forward_turn *turns; /* by groups, of all calls */
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

static void turn_part(void *context, int part, int parts) {
  forward_job *p = context;
  job_part mine = part_of_job(&p->job_parts, part);
  const forward_pass *w = &p->passes[mine.call];
  const forward_turn *now = &p->turns[part / mine.slices];
  range gates = range_of(vectors_of_gates(w->shape, w->kernels), mine.slice, mine.slices);
  (void)parts;
  if (now->phase)
    frnn_take_step(w, now->chunk, now->i, *now->phase, rows_of(p, mine), mine);
  else
    frnn_project(w, now->chunk, rows_of(p, mine), gates);
}

static void prepare_phase(const forward_pass *w, const forward_turn *now, range rows) {
  if (now->phase->kind != FRNN_NO_PHASE && w->products->convert) frnn_prepare_phase(w, now->i, *now->phase, rows);
}

static int begin_step(const forward_pass *w, forward_turn *now, range rows) {
  frnn_prepare_step(w, now->i, rows);
  now->phase = next_phase(w->shape, w->cell->forward);
  prepare_phase(w, now, rows);
  return 1;
}

static int begin_chunk(const forward_pass *w, forward_turn *now, range rows, int64_t from) {
  if (from >= w->end) {
    frnn_end_rows(w, rows);
    return 0;
  }
  now->chunk = chunk_of(w, from);
  now->i = now->chunk.from;
  now->phase = NULL;
  frnn_gather(w, now->chunk, rows);
  return w->layout->in_step ? begin_step(w, now, rows) : 1;
}

static int next_turn(void *context, int group) {
  forward_job *p = context;
  job_part mine = part_of_job(&p->job_parts, group * p->job_parts.slices);
  const forward_pass *w = &p->passes[mine.call];
  forward_turn *now = &p->turns[group];
  range rows = rows_of(p, mine);
  if (!now->phase) return begin_step(w, now, rows);
  now->phase = next_phase(w->shape, now->phase + 1);
  prepare_phase(w, now, rows);
  if (now->phase->kind != FRNN_NO_PHASE) return 1;
  frnn_settle_step(w, now->i, rows);
  return ++now->i < now->chunk.to ? begin_step(w, now, rows) : begin_chunk(w, now, rows, now->chunk.to);
}

/* Takes each group of rows step by step; the threads of a group work on each phase. */
static void run_in_turns(forward_job *p) {
  forward_turn turns[FRNN_PARTS];
  const job_parts *all = &p->job_parts;
  p->turns = turns;
  for (int group = 0; group < all->calls * all->groups; group++) {
    job_part mine = part_of_job(all, group * all->slices);
    const forward_pass *w = &p->passes[mine.call];
    frnn_begin_rows(w, rows_of(p, mine));
    if (!begin_chunk(w, &turns[group], rows_of(p, mine), w->begin)) return;
  }
  frnn_take_turns(p->run, all->work, turn_part, next_turn, p, all->calls * all->groups, all->slices);
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

static void run_passes(forward_job *p) {
  if (p->job_parts.slices > 1)
    run_in_turns(p);
  else
    frnn_parallel(p->run, p->job_parts.work, rows_part, p, parts_of(&p->job_parts));
}

void frnn_run_passes(frnn_run *run, const forward_pass *passes, int count) {
  forward_job p = {.passes = passes, .run = run, .job_parts = job_parts_of(passes, count)};
  run_passes(&p);
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
  run_passes(&p);
  return frnn_end(&run);
}
