/* step.c - a step forward in time, for some rows and units.
 *
 * In each step the cell's tile computes bias + W_ih x + W_hh h and from it the new state. If a step has few rows for
 * its inputs, one product over a chunk of time computes bias + W_ih x before, and the tile goes on from there. In
 * training the product writes to the tape, whose slots the tile turns into gates.
 *
 * h is in y and the other states are in the tape, so a step reads the state before it there. Rows that begin or are
 * reset in the step have another state: it replaces the one before while the step is taken. If sorted order is not the
 * user's order (see ragged.h), x is copied into sorted order and h out of it.
 *
 * It must not know: dtypes, instruction sets, activations, threads, Python. */
#include "step.h"

enum { PACKED_AT_ONCE = 262144 /* bytes, a good part of L2 */ };

static void begin_pass(forward_pass *w, const frnn_forward_call *call, const frnn_shape *full) {
  const frnn_shape *s = &call->shape;
  assert(call->work && call->packed);
  memset(w, 0, offsetof(forward_pass, own));
  w->call = call;
  w->shape = s;
  w->full = full;
  w->cell = s->cell;
  w->packed = call->packed;
  w->kernels = frnn_kernels_of(&w->packed->by);
  w->products = frnn_products_of(&w->packed->by);
  w->functions = functions_of(w->kernels, s);
  w->layout = call->plan;
  w->row = padded(s) * element_size(s);
  w->end = s->steps;
  if (!call->plan) {
    w->own = frnn_lay_forward(full);
    w->layout = &w->own;
  }
  w->tape = dense(call->tape, s->batch, tape_slots(w->cell) * w->row);
  w->work = dense(at(call->work, (ptrdiff_t)w->layout->z), s->batch, work_slots(w->cell) * w->row);
}

void frnn_begin_forward(forward_pass *w, const frnn_forward_call *call) {
  begin_pass(w, call, &call->shape);
  w->in_tape = call->tape && w->cell->slots > 0 && !call->shape.checkpoint;
  if (call->tape && call->shape.checkpoint)
    w->checkpoints = dense(call->tape, call->shape.batch, held_states(w->cell) * w->row);
}

void frnn_begin_recompute(forward_pass *w, const frnn_forward_call *call, const frnn_shape *full,
                          frnn_sequence checkpoints, range steps) {
  begin_pass(w, call, full);
  w->in_tape = w->recompute = 1;
  w->checkpoints = checkpoints;
  w->begin = steps.begin;
  w->end = steps.begin + steps.count;
  w->t0 = earliest(w->shape, w->begin, w->end);
}

static const void *packed_at(const forward_pass *w, size_t offset) { return at(w->call->packed, (ptrdiff_t)offset); }
static void *work_at(const forward_pass *w, size_t offset) { return at(w->call->work, (ptrdiff_t)offset); }

/* The slots of row b at time t. The workspace has those of a chunk; of one step, if x enters in the step. */
static void *z_at(const forward_pass *w, chunk c, int64_t t, int64_t b) {
  if (w->in_tape) return row_at(w->tape, t - w->t0, b);
  return row_at(w->work, w->layout->in_step ? 0 : t - earliest(w->shape, c.from, c.to), b);
}

/* x of a chunk by sorted index, from its earliest time and row b on. */
static frnn_sequence x_of(const forward_pass *w, chunk c, int64_t b) {
  frnn_sequence x = w->call->x;
  if (w->products->convert)
    x = dense(work_at(w, w->layout->operand_x), w->shape->batch, operand_bytes(w->shape->input));
  else if (w->call->rows.sort_order)
    x = dense(work_at(w, w->layout->x), w->shape->batch, w->shape->input * w->kernels->size);
  else
    x.data = row_at(x, earliest(w->shape, c.from, c.to), 0);
  x.data = row_at(x, 0, b);
  return x;
}

static void convert(const forward_pass *w, const void *rows, ptrdiff_t row, int64_t m, int64_t k, int bounded,
                    void *operands, ptrdiff_t operand_row) {
  frnn_operands o = {rows, row, m, k, bounded, operands, operand_row};
  w->products->convert(&o);
}

