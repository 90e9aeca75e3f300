/* id_table.c - computes the id table before a pass: bias + W_ih x for each x that an id stands for.
 *
 * It must not know: dtypes, instruction sets, time. */
#include "../internal/valid.h"
#include "packed.h"

typedef struct {
  size_t w_ih, bias, bias_h, operands;
  size total;
} table_layout;

static table_layout lay_table(const frnn_shape *s, int64_t count) {
  int64_t element = element_size(s), units = padded(s);
  table_layout at = {0};
  int64_t gate_units = product(&at.total, units, s->cell->facts.gates);
  at.w_ih = reserve(&at.total, element, product(&at.total, gate_units, packed_lanes(s, s->input)));
  at.bias = reserve(&at.total, element, gate_units);
  at.bias_h = reserve(&at.total, element, product(&at.total, units, separate_gates(s->cell)));
  at.operands = reserve(&at.total, reads_operands(s) ? operand_bytes(s->input) : 0, count);
  return at;
}

size_t frnn_id_table_work_size(const frnn_shape *s, int64_t count) {
  if (shape_status(s) < 0) return 0;
  table_layout layout = lay_table(s, count);
  return total(&layout.total);
}

size_t frnn_id_table_size(const frnn_shape *s, int64_t count) {
  if (shape_status(s) < 0) return 0;
  size table = {0};
  int64_t row = product(&table, padded(s), s->cell->facts.gates);
  reserve(&table, element_size(s), product(&table, row, count));
  return total(&table);
}

/* A job: all its parts read this. */
typedef struct {
  const frnn_id_table_call *call;
  const frnn_kernels *kernels;
  const frnn_products *products;
  frnn_sequence factor; /* rows of x, or the operands that they became */
  void *panels, *bias;  /* of W_ih, in packed weights or in the workspace; the panels are for products */
  frnn_run run;
  job_parts job_parts;
} tabulation;

/* Transposes some units of W_ih: each column whose id the table has becomes a row. `full` describes the transposition
 * of all columns. */
static void transpose_columns(const tabulation *p, const frnn_transpose *full) {
  const int64_t *used = p->call->used;
  size_t element = (size_t)p->kernels->size;
  if (!used) {
    p->kernels->products.pack(full);
    return;
  }
  for (int64_t u = 0; u < full->k; u++)
    for (int64_t n = 0; n < full->outputs; n++)
      memcpy(at(full->dst, u * full->dst_k + n * (ptrdiff_t)element),
             at(full->src, n * full->src_row + used[u] * (ptrdiff_t)element), element);
}

/* Copies columns of W_ih to rows of the table, from packed panels. These have zeros for padding units. */
static void copy_packed(const tabulation *p, range vectors, void *target, ptrdiff_t row, const void *panels) {
  int64_t vector = p->kernels->lanes * p->kernels->size,
          panel = panel_bytes(&p->call->shape, p->kernels, p->call->shape.input);
  const int64_t *used = p->call->used;
  for (int64_t u = 0; u < p->call->count; u++)
    for (int64_t i = 0; i < vectors.count; i++)
      p->products->column(at(panels, i * panel), used ? used[u] : u, p->call->shape.input,
                          at(target, u * row + i * vector));
}

/* Copies columns of W_ih to rows of the table. */
static void copy_weights(const tabulation *p, range vectors, void *target, ptrdiff_t row) {
  const frnn_shape *s = &p->call->shape;
  int64_t lanes = p->kernels->lanes, vector = lanes * p->kernels->size, of_gate = padded(s) / lanes;
  /* Padding units are copied to tapes, so they must be zeros and not what was in memory. */
  for (int64_t u = 0; u < (s->hidden < padded(s) ? p->call->count : 0); u++)
    memset(at(target, u * row), 0, (size_t)(vectors.count * vector));
  for (int64_t i = 0; i < vectors.count; i++) {
    int64_t gate = (vectors.begin + i) / of_gate, unit = (vectors.begin + i) % of_gate * lanes;
    frnn_transpose t = {.src = at(p->call->weights.w_ih, (gate * s->hidden + unit) * s->input * p->kernels->size),
                        .src_row = s->input * p->kernels->size,
                        .outputs = least(lanes, s->hidden - unit),
                        .k = p->call->count,
                        .dst = at(target, i * vector),
                        .dst_k = row};
    if (t.outputs > 0) transpose_columns(p, &t);
  }
}

