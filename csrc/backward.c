/* backward.c - backward through time.
 *
 * For a chunk of time steps, from the last to the first: the cell's derivative makes the gate gradients, one product
 * takes them through W_hh to h_{t-1}. The chunk's gate gradients then meet x and h in one product each for dW_ih and
 * dW_hh and one for dx. Sums over time and rows run in the order of the sweep, whatever the chunk.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "sequence.h"

/* Rows of a chunk: few enough that what the products read of them, the gate gradients and their operands, is still
 * near, and enough that reading and writing the weights' gradients once per chunk is little beside the products. */
enum { CHUNK_ROWS_LEAST = 256, CHUNK_ROWS_MOST = 1024, CHUNK_BYTES = 262144, WEIGHT_BYTES_PER_ROW = 32768 };

static int64_t chunk_rows(const frnn_shape *s) {
  double element = (double)element_size(s), gates = (double)frnn_cells[s->cell].gates * (double)s->hidden;
  double width = (double)s->input + (double)s->hidden;
  double near = CHUNK_BYTES / (element * (gates + width)), worth = element * gates * width / WEIGHT_BYTES_PER_ROW;
  double rows = near > worth ? near : worth;
  return rows > CHUNK_ROWS_MOST ? CHUNK_ROWS_MOST : rows < CHUNK_ROWS_LEAST ? CHUNK_ROWS_LEAST : (int64_t)rows;
}

/* What stands beside the gate gradients in a product over rows. */
enum operand { INPUT, HIDDEN, RESET_HIDDEN };

typedef struct {
  size_t w_ih, w_hh, dh, dc, c_first, drh, rh, dg, operand[3];
  int64_t steps, dg_row;
  size total;
} backward_layout;

/* Bytes of a row of gate gradients. One more line per row: rows a power of two apart would share the sets of the
 * cache. */
static int64_t gate_gradient_row(size *total, const frnn_shape *s) {
  int64_t bytes = product(total, product(total, frnn_cells[s->cell].columns, s->hidden), element_size(s));
  return bytes / FRNN_ALIGN * FRNN_ALIGN + 2 * FRNN_ALIGN;
}

static backward_layout lay_backward(const frnn_shape *s) {
  const frnn_cell *cell = &frnn_cells[s->cell];
  int64_t element = element_size(s), units = padded(s), two = cell->phases == 2;
  backward_layout at = {.steps = chunk_steps(s, chunk_rows(s))};
  int64_t gate_rows = product(&at.total, cell->gates, s->hidden);
  int64_t rows = product(&at.total, at.steps, s->batch);
  int64_t row_units = product(&at.total, s->batch, units);
  at.w_ih = reserve(&at.total, element, product(&at.total, gate_rows, vectors_of(s, s->input)));
  at.w_hh = reserve(&at.total, element, product(&at.total, gate_rows, units));
  at.dh = reserve(&at.total, element, row_units);
  at.dc = reserve(&at.total, element, product(&at.total, row_units, cell->states - 1));
  at.c_first = reserve(&at.total, element, product(&at.total, row_units, cell->states - 1));
  at.drh = reserve(&at.total, element, product(&at.total, row_units, two));
  at.rh = reserve(&at.total, element, product(&at.total, rows, product(&at.total, units, two)));
  at.dg_row = gate_gradient_row(&at.total, s);
  at.dg = reserve(&at.total, 1, product(&at.total, rows, at.dg_row));
  at.operand[INPUT] = reserve(&at.total, element, product(&at.total, rows, vectors_of(s, s->input)));
  at.operand[HIDDEN] = reserve(&at.total, element, product(&at.total, rows, units));
  at.operand[RESET_HIDDEN] = reserve(&at.total, element, product(&at.total, rows, product(&at.total, units, two)));
  return at;
}

size_t frnn_backward_size(const frnn_shape *s) {
  backward_layout layout = lay_backward(s);
  return total(&layout.total);
}