void frnn_gather(const forward_pass *w, chunk c, range rows) {
  const frnn_rows *r = &w->call->rows;
  int64_t first = earliest(w->shape, c.from, c.to);
  size_t bytes = (size_t)(w->shape->input * w->kernels->size);
  if (!r->sort_order && !(w->products->convert && w->shape->input > 0)) return;
  frnn_sequence to = x_of(w, c, 0);
  rows = working_of(w->shape, r, rows, first);
  for (int64_t t = first; t < first + c.to - c.from; t++)
    for (int64_t b = 0, p; (p = next_index(r, &b, rows)) >= 0; b++) {
      if (w->products->convert)
        convert(w, row_at(w->call->x, t, b), 0, 1, w->shape->input, 0, row_at(to, t - first, p), 0);
      else
        copy_row(row_at(to, t - first, p), row_at(w->call->x, t, b), bytes);
    }
}

/* Computes bias + W_ih x of a chunk for some rows and some of the gates' vectors, whose panels are given. */
static void project_with(const forward_pass *w, chunk c, range rows, range vectors, const void *panels) {
  const frnn_shape *s = w->shape;
  int64_t vector = w->kernels->lanes * w->kernels->size, t = earliest(s, c.from, c.to);
  frnn_gemm g = {.n = vectors.count * w->kernels->lanes,
                 .k = s->input,
                 .a_k = w->kernels->size,
                 .panels = panels,
                 .panel = panel_bytes(s, w->kernels, s->input),
                 .init = at(packed_at(w, w->packed->at.bias), vectors.begin * vector)};
  rows = working_of(s, &w->call->rows, rows, t);
  frnn_sequence x = x_of(w, c, rows.begin), z = w->in_tape ? w->tape : w->work;
  z.data = at(z_at(w, c, t, rows.begin), vectors.begin * vector);
  product_of_rows(w->products, g, x, z, c.to - c.from, rows.count);
}

void frnn_project(const forward_pass *w, chunk c, range rows, range vectors) {
  if (w->layout->in_step) return;
  int64_t panel = panel_bytes(w->shape, w->kernels, w->shape->input);
  if (!w->layout->packing || w->packed->forms & FRNN_FOR_PRODUCTS) {
    project_with(w, c, rows, vectors, at(packed_at(w, w->packed->at.for_products), vectors.begin * panel));
    return;
  }
  void *place = at(work_at(w, w->layout->w_ih), vectors.begin * panel);
  int64_t some = most(4, PACKED_AT_ONCE / most(1, panel)), end = vectors.begin + vectors.count;
  for (range now = {vectors.begin, 0}; now.begin < end; now.begin += now.count) {
    now.count = next_count(some, end - now.begin);
    frnn_pack_for_product(w->shape, w->kernels, w->products, now,
                          (frnn_matrix){w->call->weights.w_ih, w->shape->input, NULL}, place);
    project_with(w, c, rows, now, place);
  }
}

/* Bytes of a row of a state in the user's arrays. */
static ptrdiff_t state_bytes(const forward_pass *w, int state) {
  return numbers_of_state(w->shape, state) * w->kernels->size;
}

static ptrdiff_t h_bytes(const forward_pass *w) { return state_bytes(w, FRNN_STATE_H); }

/* 1 if a step writes h to rows of the workspace, by sorted index. It is copied to y later, but not in a recompute. */
static int has_own_h(const forward_pass *w) { return w->recompute || w->call->rows.sort_order; }

/* The rows that step i of the pass writes h to, by sorted index. */
static frnn_sequence h_at(const forward_pass *w, int64_t i, int64_t b) {
  ptrdiff_t row = h_bytes(w);
  if (has_own_h(w)) return (frnn_sequence){at(work_at(w, w->layout->h_at[i & 1]), b * row), 0, row};
  return (frnn_sequence){row_at(w->call->y, time_of(w->shape, i), b), 0, w->call->y.row};
}

/* Rows of a state other than h in the workspace, in the array at offset `rows`. */
static frnn_sequence held(const forward_pass *w, size_t rows, int state, int64_t b) {
  return (frnn_sequence){at(work_at(w, rows), ((state - 1) * w->full->batch + b) * w->row), 0, w->row};
}

/* The rows that step i writes a state to. States other than h go to the tape or to the workspace. There a ragged pass
 * alternates between two arrays, so that a step can read the state before; a full batch updates one array in place. */
static frnn_sequence state_at(const forward_pass *w, int state, int64_t i, int64_t b) {
  if (state == FRNN_STATE_H) return h_at(w, i, b);
  if (w->in_tape)
    return (frnn_sequence){at(row_at(w->tape, time_of(w->shape, i) - w->t0, b), (w->cell->slots + state - 1) * w->row),
                           0, w->tape.row};
  return held(w, w->shape->ragged ? w->layout->held_at[i & 1] : w->layout->held, state, b);
}

