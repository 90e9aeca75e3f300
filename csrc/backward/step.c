/* step.c - a backward step, for some rows and units; the chunks of steps.
 *
 * The cell's derivative computes the gate gradients of a step, and one product takes them through W_hh to h_{t-1}. If h
 * is projected, a phase before takes its gradient through W_hr.
 *
 * It must not know: dtypes, instruction sets, activations, threads, Python. */
#include "step.h"

/* ---- packing --------------------------------------------------------------------------------------------------- */

/* Packs a part of W, which has `gates` gates, for the product dg * W. Its rows are packed in the order of dg's columns,
 * which `blocks` says. */
static void pack_transposed(const backward_pass *w, const frnn_block *blocks, int gates, const void *weights, int64_t n,
                            void *panels, job_part mine) {
  int64_t hidden = w->shape->hidden, element = w->kernels->size, vector = w->kernels->lanes * element, k = 0;
  for (int i = 0; i < FRNN_BLOCKS && blocks[i].count > 0; i++) {
    range rows = range_of(blocks[i].count * hidden, mine.slice, mine.slices);
    const void *src = at(weights, (blocks[i].row * hidden + rows.begin) * n * element);
    w->kernels->pack_rows(src, n * element, rows.count, n, at(panels, (k + rows.begin) * vector),
                          gates * hidden * vector);
    k += blocks[i].count * hidden;
  }
}

void frnn_pack_transposed(const backward_pass *w, job_part mine) {
  const frnn_backward_call *call = w->call;
  int64_t inputs = w->shape->input;
  if (call->dx.data && inputs > 0)
    pack_transposed(w, w->cell->ih, w->cell->facts.gates, call->weights.w_ih, inputs, panels_at(w, w->layout->w_ih),
                    mine);
  pack_transposed(w, w->cell->hh, w->cell->facts.recurrent, call->weights.w_hh, features_of(w->shape),
                  panels_at(w, w->layout->w_hh), mine);
  int64_t hidden = w->shape->hidden, vector = w->kernels->lanes * w->kernels->size, row = hidden * w->kernels->size;
  range rows = range_of(w->shape->projected, mine.slice, mine.slices);
  if (rows.count > 0)
    w->kernels->pack_rows(at(call->weights.w_hr, rows.begin * row), row, rows.count, hidden,
                          at(panels_at(w, w->layout->w_hr), rows.begin * vector), w->shape->projected * vector);
}

/* ---- chunks ----------------------------------------------------------------------------------------------------- */

/* The first step of a ragged chunk: it holds as many steps as it has room for their rows. */
static int64_t ragged_begin(const backward_pass *w, int64_t from) {
  int64_t rows = 0, i = w->to;
  for (; i > from && w->to - i < w->layout->rows; i--) {
    rows += working(w->shape, &w->call->rows, time_of(w->shape, i - 1));
    if (rows > w->layout->rows) break;
  }
  return i;
}

int frnn_next_chunk(backward_pass *w) {
  int64_t *first = work_at(w, w->layout->first), rows = 0, n = w->shape->checkpoint;
  w->to = w->from;
  w->done += w->rows;
  range recompute = n && w->to > 0 ? steps_to_recompute(w) : (range){0, w->to};
  w->from = w->shape->ragged ? ragged_begin(w, recompute.begin) : most(recompute.begin, w->to - w->layout->steps);
  w->t0 = earliest(w->shape, w->from, w->to);
  w->stale = n && w->to > 0 && w->cell->slots > 0 && (w->to == w->shape->steps || w->to % n == 0);
  if (w->stale) w->tape_t0 = earliest(w->shape, recompute.begin, w->to);
  for (int64_t i = 0; w->shape->ragged && i <= w->to - w->from; i++) {
    first[i] = rows;
    if (i < w->to - w->from) rows += working(w->shape, &w->call->rows, w->t0 + i);
  }
  w->rows = rows_before(w, w->t0 + w->to - w->from);
  if (w->shape->has_ids) frnn_list_ids(w);
  assert(w->from < w->to || w->to == 0);
  return w->to > 0;
}

