/* weight_gradients.c - the products that follow the steps of a chunk, and the order of their sums.
 *
 * One product of the chunk's gate gradients with x gives dW_ih, one with h dW_hh, one with W_ih dx.
 *
 * It must not know: dtypes, instruction sets, activations, threads, Python. */
#include "step.h"

/* ---- the products of a chunk ----------------------------------------------------------------------------------- */

/* The rows of a chunk in the order of the backward pass, as one stride: from the last row of the last step down, or in
 * reverse from the first up. So a sum over rows goes on from chunk to chunk as if there were no chunks. */
typedef struct {
  int64_t first;
  ptrdiff_t way; /* 1 or -1 */
} sum_order;

static sum_order order_of(const backward_pass *w) {
  return w->shape->reverse ? (sum_order){0, 1} : (sum_order){w->rows - 1, -1};
}

/* The rows of an operand, for a run of rows. */
static frnn_sequence source_of(const backward_pass *w, enum operand which, int64_t t, int64_t index) {
  if (which == HIDDEN && w->call->dropout.recurrent)
    return (frnn_sequence){chunk_row(w, w->after_dropout, t, index), 0, w->after_dropout.row};
  if (which != SCRATCH) return frnn_backward_input(w, (enum backward_input)which, t, index);
  return (frnn_sequence){chunk_row(w, w->rh, t, index), 0, w->rh.row};
}

/* Packs a run of rows of one step, which lie at `from`, into the panels of an operand. */
static void pack_run(const backward_pass *w, enum operand which, frnn_sequence from, int64_t n, int64_t t, range run) {
  sum_order o = order_of(w);
  int64_t vector = w->kernels->lanes * w->kernels->size, row = rows_before(w, t) + run.begin;
  int64_t place = o.way < 0 ? w->rows - row - run.count : row;
  w->kernels->pack_rows(row_at(from, 0, o.way < 0 ? run.count - 1 : 0), o.way * from.row, run.count, n,
                        at(work_at(w, w->layout->operand[which]), place * vector), w->rows * vector);
}

/* Packs an operand's rows of some steps of the chunk, counted from its earliest time, and some rows of the batch. Rows
 * that the mask holds are zeros, whatever their x is. */
static void pack_operand(const backward_pass *w, enum operand which, int64_t n, range steps, range rows) {
  const frnn_sequence zeros = {work_at(w, w->layout->zeros), 0, 0};
  for (int64_t t = w->t0 + steps.begin; t < w->t0 + steps.begin + steps.count; t++) {
    range all = working_of(w->shape, &w->call->rows, rows, t);
    for (range left = all, now; left.count > 0; left.begin += now.count, left.count -= now.count) {
      now = which == HIDDEN ? frnn_run_of(w, time_of(w->shape, t), left) : left;
      assert(now.count > 0);
      pack_run(w, which, source_of(w, which, t, now.begin), n, t, now);
    }
    for (int64_t p = all.begin; (p = next_held(&w->call->rows, t, p, all)) >= 0; p++)
      pack_run(w, which, zeros, n, t, (range){p, 1});
  }
}

/* dx for some rows, not all of which take every step: side by side first, then copied to the user's rows; rows that
 * take no step get zeros. */
static void scatter_input_gradient(const backward_pass *w, frnn_gemm g, range steps, range rows) {
  const frnn_rows *r = &w->call->rows;
  size_t bytes = (size_t)(w->shape->input * w->kernels->size);
  frnn_sequence dx = {work_at(w, w->layout->dx), 0, (ptrdiff_t)bytes};
  g.a_row = w->dg.row;
  g.c_row = dx.row;
  for (int64_t t = w->t0 + steps.begin; t < w->t0 + steps.begin + steps.count; t++) {
    range now = working_of(w->shape, r, rows, t);
    g.m = now.count;
    g.a = chunk_row(w, w->dg, t, now.begin);
    g.c = chunk_row(w, dx, t, now.begin);
    w->kernels->products.gemm(&g);
    for (int64_t b = 0, p; (p = next_index(r, &b, rows)) >= 0; b++) {
      void *to = row_at(w->call->dx, t, b);
      if (p < now.begin + now.count)
        copy_row(to, chunk_row(w, dx, t, p), bytes);
      else
        memset(to, 0, bytes);
    }
  }
}

/* dx of some steps of the chunk and some rows of the batch. */
static void input_gradient(const backward_pass *w, range steps, range rows) {
  int64_t columns = w->cell->facts.gates * w->shape->hidden;
  frnn_gemm g = {.n = w->shape->input,
                 .k = columns,
                 .a_k = w->kernels->size,
                 .panels = panels_at(w, w->layout->w_ih),
                 .panel = columns * w->kernels->lanes * w->kernels->size};
  frnn_sequence dx = w->call->dx, dg = w->dg;
  if (w->call->rows.lengths) {
    scatter_input_gradient(w, g, steps, rows);
    return;
  }
  dx.data = row_at(dx, w->t0 + steps.begin, rows.begin);
  dg.data = row_at(dg, steps.begin, rows.begin);
  product_of_rows(&w->kernels->products, g, dg, dx, steps.count, rows.count);
}

