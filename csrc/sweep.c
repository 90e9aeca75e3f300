/* sweep.c - a group of rows backward through time, chunk by chunk: what is done for them, and in which order sums run.
 *
 * The cell's derivative makes the gate gradients of a step, one product takes them through W_hh to h_{t-1}. A chunk's
 * gate gradients then meet x and h in one product each for dW_ih and dW_hh, and W_ih for dx.
 *
 * It must not know: dtypes, instruction sets, activations, threads, Python. */
#include "sweep.h"

/* ---- packing --------------------------------------------------------------------------------------------------- */

/* A part of the panels of W for dg * W: rows in the order of dg's columns, which the blocks give. */
static void pack_transposed(const sweep *w, const frnn_block blocks[2], const void *weights, int64_t n, void *panels,
                            share mine) {
  int64_t hidden = w->shape->hidden, element = w->table->size, vector = w->table->lanes * element, k = 0;
  for (int i = 0; i < 2 && blocks[i].count > 0; i++) {
    range rows = range_of(blocks[i].count * hidden, mine.slice, mine.slices);
    const void *src = at(weights, (blocks[i].row * hidden + rows.begin) * n * element);
    w->table->pack_rows(src, n * element, rows.count, n, at(panels, (k + rows.begin) * vector),
                        w->cell->gates * hidden * vector);
    k += blocks[i].count * hidden;
  }
}

void frnn_pack_transposed(const sweep *w, share mine) {
  const frnn_backward_call *call = w->call;
  int64_t inputs = w->shape->input;
  if (call->dx.data && inputs > 0)
    pack_transposed(w, w->cell->ih, call->weights.w_ih, inputs, panels_at(w, w->layout.w_ih), mine);
  pack_transposed(w, w->cell->hh, call->weights.w_hh, w->shape->hidden, panels_at(w, w->layout.w_hh), mine);
}

/* ---- the sweep ------------------------------------------------------------------------------------------------- */

/* h_{t-1} for step i: the row before it in the walk. */
static frnn_sequence h_before(const sweep *w, int64_t i) {
  const frnn_shape *s = w->shape;
  if (i == 0) return dense(w->call->first.h, s->batch, s->hidden * w->table->size);
  return (frnn_sequence){row_at(w->call->y, time_of(s, i - 1), 0), 0, w->call->y.row};
}

/* The step and the phase that a stretch ends with. */
typedef struct {
  int64_t i; /* the step of the walk */
  int phase;
} stretch;

static stretch stretch_of(const sweep *w, int64_t k) {
  return (stretch){w->to - 1 - k / w->cell->phases, (int)(k % w->cell->phases)};
}

/* dh += dg[columns of the block] * W_hh[its rows], or = into drh, for some rows and some vectors of units. */
static void through_w_hh(const sweep *w, stretch at_k, range rows, range vectors) {
  int reset = at_k.phase < w->cell->phases - 1; /* the first of two phases goes by way of r * h */
  const frnn_block *block = &w->cell->hh[reset];
  int64_t hidden = w->shape->hidden, element = w->table->size, vector = w->table->lanes * element;
  int64_t before = reset ? w->cell->hh[0].count * hidden : 0, panel = w->cell->gates * hidden * vector;
  void *dg = row_at(w->dg, time_of(w->shape, at_k.i) - w->t0, rows.begin);
  void *dh = at(work_at(w, reset ? w->layout.drh : w->layout.dh), rows.begin * w->row + vectors.begin * vector);
  frnn_gemm g = {.m = rows.count,
                 .n = least(vectors.count * w->table->lanes, hidden - vectors.begin * w->table->lanes),
                 .k = block->count * hidden,
                 .a = at(dg, block->column * hidden * element),
                 .a_row = w->dg.row,
                 .a_k = element,
                 .panels = at(panels_at(w, w->layout.w_hh), before * vector + vectors.begin * panel),
                 .panel = panel,
                 .init = reset ? NULL : dh,
                 .init_row = w->row,
                 .c = dh,
                 .c_row = w->row};
  w->table->gemm(&g);
}