/* ---- the steps -------------------------------------------------------------------------------------------------- */

/* A step of the pass, and a phase of it. */
typedef struct {
  int64_t i; /* the step of the pass */
  frnn_phase phase;
  int first, last; /* 1 if it is the first phase of the step, or the last one */
} step_phase;

static step_phase phase_at(const backward_pass *w, int64_t k) {
  int phases = phases_of(w->shape, w->cell->backward);
  const frnn_phase *phase = next_phase(w->shape, w->cell->backward);
  int64_t index = k % phases;
  for (int64_t i = 0; i < index; i++) phase = next_phase(w->shape, phase + 1);
  return (step_phase){w->to - 1 - k / phases, *phase, index == 0, index == phases - 1};
}

/* A product of a step: the columns of the gate gradients and the panels that it reads, and the offset of its result. */
typedef struct {
  int64_t column, k, n;
  const void *panels;
  ptrdiff_t panel;
  size_t into; /* padded rows */
  int begins;  /* it writes the result rather than adds it */
} passage;

/* The product through W_hr to drh, in the phase of the projection. */
static passage through_projection(const backward_pass *w) {
  return (passage){.column = column_of_h(w),
                   .k = w->shape->projected,
                   .n = w->shape->hidden,
                   .panels = panels_at(w, w->layout->w_hr),
                   .panel = w->shape->projected * w->kernels->lanes * w->kernels->size,
                   .into = w->layout->drh,
                   .begins = 1};
}

/* The product through a block of W_hh to dh; to drh if the block's operand is scratch or h after dropout. `before`
 * gates come before the block in the panels. */
static passage through_block(const backward_pass *w, const frnn_block *block, int64_t before) {
  int64_t hidden = w->shape->hidden, vector = w->kernels->lanes * w->kernels->size;
  int by_way = block->operand == FRNN_SCRATCH || w->call->dropout.recurrent;
  return (passage){.column = block->column * hidden,
                   .k = block->count * hidden,
                   .n = features_of(w->shape),
                   .panels = at(panels_at(w, w->layout->w_hh), before * hidden * vector),
                   .panel = w->cell->facts.recurrent * hidden * vector,
                   .into = by_way ? w->layout->drh : w->layout->d_state,
                   .begins = by_way};
}

/* Computes the product for some rows and a part of its outputs. */
static void take_passage(const backward_pass *w, passage p, int64_t t, range rows, job_part mine) {
  int64_t lanes = w->kernels->lanes, vector = lanes * w->kernels->size;
  range vectors = vectors_of_part(w->kernels, p.n, mine);
  rows = working_of(w->shape, &w->call->rows, rows, t);
  void *target = at(work_at(w, p.into), rows.begin * w->row + vectors.begin * vector);
  frnn_gemm g = {.m = rows.count,
                 .n = least(vectors.count * lanes, p.n - vectors.begin * lanes),
                 .k = p.k,
                 .a = at(chunk_row(w, w->dg, t, rows.begin), p.column * w->kernels->size),
                 .a_row = w->dg.row,
                 .a_k = w->kernels->size,
                 .panels = at(p.panels, vectors.begin * p.panel),
                 .panel = p.panel,
                 .init = p.begins ? NULL : target,
                 .init_row = w->row,
                 .c = target,
                 .c_row = w->row};
  w->kernels->products.gemm(&g);
}

/* Computes a part of each product that follows a phase. Of several that go to drh, the first writes it and the others
 * add. */
static void pass_through(const backward_pass *w, step_phase at_k, range rows, job_part mine) {
  int64_t t = time_of(w->shape, at_k.i), before = 0;
  int begun = 0;
  if (at_k.phase.kind == FRNN_PROJECTION) {
    take_passage(w, through_projection(w), t, rows, mine);
    return;
  }
  for (const frnn_block *b = w->cell->hh; b < w->cell->hh + FRNN_BLOCKS && b->count > 0; b++) {
    passage p = through_block(w, b, before);
    before += b->count;
    if (b->after != at_k.phase.number) continue;
    p.begins &= !begun;
    begun |= p.begins;
    take_passage(w, p, t, rows, mine);
  }
}