/* 1 if the state that the pass begins with is copied side by side, by sorted index. */
static int is_prepared(const forward_pass *w) { return w->shape->ragged || w->recompute; }

/* The rows of the state that the pass begins with. Later they hold the rows that put_aside saves. */
static frnn_sequence prepared(const forward_pass *w, int state, int64_t b) {
  if (state != FRNN_STATE_H) return held(w, w->layout->held, state, b);
  return (frnn_sequence){at(work_at(w, w->layout->h), b * h_bytes(w)), 0, h_bytes(w)};
}

/* The state before step i of the pass, from row b on: written by the step before, or the state that the pass begins
 * with. */
static frnn_sequence state_before(const forward_pass *w, int state, int64_t i, int64_t b) {
  if (i > w->begin) return state_at(w, state, i - 1, b);
  if (state != FRNN_STATE_H || is_prepared(w)) return prepared(w, state, b);
  return (frnn_sequence){at(w->call->first.of[FRNN_STATE_H], b * h_bytes(w)), 0, h_bytes(w)};
}

/* The ids of step i: the rows of the id table with which the chains begin. */
static int64_t *ids_of(const forward_pass *w, int64_t i, int64_t b) {
  const frnn_ids *ids = &w->call->ids;
  if (w->call->rows.sort_order) return (int64_t *)work_at(w, w->layout->ids) + b;
  return (int64_t *)(uintptr_t)ids->numbers + time_of(w->shape, i) * ids->step + b;
}

static void gather_ids(const forward_pass *w, int64_t i, range rows) {
  const int64_t *ids = w->call->ids.numbers + time_of(w->shape, i) * w->call->ids.step;
  int64_t *gathered = ids_of(w, i, 0);
  for (int64_t p = rows.begin; p < rows.begin + rows.count; p++) gathered[p] = ids[w->call->rows.sort_order[p]];
}

/* aux of step i: the user's rows, or their copy by sorted index. */
static frnn_sequence aux_of(const forward_pass *w, int64_t i, int64_t b) {
  ptrdiff_t bytes = w->cell->facts.aux * w->kernels->size;
  if (w->call->rows.sort_order) return (frnn_sequence){at(work_at(w, w->layout->aux), b * bytes), 0, bytes};
  return (frnn_sequence){row_at(w->call->aux, time_of(w->shape, i), b), 0, w->call->aux.row};
}

static void gather_aux(const forward_pass *w, int64_t i, range rows) {
  frnn_sequence to = aux_of(w, i, 0);
  for (int64_t p = rows.begin; p < rows.begin + rows.count; p++)
    copy_row(row_at(to, 0, p), row_at(w->call->aux, time_of(w->shape, i), w->call->rows.sort_order[p]), (size_t)to.row);
}

/* Writes the state with which row p begins in step i: zeros, or the call's first state, whose rows are in the user's
 * order. */
static void begin_state(const forward_pass *w, int state, int64_t i, int64_t p) {
  const frnn_rows *r = &w->call->rows;
  ptrdiff_t bytes = state_bytes(w, state);
  void *to = state_before(w, state, i, p).data;
  if (begins_at_zero(w->shape, r, i, p))
    memset(to, 0, (size_t)bytes);
  else
    copy_row(to, at(w->call->first.of[state], row_of(r, p) * bytes), (size_t)bytes);
}

static void begin_row(const forward_pass *w, int64_t i, int64_t p) {
  for (int state = 0; state < w->cell->facts.states; state++) begin_state(w, state, i, p);
}

/* The states before a recomputed segment: h from y, the others from their checkpoint. */
static void begin_row_recomputed(const forward_pass *w, int64_t p) {
  int64_t before = time_of(w->shape, w->begin - 1), n = w->shape->checkpoint;
  copy_row(prepared(w, FRNN_STATE_H, p).data, row_at(w->call->y, before, row_of(&w->call->rows, p)),
           (size_t)h_bytes(w));
  for (int state = 1; state < w->cell->facts.states; state++)
    copy_row(prepared(w, state, p).data, at(row_at(w->checkpoints, w->begin / n, p), (state - 1) * w->row),
             (size_t)state_bytes(w, state));
}

