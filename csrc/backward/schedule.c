/* schedule.c - the schedule of a backward pass: it divides the work of step.c into parts and gives them to threads.
 *
 * A call is cut into groups of rows. A thread takes a group through all of time, chunk of time steps by chunk. If there
 * are more threads than groups, they divide each chunk. Sums over time and rows run in the order of the backward pass,
 * however it is cut into chunks; the groups' sums are added up in the groups' order.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "step.h"

static void move_state(const frnn_shape *s, frnn_state *state, int64_t rows) {
  for (int i = 0; i < s->cell->facts.states; i++)
    if (state->of[i]) state->of[i] = at(state->of[i], rows * numbers_of_state(s, i) * element_size(s));
}

static void move_rows(frnn_sequence *q, int64_t rows) {
  if (q->data) q->data = row_at(*q, 0, rows);
}

/* Moves a call's arrays to the rows from some sorted index on. If there is a sort order, the user's arrays stay where
 * they are: rows are found by it. */
static void move_call(frnn_backward_call *part, int64_t rows) {
  if (part->rows.lengths) part->rows.lengths += rows;
  if (part->rows.sort_order) {
    part->rows.sort_order += rows;
    part->rows.begin += rows;
    return;
  }
  if (part->rows.mask) part->rows.mask += rows;
  if (part->rows.reset) part->rows.reset += rows;
  move_rows(&part->x, rows);
  move_rows(&part->y, rows);
  move_rows(&part->dy, rows);
  move_rows(&part->aux, rows);
  move_rows(&part->dx, rows);
  move_rows(&part->daux, rows);
  for (int i = 0; i < FRNN_STATES_MOST; i++) move_rows(&part->dstate[i], rows);
  move_state(&part->shape, &part->first, rows);
  move_state(&part->shape, &part->dlast, rows);
  move_state(&part->shape, &part->dfirst, rows);
}

static void move_dropout(frnn_backward_call *part, int64_t rows) {
  ptrdiff_t element = element_size(&part->shape);
  if (part->dropout.recurrent)
    part->dropout.recurrent = at(part->dropout.recurrent, rows * features_of(&part->shape) * element);
  for (int i = 0; i < FRNN_STATES_MOST; i++)
    if (part->dropout.zoneout[i])
      part->dropout.zoneout[i] = at(part->dropout.zoneout[i], rows * part->shape.hidden * element);
}

/* The rows of a group as a call of their own. The first group sums into the call's gradients, the others into the
 * workspace. */
static frnn_backward_call part_of_call(const frnn_backward_call *full, const backward_layout *layout, int group) {
  frnn_backward_call part = *full;
  const frnn_shape *s = &full->shape;
  range rows = rows_of_part(s, &full->rows, group, layout->groups);
  part.shape.batch = rows.count;
  part.work = at(full->work, (ptrdiff_t)(layout->parts + (size_t)group * layout->part.bytes));
  move_call(&part, rows.begin);
  int64_t slots = s->checkpoint ? held_states(s->cell) : tape_slots(s->cell);
  part.tape = at(full->tape, rows.begin * slots * padded(s) * element_size(s));
  move_dropout(&part, rows.begin);
  if (group == 0) return part;
  void **named[] = {&part.dw_ih, &part.dw_hh, &part.dw_hr, &part.db_ih, &part.db_hh};
  for (int i = 0; i < GRADIENTS; i++) {
    void **gradient = i < OF_EXTRA ? named[i] : &part.dextra[i - OF_EXTRA];
    if (*gradient) *gradient = at(part.work, (ptrdiff_t)layout->sum[i]);
  }
  return part;
}