/* Adds to dh the gradient of h after dropout, times the factors. */
static void pass_through_dropout(const backward_pass *w, step_phase at_k, range rows, job_part mine) {
  int64_t t = time_of(w->shape, at_k.i), lanes = w->kernels->lanes, numbers = features_of(w->shape);
  range vectors = vectors_of_part(w->kernels, numbers, mine);
  int64_t first = vectors.begin * lanes, count = least(vectors.count * lanes, numbers - first);
  rows = working_of(w->shape, &w->call->rows, rows, t);
  for (int64_t p = rows.begin; p < rows.begin + rows.count && count > 0; p++) {
    ptrdiff_t from = p * w->row + first * w->kernels->size;
    void *dh = at(gradient_row(w, FRNN_STATE_H, 0), from);
    const void *factors = at(w->call->dropout.recurrent, (p * numbers + first) * w->kernels->size);
    w->kernels->multiply_add(dh, at(work_at(w, w->layout->drh), from), factors, dh, count);
  }
}

/* Some numbers of a row. */
typedef struct {
  int64_t begin, end;
} units;

static units units_of(const backward_pass *w, int64_t numbers, job_part mine) {
  range vectors = vectors_of_part(w->kernels, numbers, mine);
  int64_t lanes = w->kernels->lanes;
  return (units){vectors.begin * lanes, least((vectors.begin + vectors.count) * lanes, numbers)};
}

static void add_units(const backward_pass *w, void *sum, const void *other, units u) {
  ptrdiff_t from = u.begin * w->kernels->size;
  w->kernels->add(at(sum, from), at(sum, from), at(other, from), u.end - u.begin);
}

/* Adds to the gradient of the call's first state by Kahan's addition: any number of steps may be added. */
static void keep_units(const backward_pass *w, int state, int64_t index, const void *d, units u) {
  ptrdiff_t from = u.begin * w->kernels->size;
  w->kernels->add_keeping(at(state_row(w, w->layout->d_first, state, FRNN_STATE_H, index), from),
                          at(state_row(w, w->layout->d_lost, state, FRNN_STATE_H, index), from), at(d, from),
                          u.end - u.begin);
}

static void clear_units(const backward_pass *w, void *row, units u) {
  memset(at(row, u.begin * w->kernels->size), 0, (size_t)((u.end - u.begin) * w->kernels->size));
}

/* Writes dy plus the gradient that came back to h_t behind the gate gradients, where the product with W_hr and its
 * gradient read it. */
static void take_gradient_of_h(const backward_pass *w, int64_t t, range rows, job_part mine) {
  units u = units_of(w, w->shape->projected, mine);
  ptrdiff_t from = u.begin * w->kernels->size;
  for (int64_t p = rows.begin; p < rows.begin + rows.count; p++) {
    void *dh = gradient_row(w, FRNN_STATE_H, p),
         *target = at(chunk_row(w, w->dg, t, p), column_of_h(w) * w->kernels->size);
    if (w->call->dy.data) add_units(w, dh, user_row(w, w->call->dy, t, p), u);
    if (holds(&w->call->rows, t, p)) {
      clear_units(w, target, u);
      continue;
    }
    memcpy(at(target, from), at(dh, from), (size_t)((u.end - u.begin) * w->kernels->size));
    clear_units(w, dh, u);
  }
}

