/* dense.c - a dense layer, such as a head on h: activation(W x + b) of some rows, each pre-activation one chain that
 * begins with its bias. The rows and outputs of a job do not matter to the result.
 *
 * Layout of packed weights: a header, the biases, and panels for products at full precision.
 *
 * It must not know: dtypes, instruction sets, time. */
#include "../internal/sequence.h"
#include "../internal/valid.h"

/* As packed weights of a layer begin with: the kernels that packed them run all calls. */
typedef struct {
  frnn_packer by;
  frnn_dense_shape shape;
} dense_header;
_Static_assert(sizeof(dense_header) <= FRNN_HEADER, "the header grew");

typedef struct {
  size_t bias, panels;
  size total;
} dense_layout;

static dense_layout lay_dense(const frnn_dense_shape *s) {
  int64_t element = bytes_of(s->dtype), vector = FRNN_ALIGN / element;
  dense_layout at = {0};
  int64_t padded = product(&at.total, sum(&at.total, s->outputs, vector - 1) / vector, vector);
  reserve(&at.total, sizeof(dense_header), 1);
  at.bias = reserve(&at.total, element, padded);
  at.panels = reserve(&at.total, element, product(&at.total, padded, s->inputs));
  return at;
}

static int is_dense_shape(const frnn_dense_shape *s) {
  return (unsigned)s->dtype < FRNN_DTYPES && (unsigned)s->activation <= FRNN_SOFTMAX && s->inputs >= 0 &&
         s->outputs >= 0;
}

size_t frnn_dense_size(const frnn_dense_shape *s) {
  if (!s || !is_dense_shape(s) || !frnn_kernels_for(s->dtype)) return 0;
  dense_layout layout = lay_dense(s);
  return total(&layout.total);
}

/* The transposition between W and its panels. */
static frnn_transpose transpose_of(const dense_header *packed, const void *weight) {
  const frnn_dense_shape *s = &packed->shape;
  const frnn_kernels *kernels = frnn_kernels_of(&packed->by);
  int64_t vector = kernels->lanes * kernels->size;
  return (frnn_transpose){.src = weight,
                          .src_row = s->inputs * kernels->size,
                          .outputs = s->outputs,
                          .k = s->inputs,
                          .dst = at(packed, (ptrdiff_t)lay_dense(s).panels),
                          .dst_vector = s->inputs * vector,
                          .dst_k = vector};
}

void frnn_pack_dense(const frnn_dense_shape *s, const void *weight, const void *bias, void *packed) {
  dense_header *header = packed;
  const frnn_kernels *kernels = frnn_kernels_for(s->dtype);
  memset(header, 0, sizeof *header); /* its padding too */
  header->by = frnn_packer_of(kernels, &kernels->products, FRNN_FULL);
  header->shape = (frnn_dense_shape){s->dtype, s->activation, s->inputs, s->outputs};
  memcpy(at(packed, (ptrdiff_t)lay_dense(s).bias), bias, (size_t)(s->outputs * bytes_of(s->dtype)));
  frnn_transpose t = transpose_of(header, weight);
  kernels->products.pack(&t);
}

void frnn_unpack_dense(const void *packed, void *weight, void *bias) {
  const dense_header *header = packed;
  const frnn_dense_shape *s = &header->shape;
  frnn_transpose t = transpose_of(header, weight);
  memcpy(bias, at(packed, (ptrdiff_t)lay_dense(s).bias), (size_t)(s->outputs * bytes_of(s->dtype)));
  frnn_products_of(&header->by)->unpack(&t);
}

int frnn_read_dense(const void *packed, size_t bytes, frnn_dense_shape *shape) {
  const dense_header *header = packed;
  if (!shape || !is_buffer(packed) || bytes < sizeof *header) return FRNN_INVALID;
  int status = frnn_packer_status(&header->by);
  if (status < 0) return status;
  const frnn_dense_shape *s = &header->shape;
  if (!is_dense_shape(s) || s->dtype != header->by.dtype || header->by.precision != FRNN_FULL) return FRNN_INVALID;
  dense_layout layout = lay_dense(s);
  if (layout.total.overflow || bytes < total(&layout.total) - FRNN_ALIGN) return FRNN_INVALID;
  *shape = *s;
  return 0;
}

