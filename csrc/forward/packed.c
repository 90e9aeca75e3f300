/* packed.c - packs a layer's parameters: W_ih, W_hh and W_hr into panels, the biases side by side.
 *
 * It must not know: dtypes, instruction sets, time. */
#include "packed.h"

#include "../internal/valid.h"

/* A gate of W_ih or W_hh, and its panels for the tiles of a step, which interleave the gates of one phase. */
static frnn_transpose gate_for_steps(const frnn_shape *s, const frnn_kernels *kernels, phase_gates of, int gate,
                                     const void *w, int64_t k, const void *packed) {
  int64_t column = vector_bytes(kernels), panel = panel_bytes(s, kernels, k);
  return (frnn_transpose){
      .src = at(w, gate * s->hidden * k * kernels->size),
      .src_row = k * kernels->size,
      .outputs = s->hidden,
      .k = k,
      .dst = at(packed, of.first * vectors_of_units(s, kernels) * panel + (gate - of.first) * column),
      .dst_vector = panel * of.count,
      .dst_k = column * of.count};
}

/* A gate of W_ih or W_hh, and its panels for a product. */
static frnn_transpose gate_for_product(const frnn_shape *s, const frnn_kernels *kernels, int gate, const void *w,
                                       int64_t k, const void *packed) {
  int64_t panel = panel_bytes(s, kernels, k), of_gate = padded(s) / kernels->lanes;
  return (frnn_transpose){.src = at(w, gate * s->hidden * k * kernels->size),
                          .src_row = k * kernels->size,
                          .outputs = s->hidden,
                          .k = k,
                          .dst = at(packed, gate * of_gate * panel),
                          .dst_vector = panel,
                          .dst_k = vector_bytes(kernels)};
}

/* W_hr and its panels. */
static frnn_transpose projection(const frnn_shape *s, const frnn_kernels *kernels, const void *w, const void *packed) {
  return (frnn_transpose){.src = w,
                          .src_row = s->hidden * kernels->size,
                          .outputs = s->projected,
                          .k = s->hidden,
                          .dst = at(packed, 0),
                          .dst_vector = panel_bytes(s, kernels, s->hidden),
                          .dst_k = vector_bytes(kernels)};
}

enum { PACKED_AT_ONCE = 64 }; /* so many outputs between two polls */

/* A job: all its parts read this. */
typedef struct {
  const frnn_pack_call *calls;
  const frnn_kernels *kernels;
  const frnn_products *products;
  frnn_run run;
  job_parts job_parts;
} packing;

/* Packs outputs, one vector or several. `scales` are theirs, or NULL. */
static void pack_outputs(const frnn_shape *s, const frnn_kernels *kernels, const frnn_products *products,
                         const frnn_transpose *t, const float *scales) {
  if (s->precision == FRNN_INT8) frnn_write_scales(t, kernels->lanes, scales);
  products->pack(t);
}

static const float *scales_from(const float *scales, int64_t first) { return scales ? scales + first : NULL; }

/* Packs some vectors of a matrix that `t` describes, with the scales of its outputs or NULL. */
static void pack_vectors(packing *p, const frnn_shape *s, frnn_transpose t, range vectors, const float *scales) {
  int64_t lanes = p->kernels->lanes, first = vectors.begin * lanes;
  t.src = at(t.src, first * t.src_row);
  t.dst = at(t.dst, vectors.begin * t.dst_vector);
  t.outputs = least(vectors.count * lanes, t.outputs - first);
  scales = scales_from(scales, first);
  for (int64_t left = t.outputs; left > 0 && t.k > 0 && !frnn_stopped(&p->run); left -= t.outputs) {
    t.outputs = next_count(PACKED_AT_ONCE / lanes * lanes, left);
    pack_outputs(s, p->kernels, p->products, &t, scales);
    t.src = at(t.src, t.outputs * t.src_row);
    t.dst = at(t.dst, t.outputs / lanes * t.dst_vector);
    scales = scales_from(scales, t.outputs);
  }
}

