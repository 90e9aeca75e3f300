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

/* Where the weights are few, the batch goes in groups of rows with weight gradients of their own, added up at the end:
 * then no thread waits for another, nor reads what it wrote. The groups show in the sums, so they follow from the shape
 * alone: 1, 2 or 4. Each reads the weights and the gradients for itself, and its steps have a cost of their own, so the
 * weights must be few, and the rows enough. */
enum { GROUPS_MOST = 4, GROUPS_WEIGHT_BYTES = 327680, ROWS_OF_A_SUM = 8, MULTIPLY_ADDS_OF_A_SUM = 100000 };

static int groups_of(const frnn_shape *s) {
  int groups = weights_of(s) * (double)element_size(s) > GROUPS_WEIGHT_BYTES ? 1 : GROUPS_MOST;
  while (groups > 1 && (s->batch / groups < ROWS_OF_A_SUM ||
                        recurrent_weights_of(s) * (double)s->batch / groups < MULTIPLY_ADDS_OF_A_SUM))
    groups /= 2;
  return groups;
}

/* What stands beside the gate gradients in a product over rows. */
enum operand { INPUT, HIDDEN, RESET_HIDDEN };

typedef struct {
  size_t w_ih, w_hh, parts;                                 /* of a call */
  size_t dh, dc, c_first, drh, rh, dg, operand[3], sums[4]; /* of a group's part */
  int64_t steps, dg_row;
  int groups;
  size part, total;
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
  backward_layout at = {.groups = groups_of(s)};
  frnn_shape of_group = *s;
  of_group.batch = s->batch / at.groups + (s->batch % at.groups > 0);
  at.steps = chunk_steps(&of_group, chunk_rows(s));
  int64_t gate_rows = product(&at.total, cell->gates, s->hidden);
  at.w_ih = reserve(&at.total, element, product(&at.total, gate_rows, vectors_of(s, s->input)));
  at.w_hh = reserve(&at.total, element, product(&at.total, gate_rows, units));
  int64_t rows = product(&at.part, at.steps, of_group.batch);
  int64_t row_units = product(&at.part, of_group.batch, units);
  at.dh = reserve(&at.part, element, row_units);
  at.dc = reserve(&at.part, element, product(&at.part, row_units, cell->states - 1));
  at.c_first = reserve(&at.part, element, product(&at.part, row_units, cell->states - 1));
  at.drh = reserve(&at.part, element, product(&at.part, row_units, two));
  at.rh = reserve(&at.part, element, product(&at.part, rows, product(&at.part, units, two)));
  at.dg_row = gate_gradient_row(&at.part, s);
  at.dg = reserve(&at.part, 1, product(&at.part, rows, at.dg_row));
  at.operand[INPUT] = reserve(&at.part, element, product(&at.part, rows, vectors_of(s, s->input)));
  at.operand[HIDDEN] = reserve(&at.part, element, product(&at.part, rows, units));
  at.operand[RESET_HIDDEN] = reserve(&at.part, element, product(&at.part, rows, product(&at.part, units, two)));
  if (at.groups > 1) {
    const int64_t columns[] = {s->input, s->hidden, 1, 1};
    for (int i = 0; i < 4; i++) at.sums[i] = reserve(&at.part, element, product(&at.part, gate_rows, columns[i]));
  }
  at.total.overflow |= at.part.overflow;
  at.parts = reserve(&at.total, at.groups, (int64_t)at.part.bytes);
  return at;
}

size_t frnn_backward_size(const frnn_shape *s) {
  backward_layout layout = lay_backward(s);
  return total(&layout.total);
}

/* A group's part of a call, as a call of its own, and what follows from it. */
typedef struct {
  const frnn_backward_call *call;
  const frnn_shape *shape;
  const frnn_table *table;
  const frnn_cell *cell;
  backward_layout layout;
  void *panels;  /* of the weights, which all groups share */
  ptrdiff_t row; /* a padded row of units */
  frnn_sequence tape, dg, rh;
  int64_t from, to, t0; /* the chunk */
} sweep;