/* A job: all its parts read this. */
typedef struct {
  const frnn_dense_call *call;
  const dense_header *packed;
  frnn_run run;
  job_parts job_parts;
} dense_job;

/* The pre-activations of some outputs, for all rows. */
static void multiply_part(void *context, int part, int parts) {
  dense_job *p = context;
  const frnn_dense_call *call = p->call;
  const frnn_dense_shape *s = &p->packed->shape;
  const frnn_kernels *kernels = frnn_kernels_of(&p->packed->by);
  int64_t lanes = kernels->lanes, panel = s->inputs * lanes * kernels->size;
  range vectors = vectors_of_part(kernels, s->outputs, part_of_job(&p->job_parts, part));
  dense_layout layout = lay_dense(s);
  ptrdiff_t first = vectors.begin * lanes * kernels->size;
  frnn_gemm g = {.m = call->rows,
                 .n = least(vectors.count * lanes, s->outputs - vectors.begin * lanes),
                 .k = s->inputs,
                 .a = call->x,
                 .a_row = s->inputs * kernels->size,
                 .a_k = kernels->size,
                 .panels = at(p->packed, (ptrdiff_t)layout.panels + vectors.begin * panel),
                 .panel = panel,
                 .init = at(p->packed, (ptrdiff_t)layout.bias + first),
                 .c = at(call->y, first),
                 .c_row = s->outputs * kernels->size};
  (void)parts;
  if (!frnn_stopped(&p->run)) kernels->products.gemm(&g);
}

/* The activation of some rows, in place. */
static void activate_part(void *context, int part, int parts) {
  dense_job *p = context;
  const frnn_dense_shape *s = &p->packed->shape;
  const frnn_kernels *kernels = frnn_kernels_of(&p->packed->by);
  range rows = range_of(p->call->rows, part, parts);
  void *y = at(p->call->y, rows.begin * s->outputs * kernels->size);
  if (frnn_stopped(&p->run)) return;
  if (s->activation == FRNN_SIGMOID) {
    kernels->sigmoid(y, y, rows.count * s->outputs);
    return;
  }
  for (int64_t i = 0; i < rows.count; i++) kernels->softmax(at(y, i * s->outputs * kernels->size), s->outputs);
}

static int dense_is_invalid(const frnn_dense_call *call) {
  const dense_header *packed = call ? call->packed : NULL;
  if (!is_buffer(packed) || !frnn_kernels_of(&packed->by) || call->rows < 0) return 1;
  if (call->rows == 0 || packed->shape.outputs == 0) return 0;
  return !call->y || (!call->x && packed->shape.inputs > 0);
}

int frnn_dense(const frnn_dense_call *call, int (*interrupted)(void)) {
  enum { COST = 20 }; /* of an activation, in multiply-adds */
  if (dense_is_invalid(call)) return FRNN_INVALID;
  dense_job p = {.call = call, .packed = call->packed};
  const frnn_dense_shape *s = &p.packed->shape;
  if (call->rows == 0 || s->outputs == 0) return 0;
  double outputs = (double)call->rows * (double)s->outputs, work = outputs * (double)s->inputs;
  int64_t lanes = frnn_kernels_of(&p.packed->by)->lanes;
  p.job_parts = part_by_slices(1, work, (s->outputs + lanes - 1) / lanes);
  frnn_begin(&p.run, work, parts_of(&p.job_parts), interrupted);
  frnn_parallel(&p.run, work, multiply_part, &p, parts_of(&p.job_parts));
  if (s->activation != FRNN_LINEAR)
    frnn_parallel(&p.run, outputs * COST, activate_part, &p, (int)least(call->rows, parts_of(&p.job_parts)));
  return frnn_end(&p.run);
}