static backward_pass begin_pass(const frnn_kernels *kernels, const frnn_backward_call *full,
                                const frnn_backward_call *part, const backward_layout *layout) {
  const frnn_shape *s = &part->shape;
  backward_pass w = {.call = part,
                     .shape = s,
                     .kernels = kernels,
                     .cell = s->cell,
                     .functions = functions_of(kernels, s),
                     .layout = layout,
                     .panels = full->work,
                     .full_batch = full->shape.batch,
                     .row = padded(s) * element_size(s),
                     .from = s->batch > 0 ? s->steps : 0};
  w.tape = dense((void *)(uintptr_t)part->tape, full->shape.batch, tape_slots(w.cell) * w.row);
  w.dg = dense(at(part->work, (ptrdiff_t)layout->dg), s->batch, layout->dg_row);
  w.rh = dense(at(part->work, (ptrdiff_t)layout->rh), s->batch, w.row);
  w.after_dropout = dense(at(part->work, (ptrdiff_t)layout->after_dropout), s->batch, w.row);
  if (!s->checkpoint) return w;
  w.checkpoints = dense((void *)(uintptr_t)part->tape, full->shape.batch, held_states(w.cell) * w.row);
  w.tape = dense(at(part->work, (ptrdiff_t)layout->tape), s->batch, tape_slots(w.cell) * w.row);
  w.recompute = (frnn_forward_call){.shape = *s,
                                    .weights = part->weights,
                                    .variant = part->variant,
                                    .dropout = part->dropout,
                                    .packed = at(full->work, (ptrdiff_t)layout->packed),
                                    .rows = part->rows,
                                    .ids = part->ids,
                                    .x = part->x,
                                    .aux = part->aux,
                                    .y = part->y,
                                    .first = part->first,
                                    .tape = w.tape.data,
                                    .work = at(part->work, (ptrdiff_t)layout->forward)};
  return w;
}

/* Packs the weights for the forward steps of the recompute, at offset `packed` of each call's workspace. */
static int pack_for_recompute(const frnn_kernels *kernels, const frnn_backward_call *calls, int count, size_t packed,
                              int (*interrupted)(void)) {
  frnn_pack_call packing[FRNN_TOGETHER];
  if (!calls->shape.checkpoint) return 0;
  for (int i = 0; i < count; i++)
    packing[i] = (frnn_pack_call){.shape = calls[i].shape,
                                  .weights = calls[i].weights,
                                  .forms = frnn_form_of(&calls[i].shape),
                                  .packed = at(calls[i].work, (ptrdiff_t)packed)};
  return frnn_pack_with(kernels, packing, count, interrupted);
}

enum { PASSES_MOST = FRNN_TOGETHER * GROUPS_MOST };

/* A job: all its parts read this. */
typedef struct {
  frnn_backward_call parts[PASSES_MOST]; /* all groups of the first call, then of the next */
  backward_pass passes[PASSES_MOST];
  int count;
  const frnn_shape *full; /* of a call */
  frnn_run run;
  job_parts packing, steps, pieces; /* of the weights' panels, the backward pass, the products */
  int64_t steps_at_once;            /* dx of so many steps is computed between two polls for interrupts */
  int64_t k[FRNN_PARTS];            /* for each group of rows its phase, if each phase is a turn */
} backward_job;

/* ---- packing --------------------------------------------------------------------------------------------------- */

static void pack_part(void *context, int part, int parts) {
  backward_job *p = context;
  job_part mine = part_of_job(&p->packing, part);
  (void)parts;
  frnn_pack_transposed(&p->passes[mine.call * p->passes[0].layout->groups], mine);
}

/* ---- the steps -------------------------------------------------------------------------------------------------- */

/* A part's rows: an even part of the rows that take steps in the chunk; the last part also gets the rows that take
 * none. */
static range rows_of(const backward_pass *w, job_part mine) {
  range rows = range_of(working(w->shape, &w->call->rows, w->t0), mine.group, mine.groups);
  if (mine.group == mine.groups - 1) rows.count = w->shape->batch - rows.begin;
  return rows;
}

static void phase_part(void *context, int part, int parts) {
  backward_job *p = context;
  job_part mine = part_of_job(&p->steps, part);
  const backward_pass *w = &p->passes[mine.call];
  (void)parts;
  frnn_run_phase(w, p->k[part / mine.slices], rows_of(w, mine), mine);
}