/* Sets the variant arguments of a step, for rows from a sorted index on; they go to `variant`. */
static void add_variant_arguments(const backward_pass *w, frnn_back *back, frnn_variant_arguments *variant, int64_t t,
                                  int64_t index) {
  const frnn_backward_call *call = w->call;
  int64_t size = w->kernels->size;
  back->variant = variant;
  *variant = (frnn_variant_arguments){.numbers = &call->variant,
                                      .shift_ih = call->weights.b_ih,
                                      .shift_hh = call->weights.b_hh,
                                      .features = features_of(w->shape),
                                      .after_dropout = chunk_row(w, w->after_dropout, t, index),
                                      .after_dropout_row = w->row,
                                      .zoneout_row = w->shape->hidden * size};
  for (int i = 0; i < w->cell->facts.states; i++)
    if (call->dropout.zoneout[i])
      variant->zoneout[i] = at(call->dropout.zoneout[i], (t * w->full_batch + index) * variant->zoneout_row);
  if (!call->dropout.recurrent) return;
  back->dropout_factors_row = features_of(w->shape) * size;
  back->dropout_factors = at(call->dropout.recurrent, index * back->dropout_factors_row);
}

/* aux is read from the user's rows: neighbours, or one row. Its gradient is a sum over all units, so of the parts that
 * divide the units only the first writes it. */
static void add_aux(const backward_pass *w, frnn_back *back, int64_t t, int64_t index) {
  back->aux = user_row(w, w->call->aux, t, index);
  back->aux_row = w->call->aux.row;
  back->daux = w->call->daux.data && back->unit == 0 ? user_row(w, w->call->daux, t, index) : NULL;
  back->daux_row = w->call->daux.row;
}

/* The rows of a state in a step, for a run of rows from a sorted index on. */
static frnn_back_state state_in_step(const backward_pass *w, int state, int64_t i, int64_t index) {
  int64_t t = time_of(w->shape, i);
  frnn_sequence before = frnn_state_before(w, state, i, index), shown = w->call->dstate[state];
  frnn_sequence after = {at(row_at(w->tape, t - w->tape_t0, index), (w->cell->slots + state - 1) * w->row), 0,
                         w->tape.row};
  if (state == FRNN_STATE_H) after = frnn_backward_input(w, INPUT_H, t, index);
  frnn_back_state s = {.before = before.data,
                       .before_row = before.row,
                       .after = after.data,
                       .after_row = after.row,
                       .d = gradient_row(w, state, index)};
  if (state == FRNN_STATE_H) { /* show_h has written dstate already; the gradient may have come through W_hr */
    if (w->shape->projected) s.d = at(work_at(w, w->layout->drh), index * w->row);
  } else if (shown.data) {
    s.shown = user_row(w, shown, t, index);
    s.shown_row = shown.row;
  }
  return s;
}

/* The cell's derivative for a run of rows and some units: gate gradients, and the part of the states' gradients that
 * goes to t - 1 without a product. */
static void derive_run(const backward_pass *w, step_phase at_k, range rows, units u) {
  const frnn_shape *s = w->shape;
  int64_t i = at_k.i, t = time_of(s, i), b = rows.begin;
  frnn_sequence dy = frnn_backward_input(w, INPUT_DY, t, b);
  frnn_back back = {.m = rows.count,
                    .hidden = s->hidden,
                    .unit = u.begin,
                    .end = u.end,
                    .d_row = w->row,
                    .z = row_at(w->tape, t - w->tape_t0, b),
                    .z_row = w->tape.row,
                    .gate = w->row,
                    .dy = s->projected ? NULL : dy.data,
                    .dy_row = dy.row,
                    .dg = chunk_row(w, w->dg, t, b),
                    .dg_row = w->dg.row,
                    .scratch = has_extra_product(s) ? chunk_row(w, w->rh, t, b) : NULL,
                    .scratch_row = w->row,
                    .drh = at(work_at(w, w->layout->drh), b * w->row)};
  for (int state = 0; state < w->cell->facts.states; state++) back.state[state] = state_in_step(w, state, i, b);
  frnn_variant_arguments variant;
  if (is_unfused(w->cell)) add_variant_arguments(w, &back, &variant, t, b);
  if (w->cell->facts.aux > 0) add_aux(w, &back, t, b);
  w->functions->back[at_k.phase.number](&back);
}