/* Saves the state of row p before step i, or puts it back: it may be in y or in the tape, which must not lose it. */
static void put_aside(const forward_pass *w, int64_t i, int64_t p) {
  for (int state = 0; state < w->cell->facts.states; state++)
    copy_row(prepared(w, state, p).data, state_at(w, state, i - 1, p).data, (size_t)state_bytes(w, state));
}

static void put_back(const forward_pass *w, int64_t i, int64_t p) {
  for (int state = 0; state < w->cell->facts.states; state++)
    copy_row(state_at(w, state, i - 1, p).data, prepared(w, state, p).data, (size_t)state_bytes(w, state));
}

/* Writes h_{t-1} after dropout. */
static void drop(const forward_pass *w, int64_t i, range rows) {
  frnn_sequence h = state_before(w, FRNN_STATE_H, i, rows.begin);
  const void *factors = at(w->call->dropout.recurrent, rows.begin * h_bytes(w));
  for (int64_t b = 0; b < rows.count; b++)
    w->kernels->multiply_add(frnn_after_dropout(w, rows.begin + b), row_at(h, 0, b), at(factors, b * h_bytes(w)), NULL,
                             features_of(w->shape));
}

static void prepare_rows(const forward_pass *w, int64_t i, range rows) {
  const frnn_rows *r = &w->call->rows;
  if (w->shape->has_ids && r->sort_order) gather_ids(w, i, rows);
  if (w->cell->facts.aux > 0 && r->sort_order) gather_aux(w, i, rows);
  for (int64_t p = rows.begin; i == w->begin && i > 0 && p < rows.begin + rows.count; p++)
    if (goes_on(w->shape, r, i, p)) begin_row_recomputed(w, p);
  for (int64_t p = rows.begin; (p = next_beginning(w->shape, r, i, p, rows)) >= 0; p++) {
    if (i > w->begin) put_aside(w, i, p);
    begin_row(w, i, p);
  }
}

void frnn_prepare_step(const forward_pass *w, int64_t i, range rows) {
  if (!is_prepared(w) && !w->call->dropout.recurrent) return;
  rows = working_of(w->shape, &w->call->rows, rows, time_of(w->shape, i));
  if (is_prepared(w)) prepare_rows(w, i, rows);
  if (w->call->dropout.recurrent) drop(w, i, rows);
}

/* The rows that W_hh multiplies in a phase, or W_hr, from row b on. */
static frnn_sequence multiplied_in(const forward_pass *w, int64_t i, frnn_phase phase, int64_t b) {
  if (phase.kind == FRNN_PROJECTION) return (frnn_sequence){at(work_at(w, w->layout->output), b * w->row), 0, w->row};
  if (phase.number > 0) return (frnn_sequence){at(work_at(w, w->layout->scratch), b * w->row), 0, w->row};
  if (w->call->dropout.recurrent) return (frnn_sequence){frnn_after_dropout(w, b), 0, w->row};
  return state_before(w, FRNN_STATE_H, i, b);
}

static frnn_sequence operands_of(const forward_pass *w, int64_t b) {
  ptrdiff_t row = operand_bytes(padded(w->shape));
  return (frnn_sequence){at(work_at(w, w->layout->operand), b * row), 0, row};
}

/* What the products of a phase read: these rows, or the operands that they became. */
static frnn_sequence factor_in(const forward_pass *w, int64_t i, frnn_phase phase, int64_t b) {
  return w->products->convert ? operands_of(w, b) : multiplied_in(w, i, phase, b);
}

/* 1 if the numbers that W_hh multiplies are at most 1, but for a state of the caller's. */
static int is_bounded(const frnn_shape *s) {
  int number = s->cell->number;
  return !s->cell->own && !s->projected && number != FRNN_RNN_RELU && number != FRNN_RNN_RELU_VARIANT;
}

void frnn_prepare_phase(const forward_pass *w, int64_t i, frnn_phase phase, range rows) {
  if (phase.kind == FRNN_POINTWISE) return;
  int64_t k = phase.kind == FRNN_PROJECTION ? w->shape->hidden : features_of(w->shape);
  if (phase.kind != FRNN_PROJECTION && w->cell->facts.recurrent == 0) return;
  rows = working_of(w->shape, &w->call->rows, rows, time_of(w->shape, i));
  frnn_sequence from = multiplied_in(w, i, phase, rows.begin), to = operands_of(w, rows.begin);
  convert(w, from.data, from.row, rows.count, k, is_bounded(w->shape), to.data, to.row);
}