static int next_phase_of(void *context, int group) {
  backward_job *p = context;
  job_part mine = part_of_job(&p->steps, group * p->steps.slices);
  return ++p->k[group] <= phases_of_chunk(&p->passes[mine.call]);
}

/* Runs all phases of a chunk for some rows, then writes their operands' panels and dx. */
static void run_rows(backward_job *p, const backward_pass *w, job_part mine) {
  range all = rows_of(w, mine), rows = {all.begin, 0}, steps = {0, 0};
  frnn_gather_inputs(w, all);
  for (; rows.begin < all.begin + all.count; rows.begin += rows.count) {
    rows.count = next_count(p->steps.rows_at_once, all.begin + all.count - rows.begin);
    for (int64_t k = 0; k <= phases_of_chunk(w); k++) {
      if (k % p->steps.steps_between == 0 && frnn_stopped(&p->run)) return;
      frnn_run_phase(w, k, rows, mine);
    }
  }
  for (; steps.begin < w->to - w->from; steps.begin += steps.count) {
    if (frnn_stopped(&p->run)) return;
    steps.count = next_count(p->steps_at_once, w->to - w->from - steps.begin);
    frnn_finish_rows(w, steps, all);
  }
}

static void rows_part(void *context, int part, int parts) {
  backward_job *p = context;
  job_part mine = part_of_job(&p->steps, part);
  (void)parts;
  run_rows(p, &p->passes[mine.call], mine);
}

/* Writes the panels and dx, if the phases were turns. */
static void finish_part(void *context, int part, int parts) {
  backward_job *p = context;
  job_part mine = part_of_job(&p->pieces, part);
  const backward_pass *w = &p->passes[mine.call];
  range steps = {0, w->to - w->from}, rows = {0, w->shape->batch};
  (void)parts;
  if (steps.count > rows.count)
    steps = range_of(steps.count, mine.slice, mine.slices);
  else
    rows = range_of(rows.count, mine.slice, mine.slices);
  frnn_finish_rows(w, steps, rows);
}

static void run_chunk(backward_job *p) {
  if (p->steps.slices == 1) {
    frnn_parallel(&p->run, p->steps.work, rows_part, p, parts_of(&p->steps));
    return;
  }
  int groups = p->steps.calls * p->steps.groups;
  for (int i = 0; i < p->count; i++) frnn_gather_inputs(&p->passes[i], (range){0, p->passes[i].shape->batch});
  for (int i = 0; i < groups; i++) p->k[i] = 0;
  frnn_take_turns(&p->run, p->steps.work, phase_part, next_phase_of, p, groups, p->steps.slices);
  if (frnn_stopped(&p->run)) return;
  frnn_parallel(&p->run, p->pieces.work, finish_part, p, parts_of(&p->pieces));
}

/* ---- the gradients of the weights ------------------------------------------------------------------------------- */

static void weights_part(void *context, int part, int parts) {
  backward_job *p = context;
  job_part mine = part_of_job(&p->pieces, part);
  (void)parts;
  frnn_add_chunk(&p->passes[mine.call], mine);
}

/* ---- a call ---------------------------------------------------------------------------------------------------- */

/* Takes a group through all of time. */
static void pass_part(void *context, int part, int parts) {
  backward_job *p = context;
  backward_pass *w = &p->passes[part];
  (void)parts;
  frnn_begin_gradients(w);
  while (!frnn_stopped(&p->run) && frnn_next_chunk(w)) {
    if (w->stale) {
      forward_pass recompute;
      frnn_begin_recompute(&recompute, &w->recompute, p->full, w->checkpoints, steps_to_recompute(w));
      frnn_run_rows(&p->run, &recompute, (range){0, w->shape->batch}, p->steps.steps_between);
    }
    run_rows(p, w, (job_part){part, 0, 1, 0, 1});
    for (int i = 0; i < p->pieces.slices; i++) {
      if (frnn_stopped(&p->run)) return;
      frnn_add_chunk(w, (job_part){part, 0, 1, i, p->pieces.slices});
    }
  }
  frnn_end_gradients(w);
}

