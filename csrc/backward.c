/* backward.c - backward through time.
 *
 * For a chunk of time steps, from the last to the first: the cell's derivative makes the gate gradients, one product
 * takes them through W_hh to h_{t-1}. The chunk's gate gradients then meet x and h in one product each for dW_ih and
 * dW_hh and one for dx. Sums over time and rows run in the order of the sweep, whatever the chunk.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "sequence.h"

/* Rows of a chunk: few enough that the gate gradients are still near when the products read them, and enough that
 * reading and writing the weights' gradients once per chunk is little beside the products. */
enum { CHUNK_ROWS_LEAST = 256, CHUNK_ROWS_MOST = 1024, WEIGHT_BYTES_PER_ROW = 32768 };

static int64_t chunk_rows(const frnn_shape *s) {
  double bytes =
      (double)frnn_cells[s->cell].gates * (double)s->hidden * (double)(s->input + s->hidden) * (double)element_size(s);
  double rows = bytes / WEIGHT_BYTES_PER_ROW;
  return rows > CHUNK_ROWS_MOST ? CHUNK_ROWS_MOST : rows < CHUNK_ROWS_LEAST ? CHUNK_ROWS_LEAST : (int64_t)rows;
}

/* What stands beside the gate gradients in a product over rows. */
enum operand { INPUT, HIDDEN, RESET_HIDDEN };

typedef struct {
  size_t w_ih, w_hh, dh, dc, c_first, drh, rh, dg, operand[3];
  int64_t steps;
  size total;
} backward_layout;

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
  /* One more line per row: rows a power of two apart would share the sets of the cache. */
  int64_t line = FRNN_ALIGN / element;
  at.dg = reserve(&at.total, element,
                  product(&at.total, rows, product(&at.total, cell->columns, s->hidden) / line * line + 2 * line));
  at.operand[INPUT] = reserve(&at.total, element, product(&at.total, rows, vectors_of(s, s->input)));
  at.operand[HIDDEN] = reserve(&at.total, element, product(&at.total, rows, units));
  at.operand[RESET_HIDDEN] = reserve(&at.total, element, product(&at.total, rows, product(&at.total, units, two)));
  return at;
}

size_t frnn_backward_size(const frnn_shape *s) {
  backward_layout layout = lay_backward(s);
  return total(&layout.total);
}

/* What the parts of a backward pass share. */
typedef struct {
  const frnn_backward_call *call;
  const frnn_shape *shape;
  const frnn_table *table;
  const frnn_cell *cell;
  backward_layout layout;
  ptrdiff_t row;    /* a padded row of units */
  ptrdiff_t dg_row; /* a row of gate gradients */
  frnn_sequence tape, dg, rh;
  int64_t from, to, t0; /* the chunk */
} sweep;

static void *work_at(const sweep *w, size_t offset) { return at(w->call->work, (ptrdiff_t)offset); }

/* The rows of W in the order of the gate gradients' columns, as panels for a product over those columns. */
static void pack_transposed(const sweep *w, const frnn_block blocks[2], const void *weights, int64_t n, void *panels) {
  int64_t hidden = w->shape->hidden, element = w->table->size, vector = w->table->lanes * element, k = 0;
  if (n == 0) return;
  for (int i = 0; i < 2 && blocks[i].count > 0; i++) {
    const void *src = at(weights, blocks[i].row * hidden * n * element);
    int64_t rows = blocks[i].count * hidden;
    w->table->pack_rows(src, n * element, rows, n, at(panels, k * vector), w->cell->gates * hidden * vector);
    k += rows;
  }
}

/* h_{t-1} for the step at t: the row before it in the walk. */
static frnn_sequence h_before(const sweep *w, int64_t i) {
  const frnn_shape *s = w->shape;
  if (i == 0) return dense(w->call->first.h, s->batch, s->hidden * w->table->size);
  return (frnn_sequence){row_at(w->call->y, time_of(s, i - 1), 0), 0, w->call->y.row};
}

/* dh += dg[columns of the block] * W_hh[its rows], or = into drh. */
static void through_w_hh(const sweep *w, int which, int64_t rows, const void *dg, void *dh, int add) {
  const frnn_block *block = &w->cell->hh[which];
  int64_t hidden = w->shape->hidden, element = w->table->size, vector = w->table->lanes * element;
  int64_t before = which ? w->cell->hh[0].count * hidden : 0;
  frnn_gemm g = {.m = rows,
                 .n = hidden,
                 .k = block->count * hidden,
                 .a = at(dg, block->column * hidden * element),
                 .a_row = w->dg_row,
                 .a_k = element,
                 .panels = at(work_at(w, w->layout.w_hh), before * vector),
                 .panel = w->cell->gates * hidden * vector,
                 .init = add ? dh : NULL,
                 .init_row = w->row,
                 .c = dh,
                 .c_row = w->row};
  w->table->gemm(&g);
}