static void *sum_at(const frnn_backward_call *part, const backward_layout *layout, int which, void *wanted) {
  return wanted ? at(part->work, (ptrdiff_t)layout->sums[which]) : NULL;
}

static void move_state(frnn_state *state, int64_t rows, ptrdiff_t row) {
  if (state->h) state->h = at(state->h, rows * row);
  if (state->c) state->c = at(state->c, rows * row);
}

static void move_rows(frnn_sequence *q, int64_t rows) {
  if (q->data) q->data = row_at(*q, 0, rows);
}

/* The rows of a group as a call of their own. The first group's sums are the call's. */
static frnn_backward_call part_of_call(const frnn_backward_call *whole, const backward_layout *layout, int group) {
  frnn_backward_call part = *whole;
  const frnn_shape *s = &whole->shape;
  range rows = range_of(s->batch, group, layout->groups);
  ptrdiff_t row = s->hidden * element_size(s);
  part.shape.batch = rows.count;
  part.work = at(whole->work, (ptrdiff_t)(layout->parts + (size_t)group * layout->part.bytes));
  move_rows(&part.x, rows.begin);
  move_rows(&part.y, rows.begin);
  move_rows(&part.dy, rows.begin);
  move_rows(&part.dx, rows.begin);
  move_state(&part.first, rows.begin, row);
  move_state(&part.dlast, rows.begin, row);
  move_state(&part.dfirst, rows.begin, row);
  part.tape = at(whole->tape, rows.begin * tape_slots(&frnn_cells[s->cell]) * padded(s) * element_size(s));
  if (group == 0) return part;
  part.dw_ih = sum_at(&part, layout, 0, part.dw_ih);
  part.dw_hh = sum_at(&part, layout, 1, part.dw_hh);
  part.db_ih = sum_at(&part, layout, 2, part.db_ih);
  part.db_hh = sum_at(&part, layout, 3, part.db_hh);
  return part;
}

static sweep begin_sweep(const frnn_backward_call *whole, const frnn_backward_call *part) {
  const frnn_shape *s = &part->shape;
  sweep w = {.call = part,
             .shape = s,
             .table = frnn_table_for(s->dtype),
             .cell = &frnn_cells[s->cell],
             .layout = lay_backward(&whole->shape),
             .panels = whole->work,
             .row = padded(s) * element_size(s),
             .from = s->batch > 0 ? s->steps : 0};
  w.tape = dense((void *)(uintptr_t)part->tape, whole->shape.batch, tape_slots(w.cell) * w.row);
  w.dg = dense(at(part->work, (ptrdiff_t)w.layout.dg), s->batch, w.layout.dg_row);
  w.rh = dense(at(part->work, (ptrdiff_t)w.layout.rh), s->batch, w.row);
  return w;
}

static void *work_at(const sweep *w, size_t offset) { return at(w->call->work, (ptrdiff_t)offset); }
static void *panels_at(const sweep *w, size_t offset) { return at(w->panels, (ptrdiff_t)offset); }

enum { SWEEPS_MOST = FRNN_TOGETHER * GROUPS_MOST };

/* What the parts of a job share. */
typedef struct {
  frnn_backward_call parts[SWEEPS_MOST]; /* call by call its groups */
  sweep sweeps[SWEEPS_MOST];
  int count;
  frnn_run run;
  sharing packing, steps, pieces; /* of the weights' panels, the sweep, the products */
  int64_t steps_at_once;          /* of all rows, whose dx is a stretch between two looks */
  int64_t k;                      /* the stretch, where each is a job of its own */
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
  share mine = share_of(&p->packing, part);
  const sweep *w = &p->sweeps[mine.call * p->sweeps[0].layout.groups];
  const frnn_backward_call *call = w->call;
  int64_t inputs = w->shape->input;
  (void)parts;
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

static void run_stretch(const sweep *w, int64_t k, range rows, share mine) {
  range vectors = range_of(vectors_of_units(w->shape, w->table), mine.slice, mine.slices);
  if (k > 0) through_w_hh(w, stretch_of(w, k - 1), rows, vectors);
  if (k < stretches_of(w)) derive(w, stretch_of(w, k), rows, vectors);
}

static range rows_of(const sweep *w, share mine) { return range_of(w->shape->batch, mine.group, mine.groups); }

static void stretch_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->steps, part);
  const sweep *w = &p->sweeps[mine.call];
  (void)parts;
  run_stretch(w, p->k, rows_of(w, mine), mine);
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

