/* id_gradients.c - turns the gradient of an id table into those of W_ih and of the embedding.
 *
 * It must not know: dtypes, instruction sets, time. */
#include "../internal/sums.h"
#include "../internal/valid.h"

/* ---- products -------------------------------------------------------------------------------------------------- */

/* c = a b: a (m, k) with strides in bytes, one of them the element's size; b (k, n) and c (m, n) dense. Each element is
 * one chain over k, or blocks of it. */
typedef struct {
  int dtype;
  int64_t m, n, k;
  const void *a, *b;
  ptrdiff_t a_row, a_k;
  void *c;
  void *work;
} matrix_product;

typedef struct {
  size_t panels;  /* b, packed */
  size_t arrays;  /* further arrays for c, if sums go by blocks */
  int64_t beside; /* bytes of a row of c in each of these arrays */
  size total;
} product_layout;

static product_layout lay_product(const matrix_product *p) {
  frnn_shape s = {.dtype = p->dtype};
  product_layout at = {0};
  int64_t element = element_size(&s), columns = vectors_of(&s, p->n);
  at.beside = goes_by_blocks(p->k) ? product(&at.total, columns, element) : 0;
  at.panels = reserve(&at.total, element, product(&at.total, columns, p->k));
  at.arrays = reserve(&at.total, at.beside, product(&at.total, p->m, ARRAYS_BESIDE));
  return at;
}

/* A job: all its parts read this. */
typedef struct {
  const matrix_product *product;
  const frnn_kernels *kernels;
  product_layout layout;
  frnn_run run;
  job_parts packing, multiplying;
} multiplication;

static void pack_b(void *context, int part, int parts) {
  multiplication *job = context;
  const matrix_product *p = job->product;
  const frnn_kernels *kernels = job->kernels;
  range rows = range_of(p->k, part_of_job(&job->packing, part).slice, parts);
  int64_t row = p->n * kernels->size, vector = kernels->lanes * kernels->size;
  kernels->pack_rows(at(p->b, rows.begin * row), row, rows.count, p->n,
                     at(p->work, (ptrdiff_t)job->layout.panels + rows.begin * vector), p->k * vector);
}

static void multiply_part(void *context, int part, int parts) {
  multiplication *job = context;
  const matrix_product *p = job->product;
  const frnn_kernels *kernels = job->kernels;
  range rows = range_of(p->m, part_of_job(&job->multiplying, part).slice, parts);
  ptrdiff_t c_row = p->n * kernels->size, row = job->layout.beside;
  frnn_gemm g = {.m = rows.count,
                 .n = p->n,
                 .k = p->k,
                 .a = at(p->a, rows.begin * p->a_row),
                 .a_row = p->a_row,
                 .a_k = p->a_k,
                 .panels = at(p->work, (ptrdiff_t)job->layout.panels),
                 .panel = p->k * kernels->lanes * kernels->size,
                 .c = at(p->c, rows.begin * c_row),
                 .c_row = c_row};
  if (frnn_stopped(&job->run)) return;
  if (!goes_by_blocks(p->k)) {
    kernels->products.gemm(&g);
    return;
  }
  frnn_beside beside = beside_of(at(p->work, (ptrdiff_t)job->layout.arrays), p->m * row, rows.begin * row);
  memset(g.c, 0, (size_t)(rows.count * c_row));
  memset(beside.blocks, 0, (size_t)(rows.count * row));
  memset(beside.lost, 0, (size_t)(rows.count * row));
  add_products(kernels, g, beside, (rows_of_sum){0, p->k, 1});
}

/* Computes c; returns 0, FRNN_INTERRUPTED or FRNN_FORKED. */
static int multiply(const matrix_product *p, int (*interrupted)(void)) {
  multiplication job = {.product = p, .kernels = frnn_kernels_for(p->dtype), .layout = lay_product(p)};
  double work = (double)p->m * (double)p->n * (double)p->k;
  double packing = MULTIPLY_ADDS_OF_PACKING * (double)p->n * (double)p->k;
  job.packing = part_by_slices(1, packing, p->k);
  job.multiplying = part_by_slices(1, work, p->m);
  frnn_begin(&job.run, work, parts_of(&job.multiplying), interrupted);
  frnn_parallel(&job.run, packing, pack_b, &job, parts_of(&job.packing));
  frnn_parallel(&job.run, work, multiply_part, &job, parts_of(&job.multiplying));
  return frnn_end(&job.run);
}

/* ---- the gradients --------------------------------------------------------------------------------------------- */

static int64_t gate_rows_of(const frnn_id_gradients_call *call) {
  return call->table.shape.cell->facts.gates * call->table.shape.hidden;
}

int frnn_goes_by_blocks(int64_t rows) { return goes_by_blocks(rows); }

size_t frnn_id_gradient_size(const frnn_shape *s, int64_t count) {
  size gradient = {0};
  if (shape_status(s) < 0) return 0;
  int64_t rows = product(&gradient, count, product(&gradient, s->cell->facts.gates, s->hidden));
  int arrays = goes_by_blocks(product(&gradient, s->steps, s->batch)) ? ARRAYS_BESIDE : 1;
  reserve(&gradient, element_size(s), product(&gradient, rows, arrays));
  return total(&gradient);
}

/* dW_ih is the table's gradient, transposed, times the embedding's rows. The gradient of those rows, (count, input), is
 * the table's gradient times W_ih. */
