/* id_table.c - what x's ids stand for: the table of all their pre-activations, made before a pass, and the products
 * that bring the table's gradient back after it.
 *
 * It must not know: dtypes, instruction sets, time. */
#include "packed.h"
#include "../internal/sums.h"

/* ---- the table --------------------------------------------------------------------------------------------------- */

typedef struct {
  size_t w_ih, bias, bias_h;
  size total;
} table_layout;

static table_layout lay_table(const frnn_shape *s) {
  int64_t element = element_size(s), units = padded(s);
  table_layout at = {0};
  int64_t gate_units = product(&at.total, units, s->cell->facts.gates);
  at.w_ih = reserve(&at.total, packed_element(s), product(&at.total, gate_units, s->input));
  at.bias = reserve(&at.total, element, gate_units);
  at.bias_h = reserve(&at.total, element, product(&at.total, units, separate_gates(s->cell)));
  return at;
}

size_t frnn_id_table_work_size(const frnn_shape *s) {
  table_layout layout = lay_table(s);
  return total(&layout.total);
}

size_t frnn_id_table_size(const frnn_shape *s, int64_t count) {
  size table = {0};
  int64_t row = product(&table, padded(s), s->cell->facts.gates);
  reserve(&table, element_size(s), product(&table, row, count));
  return total(&table);
}

/* What the parts of a job have in common. */
typedef struct {
  const frnn_id_table_call *call;
  const frnn_kernels *kernels;
  table_layout layout;
  frnn_run run;
  job_parts job_parts;
} tabulation;

/* Columns of W_ih, turned into rows, and the bias. */
static void tabulate_weights(const tabulation *p, range vectors, void *target, ptrdiff_t row, const void *bias) {
  const frnn_shape *s = &p->call->shape;
  int64_t lanes = p->kernels->lanes, vector = lanes * p->kernels->size, of_gate = padded(s) / lanes;
  for (int64_t i = 0; i < vectors.count; i++) {
    int64_t gate = (vectors.begin + i) / of_gate, unit = (vectors.begin + i) % of_gate * lanes;
    frnn_transpose t = {.src = at(p->call->weights.w_ih, (gate * s->hidden + unit) * s->input * p->kernels->size),
                        .src_row = s->input * p->kernels->size,
                        .outputs = least(lanes, s->hidden - unit),
                        .k = p->call->count,
                        .dst = at(target, i * vector),
                        .dst_k = row};
    if (t.outputs > 0) p->kernels->pack_outputs(&t);
  }
  for (int64_t u = 0; u < p->call->count; u++)
    p->kernels->add(at(target, u * row), at(target, u * row), bias, vectors.count * lanes);
}

static void tabulate_part(void *context, int part, int parts) {
  tabulation *p = context;
  const frnn_shape *s = &p->call->shape;
  job_part mine = part_of_job(&p->job_parts, part);
  range vectors = range_of(vectors_of_gates(s, p->kernels), mine.slice, mine.slices);
  int64_t vector = p->kernels->lanes * p->kernels->size, panel = panel_bytes(s, p->kernels, s->input);
  ptrdiff_t row = s->cell->facts.gates * padded(s) * p->kernels->size;
  void *target = at(p->call->table, vectors.begin * vector), *panels = at(p->call->work, (ptrdiff_t)p->layout.w_ih);
  void *bias = at(p->call->work, (ptrdiff_t)p->layout.bias + vectors.begin * vector);
  (void)parts;
  if (frnn_stopped(&p->run)) return;
  if (!p->call->x) {
    tabulate_weights(p, vectors, target, row, bias);
    return;
  }
  panels = at(panels, vectors.begin * panel);
  frnn_pack_for_product(s, p->kernels, vectors, p->call->weights.w_ih, s->input, panels);
  frnn_gemm g = {.m = p->call->count,
                 .n = vectors.count * p->kernels->lanes,
                 .k = s->input,
                 .a = p->call->x,
                 .a_row = s->input * p->kernels->size,
                 .a_k = p->kernels->size,
                 .panels = panels,
                 .panel = panel,
                 .init = bias,
                 .c = target,
                 .c_row = row};
  p->kernels->gemm(&g);
}