/* A call and what follows from it. */
typedef struct {
  const frnn_backward_call *call;
  const frnn_shape *shape;
  const frnn_table *table;
  const frnn_cell *cell;
  backward_layout layout;
  ptrdiff_t row; /* a padded row of units */
  frnn_sequence tape, dg, rh;
  int64_t from, to, t0; /* the chunk */
} sweep;

static sweep begin_sweep(const frnn_backward_call *call) {
  const frnn_shape *s = &call->shape;
  sweep w = {.call = call,
             .shape = s,
             .table = frnn_table_for(s->dtype),
             .cell = &frnn_cells[s->cell],
             .layout = lay_backward(s),
             .row = padded(s) * element_size(s),
             .to = s->batch > 0 ? s->steps : 0};
  assert(call->work && call->tape);
  w.tape = dense((void *)(uintptr_t)call->tape, s->batch, tape_slots(w.cell) * w.row);
  w.dg = dense(at(call->work, (ptrdiff_t)w.layout.dg), s->batch, w.layout.dg_row);
  w.rh = dense(at(call->work, (ptrdiff_t)w.layout.rh), s->batch, w.row);
  return w;
}

static void *work_at(const sweep *w, size_t offset) { return at(w->call->work, (ptrdiff_t)offset); }

/* What the parts of a job share. */
typedef struct {
  sweep sweeps[FRNN_TOGETHER];
  int calls;
  frnn_run run;
  sharing steps, pieces; /* of the sweep; of packing and products */
  int64_t k;             /* the stretch, where each is a job of its own */
} backwards;

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

static void pack_weights_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->pieces, part);
  const sweep *w = &p->sweeps[mine.call];
  const frnn_backward_call *call = w->call;
  int64_t inputs = w->shape->input;
  (void)parts;
  if (call->dx.data && inputs > 0)
    pack_transposed(w, w->cell->ih, call->weights.w_ih, inputs, work_at(w, w->layout.w_ih), mine);
  pack_transposed(w, w->cell->hh, call->weights.w_hh, w->shape->hidden, work_at(w, w->layout.w_hh), mine);
}

/* ---- the sweep ------------------------------------------------------------------------------------------------- */

/* h_{t-1} for step i: the row before it in the walk. */
static frnn_sequence h_before(const sweep *w, int64_t i) {
  const frnn_shape *s = w->shape;
  if (i == 0) return dense(w->call->first.h, s->batch, s->hidden * w->table->size);
  return (frnn_sequence){row_at(w->call->y, time_of(s, i - 1), 0), 0, w->call->y.row};
}

/* The stretches of a chunk: before, between and after the products of its steps, a product for each phase. Stretch k
 * begins with the product of stretch k - 1, unless it is the first, and ends with the derivative of a phase, unless it
 * is the last. So what a stretch does for some units needs all units of the stretch before, and no other. */
typedef struct {
  int64_t i; /* the step of the walk */
  int phase;
} stretch;

static int64_t stretches_of(const sweep *w) { return (w->to - w->from) * w->cell->phases; }

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
                 .panels = at(work_at(w, w->layout.w_hh), before * vector + vectors.begin * panel),
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

static void run_stretch(const sweep *w, int64_t k, range rows, share mine) {
  range vectors = range_of(vectors_of_units(w->shape, w->table), mine.slice, mine.slices);
  if (k > 0) through_w_hh(w, stretch_of(w, k - 1), rows, vectors);
  if (k < stretches_of(w)) derive(w, stretch_of(w, k), rows, vectors);
}

static range rows_of(const sweep *w, share mine) { return range_of(w->shape->batch, mine.group, mine.groups); }

