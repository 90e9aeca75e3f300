/* forward.c - forward through time, for inference and for training: who does what when. What there is to do is
 * walk.c's.
 *
 * Where rows are shared out among threads (see sequence.h), each part takes all of time; where units are, each step is
 * a job of its own.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "walk.h"

/* What the parts of a job share. */
typedef struct {
  const walk *walks;
  frnn_run *run;
  sharing sharing;
  chunk chunk; /* and the step, where each is a job of its own */
  int64_t i;
  int phase;
} passes;

static range rows_of(const passes *p, share mine) {
  const frnn_forward_call *call = p->walks[mine.call].call;
  return rows_of_part(&call->shape, &call->rows, mine.group, mine.groups);
}

void frnn_run_rows(frnn_run *run, const walk *w, range rows, int64_t steps_between) {
  share all = {0, 0, 1, 0, 1};
  int64_t until_look = 0;
  frnn_begin_rows(w, rows);
  for (chunk c = chunk_of(w, w->begin); c.from < w->end; c = chunk_of(w, c.to)) {
    frnn_gather(w, c, rows);
    frnn_project(w, c, rows, (range){0, vectors_of_gates(w->shape, w->table)});
    for (int64_t i = c.from; i < c.to; i++) {
      if (--until_look < 0) {
        until_look = steps_between;
        if (frnn_stopped(run)) return;
      }
      frnn_prepare_step(w, i, rows);
      for (int phase = 0; phase < phases_of(w->shape); phase++) frnn_take_step(w, c, i, phase, rows, all);
      frnn_settle_step(w, i, rows);
    }
  }
  frnn_end_rows(w, rows);
}

static void rows_part(void *context, int part, int parts) {
  passes *p = context;
  share mine = share_of(&p->sharing, part);
  range rows = rows_of(p, mine);
  (void)parts;
  for (int64_t done = 0, all = rows.count; done < all; done += rows.count, rows.begin += rows.count) {
    rows.count = next_count(p->sharing.rows_at_once, all - done);
    frnn_run_rows(p->run, &p->walks[mine.call], rows, p->sharing.steps_between);
  }
}

static void project_part(void *context, int part, int parts) {
  passes *p = context;
  share mine = share_of(&p->sharing, part);
  const walk *w = &p->walks[mine.call];
  (void)parts;
  frnn_project(w, p->chunk, rows_of(p, mine), range_of(vectors_of_gates(w->shape, w->table), mine.slice, mine.slices));
}

static void step_part(void *context, int part, int parts) {
  passes *p = context;
  share mine = share_of(&p->sharing, part);
  const walk *w = &p->walks[mine.call];
  (void)parts;
  frnn_take_step(w, p->chunk, p->i, p->phase, rows_of(p, mine), mine);
}

/* Step by step, all parts together. */
static void run_in_step(passes *p, int count) {
  const walk *first = &p->walks[0];
  int parts = parts_of(&p->sharing);
  range all = {0, first->shape->batch};
  double projection = (double)vectors_of_gates(first->shape, first->table) * first->table->lanes *
                      (double)first->shape->input * (double)first->layout.steps * (double)all.count * count;
  for (int i = 0; i < count; i++) frnn_begin_rows(&p->walks[i], all);
  for (p->chunk = chunk_of(first, first->begin); p->chunk.from < first->end; p->chunk = chunk_of(first, p->chunk.to)) {
    for (int i = 0; i < count; i++) frnn_gather(&p->walks[i], p->chunk, all);
    if (!first->in_step) frnn_parallel(p->run, projection, project_part, p, parts);
    for (p->i = p->chunk.from; p->i < p->chunk.to; p->i++) {
      if (p->i % p->sharing.steps_between == 0 && frnn_stopped(p->run)) return;
      for (int i = 0; i < count; i++) frnn_prepare_step(&p->walks[i], p->i, all);
      for (p->phase = 0; p->phase < phases_of(first->shape); p->phase++)
        frnn_parallel(p->run, p->sharing.work, step_part, p, parts);
      for (int i = 0; i < count; i++) frnn_settle_step(&p->walks[i], p->i, all);
    }
  }
  for (int i = 0; i < count; i++) frnn_end_rows(&p->walks[i], all);
}

static sharing sharing_of(const walk *walks, int count) {
  const frnn_shape *s = walks->shape, full = as_if_full(s, &walks->call->rows);
  double row = walks->in_step ? weights_of(s) : recurrent_weights_of(s);
  return share_steps(&full, count, row, vectors_of_units(s, walks->table));
}

static double multiply_adds_of(const walk *w) {
  frnn_shape full = as_if_full(w->shape, &w->call->rows);
  return weights_of(&full) * (double)full.batch * (double)least(full.steps, w->end - w->begin);
}

static void run_passes(passes *p, int count) {
  if (p->sharing.slices > 1)
    run_in_step(p, count);
  else
    frnn_parallel(p->run, p->sharing.work, rows_part, p, parts_of(&p->sharing));
}

void frnn_run_walks(frnn_run *run, const walk *walks, int count) {
  passes p = {.walks = walks, .run = run, .sharing = sharing_of(walks, count)};
  run_passes(&p, count);
}

int frnn_forward(const frnn_forward_call *calls, int count, int (*interrupted)(void)) {
  walk walks[FRNN_TOGETHER];
  frnn_run run;
  assert(count >= 1 && count <= FRNN_TOGETHER);
  if (calls->shape.batch == 0) return 0;
  for (int i = 0; i < count; i++) frnn_begin_walk(&walks[i], &calls[i]);
  passes p = {.walks = walks, .run = &run, .sharing = sharing_of(walks, count)};
  frnn_begin(&run, multiply_adds_of(walks) * count, parts_of(&p.sharing), interrupted);
  run_passes(&p, count);
  return frnn_end(&run);
}