/* Gate gradients of the step i of the walk, and dh, dc of the step before it, for some rows of the batch. */
static void sweep_step(const sweep *w, int64_t i, row_range rows) {
  const frnn_shape *s = w->shape;
  const frnn_backward_call *call = w->call;
  int64_t t = time_of(s, i), b = rows.begin;
  frnn_sequence h = h_before(w, i);
  char *slots = row_at(w->tape, t, b);
  const char *before = i > 0 ? row_at(w->tape, time_of(s, i - 1), b) : NULL;
  frnn_back back = {
      .m = rows.count,
      .hidden = s->hidden,
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
      .dg_row = w->dg_row,
      .scratch = row_at(w->rh, t - w->t0, b),
      .scratch_row = w->row,
      .drh = at(work_at(w, w->layout.drh), b * w->row)};
  w->table->back[s->cell][0](&back);
  if (w->cell->phases == 2) {
    through_w_hh(w, 1, rows.count, back.dg, back.drh, 0);
    w->table->back[s->cell][1](&back);
  }
  through_w_hh(w, 0, rows.count, back.dg, back.dh, 1);
}

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

/* dW[rows of the block] += dg[its columns]^T * operand, for a part of the block. */
static void weight_gradient(const sweep *w, const frnn_block *block, enum operand which, int64_t n, void *dw, int part,
                            int parts) {
  sweep_order o = order_of(w);
  int64_t element = w->table->size, hidden = w->shape->hidden;
  row_range gates = range_of(block->count * hidden, part, parts);
  const void *first = row_at(w->dg, time_of(w->shape, w->to - 1) - w->t0, o.b);
  void *rows = at(dw, (block->row * hidden + gates.begin) * n * element);
  frnn_gemm g = {.m = gates.count,
                 .n = n,
                 .k = o.rows,
                 .a = at(first, (block->column * hidden + gates.begin) * element),
                 .a_row = element,
                 .a_k = o.way * w->dg_row,
                 .panels = work_at(w, w->layout.operand[which]),
                 .panel = o.rows * w->table->lanes * element,
                 .init = rows,
                 .init_row = n * element,
                 .c = rows,
                 .c_row = n * element};
  w->table->gemm(&g);
}

static void bias_gradient(const sweep *w, const frnn_block *block, void *db, int part, int parts) {
  sweep_order o = order_of(w);
  int64_t element = w->table->size, hidden = w->shape->hidden;
  row_range gates = range_of(block->count * hidden, part, parts);
  const void *first = row_at(w->dg, time_of(w->shape, w->to - 1) - w->t0, o.b);
  w->table->sum_rows(at(first, (block->column * hidden + gates.begin) * element), o.way * w->dg_row, o.rows,
                     gates.count, at(db, (block->row * hidden + gates.begin) * element));
}

/* dx of the chunk, for some of its rows. */
static void input_gradient(const sweep *w, int part, int parts) {
  const frnn_shape *s = w->shape;
  int64_t columns = w->cell->gates * s->hidden, steps = w->to - w->from, batch = s->batch;
  frnn_gemm g = {.n = s->input,
                 .k = columns,
                 .a_k = w->table->size,
                 .panels = work_at(w, w->layout.w_ih),
                 .panel = columns * w->table->lanes * w->table->size};
  frnn_sequence dx = w->call->dx, dg = w->dg;
  row_range of_steps = {0, steps}, of_batch = {0, batch};
  if (steps > batch)
    of_steps = range_of(steps, part, parts);
  else
    of_batch = range_of(batch, part, parts);
  dx.data = row_at(dx, w->t0 + of_steps.begin, of_batch.begin);
  dg.data = row_at(dg, of_steps.begin, of_batch.begin);
  product_of_rows(w->table, g, dg, dx, of_steps.count, of_batch.count);
}

/* The gate gradients of the chunk for some rows of the batch. */
static void sweep_part(void *context, int part, int parts) {
  const sweep *w = context;
  row_range rows = range_of(w->shape->batch, part, parts);
  for (int64_t i = w->to - 1; i >= w->from; i--) sweep_step(w, i, rows);
}

static void pack_part(void *context, int part, int parts) {
  const sweep *w = context;
  const frnn_backward_call *call = w->call;
  row_range steps = range_of(w->to - w->from, part, parts);
  int64_t from = w->from + steps.begin, to = from + steps.count;
  if (call->dw_ih && w->shape->input > 0) pack_operand(w, INPUT, w->shape->input, from, to);
  if (!call->dw_hh) return;
  pack_operand(w, HIDDEN, w->shape->hidden, from, to);
  if (w->cell->phases == 2) pack_operand(w, RESET_HIDDEN, w->shape->hidden, from, to);
}