/* All of a chunk's stretches for some rows. */
static void rows_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->steps, part);
  const sweep *w = &p->sweeps[mine.call];
  range rows = rows_of(w, mine);
  (void)parts;
  for (int64_t done = 0, all = rows.count; done < all; done += rows.count, rows.begin += rows.count) {
    rows.count = least(p->steps.rows_at_once, all - done);
    for (int64_t k = 0; k <= stretches_of(w); k++) {
      if (k % p->steps.steps_between == 0 && frnn_stopped(&p->run)) return;
      run_stretch(w, k, rows, mine);
    }
  }
}

static void stretch_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->steps, part);
  const sweep *w = &p->sweeps[mine.call];
  (void)parts;
  run_stretch(w, p->k, rows_of(w, mine), mine);
}

static void run_sweep(backwards *p) {
  int64_t last = stretches_of(&p->sweeps[0]);
  if (p->steps.slices == 1) {
    frnn_parallel(&p->run, p->steps.work, rows_part, p, parts_of(&p->steps));
    return;
  }
  for (p->k = 0; p->k <= last; p->k++) {
    if (p->k % p->steps.steps_between == 0 && frnn_stopped(&p->run)) return;
    frnn_parallel(&p->run, p->steps.work, stretch_part, p, parts_of(&p->steps));
  }
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

/* The panels of an operand for steps [from, to) of the chunk's. */
static void pack_operand(const sweep *w, enum operand which, int64_t n, int64_t from, int64_t to) {
  const frnn_shape *s = w->shape;
  sweep_order o = order_of(w);
  int64_t vector = w->table->lanes * w->table->size, done = (w->to - to) * s->batch;
  for (int64_t i = to - 1; i >= from; i--) {
    int64_t t = time_of(s, i);
    frnn_sequence q = which == HIDDEN  ? h_before(w, i)
                      : which == INPUT ? (frnn_sequence){row_at(w->call->x, t, 0), 0, w->call->x.row}
                                       : (frnn_sequence){row_at(w->rh, t - w->t0, 0), 0, w->rh.row};
    w->table->pack_rows(row_at(q, 0, o.b), o.way * q.row, s->batch, n,
                        at(work_at(w, w->layout.operand[which]), done * vector), o.rows * vector);
    done += s->batch;
  }
}

static void pack_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->pieces, part);
  const sweep *w = &p->sweeps[mine.call];
  const frnn_backward_call *call = w->call;
  range steps = range_of(w->to - w->from, mine.slice, mine.slices);
  int64_t from = w->from + steps.begin, to = from + steps.count;
  (void)parts;
  if (call->dw_ih && w->shape->input > 0) pack_operand(w, INPUT, w->shape->input, from, to);
  if (!call->dw_hh) return;
  pack_operand(w, HIDDEN, w->shape->hidden, from, to);
  if (w->cell->phases == 2) pack_operand(w, RESET_HIDDEN, w->shape->hidden, from, to);
}

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

/* dx of the chunk, for some of its rows. */
static void input_gradient(const sweep *w, share mine) {
  const frnn_shape *s = w->shape;
  int64_t columns = w->cell->gates * s->hidden, steps = w->to - w->from, batch = s->batch;
  frnn_gemm g = {.n = s->input,
                 .k = columns,
                 .a_k = w->table->size,
                 .panels = work_at(w, w->layout.w_ih),
                 .panel = columns * w->table->lanes * w->table->size};
  frnn_sequence dx = w->call->dx, dg = w->dg;
  range of_steps = {0, steps}, of_batch = {0, batch};
  if (steps > batch)
    of_steps = range_of(steps, mine.slice, mine.slices);
  else
    of_batch = range_of(batch, mine.slice, mine.slices);
  dx.data = row_at(dx, w->t0 + of_steps.begin, of_batch.begin);
  dg.data = row_at(dg, of_steps.begin, of_batch.begin);
  product_of_rows(w->table, g, dg, dx, of_steps.count, of_batch.count);
}