int frnn_make_id_table(const frnn_id_table_call *call, int (*interrupted)(void)) {
  const frnn_shape *s = &call->shape;
  tabulation p = {.call = call, .kernels = frnn_kernels_for(s->dtype), .layout = lay_table(s)};
  double inputs = call->x ? (double)s->input : 2;
  double work = (double)s->cell->facts.gates * (double)s->hidden * inputs * (double)call->count;
  frnn_pack_biases(s, p.kernels, &call->weights, at(call->work, (ptrdiff_t)p.layout.bias),
                   at(call->work, (ptrdiff_t)p.layout.bias_h));
  p.job_parts = part_by_slices(1, work, vectors_of_gates(s, p.kernels));
  frnn_begin(&p.run, work, parts_of(&p.job_parts), interrupted);
  frnn_parallel(&p.run, work, tabulate_part, &p, parts_of(&p.job_parts));
  return frnn_end(&p.run);
}

/* ---- products --------------------------------------------------------------------------------------------------- */

typedef struct {
  size_t panels, arrays; /* of b; of what stands beside c where sums go by blocks */
  int64_t beside;        /* bytes of it for a row of c, in each array */
  size total;
} product_layout;

static product_layout lay_product(int dtype, int64_t m, int64_t n, int64_t k) {
  frnn_shape s = {.dtype = dtype};
  product_layout at = {0};
  int64_t element = element_size(&s), columns = vectors_of(&s, n);
  at.beside = goes_by_blocks(k) ? product(&at.total, columns, element) : 0;
  at.panels = reserve(&at.total, element, product(&at.total, columns, k));
  at.arrays = reserve(&at.total, at.beside, product(&at.total, m, ARRAYS_BESIDE));
  return at;
}

size_t frnn_product_size(int dtype, int64_t m, int64_t n, int64_t k) {
  product_layout layout = lay_product(dtype, m, n, k);
  return total(&layout.total);
}

int frnn_goes_by_blocks(int64_t rows) { return goes_by_blocks(rows); }

/* What the parts of a job have in common. */
typedef struct {
  const frnn_product_call *call;
  const frnn_kernels *kernels;
  product_layout layout;
  frnn_run run;
  job_parts packing, job_parts;
} multiplication;

static void pack_b(void *context, int part, int parts) {
  multiplication *p = context;
  const frnn_product_call *call = p->call;
  range rows = range_of(call->k, part_of_job(&p->packing, part).slice, parts);
  int64_t row = call->n * p->kernels->size, vector = p->kernels->lanes * p->kernels->size;
  p->kernels->pack_rows(at(call->b, rows.begin * row), row, rows.count, call->n,
                        at(call->work, (ptrdiff_t)p->layout.panels + rows.begin * vector), call->k * vector);
}

static void multiply_part(void *context, int part, int parts) {
  multiplication *p = context;
  const frnn_product_call *call = p->call;
  range rows = range_of(call->m, part_of_job(&p->job_parts, part).slice, parts);
  ptrdiff_t c_row = call->n * p->kernels->size, row = p->layout.beside;
  frnn_gemm g = {.m = rows.count,
                 .n = call->n,
                 .k = call->k,
                 .a = at(call->a, rows.begin * call->a_row),
                 .a_row = call->a_row,
                 .a_k = call->a_k,
                 .panels = at(call->work, (ptrdiff_t)p->layout.panels),
                 .panel = call->k * p->kernels->lanes * p->kernels->size,
                 .c = at(call->c, rows.begin * c_row),
                 .c_row = c_row};
  if (frnn_stopped(&p->run)) return;
  if (!goes_by_blocks(call->k)) {
    p->kernels->gemm(&g);
    return;
  }
  frnn_beside beside = beside_of(at(call->work, (ptrdiff_t)p->layout.arrays), call->m * row, rows.begin * row);
  memset(g.c, 0, (size_t)(rows.count * c_row));
  memset(beside.blocks, 0, (size_t)(rows.count * row));
  memset(beside.lost, 0, (size_t)(rows.count * row));
  add_products(p->kernels, g, beside, (rows_of_sum){0, call->k, 1});
}

int frnn_product(const frnn_product_call *call, int (*interrupted)(void)) {
  multiplication p = {.call = call, .kernels = frnn_kernels_for(call->dtype)};
  p.layout = lay_product(call->dtype, call->m, call->n, call->k);
  double work = (double)call->m * (double)call->n * (double)call->k;
  double packing = MULTIPLY_ADDS_OF_PACKING * (double)call->n * (double)call->k;
  p.packing = part_by_slices(1, packing, call->k);
  p.job_parts = part_by_slices(1, work, call->m);
  frnn_begin(&p.run, work, parts_of(&p.job_parts), interrupted);
  frnn_parallel(&p.run, packing, pack_b, &p, parts_of(&p.packing));
  frnn_parallel(&p.run, work, multiply_part, &p, parts_of(&p.job_parts));
  return frnn_end(&p.run);
}