/* The chunk's share of the parameters' gradients, and its dx. */
static void products_part(void *context, int part, int parts) {
  const sweep *w = context;
  const frnn_backward_call *call = w->call;
  for (int i = 0; i < 2; i++) {
    const frnn_block *ih = &w->cell->ih[i], *hh = &w->cell->hh[i];
    if (ih->count > 0 && call->dw_ih && w->shape->input > 0)
      weight_gradient(w, ih, INPUT, w->shape->input, call->dw_ih, part, parts);
    if (hh->count > 0 && call->dw_hh)
      weight_gradient(w, hh, i ? RESET_HIDDEN : HIDDEN, w->shape->hidden, call->dw_hh, part, parts);
    if (ih->count > 0 && call->db_ih) bias_gradient(w, ih, call->db_ih, part, parts);
    if (hh->count > 0 && call->db_hh) bias_gradient(w, hh, call->db_hh, part, parts);
  }
  if (call->dx.data) input_gradient(w, part, parts);
}

static void clear(void *p, int64_t bytes) {
  if (p) memset(p, 0, (size_t)bytes);
}

/* The incoming gradients of the last state, the outgoing ones cleared, the weights packed. */
static void begin_sweep(const sweep *w) {
  const frnn_backward_call *call = w->call;
  const frnn_shape *s = w->shape;
  int64_t element = w->table->size, rows = w->cell->gates * s->hidden;
  size_t bytes = (size_t)(s->hidden * element);
  clear(call->dw_ih, rows * s->input * element);
  clear(call->dw_hh, rows * s->hidden * element);
  clear(call->db_ih, rows * element);
  clear(call->db_hh, rows * element);
  clear(work_at(w, w->layout.dh), s->batch * w->row);
  copy_rows(work_at(w, w->layout.dh), w->row, call->dlast.h, (ptrdiff_t)bytes, s->batch, bytes);
  if (w->cell->states == 2) {
    clear(work_at(w, w->layout.dc), s->batch * w->row);
    clear(work_at(w, w->layout.c_first), s->batch * w->row);
    copy_rows(work_at(w, w->layout.dc), w->row, call->dlast.c, (ptrdiff_t)bytes, s->batch, bytes);
    copy_rows(work_at(w, w->layout.c_first), w->row, call->first.c, (ptrdiff_t)bytes, s->batch, bytes);
  }
  if (call->dx.data) pack_transposed(w, w->cell->ih, call->weights.w_ih, s->input, work_at(w, w->layout.w_ih));
  pack_transposed(w, w->cell->hh, call->weights.w_hh, s->hidden, work_at(w, w->layout.w_hh));
}

static void run_backward(const frnn_backward_call *call) {
  const frnn_shape *s = &call->shape;
  const frnn_cell *cell = &frnn_cells[s->cell];
  backward_layout layout = lay_backward(s);
  int64_t element = element_size(s), line = FRNN_ALIGN / element, row = padded(s) * element;
  ptrdiff_t dg_row = (cell->columns * s->hidden / line * line + 2 * line) * element;
  sweep w = {.call = call,
             .shape = s,
             .table = frnn_table_for(s->dtype),
             .cell = cell,
             .layout = layout,
             .row = row,
             .dg_row = dg_row,
             .tape = dense((void *)(uintptr_t)call->tape, s->batch, tape_slots(cell) * row),
             .dg = dense(at(call->work, (ptrdiff_t)layout.dg), s->batch, dg_row),
             .rh = dense(at(call->work, (ptrdiff_t)layout.rh), s->batch, row)};
  size_t bytes = (size_t)(s->hidden * element);
  begin_sweep(&w);
  for (w.to = s->batch > 0 ? s->steps : 0; w.to > 0; w.to = w.from) {
    w.from = most(0, w.to - layout.steps);
    w.t0 = earliest(s, w.from, w.to);
    double work = (double)(w.to - w.from) * (double)s->batch * cell->gates * (double)s->hidden * (double)s->hidden;
    int parts = parts_for(work, INT64_MAX);
    frnn_parallel(sweep_part, &w, (int)least(parts, s->batch));
    frnn_parallel(pack_part, &w, (int)least(parts, w.to - w.from));
    frnn_parallel(products_part, &w, parts);
  }
  copy_rows(call->dfirst.h, (ptrdiff_t)bytes, work_at(&w, layout.dh), row, s->batch, bytes);
  if (cell->states == 2) copy_rows(call->dfirst.c, (ptrdiff_t)bytes, work_at(&w, layout.dc), row, s->batch, bytes);
}

void frnn_backward(const frnn_backward_call *call) {
  fenv_t environment;
  assert(call->work && call->tape);
  fegetenv(&environment);
  run_backward(call);
  fesetenv(&environment);
}