/* Gate gradients of a step, and what of dh and dc goes by beside the products, for some rows and vectors of units. */
static void derive(const sweep *w, stretch at_k, range rows, range vectors) {
  const frnn_shape *s = w->shape;
  const frnn_backward_call *call = w->call;
  int64_t i = at_k.i, t = time_of(s, i), b = rows.begin, lanes = w->table->lanes;
  frnn_sequence h = h_before(w, i);
  char *slots = row_at(w->tape, t, b);
  const char *before = i > 0 ? row_at(w->tape, time_of(s, i - 1), b) : NULL;
  frnn_back back = {
      .m = rows.count,
      .hidden = s->hidden,
      .unit = vectors.begin * lanes,
      .end = least((vectors.begin + vectors.count) * lanes, s->hidden),
      .h = row_at(h, 0, b),
      .h_row = h.row,
      .y = row_at(call->y, t, b),
      .y_row = call->y.row,
      .z = slots,
      .z_row = w->tape.row,
      .gate = w->row,
      .c_out = at(slots, w->cell->slots * w->row),
      .c_row = w->tape.row,
      .c_in = before ? at(before, w->cell->slots * w->row) : at(work_at(w, w->layout.c_first), b * w->row),
      .c_in_row = before ? w->tape.row : w->row,
      .dy = call->dy.data ? row_at(call->dy, t, b) : NULL,
      .dy_row = call->dy.row,
      .dh = at(work_at(w, w->layout.dh), b * w->row),
      .dh_row = w->row,
      .dc = at(work_at(w, w->layout.dc), b * w->row),
      .dg = row_at(w->dg, t - w->t0, b),
      .dg_row = w->dg.row,
      .scratch = row_at(w->rh, t - w->t0, b),
      .scratch_row = w->row,
      .drh = at(work_at(w, w->layout.drh), b * w->row)};
  w->table->back[s->cell][at_k.phase](&back);
}

void frnn_run_stretch(const sweep *w, int64_t k, range rows, range vectors) {
  if (k > 0) through_w_hh(w, stretch_of(w, k - 1), rows, vectors);
  if (k < stretches_of(w)) derive(w, stretch_of(w, k), rows, vectors);
}

/* ---- the products of a chunk ----------------------------------------------------------------------------------- */

/* The rows of a chunk in the order of the sweep, as one stride: from the last row of the last step down, or in
 * reverse from the first up. So a sum over them goes on from chunk to chunk as if there were none. */
typedef struct {
  int64_t rows, b;
  ptrdiff_t way; /* 1 or -1 */
} sweep_order;

static sweep_order order_of(const sweep *w) {
  int64_t batch = w->shape->batch;
  return (sweep_order){(w->to - w->from) * batch, w->shape->reverse ? 0 : batch - 1, w->shape->reverse ? 1 : -1};
}

/* Of the panels of an operand those rows that some steps of the chunk, from `steps.begin` in the data on, and some rows
 * of the batch make. */
static void pack_operand(const sweep *w, enum operand which, int64_t n, range steps, range rows) {
  const frnn_shape *s = w->shape;
  sweep_order o = order_of(w);
  int64_t vector = w->table->lanes * w->table->size, end = rows.begin + rows.count;
  int64_t first = o.way < 0 ? end - 1 : rows.begin, before = o.way < 0 ? s->batch - end : rows.begin;
  for (int64_t t = w->t0 + steps.begin; t < w->t0 + steps.begin + steps.count; t++) {
    int64_t i = time_of(s, t);
    frnn_sequence q = which == HIDDEN  ? h_before(w, i)
                      : which == INPUT ? (frnn_sequence){row_at(w->call->x, t, 0), 0, w->call->x.row}
                                       : (frnn_sequence){row_at(w->rh, t - w->t0, 0), 0, w->rh.row};
    w->table->pack_rows(row_at(q, 0, first), o.way * q.row, rows.count, n,
                        at(work_at(w, w->layout.operand[which]), ((w->to - 1 - i) * s->batch + before) * vector),
                        o.rows * vector);
  }
}

/* dx of some steps of the chunk and some rows of the batch. */
static void input_gradient(const sweep *w, range steps, range rows) {
  int64_t columns = w->cell->gates * w->shape->hidden;
  frnn_gemm g = {.n = w->shape->input,
                 .k = columns,
                 .a_k = w->table->size,
                 .panels = panels_at(w, w->layout.w_ih),
                 .panel = columns * w->table->lanes * w->table->size};
  frnn_sequence dx = w->call->dx, dg = w->dg;
  dx.data = row_at(dx, w->t0 + steps.begin, rows.begin);
  dg.data = row_at(dg, steps.begin, rows.begin);
  product_of_rows(w->table, g, dg, dx, steps.count, rows.count);
}

void frnn_finish_rows(const sweep *w, range steps, range rows) {
  const frnn_backward_call *call = w->call;
  if (rows.count < 1 || steps.count < 1) return;
  if (call->dw_ih && w->shape->input > 0) pack_operand(w, INPUT, w->shape->input, steps, rows);
  if (call->dw_hh) pack_operand(w, HIDDEN, w->shape->hidden, steps, rows);
  if (call->dw_hh && w->cell->phases == 2) pack_operand(w, RESET_HIDDEN, w->shape->hidden, steps, rows);
  if (call->dx.data) input_gradient(w, steps, rows);
}