/* Computes h of a step from the cell's output, by W_hr. */
static void project_h(const forward_pass *w, int64_t i, range rows, job_part mine) {
  int64_t lanes = w->kernels->lanes, vector = lanes * w->kernels->size;
  int64_t panel = panel_bytes(w->shape, w->kernels, w->shape->hidden);
  range vectors = vectors_of_part(w->kernels, w->shape->projected, mine);
  frnn_sequence h = h_at(w, i, rows.begin);
  frnn_sequence a = factor_in(w, i, (frnn_phase){FRNN_PROJECTION, 0}, rows.begin);
  frnn_gemm g = {.m = rows.count,
                 .n = least(vectors.count * lanes, w->shape->projected - vectors.begin * lanes),
                 .k = w->shape->hidden,
                 .a = a.data,
                 .a_row = a.row,
                 .a_k = w->kernels->size,
                 .panels = at(packed_at(w, w->packed->at.w_hr), vectors.begin * panel),
                 .panel = panel,
                 .c = at(h.data, vectors.begin * vector),
                 .c_row = h.row};
  w->products->gemm(&g);
}

static inline frnn_step_state state_in_step(const forward_pass *w, int state, int64_t i, int64_t b) {
  frnn_sequence before = state_before(w, state, i, b), after = state_at(w, state, i, b);
  return (frnn_step_state){before.data, before.row, after.data, after.row};
}

frnn_step frnn_step_of(const forward_pass *w, chunk c, int64_t i, frnn_phase phase, range rows, range vectors) {
  const frnn_shape *s = w->shape;
  const frnn_forward_call *call = w->call;
  int64_t t = time_of(s, i);
  frnn_sequence x = x_of(w, c, rows.begin);
  frnn_step_state h = state_in_step(w, FRNN_STATE_H, i, rows.begin);
  frnn_sequence factor = {(void *)(uintptr_t)h.before, 0, h.before_row};
  if (w->products->convert || phase.number > 0 || call->dropout.recurrent) factor = factor_in(w, i, phase, rows.begin);
  ptrdiff_t z_row = w->in_tape ? w->tape.row : w->work.row;
  void *z = z_at(w, c, t, rows.begin);
  frnn_step step = {.m = rows.count,
                    .hidden = s->hidden,
                    .vector = vectors.begin,
                    .vectors = vectors.count,
                    .start = w->layout->in_step ? packed_at(w, w->packed->at.bias) : z,
                    .start_row = w->layout->in_step ? 0 : z_row,
                    .in[FRNN_H] = {factor.data, factor.row, features_of(s), packed_at(w, w->packed->at.w_hh)},
                    .z = z,
                    .z_row = z_row,
                    .gate = w->row,
                    .scratch = at(work_at(w, w->layout->scratch), rows.begin * w->row),
                    .bias_h = packed_at(w, w->packed->at.bias_h),
                    .keep = w->in_tape,
                    .backwards = (int)(i & 1) ^ call->turned,
                    .state[FRNN_STATE_H] = h};
  for (int state = 1; state < w->cell->facts.states; state++)
    step.state[state] = state_in_step(w, state, i, rows.begin);
  if (s->projected) {
    step.state[FRNN_STATE_H].after = at(work_at(w, w->layout->output), rows.begin * w->row);
    step.state[FRNN_STATE_H].after_row = w->row;
  }
  if (s->has_ids) {
    step.start = call->ids.table;
    step.start_row = w->cell->facts.gates * w->row;
    step.start_of = ids_of(w, i, rows.begin);
  }
  if (w->cell->facts.aux > 0) {
    frnn_sequence aux = aux_of(w, i, rows.begin);
    step.aux = aux.data;
    step.aux_row = aux.row;
  }
  if (w->layout->in_step) {
    size_t w_ih = is_unfused(w->cell) ? w->packed->at.for_products : w->packed->at.for_steps;
    void *rows_of_x = row_at(x, t - earliest(s, c.from, c.to), 0);
    step.in[FRNN_X] = (frnn_factor){rows_of_x, x.row, s->input, packed_at(w, w_ih)};
  }
  return step;
}

