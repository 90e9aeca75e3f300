/* sequence.c - forward and backward through time: the only loops over t.
 *
 * Forward. For a chunk of time steps, one product gives bias + W_ih x for all their rows; then step by step the cell's
 * tile adds W_hh h and makes the new state. Training writes the chunk straight into the tape, whose slots the tile
 * then turns into gates.
 *
 * Backward. For a chunk, from the last to the first step: the cell's derivative makes the gate gradients, one product
 * takes them through W_hh to h_{t-1}. The chunk's gate gradients then meet x and h in one product each for dW_ih and
 * dW_hh and one for dx. Sums over time and rows run in the order of the sweep, whatever the chunk.
 *
 * Everything is indexed by the time t of the data; only the order of the walk knows of `reverse`.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include <assert.h>
#include <fenv.h>
#include <string.h>

#include "internal.h"

/* Rows of a chunk: forward's pre-activations stay in L2; backward's products get a long sum. */
enum { FORWARD_ROWS = 64, BACKWARD_ROWS = 256 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static void *at(const void *base, ptrdiff_t bytes) { return (char *)(uintptr_t)base + bytes; }

/* ---- sizes ------------------------------------------------------------------------------------------------- */

/* A count of bytes that remembers whether it overflowed. */
typedef struct {
  size_t bytes;
  int overflow;
} size;

static int64_t product(size *s, int64_t a, int64_t b) {
  int64_t p = 0;
  s->overflow |= a < 0 || b < 0 || __builtin_mul_overflow(a, b, &p);
  return p;
}

/* Reserves count elements, aligned; returns where they begin. */
static size_t reserve(size *s, int64_t element, int64_t count) {
  size_t begin = s->bytes;
  int64_t bytes = product(s, count, element);
  s->overflow |= bytes > INT64_MAX - FRNN_ALIGN;
  s->overflow |= __builtin_add_overflow(s->bytes, (size_t)((bytes + FRNN_ALIGN - 1) & -FRNN_ALIGN), &s->bytes);
  s->overflow |= s->bytes > PTRDIFF_MAX / 2;
  return begin;
}

static size_t total(const size *s) { return s->overflow ? 0 : s->bytes + FRNN_ALIGN; }

static int64_t element_size(const frnn_shape *s) { return s->dtype == FRNN_F32 ? 4 : 8; }

/* Units of a gate in padded rows. */
static int64_t padded(const frnn_shape *s) {
  int64_t unit = FRNN_ALIGN / element_size(s);
  return s->hidden > INT64_MAX - unit ? INT64_MAX : (s->hidden + unit - 1) / unit * unit;
}

/* Outputs rounded up to whole vectors of any set. */
static int64_t vectors_of(const frnn_shape *s, int64_t outputs) {
  int64_t unit = FRNN_ALIGN / element_size(s);
  return outputs > INT64_MAX - unit ? INT64_MAX : (outputs + unit - 1) / unit * unit;
}

static int64_t chunk_steps(const frnn_shape *s, int64_t rows) {
  return most(1, least(s->steps, (rows + s->batch - 1) / most(1, s->batch)));
}

/* Slots per unit and step: what the gates' pre-activations need while they are made, and what a tape keeps. */
static int64_t tape_slots(const frnn_cell *cell) { return cell->slots + (cell->states == 2); }

/* Where everything stands. Computed alike for the size and for the use of a buffer. */
typedef struct {
  size_t table; /* the kernel table that packed, for panels are as wide as its vectors */
  size_t w_ih, w_hh, bias, bias_h;
  size total;
} packed_layout;

static packed_layout lay_packed(const frnn_shape *s) {
  const frnn_cell *cell = &frnn_cells[s->cell];
  int64_t element = element_size(s), units = padded(s);
  packed_layout at = {0};
  int64_t gate_units = product(&at.total, units, cell->gates);
  at.table = reserve(&at.total, sizeof(frnn_table *), 1);
  at.w_ih = reserve(&at.total, element, product(&at.total, gate_units, s->input));
  at.w_hh = reserve(&at.total, element, product(&at.total, gate_units, s->hidden));
  at.bias = reserve(&at.total, element, gate_units);
  at.bias_h = reserve(&at.total, element, units);
  return at;
}

typedef struct {
  size_t z, c, scratch;
  int64_t steps;
  size total;
} forward_layout;

static forward_layout lay_forward(const frnn_shape *s) {
  const frnn_cell *cell = &frnn_cells[s->cell];
  int64_t element = element_size(s), units = padded(s);
  forward_layout at = {.steps = chunk_steps(s, FORWARD_ROWS)};
  int64_t rows = product(&at.total, at.steps, s->batch);
  int64_t row_units = product(&at.total, s->batch, units);
  at.z = reserve(&at.total, element, product(&at.total, rows, product(&at.total, units, cell->gates)));
  at.c = reserve(&at.total, element, product(&at.total, row_units, cell->states - 1));
  at.scratch = reserve(&at.total, element, cell->phases == 2 ? row_units : 0);
  return at;
}

typedef struct {
  size_t w_ih, w_hh, dh, dc, c_first, drh, rh, dg, operand;
  int64_t steps;
  size total;
} backward_layout;

static backward_layout lay_backward(const frnn_shape *s) {
  const frnn_cell *cell = &frnn_cells[s->cell];
  int64_t element = element_size(s), units = padded(s), two = cell->phases == 2;
  backward_layout at = {.steps = chunk_steps(s, BACKWARD_ROWS)};
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
  at.operand = reserve(&at.total, element, product(&at.total, rows, most(vectors_of(s, s->input), units)));
  return at;
}

size_t frnn_packed_size(const frnn_shape *s) {
  packed_layout layout = lay_packed(s);
  return total(&layout.total);
}

size_t frnn_forward_size(const frnn_shape *s) {
  forward_layout layout = lay_forward(s);
  return total(&layout.total);
}

size_t frnn_backward_size(const frnn_shape *s) {
  backward_layout layout = lay_backward(s);
  return total(&layout.total);
}

size_t frnn_tape_size(const frnn_shape *s) {
  size tape = {0};
  int64_t rows = product(&tape, s->steps, s->batch);
  reserve(&tape, element_size(s), product(&tape, rows, product(&tape, padded(s), tape_slots(&frnn_cells[s->cell]))));
  return total(&tape);
}

/* ---- both directions ---------------------------------------------------------------------------------------- */

/* The t of the s-th step of the walk. */
static int64_t time_of(const frnn_shape *shape, int64_t s) { return shape->reverse ? shape->steps - 1 - s : s; }

/* The earliest t of steps [from, to) of the walk. */
static int64_t earliest(const frnn_shape *shape, int64_t from, int64_t to) {
  return shape->reverse ? shape->steps - to : from;
}

static void *row_at(frnn_sequence q, int64_t t, int64_t b) { return at(q.data, t * q.step + b * q.row); }

static frnn_sequence dense(void *data, int64_t batch, ptrdiff_t row) {
  return (frnn_sequence){data, batch * row, row};
}

/* Rows (t, b) of a chunk as runs of rows one stride apart, in both sequences: all in one, or a run for each step,
 * or for each row, whichever are the fewest. */
typedef struct {
  int64_t runs, rows;
  ptrdiff_t a, c;         /* from row to row within a run */
  ptrdiff_t a_run, c_run; /* from run to run */
} run;

static run runs_of(frnn_sequence a, frnn_sequence c, int64_t steps, int64_t batch) {
  int together = (a.step == batch * a.row && c.step == batch * c.row) || steps == 1;
  if (together) return (run){1, steps * batch, a.row, c.row, 0, 0};
  if (steps < batch) return (run){steps, batch, a.row, c.row, a.step, c.step};
  return (run){batch, steps, a.step, c.step, a.row, c.row};
}

/* c = init + a * panels over all rows of a chunk, `g` giving all but the rows. */
static void product_of_rows(const frnn_table *table, frnn_gemm g, frnn_sequence a, frnn_sequence c, int64_t steps,
                            int64_t batch) {
  run r = runs_of(a, c, steps, batch);
  g.m = r.rows;
  g.a_row = r.a;
  g.c_row = r.c;
  for (int64_t i = 0; i < r.runs; i++) {
    g.a = at(a.data, i * r.a_run);
    g.c = at(c.data, i * r.c_run);
    table->gemm(&g);
  }
}

/* Rows of one stride into rows of another. NULL: zeros. */
static void copy_rows(void *dst, ptrdiff_t dst_row, const void *src, ptrdiff_t src_row, int64_t rows, size_t bytes) {
  for (int64_t b = 0; b < rows; b++) {
    if (src)
      memcpy(at(dst, b * dst_row), at(src, b * src_row), bytes);
    else
      memset(at(dst, b * dst_row), 0, bytes);
  }
}

/* ---- forward -------------------------------------------------------------------------------------------------- */

void frnn_pack(const frnn_shape *s, const frnn_weights *w, void *packed) {
  const frnn_table *table = frnn_table_for(s->dtype);
  const frnn_cell *cell = &frnn_cells[s->cell];
  packed_layout layout = lay_packed(s);
  int64_t element = table->size, units = padded(s), vector = table->lanes * element;
  int64_t hidden = s->hidden, gate_vectors = units / table->lanes;
  memcpy(at(packed, (ptrdiff_t)layout.table), &table, sizeof table);
  for (int gate = 0; gate < cell->gates; gate++) {
    /* W_ih: a panel per vector of outputs, gate after gate, up to the padding of each. */
    ptrdiff_t panel = s->input * vector;
    char *w_ih = at(packed, (ptrdiff_t)layout.w_ih + gate * gate_vectors * panel);
    int64_t used = (hidden + table->lanes - 1) / table->lanes;
    frnn_transpose t = {at(w->w_ih, gate * hidden * s->input * element), s->input * element, hidden, s->input,
                        w_ih, panel, vector};
    if (s->input > 0) {
      table->pack_outputs(&t);
      memset(w_ih + used * panel, 0, (size_t)((gate_vectors - used) * panel));
    }
    /* W_hh: the gates of one phase interleaved, phase after phase. */
    int phase = gate >= cell->panels[0], first = phase ? cell->panels[0] : 0;
    char *w_hh = at(packed, (ptrdiff_t)layout.w_hh + first * used * hidden * vector + (gate - first) * vector);
    t = (frnn_transpose){at(w->w_hh, gate * hidden * hidden * element), hidden * element, hidden, hidden, w_hh,
                         hidden * vector * cell->panels[phase], vector * cell->panels[phase]};
    table->pack_outputs(&t);
    int split = cell->split_bias && gate == cell->gates - 1;
    char *bias = at(packed, (ptrdiff_t)layout.bias + gate * units * element);
    memset(bias, 0, (size_t)(units * element));
    const void *b_ih = w->b_ih ? at(w->b_ih, gate * hidden * element) : NULL;
    const void *b_hh = w->b_hh ? at(w->b_hh, gate * hidden * element) : NULL;
    table->add(bias, b_ih, split ? NULL : b_hh, hidden);
    if (split) {
      void *bias_h = at(packed, (ptrdiff_t)layout.bias_h);
      memset(bias_h, 0, (size_t)(units * element));
      table->add(bias_h, NULL, b_hh, hidden);
    }
  }
}

static const frnn_table *table_of(const void *packed, const packed_layout *layout) {
  const frnn_table *table;
  memcpy(&table, at(packed, (ptrdiff_t)layout->table), sizeof table);
  return table;
}

/* bias + W_ih x for steps [from, to) of the walk, into rows of z. */
static void project(const frnn_forward_call *call, int64_t from, int64_t to, frnn_sequence z) {
  const frnn_shape *s = &call->shape;
  packed_layout layout = lay_packed(s);
  const frnn_table *table = table_of(call->packed, &layout);
  frnn_gemm g = {.n = frnn_cells[s->cell].gates * padded(s),
                 .k = s->input,
                 .a_k = table->size,
                 .panels = at(call->packed, (ptrdiff_t)layout.w_ih),
                 .panel = s->input * table->lanes * table->size,
                 .init = at(call->packed, (ptrdiff_t)layout.bias)};
  frnn_sequence x = call->x;
  x.data = row_at(x, earliest(s, from, to), 0);
  product_of_rows(table, g, x, z, to - from, s->batch);
}

static void run_forward(const frnn_forward_call *call) {
  const frnn_shape *s = &call->shape;
  const frnn_cell *cell = &frnn_cells[s->cell];
  forward_layout layout = lay_forward(s);
  packed_layout packed = lay_packed(s);
  const frnn_table *table = table_of(call->packed, &packed);
  int64_t units = padded(s), row = units * table->size;
  size_t bytes = (size_t)(s->hidden * table->size);
  int in_tape = call->tape && cell->slots > 0;
  ptrdiff_t z_row = (in_tape ? tape_slots(cell) : cell->gates) * row;
  char *c = at(call->work, (ptrdiff_t)layout.c);
  frnn_sequence tape = dense(call->tape, s->batch, z_row);
  frnn_step step = {.m = s->batch,
                    .hidden = s->hidden,
                    .y_row = call->y.row,
                    .z_row = z_row,
                    .gate = row,
                    .scratch = at(call->work, (ptrdiff_t)layout.scratch),
                    .panels = at(call->packed, (ptrdiff_t)packed.w_hh),
                    .bias_h = at(call->packed, (ptrdiff_t)packed.bias_h),
                    .keep = in_tape,
                    .h = call->first.h,
                    .h_row = (ptrdiff_t)bytes,
                    .c_in = c,
                    .c_in_row = row};
  if (cell->states == 2) {
    memset(c, 0, (size_t)(s->batch * row));
    copy_rows(c, row, call->first.c, (ptrdiff_t)bytes, s->batch, bytes);
  }
  for (int64_t from = 0; from < s->steps; from += layout.steps) {
    int64_t to = least(from + layout.steps, s->steps), t0 = earliest(s, from, to);
    frnn_sequence z = in_tape ? dense(row_at(tape, t0, 0), s->batch, z_row)
                              : dense(at(call->work, (ptrdiff_t)layout.z), s->batch, z_row);
    project(call, from, to, z);
    for (int64_t i = from; i < to; i++) {
      int64_t t = time_of(s, i);
      step.y = row_at(call->y, t, 0);
      step.z = row_at(z, t - t0, 0);
      step.c_out = in_tape ? at(step.z, cell->slots * row) : c;
      step.c_row = in_tape ? z_row : row;
      step.backwards = (int)(i & 1);
      table->step[s->cell](&step);
      step.h = step.y;
      step.h_row = call->y.row;
      step.c_in = step.c_out;
      step.c_in_row = step.c_row;
    }
  }
  if (call->last.h != step.h) copy_rows(call->last.h, (ptrdiff_t)bytes, step.h, step.h_row, s->batch, bytes);
  if (cell->states == 2) copy_rows(call->last.c, (ptrdiff_t)bytes, step.c_in, step.c_in_row, s->batch, bytes);
}

void frnn_forward(const frnn_forward_call *call) {
  fenv_t environment;
  assert(call->work && call->packed);
  if (call->shape.batch == 0) return;
  fegetenv(&environment);
  run_forward(call);
  fesetenv(&environment);
}

/* ---- backward ------------------------------------------------------------------------------------------------- */

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
static void through_w_hh(const sweep *w, int which, const void *dg, void *dh, int add) {
  const frnn_block *block = &w->cell->hh[which];
  int64_t hidden = w->shape->hidden, element = w->table->size, vector = w->table->lanes * element;
  int64_t before = which ? w->cell->hh[0].count * hidden : 0;
  frnn_gemm g = {.m = w->shape->batch,
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

/* Gate gradients of the step i of the walk, and dh, dc of the step before it. */
static void sweep_step(const sweep *w, int64_t i) {
  const frnn_shape *s = w->shape;
  const frnn_backward_call *call = w->call;
  int64_t t = time_of(s, i);
  frnn_sequence h = h_before(w, i);
  char *slots = row_at(w->tape, t, 0);
  const char *before = i > 0 ? row_at(w->tape, time_of(s, i - 1), 0) : NULL;
  frnn_back back = {.m = s->batch,
                    .hidden = s->hidden,
                    .h = h.data,
                    .h_row = h.row,
                    .y = row_at(call->y, t, 0),
                    .y_row = call->y.row,
                    .z = slots,
                    .z_row = w->tape.row,
                    .gate = w->row,
                    .c_out = at(slots, w->cell->slots * w->row),
                    .c_row = w->tape.row,
                    .c_in = before ? at(before, w->cell->slots * w->row) : work_at(w, w->layout.c_first),
                    .c_in_row = before ? w->tape.row : w->row,
                    .dy = call->dy.data ? row_at(call->dy, t, 0) : NULL,
                    .dy_row = call->dy.row,
                    .dh = work_at(w, w->layout.dh),
                    .dh_row = w->row,
                    .dc = work_at(w, w->layout.dc),
                    .dg = row_at(w->dg, t - w->t0, 0),
                    .dg_row = w->dg_row,
                    .scratch = row_at(w->rh, t - w->t0, 0),
                    .scratch_row = w->row,
                    .drh = work_at(w, w->layout.drh)};
  w->table->back[s->cell][0](&back);
  if (w->cell->phases == 2) {
    through_w_hh(w, 1, back.dg, back.drh, 0);
    w->table->back[s->cell][1](&back);
  }
  through_w_hh(w, 0, back.dg, back.dh, 1);
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

/* What stands beside the gate gradients in a product over rows. */
enum operand { INPUT, HIDDEN, RESET_HIDDEN };

static void pack_operand(const sweep *w, enum operand which, int64_t n) {
  const frnn_shape *s = w->shape;
  sweep_order o = order_of(w);
  int64_t vector = w->table->lanes * w->table->size, done = 0;
  for (int64_t i = w->to - 1; i >= w->from; i--) {
    int64_t t = time_of(s, i);
    frnn_sequence q = which == HIDDEN         ? h_before(w, i)
                      : which == INPUT        ? (frnn_sequence){row_at(w->call->x, t, 0), 0, w->call->x.row}
                                              : (frnn_sequence){row_at(w->rh, t - w->t0, 0), 0, w->rh.row};
    w->table->pack_rows(row_at(q, 0, o.b), o.way * q.row, s->batch, n,
                        at(work_at(w, w->layout.operand), done * vector), o.rows * vector);
    done += s->batch;
  }
}

/* dW[rows of the block] += dg[its columns]^T * operand. */
static void weight_gradient(const sweep *w, const frnn_block *block, int64_t n, void *dw) {
  sweep_order o = order_of(w);
  int64_t element = w->table->size, hidden = w->shape->hidden;
  void *rows = at(dw, block->row * hidden * n * element);
  frnn_gemm g = {.m = block->count * hidden,
                 .n = n,
                 .k = o.rows,
                 .a = at(row_at(w->dg, time_of(w->shape, w->to - 1) - w->t0, o.b), block->column * hidden * element),
                 .a_row = element,
                 .a_k = o.way * w->dg_row,
                 .panels = work_at(w, w->layout.operand),
                 .panel = o.rows * w->table->lanes * element,
                 .init = rows,
                 .init_row = n * element,
                 .c = rows,
                 .c_row = n * element};
  w->table->gemm(&g);
}

static void bias_gradient(const sweep *w, const frnn_block *block, void *db) {
  sweep_order o = order_of(w);
  int64_t element = w->table->size, hidden = w->shape->hidden;
  const void *first = row_at(w->dg, time_of(w->shape, w->to - 1) - w->t0, o.b);
  w->table->sum_rows(at(first, block->column * hidden * element), o.way * w->dg_row, o.rows, block->count * hidden,
                     at(db, block->row * hidden * element));
}

/* The chunk's part of the parameters' gradients and its dx. */
static void products_of_chunk(const sweep *w) {
  const frnn_backward_call *call = w->call;
  const frnn_shape *s = w->shape;
  const frnn_block *ih = w->cell->ih, *hh = w->cell->hh;
  if (call->dw_ih && s->input > 0) {
    pack_operand(w, INPUT, s->input);
    for (int i = 0; i < 2 && ih[i].count > 0; i++) weight_gradient(w, &ih[i], s->input, call->dw_ih);
  }
  if (call->dw_hh) {
    for (int i = 0; i < 2 && hh[i].count > 0; i++) {
      pack_operand(w, i ? RESET_HIDDEN : HIDDEN, s->hidden);
      weight_gradient(w, &hh[i], s->hidden, call->dw_hh);
    }
  }
  for (int i = 0; i < 2; i++) {
    if (call->db_ih && ih[i].count > 0) bias_gradient(w, &ih[i], call->db_ih);
    if (call->db_hh && hh[i].count > 0) bias_gradient(w, &hh[i], call->db_hh);
  }
  if (call->dx.data) {
    int64_t columns = w->cell->gates * s->hidden;
    frnn_gemm g = {.n = s->input,
                   .k = columns,
                   .a_k = w->table->size,
                   .panels = work_at(w, w->layout.w_ih),
                   .panel = columns * w->table->lanes * w->table->size};
    frnn_sequence dx = call->dx;
    dx.data = row_at(dx, w->t0, 0);
    product_of_rows(w->table, g, w->dg, dx, w->to - w->from, s->batch);
  }
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
  for (w.to = s->steps; w.to > 0; w.to = w.from) {
    w.from = most(0, w.to - layout.steps);
    w.t0 = earliest(s, w.from, w.to);
    for (int64_t i = w.to - 1; i >= w.from; i--) sweep_step(&w, i);
    products_of_chunk(&w);
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

/* ---- functions ------------------------------------------------------------------------------------------------ */

void frnn_exp(int dtype, const void *x, void *y, int64_t n) { frnn_table_for(dtype)->exp(x, y, n); }
void frnn_sigmoid(int dtype, const void *x, void *y, int64_t n) { frnn_table_for(dtype)->sigmoid(x, y, n); }
void frnn_tanh(int dtype, const void *x, void *y, int64_t n) { frnn_table_for(dtype)->tanh(x, y, n); }

double frnn_probe_fma(int dtype, int64_t rounds) { return frnn_table_for(dtype)->probe_fma(rounds); }
double frnn_probe_read(int dtype, const void *p, size_t n, int64_t rounds) {
  return frnn_table_for(dtype)->probe_read(p, n, rounds);
}