/* What the chunk's rows go into each for itself: the operands' panels, and dx. */
static void finish_rows(const sweep *w, range steps, range rows) {
  const frnn_backward_call *call = w->call;
  if (rows.count < 1 || steps.count < 1) return;
  if (call->dw_ih && w->shape->input > 0) pack_operand(w, INPUT, w->shape->input, steps, rows);
  if (call->dw_hh) pack_operand(w, HIDDEN, w->shape->hidden, steps, rows);
  if (call->dw_hh && w->cell->phases == 2) pack_operand(w, RESET_HIDDEN, w->shape->hidden, steps, rows);
  if (call->dx.data) input_gradient(w, steps, rows);
}

/* All of a chunk's stretches for some rows, and what these then go into. */
static void run_rows(backwards *p, const sweep *w, share mine) {
  range all = rows_of(w, mine), rows = {all.begin, 0}, steps = {0, 0};
  for (; rows.begin < all.begin + all.count; rows.begin += rows.count) {
    rows.count = least(p->steps.rows_at_once, all.begin + all.count - rows.begin);
    for (int64_t k = 0; k <= stretches_of(w); k++) {
      if (k % p->steps.steps_between == 0 && frnn_stopped(&p->run)) return;
      run_stretch(w, k, rows, mine);
    }
  }
  for (; steps.begin < w->to - w->from; steps.begin += steps.count) {
    if (frnn_stopped(&p->run)) return;
    steps.count = least(p->steps_at_once, w->to - w->from - steps.begin);
    finish_rows(w, steps, all);
  }
}

static void rows_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->steps, part);
  (void)parts;
  run_rows(p, &p->sweeps[mine.call], mine);
}

/* The latter alone, where the stretches were jobs of their own. */
static void finish_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->pieces, part);
  const sweep *w = &p->sweeps[mine.call];
  range steps = {0, w->to - w->from}, rows = {0, w->shape->batch};
  (void)parts;
  if (steps.count > rows.count)
    steps = range_of(steps.count, mine.slice, mine.slices);
  else
    rows = range_of(rows.count, mine.slice, mine.slices);
  finish_rows(w, steps, rows);
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
  frnn_parallel(&p->run, p->pieces.work, finish_part, p, parts_of(&p->pieces));
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

/* A part of the chunk's share of the parameters' gradients. */
static void add_chunk(const sweep *w, share mine) {
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

static void weights_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->pieces, part);
  (void)parts;
  add_chunk(&p->sweeps[mine.call], mine);
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

static void end_gradients(const sweep *w) {
  const frnn_backward_call *call = w->call;
  const frnn_shape *s = w->shape;
  size_t bytes = (size_t)(s->hidden * w->table->size);
  copy_rows(call->dfirst.h, (ptrdiff_t)bytes, work_at(w, w->layout.dh), w->row, s->batch, bytes);
  if (w->cell->states == 2)
    copy_rows(call->dfirst.c, (ptrdiff_t)bytes, work_at(w, w->layout.dc), w->row, s->batch, bytes);
}

/* The chunk before the present one in the data, which is the next one of the sweep; 0 where there is none. */
static int next_chunk(sweep *w) {
  w->to = w->from;
  w->from = most(0, w->to - w->layout.steps);
  w->t0 = earliest(w->shape, w->from, w->to);
  return w->to > 0;
}