static void tabulate_part(void *context, int part, int parts) {
  tabulation *p = context;
  const frnn_shape *s = &p->call->shape;
  job_part mine = part_of_job(&p->job_parts, part);
  range vectors = range_of(vectors_of_gates(s, p->kernels), mine.slice, mine.slices);
  int64_t vector = p->kernels->lanes * p->kernels->size, panel = panel_bytes(s, p->kernels, s->input);
  ptrdiff_t row = s->cell->facts.gates * padded(s) * p->kernels->size;
  void *target = at(p->call->table, vectors.begin * vector), *panels = at(p->panels, vectors.begin * panel);
  const void *bias = at(p->bias, vectors.begin * vector);
  (void)parts;
  if (frnn_stopped(&p->run)) return;
  if (!p->call->x) {
    if (p->call->packed)
      copy_packed(p, vectors, target, row, panels);
    else
      copy_weights(p, vectors, target, row);
    for (int64_t u = 0; u < p->call->count; u++)
      p->kernels->add(at(target, u * row), at(target, u * row), bias, vectors.count * p->kernels->lanes);
    return;
  }
  if (!p->call->packed)
    frnn_pack_for_product(s, p->kernels, p->products, vectors, (frnn_matrix){p->call->weights.w_ih, s->input, NULL},
                          panels);
  frnn_gemm g = {.m = p->call->count,
                 .n = vectors.count * p->kernels->lanes,
                 .k = s->input,
                 .a = p->factor.data,
                 .a_row = p->factor.row,
                 .a_k = p->kernels->size,
                 .panels = panels,
                 .panel = panel,
                 .init = bias,
                 .c = target,
                 .c_row = row};
  p->products->gemm(&g);
}

/* 0, FRNN_INVALID or FRNN_MISSING. */
static int table_status(const frnn_id_table_call *call) {
  if (!call) return FRNN_INVALID;
  const frnn_shape *s = &call->shape;
  const packed_header *packed = call->packed;
  int status = shape_status(s);
  if (status < 0) return status;
  if (call->count < 0 || (!call->x && !call->used && call->count > s->input)) return FRNN_INVALID;
  if (is_too_large(s, (double)call->count, call->x != NULL)) return FRNN_INVALID;
  if (!is_buffer(call->work) && (!packed || (call->x && reads_operands(s)))) return FRNN_INVALID;
  if (!call->table && call->count > 0 && s->hidden > 0) return FRNN_INVALID;
  if (!packed) return has_weights(s, &call->weights, s->input > 0) ? 0 : FRNN_INVALID;
  return are_of_shape(s, packed) && packed->forms & FRNN_FOR_PRODUCTS ? 0 : FRNN_INVALID;
}

int frnn_make_id_table(const frnn_id_table_call *call, int (*interrupted)(void)) {
  int status = table_status(call);
  if (status < 0) return status;
  const frnn_shape *s = &call->shape;
  const packed_header *packed = call->packed;
  tabulation p = {.call = call, .kernels = packed ? frnn_kernels_of(&packed->by) : frnn_kernels_for(s->dtype)};
  p.products = packed ? frnn_products_of(&packed->by) : frnn_products_for(p.kernels, s->precision);
  double inputs = call->x ? (double)s->input : 2;
  double work = (double)s->cell->facts.gates * (double)s->hidden * inputs * (double)call->count;
  table_layout layout = lay_table(s, call->count);
  p.factor = dense((void *)(uintptr_t)call->x, 1, s->input * p.kernels->size);
  if (packed) {
    p.panels = at(packed, (ptrdiff_t)packed->at.for_products);
    p.bias = at(packed, (ptrdiff_t)packed->at.bias);
  } else {
    p.panels = at(call->work, (ptrdiff_t)layout.w_ih);
    p.bias = at(call->work, (ptrdiff_t)layout.bias);
    frnn_pack_biases(s, p.kernels, &call->weights, p.bias, at(call->work, (ptrdiff_t)layout.bias_h));
  }
  p.job_parts = part_by_slices(1, work, vectors_of_gates(s, p.kernels));
  frnn_begin(&p.run, work, parts_of(&p.job_parts), interrupted);
  if (s->precision == FRNN_BFLOAT16) frnn_flush_subnormals(&p.run);
  if (call->x && p.products->convert) {
    frnn_sequence x = p.factor;
    p.factor = dense(at(call->work, (ptrdiff_t)layout.operands), 1, operand_bytes(s->input));
    frnn_operands operands = {x.data, x.row, call->count, s->input, 0, p.factor.data, p.factor.row};
    p.products->convert(&operands);
  }
  frnn_parallel(&p.run, work, tabulate_part, &p, parts_of(&p.job_parts));
  return frnn_end(&p.run);
}