/* A row that the mask held: its gate gradients are zero, and its state's gradient, dy included, goes to t - 1 as it
 * is. */
static void derive_held(const backward_pass *w, step_phase at_k, int64_t index, units u) {
  int64_t t = time_of(w->shape, at_k.i);
  void *dg = chunk_row(w, w->dg, t, index);
  ptrdiff_t from = u.begin * w->kernels->size;
  if (at_k.phase.number > 0) return;
  for (int state = 1; state < w->cell->facts.states; state++)
    if (w->call->dstate[state].data)
      memcpy(at(user_row(w, w->call->dstate[state], t, index), from), at(gradient_row(w, state, index), from),
             (size_t)((u.end - u.begin) * w->kernels->size));
  for (int column = 0; column < w->cell->columns; column++)
    clear_units(w, at(dg, column * w->shape->hidden * w->kernels->size), u);
  if (w->call->dy.data && !w->shape->projected)
    add_units(w, gradient_row(w, FRNN_STATE_H, index), user_row(w, w->call->dy, t, index), u);
}

/* Writes the gradient of h after step t to the caller's dstate. */
static void show_h(const backward_pass *w, int64_t t, range rows, job_part mine) {
  const frnn_backward_call *call = w->call;
  units u = units_of(w, features_of(w->shape), mine);
  ptrdiff_t from = u.begin * w->kernels->size;
  for (int64_t p = rows.begin; p < rows.begin + rows.count; p++) {
    const void *dy = call->dy.data ? at(user_row(w, call->dy, t, p), from) : NULL;
    w->kernels->add(at(user_row(w, call->dstate[FRNN_STATE_H], t, p), from), at(gradient_row(w, FRNN_STATE_H, p), from),
                    dy, u.end - u.begin);
  }
}

/* 1 if the derivative reads or writes the user's rows rather than copies of them. */
static int reads_users_rows(const backward_pass *w) {
  for (int state = 1; state < w->cell->facts.states; state++)
    if (w->call->dstate[state].data) return 1;
  return w->cell->facts.aux > 0;
}

/* A phase of the step, up to its product: the cell's derivative, run of rows by run of rows, or the gradient that goes
 * to the projection. */
static void derive(const backward_pass *w, step_phase at_k, range rows, job_part mine) {
  int64_t t = time_of(w->shape, at_k.i);
  range left = working_of(w->shape, &w->call->rows, rows, t), now;
  units u = units_of(w, w->shape->hidden, mine);
  if (at_k.first && w->call->dstate[FRNN_STATE_H].data) show_h(w, t, left, mine);
  if (at_k.phase.kind == FRNN_PROJECTION) {
    take_gradient_of_h(w, t, left, mine);
    return;
  }
  for (; left.count > 0; left.begin += now.count, left.count -= now.count) {
    now = frnn_run_of(w, at_k.i, left);
    if (w->call->rows.sort_order && reads_users_rows(w)) now.count = 1; /* the user's rows are no neighbours */
    int64_t held = next_held(&w->call->rows, t, now.begin, now);
    if (held >= 0) now.count = most(1, held - now.begin);
    assert(now.count > 0);
    if (held == now.begin)
      derive_held(w, at_k, now.begin, u);
    else
      derive_run(w, at_k, now, u);
  }
}

/* The gradient of a state that was reset stops here, or goes to the call's first state. */
static void cut(const backward_pass *w, int64_t i, range rows, job_part mine) {
  const frnn_rows *r = &w->call->rows;
  int64_t t = time_of(w->shape, i);
  rows = working_of(w->shape, r, rows, t);
  for (int64_t p = rows.begin; (p = next_reset(r, t, p, rows)) >= 0; p++) {
    for (int state = 0; state < w->cell->facts.states; state++) {
      units u = units_of(w, numbers_of_state(w->shape, state), mine);
      void *d = gradient_row(w, state, p);
      if (r->reset_to_first) keep_units(w, state, p, d, u);
      clear_units(w, d, u);
    }
  }
}