void frnn_pack_for_product(const frnn_shape *s, const frnn_kernels *kernels, const frnn_products *products,
                           range vectors, frnn_matrix matrix, void *packed) {
  int64_t k = matrix.k, panel = panel_bytes(s, kernels, k), of_gate = padded(s) / kernels->lanes;
  for (int64_t i = 0; i < vectors.count; i++) {
    int64_t gate = (vectors.begin + i) / of_gate, unit = (vectors.begin + i) % of_gate * kernels->lanes;
    frnn_transpose t = {.src = at(matrix.w, (gate * s->hidden + unit) * k * kernels->size),
                        .src_row = k * kernels->size,
                        .outputs = least(kernels->lanes, s->hidden - unit),
                        .k = k,
                        .dst = at(packed, i * panel),
                        .dst_vector = panel,
                        .dst_k = vector_bytes(kernels)};
    if (t.outputs > 0 && k > 0)
      pack_outputs(s, kernels, products, &t, scales_from(matrix.scales, gate * s->hidden + unit));
    else
      memset(t.dst, 0, (size_t)panel);
  }
}

void frnn_pack_biases(const frnn_shape *s, const frnn_kernels *kernels, const frnn_weights *w, void *bias,
                      void *bias_h) {
  const frnn_cell *cell = s->cell;
  int64_t element = kernels->size, units = padded(s), of_gate = s->hidden * element;
  memset(bias, 0, (size_t)(cell->facts.gates * units * element));
  memset(bias_h, 0, (size_t)(separate_gates(cell) * units * element));
  for (const frnn_chains *c = cell->chains; c < cell->chains + FRNN_CHAINS && !cell->normalised; c++)
    for (int i = 0; i < c->gates; i++) {
      const void *b_ih = w->b_ih && c->x != NOT_IN ? at(w->b_ih, (c->x + i) * of_gate) : NULL;
      const void *b_hh = w->b_hh && c->h != NOT_IN ? at(w->b_hh, (c->h + i) * of_gate) : NULL;
      if (c->x == NOT_IN) {
        kernels->add(bias_h, NULL, b_hh, s->hidden);
        bias_h = at(bias_h, units * element);
      } else {
        kernels->add(at(bias, (c->x + i) * units * element), b_ih, b_hh, s->hidden);
      }
    }
}

/* Packs a part of W_ih or W_hh for the tiles of a step. */
static void pack_for_steps(packing *p, const frnn_shape *s, int h, job_part mine, frnn_matrix m, void *packed) {
  range vectors = range_of(vectors_of_units(s, p->kernels), mine.slice, mine.slices);
  for (const frnn_phase *phase = s->cell->forward; phase->kind == FRNN_TILE; phase++) {
    phase_gates of = gates_of_phase(s->cell, h, phase->number);
    for (int gate = of.first; gate < of.first + of.count && !frnn_stopped(&p->run); gate++)
      pack_vectors(p, s, gate_for_steps(s, p->kernels, of, gate, m.w, m.k, packed), vectors,
                   scales_from(m.scales, gate * s->hidden));
  }
}

/* Packs a part of a matrix of `gates` gates for a product. */
static void pack_for_product(packing *p, const frnn_shape *s, int gates, job_part mine, frnn_matrix m, void *packed) {
  range vectors = range_of(gates * (padded(s) / p->kernels->lanes), mine.slice, mine.slices);
  int64_t panel = panel_bytes(s, p->kernels, m.k);
  for (range now = {vectors.begin, 1}; now.begin < vectors.begin + vectors.count; now.begin++) {
    if (frnn_stopped(&p->run)) return;
    frnn_pack_for_product(s, p->kernels, p->products, now, m, at(packed, now.begin * panel));
  }
}

/* Packs a part of W_hh, and of W_ih in the forms that the call names. */
static void pack_matrices(packing *p, const frnn_pack_call *call, const packed_layout *layout, job_part mine) {
  const frnn_shape *s = &call->shape;
  const frnn_cell_facts *facts = &s->cell->facts;
  const frnn_weights *w = &call->weights;
  void *for_steps = at(call->packed, (ptrdiff_t)layout->for_steps), *w_hh = at(call->packed, (ptrdiff_t)layout->w_hh);
  void *for_products = at(call->packed, (ptrdiff_t)layout->for_products);
  frnn_matrix of_x = {w->w_ih, s->input, w->scale_ih}, of_h = {w->w_hh, features_of(s), w->scale_hh};
  if (call->forms & FRNN_FOR_STEPS && !is_unfused(s->cell)) pack_for_steps(p, s, 0, mine, of_x, for_steps);
  if (call->forms & FRNN_FOR_PRODUCTS) pack_for_product(p, s, facts->gates, mine, of_x, for_products);
  if (facts->recurrent == 0) return;
  if (is_unfused(s->cell))
    pack_for_product(p, s, facts->recurrent, mine, of_h, w_hh);
  else
    pack_for_steps(p, s, 1, mine, of_h, w_hh);
}