/* A group from its begin to its end. */
static void sweep_part(void *context, int part, int parts) {
  backwards *p = context;
  sweep *w = &p->sweeps[part];
  (void)parts;
  begin_gradients(w);
  while (next_chunk(w)) {
    run_rows(p, w, (share){part, 0, 1, 0, 1});
    for (int i = 0; i < p->pieces.slices; i++) {
      if (frnn_stopped(&p->run)) return;
      add_chunk(w, (share){part, 0, 1, i, p->pieces.slices});
    }
  }
  end_gradients(w);
}

/* All groups chunk by chunk, each chunk by all threads. */
static void sweep_together(backwards *p) {
  int left = 1;
  for (int i = 0; i < p->count; i++) begin_gradients(&p->sweeps[i]);
  while (!frnn_stopped(&p->run)) {
    for (int i = 0; i < p->count; i++) left = next_chunk(&p->sweeps[i]);
    if (!left) break;
    run_sweep(p);
    frnn_parallel(&p->run, p->pieces.work, weights_part, p, parts_of(&p->pieces));
  }
  for (int i = 0; i < p->count; i++) end_gradients(&p->sweeps[i]);
}

static void add_sum(const frnn_table *table, void *sum, const void *other, int64_t n) {
  if (sum) table->add(sum, sum, other, n);
}

/* The sums of a call's groups, one after another, to those of its first. */
static void add_groups(const sweep *first) {
  const frnn_backward_call *sum = first->call;
  const frnn_shape *s = first->shape;
  int64_t rows = first->cell->gates * s->hidden;
  for (const sweep *w = first + 1; w < first + first->layout.groups; w++) {
    add_sum(w->table, sum->dw_ih, w->call->dw_ih, rows * s->input);
    add_sum(w->table, sum->dw_hh, w->call->dw_hh, rows * s->hidden);
    add_sum(w->table, sum->db_ih, w->call->db_ih, rows);
    add_sum(w->table, sum->db_hh, w->call->db_hh, rows);
  }
}

static void share_out(backwards *p, const frnn_shape *s, int calls) {
  const sweep *first = &p->sweeps[0];
  const frnn_shape *part = first->shape;
  double rows = (double)part->batch * (double)first->layout.steps;
  p->packing = share_slices(calls, MULTIPLY_ADDS_OF_PACKING * weights_of(s), s->hidden);
  p->steps = share_steps(part, p->count, recurrent_weights_of(s), vectors_of_units(s, first->table));
  p->pieces = share_slices(p->count, 2 * weights_of(s) * rows, s->hidden);
  p->steps_at_once = most(1, (int64_t)(STRETCH / (weights_of(s) * (double)part->batch)));
}

int frnn_backward(const frnn_backward_call *calls, int count, int (*interrupted)(void)) {
  const frnn_shape *s = &calls->shape;
  backwards p;
  assert(count >= 1 && count <= FRNN_TOGETHER);
  backward_layout layout = lay_backward(s);
  double work = 3 * weights_of(s) * (double)s->steps * (double)s->batch * count;
  p.count = count * layout.groups;
  for (int i = 0; i < p.count; i++) {
    const frnn_backward_call *whole = &calls[i / layout.groups];
    assert(whole->work && whole->tape);
    p.parts[i] = part_of_call(whole, &layout, i % layout.groups);
    p.sweeps[i] = begin_sweep(whole, &p.parts[i]);
  }
  share_out(&p, s, count);
  frnn_begin(&p.run, work, p.count < parts_of(&p.pieces) ? parts_of(&p.pieces) : p.count, interrupted);
  frnn_parallel(&p.run, p.packing.work, pack_weights_part, &p, parts_of(&p.packing));
  if (p.count >= frnn_threads())
    frnn_parallel(&p.run, work, sweep_part, &p, p.count);
  else
    sweep_together(&p);
  for (int i = 0; i < count; i++) add_groups(&p.sweeps[i * layout.groups]);
  return frnn_end(&p.run);
}