/* A part of the chunk's share of the parameters' gradients, and of its dx. */
static void products_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->pieces, part);
  const sweep *w = &p->sweeps[mine.call];
  const frnn_backward_call *call = w->call;
  (void)parts;
  for (int i = 0; i < 2; i++) {
    const frnn_block *ih = &w->cell->ih[i], *hh = &w->cell->hh[i];
    if (ih->count > 0 && call->dw_ih && w->shape->input > 0)
      weight_gradient(w, ih, INPUT, w->shape->input, call->dw_ih, mine);
    if (hh->count > 0 && call->dw_hh)
      weight_gradient(w, hh, i ? RESET_HIDDEN : HIDDEN, w->shape->hidden, call->dw_hh, mine);
    if (ih->count > 0 && call->db_ih) bias_gradient(w, ih, call->db_ih, mine);
    if (hh->count > 0 && call->db_hh) bias_gradient(w, hh, call->db_hh, mine);
  }
  if (call->dx.data) input_gradient(w, mine);
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static void clear(void *p, int64_t bytes) {
  if (p) memset(p, 0, (size_t)bytes);
}

/* The gradients of the last state come in; those of the parameters are zero where no chunk begins their sum. */
static void begin_gradients(const sweep *w) {
  const frnn_backward_call *call = w->call;
  const frnn_shape *s = w->shape;
  int64_t element = w->table->size, rows = w->cell->gates * s->hidden;
  size_t bytes = (size_t)(s->hidden * element);
  if (w->to == 0) {
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

static void end_gradients(const sweep *w) {
  const frnn_backward_call *call = w->call;
  const frnn_shape *s = w->shape;
  size_t bytes = (size_t)(s->hidden * w->table->size);
  copy_rows(call->dfirst.h, (ptrdiff_t)bytes, work_at(w, w->layout.dh), w->row, s->batch, bytes);
  if (w->cell->states == 2)
    copy_rows(call->dfirst.c, (ptrdiff_t)bytes, work_at(w, w->layout.dc), w->row, s->batch, bytes);
}

/* The chunk before the present one in the data, which is the next one of the sweep; 0 where there is none. */
static int next_chunk(backwards *p) {
  for (int i = 0; i < p->calls; i++) {
    sweep *w = &p->sweeps[i];
    w->to = w->from;
    w->from = most(0, w->to - w->layout.steps);
    w->t0 = earliest(w->shape, w->from, w->to);
  }
  return p->sweeps[0].to > 0;
}

int frnn_backward(const frnn_backward_call *calls, int count, int (*interrupted)(void)) {
  const frnn_shape *s = &calls->shape;
  backwards p = {.calls = count};
  assert(count >= 1 && count <= FRNN_TOGETHER);
  for (int i = 0; i < count; i++) p.sweeps[i] = begin_sweep(&calls[i]);
  const sweep *first = &p.sweeps[0];
  double rows = (double)s->batch * (double)first->layout.steps;
  double packing = MULTIPLY_ADDS_OF_PACKING * rows * ((double)s->hidden + (double)s->input) * count;
  p.steps = share_steps(s, count, recurrent_weights_of(s), vectors_of_units(s, first->table));
  p.pieces = share_slices(count, 2 * weights_of(s) * rows, s->hidden);
  frnn_begin(&p.run, 3 * weights_of(s) * (double)s->steps * (double)s->batch * count, interrupted);
  for (int i = 0; i < count; i++) {
    begin_gradients(&p.sweeps[i]);
    p.sweeps[i].from = p.sweeps[i].to;
  }
  frnn_parallel(&p.run, MULTIPLY_ADDS_OF_PACKING * weights_of(s) * count, pack_weights_part, &p, parts_of(&p.pieces));
  while (next_chunk(&p) && !frnn_stopped(&p.run)) {
    run_sweep(&p);
    frnn_parallel(&p.run, packing, pack_part, &p, parts_of(&p.pieces));
    frnn_parallel(&p.run, p.pieces.work, products_part, &p, parts_of(&p.pieces));
  }
  for (int i = 0; i < count; i++) end_gradients(&p.sweeps[i]);
  return frnn_end(&p.run);
}