static matrix_product product_for_weights(const frnn_id_gradients_call *call) {
  const frnn_shape *s = &call->table.shape;
  ptrdiff_t element = element_size(s), gates = gate_rows_of(call);
  return (matrix_product){.dtype = s->dtype,
                          .m = gates,
                          .n = s->input,
                          .k = call->table.count,
                          .a = call->gradient,
                          .a_row = element,
                          .a_k = gates * element,
                          .b = call->table.x,
                          .c = call->dw_ih};
}

static matrix_product product_for_rows(const frnn_id_gradients_call *call) {
  const frnn_shape *s = &call->table.shape;
  ptrdiff_t element = element_size(s), gates = gate_rows_of(call);
  return (matrix_product){.dtype = s->dtype,
                          .m = call->table.count,
                          .n = s->input,
                          .k = gates,
                          .a = call->gradient,
                          .a_row = gates * element,
                          .a_k = element,
                          .b = call->table.weights.w_ih};
}

/* Offsets in the workspace: of the products' own workspace, of the gradients of the embedding's rows. */
typedef struct {
  size_t product, rows;
  size total;
} gradients_layout;

static gradients_layout lay_gradients(const frnn_id_gradients_call *call) {
  const matrix_product products[] = {product_for_weights(call), product_for_rows(call)};
  gradients_layout at = {0};
  size_t most_bytes = 0;
  for (int i = 0; i < 2; i++) {
    product_layout layout = lay_product(&products[i]);
    size_t bytes = total(&layout.total);
    at.total.overflow |= bytes == 0;
    if (bytes > most_bytes) most_bytes = bytes;
  }
  at.product = reserve(&at.total, 1, (int64_t)most_bytes);
  at.rows = reserve(&at.total, element_size(&call->table.shape),
                    product(&at.total, call->table.count, call->table.shape.input));
  return at;
}

size_t frnn_id_gradients_size(const frnn_id_gradients_call *call) {
  gradients_layout layout = {0};
  if (!call || shape_status(&call->table.shape) < 0) return 0;
  if (is_too_large(&call->table.shape, (double)call->table.count, call->table.x != NULL)) return 0;
  if (call->table.x) layout = lay_gradients(call);
  return total(&layout.total);
}

/* Columns of dW_ih are rows of the table's gradient; the columns of ids that the table lacks are zero. The loop takes a
 * square at a time, so that both sides stay in the cache. */
enum { SQUARE = 16 };

static void transpose_gradient(const frnn_id_gradients_call *call) {
  size_t element = (size_t)element_size(&call->table.shape);
  int64_t count = call->table.count, gates = gate_rows_of(call);
  ptrdiff_t row = call->vocabulary * (ptrdiff_t)element;
  if (count < call->vocabulary) memset(call->dw_ih, 0, (size_t)(gates * row));
  for (int64_t first = 0; first < count; first += SQUARE)
    for (int64_t gate = 0; gate < gates; gate++)
      for (int64_t u = first; u < least(first + SQUARE, count); u++) {
        int64_t column = call->used ? call->used[u] : u;
        memcpy(at(call->dw_ih, gate * row + column * (ptrdiff_t)element),
               at(call->gradient, (u * gates + gate) * (ptrdiff_t)element), element);
      }
}

/* Copies the gradients of the rows that the table has to the embedding's gradient; its other rows are zero. */
static void spread_rows(const frnn_id_gradients_call *call, const void *rows) {
  ptrdiff_t row = call->table.shape.input * element_size(&call->table.shape);
  memset(call->dembedding, 0, (size_t)(call->vocabulary * row));
  for (int64_t u = 0; u < call->table.count; u++)
    memcpy(at(call->dembedding, (call->used ? call->used[u] : u) * row), at(rows, u * row), (size_t)row);
}

/* 0, FRNN_INVALID or FRNN_MISSING. */
static int gradients_status(const frnn_id_gradients_call *call) {
  if (!call) return FRNN_INVALID;
  const frnn_id_table_call *table = &call->table;
  const frnn_shape *s = &table->shape;
  int status = shape_status(s);
  if (status < 0) return status;
  if (table->count < 0 || call->vocabulary < table->count) return FRNN_INVALID;
  if (is_too_large(s, (double)call->vocabulary, table->x != NULL)) return FRNN_INVALID;
  if (s->hidden > 0 && ((!call->gradient && table->count > 0) || !call->dw_ih)) return FRNN_INVALID;
  if (!table->x) return call->dembedding ? FRNN_INVALID : 0;
  return is_buffer(call->work) && (table->weights.w_ih || !call->dembedding) ? 0 : FRNN_INVALID;
}

int frnn_id_gradients(const frnn_id_gradients_call *call, int (*interrupted)(void)) {
  int status = gradients_status(call);
  if (status < 0) return status;
  if (!call->table.x) {
    transpose_gradient(call);
    return 0;
  }
  gradients_layout layout = lay_gradients(call);
  matrix_product weights = product_for_weights(call), rows = product_for_rows(call);
  weights.work = rows.work = at(call->work, (ptrdiff_t)layout.product);
  rows.c = at(call->work, (ptrdiff_t)layout.rows);
  status = multiply(&weights, interrupted);
  if (status < 0 || !call->dembedding) return status;
  status = multiply(&rows, interrupted);
  if (status == 0) spread_rows(call, rows.c);
  return status;
}