void frnn_run_phase(const backward_pass *w, int64_t k, range rows, job_part mine) {
  if (k > 0 && k <= phases_of_chunk(w)) {
    step_phase before = phase_at(w, k - 1);
    pass_through(w, before, rows, mine);
    if (before.last && w->call->dropout.recurrent) pass_through_dropout(w, before, rows, mine);
    if (before.last) cut(w, before.i, rows, mine);
  }
  if (k < phases_of_chunk(w)) derive(w, phase_at(w, k), rows, mine);
}

/* ---- the first and the last gradients -------------------------------------------------------------------------- */

static void clear(void *p, int64_t bytes) {
  if (p) memset(p, 0, (size_t)bytes);
}

/* Copies the user's rows of a state into sorted order, from address `rows` on; `from` NULL: zeros. */
static void take_state(const backward_pass *w, int state, char *rows, const void *from) {
  ptrdiff_t bytes = numbers_of_state(w->shape, state) * w->kernels->size;
  for (int64_t p = 0; p < w->shape->batch; p++) {
    char *row = rows + p * w->row;
    memset(row, 0, (size_t)w->row);
    if (from) memcpy(row, at(from, row_of(&w->call->rows, p) * bytes), (size_t)bytes);
  }
}

static void give_state(const backward_pass *w, int state, void *to) {
  int64_t numbers = numbers_of_state(w->shape, state), bytes = numbers * w->kernels->size;
  for (int64_t p = 0; p < w->shape->batch; p++) {
    void *row = gradient_row(w, state, p);
    if (w->shape->ragged && w->call->rows.reset_to_first)
      add_units(w, row, state_row(w, w->layout->d_first, state, FRNN_STATE_H, p), (units){0, numbers});
    memcpy(at(to, row_of(&w->call->rows, p) * bytes), row, (size_t)bytes);
  }
}

/* Clears the gradient of aux: the steps that a row does not take, or in which it is held, are never written. */
static void clear_aux(const backward_pass *w) {
  for (int64_t t = 0; w->call->daux.data && t < w->shape->steps; t++)
    for (int64_t p = 0; p < w->shape->batch; p++)
      memset(user_row(w, w->call->daux, t, p), 0, (size_t)(w->cell->facts.aux * w->kernels->size));
}

void frnn_begin_gradients(const backward_pass *w) {
  const frnn_backward_call *call = w->call;
  const frnn_shape *s = w->shape;
  const backward_layout *l = w->layout;
  int64_t element = w->kernels->size;
  int products_begin = w->from > 0 && !l->in_blocks; /* the first product of a sum overwrites it */
  int has_blocks = w->cell->hh[0].count > 0;
  for (int i = products_begin ? OF_B_IH : 0; i < GRADIENTS; i++) clear(gradient_of(call, i), l->elements[i] * element);
  if (!has_blocks) clear(gradient_of(call, OF_W_HH), l->elements[OF_W_HH] * element);
  clear_aux(w);
  for (int i = 0; i < GRADIENTS; i++) clear(work_at(w, l->arrays[i]), ARRAYS_BESIDE * l->beside[i] * element);
  for (int state = 0; state < w->cell->facts.states; state++) {
    take_state(w, state, gradient_row(w, state, 0), call->dlast.of[state]);
    if (state != FRNN_STATE_H) take_state(w, state, state_row(w, l->held_first, state, 1, 0), call->first.of[state]);
  }
  if (!s->ragged) return;
  clear(work_at(w, w->layout->zeros), most(s->input * element, w->row));
  clear(work_at(w, l->d_first), w->cell->facts.states * l->group_batch * w->row);
  clear(work_at(w, l->d_lost), w->cell->facts.states * l->group_batch * w->row);
}

void frnn_end_gradients(const backward_pass *w) {
  for (int state = 0; state < w->cell->facts.states; state++) give_state(w, state, w->call->dfirst.of[state]);
}