/* ---- the gradients of the weights ------------------------------------------------------------------------------- */

/* A part of a block of the gate gradients: its rows among the weights', its first column in the sweep's first row. */
typedef struct {
  range rows;
  const void *first;
} gate_part;

static gate_part part_of(const sweep *w, const frnn_block *block, share mine) {
  int64_t hidden = w->shape->hidden;
  range gates = range_of(block->count * hidden, mine.slice, mine.slices);
  const void *row = row_at(w->dg, time_of(w->shape, w->to - 1) - w->t0, order_of(w).b);
  return (gate_part){{block->row * hidden + gates.begin, gates.count},
                     at(row, (block->column * hidden + gates.begin) * w->table->size)};
}

/* dW[rows of the block] += dg[its columns]^T * operand, for a part of the block; the first chunk begins the sum. */
static void weight_gradient(const sweep *w, const frnn_block *block, enum operand which, int64_t n, void *dw,
                            share mine) {
  sweep_order o = order_of(w);
  gate_part gates = part_of(w, block, mine);
  int64_t element = w->table->size;
  void *rows = at(dw, gates.rows.begin * n * element);
  frnn_gemm g = {.m = gates.rows.count,
                 .n = n,
                 .k = o.rows,
                 .a = gates.first,
                 .a_row = element,
                 .a_k = o.way * w->dg.row,
                 .panels = work_at(w, w->layout.operand[which]),
                 .panel = o.rows * w->table->lanes * element,
                 .init = w->to == w->shape->steps ? NULL : rows,
                 .init_row = n * element,
                 .c = rows,
                 .c_row = n * element};
  w->table->gemm(&g);
}

static void bias_gradient(const sweep *w, const frnn_block *block, void *db, share mine) {
  sweep_order o = order_of(w);
  gate_part gates = part_of(w, block, mine);
  w->table->sum_rows(gates.first, o.way * w->dg.row, o.rows, gates.rows.count,
                     at(db, gates.rows.begin * w->table->size));
}

void frnn_add_chunk(const sweep *w, share mine) {
  const frnn_backward_call *call = w->call;
  for (int i = 0; i < 2; i++) {
    const frnn_block *ih = &w->cell->ih[i], *hh = &w->cell->hh[i];
    if (ih->count > 0 && call->dw_ih && w->shape->input > 0)
      weight_gradient(w, ih, INPUT, w->shape->input, call->dw_ih, mine);
    if (hh->count > 0 && call->dw_hh)
      weight_gradient(w, hh, i ? RESET_HIDDEN : HIDDEN, w->shape->hidden, call->dw_hh, mine);
    if (ih->count > 0 && call->db_ih) bias_gradient(w, ih, call->db_ih, mine);
    if (hh->count > 0 && call->db_hh) bias_gradient(w, hh, call->db_hh, mine);
  }
}

/* ---- the ends ---------------------------------------------------------------------------------------------------- */

static void clear(void *p, int64_t bytes) {
  if (p) memset(p, 0, (size_t)bytes);
}

void frnn_begin_gradients(const sweep *w) {
  const frnn_backward_call *call = w->call;
  const frnn_shape *s = w->shape;
  int64_t element = w->table->size, rows = w->cell->gates * s->hidden;
  size_t bytes = (size_t)(s->hidden * element);
  if (w->from == 0) {
    clear(call->dw_ih, rows * s->input * element);
    clear(call->dw_hh, rows * s->hidden * element);
  }
  clear(call->db_ih, rows * element);
  clear(call->db_hh, rows * element);
  clear(work_at(w, w->layout.dh), s->batch * w->row);
  copy_rows(work_at(w, w->layout.dh), w->row, call->dlast.h, (ptrdiff_t)bytes, s->batch, bytes);
  if (w->cell->states < 2) return;
  clear(work_at(w, w->layout.dc), s->batch * w->row);
  clear(work_at(w, w->layout.c_first), s->batch * w->row);
  copy_rows(work_at(w, w->layout.dc), w->row, call->dlast.c, (ptrdiff_t)bytes, s->batch, bytes);
  copy_rows(work_at(w, w->layout.c_first), w->row, call->first.c, (ptrdiff_t)bytes, s->batch, bytes);
}

void frnn_end_gradients(const sweep *w) {
  const frnn_backward_call *call = w->call;
  const frnn_shape *s = w->shape;
  size_t bytes = (size_t)(s->hidden * w->table->size);
  copy_rows(call->dfirst.h, (ptrdiff_t)bytes, work_at(w, w->layout.dh), w->row, s->batch, bytes);
  if (w->cell->states == 2)
    copy_rows(call->dfirst.c, (ptrdiff_t)bytes, work_at(w, w->layout.dc), w->row, s->batch, bytes);
}