void frnn_finish_rows(const backward_pass *w, range steps, range rows) {
  const frnn_backward_call *call = w->call;
  if (rows.count < 1 || steps.count < 1) return;
  if (call->dw_ih && w->shape->input > 0) pack_operand(w, INPUT, w->shape->input, steps, rows);
  if (call->dw_hh) pack_operand(w, HIDDEN, features_of(w->shape), steps, rows);
  if (call->dw_hh && has_extra_product(w->shape)) pack_operand(w, SCRATCH, w->shape->hidden, steps, rows);
  if (call->dx.data) input_gradient(w, steps, rows);
}

/* ---- the gradients of the weights ------------------------------------------------------------------------------- */

/* A part of a block of the gate gradients: its rows of the weights, and the address of its first column in the chunk's
 * first row of the backward pass. */
typedef struct {
  range rows;
  const void *first;
} gate_part;

static gate_part part_from(const backward_pass *w, int64_t column, int64_t row, int64_t count, job_part mine) {
  range gates = range_of(count, mine.slice, mine.slices);
  const void *first = at(w->dg.data, order_of(w).first * w->dg.row);
  return (gate_part){{row + gates.begin, gates.count}, at(first, (column + gates.begin) * w->kernels->size)};
}

static gate_part part_of(const backward_pass *w, const frnn_block *block, job_part mine) {
  int64_t hidden = w->shape->hidden;
  return part_from(w, block->column * hidden, block->row * hidden, block->count * hidden, mine);
}

/* The arrays beside a gradient's sum, from some element on. */
static frnn_beside beside(const backward_pass *w, enum gradient which, int64_t element) {
  int64_t bytes = w->layout->beside[which] * w->kernels->size;
  return beside_of(work_at(w, w->layout->arrays[which]), bytes, element * w->kernels->size);
}

static rows_of_sum rows_of_chunk(const backward_pass *w) { return (rows_of_sum){w->done, w->rows, w->from == 0}; }

/* dW[rows of the part] += dg[its columns]^T * operand; the first chunk begins the sum. */
static void weight_gradient(const backward_pass *w, gate_part gates, enum operand operand, int64_t n,
                            enum gradient which) {
  int64_t element = w->kernels->size, first = gates.rows.begin;
  void *dw = gradient_of(w->call, which);
  frnn_gemm g = {.m = gates.rows.count,
                 .n = n,
                 .k = w->rows,
                 .a = gates.first,
                 .a_row = element,
                 .a_k = order_of(w).way * w->dg.row,
                 .panels = work_at(w, w->layout->operand[operand]),
                 .panel = w->rows * w->kernels->lanes * element,
                 .init_row = n * element,
                 .c_row = n * element};
  if (!dw || n == 0) return;
  g.c = at(dw, first * g.c_row);
  g.init = w->to == w->shape->steps ? NULL : g.c;
  if (w->layout->in_blocks)
    add_products(w->kernels, g, beside(w, which, first * vectors_of(w->shape, n)), rows_of_chunk(w));
  else
    w->kernels->products.gemm(&g);
}

/* sum[rows of the part] += its columns of dg. */
static void add_columns(const backward_pass *w, gate_part gates, enum gradient which) {
  int64_t first = gates.rows.begin, count = gates.rows.count;
  ptrdiff_t row = order_of(w).way * w->dg.row;
  void *sum = gradient_of(w->call, which);
  if (!sum) return;
  sum = at(sum, first * w->kernels->size);
  frnn_row_sum s = {.src = gates.first, .src_k = row, .n = count, .dst = sum, .beside = beside(w, which, first)};
  if (w->layout->in_blocks)
    add_rows(w->kernels, s, rows_of_chunk(w));
  else
    w->kernels->sum_rows(gates.first, row, w->rows, count, sum);
}

/* Adds the sums that the cell names beside its products. */
static void add_sums(const backward_pass *w, job_part mine) {
  int64_t hidden = w->shape->hidden;
  for (const frnn_sum *sum = w->cell->sums; sum < w->cell->sums + FRNN_SUMS && sum->count > 0; sum++) {
    enum gradient which = sum->of == FRNN_BIAS_IH ? OF_B_IH : sum->of == FRNN_BIAS_HH ? OF_B_HH : OF_EXTRA + sum->of;
    add_columns(w, part_from(w, sum->column * hidden, sum->row * hidden, sum->count * hidden, mine), which);
  }
}