void frnn_begin_packed(const frnn_shape *s, frnn_packer by, unsigned forms, void *packed) {
  packed_header *header = packed;
  memset(header, 0, sizeof *header); /* its padding too */
  header->by = by;
  header->cell = s->cell->own ? OWN_CELL : s->cell->number;
  header->forms = forms;
  header->input = s->input;
  header->hidden = s->hidden;
  header->projected = s->projected;
  header->at = frnn_lay_packed(s, forms);
}

static void pack_part(void *context, int part, int parts) {
  packing *p = context;
  job_part mine = part_of_job(&p->job_parts, part);
  const frnn_pack_call *call = &p->calls[mine.call];
  const frnn_shape *s = &call->shape;
  packed_layout layout = frnn_lay_packed(s, call->forms);
  (void)parts;
  pack_matrices(p, call, &layout, mine);
  void *w_hr = at(call->packed, (ptrdiff_t)layout.w_hr);
  pack_vectors(p, s, projection(s, p->kernels, call->weights.w_hr, w_hr),
               vectors_of_part(p->kernels, s->projected, mine), call->weights.scale_hr);
  if (mine.slice > 0) return;
  frnn_begin_packed(s, frnn_packer_of(p->kernels, p->products, s->precision), call->forms, call->packed);
  frnn_pack_biases(s, p->kernels, &call->weights, at(call->packed, (ptrdiff_t)layout.bias),
                   at(call->packed, (ptrdiff_t)layout.bias_h));
}

int frnn_pack_with(const frnn_kernels *kernels, const frnn_pack_call *calls, int count, int (*interrupted)(void)) {
  const frnn_shape *s = &calls->shape;
  packing p = {.calls = calls, .kernels = kernels, .products = frnn_products_for(kernels, s->precision)};
  p.job_parts = part_by_slices(count, MULTIPLY_ADDS_OF_PACKING * weights_of(s), vectors_of_units(s, kernels));
  frnn_begin(&p.run, p.job_parts.work, parts_of(&p.job_parts), interrupted);
  frnn_parallel(&p.run, p.job_parts.work, pack_part, &p, parts_of(&p.job_parts));
  return frnn_end(&p.run);
}

/* Products over all of time multiply the padding of units too, so half of the lanes are for layers of few inputs. */
static const frnn_kernels *kernels_for(const frnn_shape *s) {
  if (s->precision == FRNN_FULL && s->input <= s->hidden) return frnn_kernels_for_units(s->dtype, s->hidden);
  return frnn_kernels_for(s->dtype);
}

int frnn_pack(const frnn_pack_call *calls, int count, int (*interrupted)(void)) {
  int status = frnn_pack_status(calls, count);
  if (status < 0) return status;
  const packed_header *like = calls->like;
  return frnn_pack_with(like ? frnn_kernels_of(&like->by) : kernels_for(&calls->shape), calls, count, interrupted);
}

/* ---- unpacking -------------------------------------------------------------------------------------------------- */

/* Writes `src` from its panels, unless it is NULL, and the scales of its outputs, unless that is NULL. */
static void unpack(frnn_run *run, const packed_header *packed, frnn_transpose t, float *scales) {
  int64_t lanes = frnn_kernels_of(&packed->by)->lanes;
  if (scales) frnn_read_scales(&t, lanes, scales);
  for (int64_t left = t.outputs; t.src && t.k > 0 && left > 0 && !frnn_stopped(run); left -= t.outputs) {
    t.outputs = next_count(PACKED_AT_ONCE / lanes * lanes, left);
    frnn_products_of(&packed->by)->unpack(&t);
    t.src = at(t.src, t.outputs * t.src_row);
    t.dst = at(t.dst, t.outputs / lanes * t.dst_vector);
  }
}