/* Takes all groups through time chunk by chunk; all threads work on each chunk. */
static void run_together(backward_job *p) {
  for (int i = 0; i < p->count; i++) frnn_begin_gradients(&p->passes[i]);
  while (!frnn_stopped(&p->run)) {
    int left = 0;
    for (int i = 0; i < p->count; i++) left |= frnn_next_chunk(&p->passes[i]);
    if (!left) break;
    for (int i = 0; i < p->count; i++) {
      const backward_pass *w = &p->passes[i];
      forward_pass recompute;
      if (!w->stale) continue;
      frnn_begin_recompute(&recompute, &w->recompute, p->full, w->checkpoints, steps_to_recompute(w));
      frnn_run_passes(&p->run, &recompute, 1);
    }
    run_chunk(p);
    frnn_parallel(&p->run, p->pieces.work, weights_part, p, parts_of(&p->pieces));
  }
  for (int i = 0; i < p->count; i++) frnn_end_gradients(&p->passes[i]);
}

/* Adds the sums of a call's groups, one after another, to those of its first group. */
static void add_groups(const backward_pass *first) {
  for (const backward_pass *w = first + 1; w < first + first->layout->groups; w++) {
    for (int i = 0; i < GRADIENTS; i++) {
      void *sum = gradient_of(first->call, i);
      if (sum) w->kernels->add(sum, sum, gradient_of(w->call, i), w->layout->elements[i]);
    }
  }
}

/* Divides the work by the average number of a group's rows, for a single group may have none. */
static void plan(backward_job *p, const frnn_backward_call *call, int calls) {
  const backward_pass *first = &p->passes[0];
  const frnn_shape *s = &call->shape;
  frnn_shape part = as_if_full(s, &call->rows);
  double rows = (double)first->layout->rows;
  part.batch = (part.batch + first->layout->groups - 1) / first->layout->groups;
  p->packing = part_by_slices(calls, MULTIPLY_ADDS_OF_PACKING * weights_of(s), s->hidden);
  p->steps = part_by_steps(&part, p->count, recurrent_weights_of(s), vectors_of_units(s, first->kernels));
  p->pieces = part_by_slices(p->count, 2 * weights_of(s) * rows, s->hidden);
  p->steps_at_once = most(1, (int64_t)(POLL_INTERVAL / (weights_of(s) * (double)most(1, part.batch))));
}

int frnn_backward(const frnn_backward_call *calls, int count, int (*interrupted)(void)) {
  int status = frnn_backward_status(calls, count);
  if (status < 0) return status;
  const frnn_shape *s = &calls->shape;
  const frnn_kernels *kernels = frnn_kernels_for(s->dtype);
  backward_job p;
  backward_layout layout = frnn_lay_backward(s);
  double work = 3 * weights_of(s) * (double)steps_of_rows(s, &calls->rows) * count;
  p.count = count * layout.groups;
  p.full = s;
  for (int i = 0; i < p.count; i++) {
    const frnn_backward_call *full = &calls[i / layout.groups];
    p.parts[i] = part_of_call(full, &layout, i % layout.groups);
    p.passes[i] = begin_pass(kernels, full, &p.parts[i], &layout);
  }
  plan(&p, calls, count);
  status = pack_for_recompute(kernels, calls, count, layout.packed, interrupted);
  if (status < 0) return status;
  frnn_begin(&p.run, work, p.count < parts_of(&p.pieces) ? parts_of(&p.pieces) : p.count, interrupted);
  frnn_parallel(&p.run, p.packing.work, pack_part, &p, parts_of(&p.packing));
  if (p.count >= frnn_threads())
    frnn_parallel(&p.run, work, pass_part, &p, p.count);
  else
    run_together(&p);
  for (int i = 0; i < count; i++) add_groups(&p.passes[i * layout.groups]);
  return frnn_end(&p.run);
}