void frnn_list_ids(const backward_pass *w) {
  const frnn_ids *ids = &w->call->ids;
  int64_t *next = work_at(w, w->layout->ids);
  for (int64_t i = w->to - 1; ids->gradient && i >= w->from; i--) {
    int64_t t = time_of(w->shape, i), count = working(w->shape, &w->call->rows, t);
    for (int64_t n = 0; n < count; n++) {
      int64_t b = row_of(&w->call->rows, w->shape->reverse ? n : count - 1 - n), id = ids->numbers[t * ids->step + b];
      int full = ids->seen && ++ids->seen[id] % FRNN_BLOCK_ROWS == 0;
      *next++ = full ? ~id : id;
    }
  }
}

/* Adds the block of an id, for some columns, to the id's sum by Kahan's addition, and clears the block. The second
 * array has the sum, the third the rounding errors. */
static void end_block_of_id(const backward_pass *w, int64_t id, range columns) {
  const frnn_ids *ids = &w->call->ids;
  int64_t element = w->kernels->size, row = w->cell->facts.gates * w->shape->hidden;
  int64_t table = ids->count * row * element, place = (id * row + columns.begin) * element;
  void *block = at(ids->gradient, place);
  w->kernels->add_keeping(at(block, table), at(block, 2 * table), block, columns.count);
  memset(block, 0, (size_t)(columns.count * element));
}

/* Ids that had a full block have their sum in the second array: adds their unfinished block to it, and copies it to the
 * first array. */
static void end_table(const backward_pass *w, range columns) {
  const frnn_ids *ids = &w->call->ids;
  int64_t element = w->kernels->size, row = w->cell->facts.gates * w->shape->hidden, table = ids->count * row * element;
  for (int64_t id = 0; id < ids->count; id++) {
    void *sum = at(ids->gradient, (id * row + columns.begin) * element);
    if (ids->seen[id] < FRNN_BLOCK_ROWS) continue;
    end_block_of_id(w, id, columns);
    memcpy(sum, at(sum, table), (size_t)(columns.count * element));
  }
}

/* Adds the gate gradients of each row to its id's row of the table's gradient, for a part of the block. Rows come in
 * the order of the backward pass, so every sum has a fixed order. */
static void table_gradient(const backward_pass *w, const frnn_block *block, job_part mine) {
  int64_t element = w->kernels->size, gate_rows = w->cell->facts.gates * w->shape->hidden;
  gate_part gates = part_of(w, block, mine);
  const int64_t *ids = work_at(w, w->layout->ids);
  const char *dg = gates.first;
  for (int64_t n = 0; n < w->rows; n++, dg += order_of(w).way * w->dg.row) {
    int64_t id = ids[n] < 0 ? ~ids[n] : ids[n];
    void *sum = at(w->call->ids.gradient, (id * gate_rows + gates.rows.begin) * element);
    w->kernels->add(sum, sum, dg, gates.rows.count);
    if (ids[n] < 0) end_block_of_id(w, id, gates.rows);
  }
  if (w->from == 0 && w->call->ids.seen) end_table(w, gates.rows);
}

/* 1 if the gradients of the biases are among the sums. */
static int names_biases(const frnn_cell *cell) {
  for (const frnn_sum *sum = cell->sums; sum < cell->sums + FRNN_SUMS && sum->count > 0; sum++)
    if (sum->of == FRNN_BIAS_IH || sum->of == FRNN_BIAS_HH) return 1;
  return 0;
}

void frnn_add_chunk(const backward_pass *w, job_part mine) {
  const frnn_shape *s = w->shape;
  int by_blocks = !names_biases(w->cell);
  if (w->to == 0) return; /* this group has no chunk left, while others of the call have */
  for (int i = 0; i < FRNN_BLOCKS; i++) {
    const frnn_block *ih = &w->cell->ih[i], *hh = &w->cell->hh[i];
    if (ih->count > 0) weight_gradient(w, part_of(w, ih, mine), INPUT, s->input, OF_W_IH);
    if (hh->count > 0) weight_gradient(w, part_of(w, hh, mine), operand_of(hh), features_of(s), OF_W_HH);
    if (ih->count > 0 && w->call->ids.gradient) table_gradient(w, ih, mine);
    if (ih->count > 0 && by_blocks) add_columns(w, part_of(w, ih, mine), OF_B_IH);
    if (hh->count > 0 && by_blocks) add_columns(w, part_of(w, hh, mine), OF_B_HH);
  }
  add_sums(w, mine);
  if (s->projected)
    weight_gradient(w, part_from(w, column_of_h(w), 0, s->projected, mine), SCRATCH, s->hidden, OF_W_HR);
}