/* The same for a matrix of k columns in the panels for steps. */
static void unpack_from_steps(frnn_run *run, const frnn_shape *s, const packed_header *packed, int h, int64_t k,
                              size_t panels, void *matrix, float *scales) {
  for (const frnn_phase *phase = s->cell->forward; phase->kind == FRNN_TILE; phase++) {
    phase_gates of = gates_of_phase(s->cell, h, phase->number);
    for (int gate = of.first; gate < of.first + of.count; gate++) {
      frnn_transpose t =
          gate_for_steps(s, frnn_kernels_of(&packed->by), of, gate, matrix, k, at(packed, (ptrdiff_t)panels));
      if (!matrix) t.src = NULL;
      unpack(run, packed, t, scales ? scales + gate * s->hidden : NULL);
    }
  }
}

/* The same for panels of one product. */
static void unpack_from_product(frnn_run *run, const frnn_shape *s, const packed_header *packed, int gates, int64_t k,
                                size_t panels, void *matrix, float *scales) {
  for (int gate = 0; gate < gates; gate++) {
    frnn_transpose t =
        gate_for_product(s, frnn_kernels_of(&packed->by), gate, matrix, k, at(packed, (ptrdiff_t)panels));
    if (!matrix) t.src = NULL;
    unpack(run, packed, t, scales ? scales + gate * s->hidden : NULL);
  }
}

int frnn_unpack(const frnn_shape *s, const void *packed, const frnn_matrices *to, int (*interrupted)(void)) {
  if (shape_is_invalid(s) || !are_of_shape(s, packed) || !to) return FRNN_INVALID;
  const packed_header *header = packed;
  const frnn_cell_facts *facts = &s->cell->facts;
  const packed_layout *layout = &header->at;
  int64_t features = features_of(s);
  frnn_run run;
  frnn_begin(&run, 0, 1, interrupted);
  if (header->forms & FRNN_FOR_PRODUCTS)
    unpack_from_product(&run, s, header, facts->gates, s->input, layout->for_products, to->w_ih, to->scale_ih);
  else
    unpack_from_steps(&run, s, header, 0, s->input, layout->for_steps, to->w_ih, to->scale_ih);
  if (is_unfused(s->cell))
    unpack_from_product(&run, s, header, facts->recurrent, features, layout->w_hh, to->w_hh, to->scale_hh);
  else
    unpack_from_steps(&run, s, header, 1, features, layout->w_hh, to->w_hh, to->scale_hh);
  frnn_transpose w_hr = projection(s, frnn_kernels_of(&header->by), to->w_hr, at(packed, (ptrdiff_t)layout->w_hr));
  if (s->projected) unpack(&run, header, w_hr, to->scale_hr);
  return frnn_end(&run);
}

/* ---- packed elsewhere ------------------------------------------------------------------------------------------- */

int frnn_read_packed(const void *packed, size_t size, frnn_packed_facts *facts) {
  const packed_header *header = packed;
  if (!facts || !is_buffer(packed) || size < sizeof *header) return FRNN_INVALID;
  memset(facts, 0, sizeof *facts);
  if (frnn_is_packer(&header->by)) facts->version = header->by.version, facts->isa = header->by.isa;
  int status = frnn_packer_status(&header->by);
  if (status < 0) return status;
  frnn_shape *s = &facts->shape;
  s->cell = frnn_cell_at(header->cell);
  s->dtype = header->by.dtype;
  s->precision = header->by.precision;
  s->input = header->input;
  s->hidden = header->hidden;
  s->projected = header->projected;
  facts->forms = header->forms;
  if (shape_is_invalid(s) || is_too_large(s, 0, 0) || header->forms & ~(uint32_t)BOTH_FORMS) return FRNN_INVALID;
  packed_layout layout = frnn_lay_packed(s, header->forms);
  int same = memcmp(&layout, &header->at, offsetof(packed_layout, total)) == 0;
  return same && size >= total(&layout.total) - FRNN_ALIGN ? 0 : FRNN_INVALID;
}