void frnn_take_step(const forward_pass *w, chunk c, int64_t i, frnn_phase phase, range rows, job_part mine) {
  int64_t t = time_of(w->shape, i);
  rows = working_of(w->shape, &w->call->rows, rows, t);
  if (phase.kind == FRNN_PROJECTION) {
    project_h(w, i, rows, mine);
    return;
  }
  frnn_step step = frnn_step_of(w, c, i, phase, rows, vectors_of_part(w->kernels, w->shape->hidden, mine));
  if (is_unfused(w->cell))
    frnn_take_unfused_step(w, &step, t, phase, rows.begin, mine);
  else
    w->products->tiles[w->cell->number][phase.number](&step);
}

/* Rows that the mask holds keep their state. */
static void carry_over(const forward_pass *w, int64_t i, range rows) {
  const frnn_rows *r = &w->call->rows;
  for (int64_t p = rows.begin; (p = next_held(r, time_of(w->shape, i), p, rows)) >= 0; p++) {
    for (int state = 0; state < w->cell->facts.states; state++)
      copy_row(state_at(w, state, i, p).data, state_before(w, state, i, p).data, (size_t)state_bytes(w, state));
  }
}

/* Puts back the states that begin_row overwrote for step i. */
static void restore(const forward_pass *w, int64_t i, range rows) {
  const frnn_rows *r = &w->call->rows;
  if (i == w->begin) return;
  for (int64_t p = rows.begin; (p = next_beginning(w->shape, r, i, p, rows)) >= 0; p++) put_back(w, i, p);
}

/* Checkpoints the states other than h after step i, if a segment begins with the next step. */
static void keep(const forward_pass *w, int64_t i, range rows) {
  if (!w->checkpoints.data || w->recompute || (i + 1) % w->shape->checkpoint != 0 || i + 1 == w->shape->steps) return;
  for (int state = 1; state < w->cell->facts.states; state++) {
    frnn_sequence from = state_at(w, state, i, rows.begin);
    void *to = row_at(w->checkpoints, (i + 1) / w->shape->checkpoint, rows.begin);
    copy_rows(at(to, (state - 1) * w->row), w->checkpoints.row, from.data, from.row, rows.count,
              (size_t)state_bytes(w, state));
  }
}

void frnn_settle_step(const forward_pass *w, int64_t i, range rows) {
  const frnn_rows *r = &w->call->rows;
  size_t bytes = (size_t)h_bytes(w);
  int64_t t = time_of(w->shape, i);
  if (!w->shape->ragged && !w->checkpoints.data) return;
  range at_work = working_of(w->shape, r, rows, t);
  carry_over(w, i, at_work);
  keep(w, i, at_work);
  restore(w, i, at_work);
  if (w->recompute) return;
  frnn_sequence h = h_at(w, i, 0);
  range own = r->sort_order ? rows : (range){at_work.begin + at_work.count, rows.count - at_work.count};
  for (int64_t b = 0, p; (p = next_index(r, &b, own)) >= 0; b++) {
    if (p < at_work.begin + at_work.count)
      copy_row(row_at(w->call->y, t, b), row_at(h, 0, p), bytes);
    else
      memset(row_at(w->call->y, t, b), 0, bytes);
  }
}

void frnn_begin_rows(const forward_pass *w, range rows) {
  for (int state = 1; state < w->cell->facts.states; state++) {
    ptrdiff_t bytes = state_bytes(w, state);
    void *to = prepared(w, state, rows.begin).data;
    memset(to, 0, (size_t)(rows.count * w->row));
    if (!is_prepared(w))
      copy_rows(to, w->row, at(w->call->first.of[state], rows.begin * bytes), bytes, rows.count, (size_t)bytes);
  }
}

/* Copies the states of a row after its own last step, from y and from the tape or the workspace. */
static void end_row(const forward_pass *w, int64_t p) {
  const frnn_forward_call *call = w->call;
  int64_t b = row_of(&call->rows, p), length = length_of(w->shape, &call->rows, p);
  int64_t t = w->shape->reverse ? 0 : length - 1;
  for (int state = 0; state < w->cell->facts.states; state++) {
    ptrdiff_t bytes = state_bytes(w, state);
    const void *from = at(call->first.of[state], b * bytes);
    void *to = at(call->last.of[state], b * bytes);
    if (length > 0)
      from = state == FRNN_STATE_H ? row_at(call->y, t, b) : state_at(w, state, time_of(w->shape, t), p).data;
    if (from != to) memcpy(to, from, (size_t)bytes);
  }
}

void frnn_end_rows(const forward_pass *w, range rows) {
  if (w->recompute) return;
  for (int64_t p = rows.begin; p < rows.begin + rows.count; p++) end_row(w, p);
}
