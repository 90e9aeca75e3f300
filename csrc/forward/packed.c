/* packed.c - packs a layer's parameters: W_ih and W_hh into panels, the biases side by side.
 *
 * It must not know: dtypes, instruction sets, time. */
#include "packed.h"

/* Some vectors of one gate of W_ih or W_hh for the tiles of a step: the gates of one phase interleaved, phase after
 * phase. */
static void pack_for_steps(const frnn_shape *s, const frnn_kernels *kernels, int gate, range vectors, const void *w,
                           int64_t k, void *packed) {
  const frnn_cell *cell = s->cell;
  int64_t column = panel_bytes(s, kernels, 1), used = vectors_of_units(s, kernels);
  int64_t unit = vectors.begin * kernels->lanes, units = vectors.count * kernels->lanes;
  int phase = gate >= cell->panels[0], first = phase ? cell->panels[0] : 0, gates = cell->panels[phase];
  int64_t before = first * used + vectors.begin * gates;
  frnn_transpose t = {.src = at(w, (gate * s->hidden + unit) * k * kernels->size),
                      .src_row = k * kernels->size,
                      .outputs = least(units, s->hidden - unit),
                      .k = k,
                      .dst = at(packed, panel_bytes(s, kernels, before * k) + (gate - first) * column),
                      .dst_vector = panel_bytes(s, kernels, k) * gates,
                      .dst_k = column * gates};
  if (t.outputs > 0 && k > 0) kernels->pack_outputs(&t);
}

void frnn_pack_for_product(const frnn_shape *s, const frnn_kernels *kernels, range vectors, const void *w, int64_t k,
                           void *packed) {
  int64_t panel = panel_bytes(s, kernels, k), of_gate = padded(s) / kernels->lanes;
  for (int64_t i = 0; i < vectors.count; i++) {
    int64_t gate = (vectors.begin + i) / of_gate, unit = (vectors.begin + i) % of_gate * kernels->lanes;
    frnn_transpose t = {.src = at(w, (gate * s->hidden + unit) * k * kernels->size),
                        .src_row = k * kernels->size,
                        .outputs = least(kernels->lanes, s->hidden - unit),
                        .k = k,
                        .dst = at(packed, i * panel),
                        .dst_vector = panel,
                        .dst_k = panel_bytes(s, kernels, 1)};
    if (t.outputs > 0 && k > 0)
      kernels->pack_outputs(&t);
    else
      memset(t.dst, 0, (size_t)panel);
  }
}

void frnn_pack_biases(const frnn_shape *s, const frnn_kernels *kernels, const frnn_weights *w, void *bias,
                      void *bias_h) {
  const frnn_cell *cell = s->cell;
  int64_t element = kernels->size, units = padded(s), hidden = s->hidden;
  memset(bias, 0, (size_t)(cell->facts.gates * units * element));
  for (int gate = 0; gate < cell->facts.gates && !cell->normalised; gate++) {
    int split = cell->split_bias && gate == cell->facts.gates - 1;
    const void *b_ih = w->b_ih ? at(w->b_ih, gate * hidden * element) : NULL;
    const void *b_hh = w->b_hh ? at(w->b_hh, gate * hidden * element) : NULL;
    kernels->add(at(bias, gate * units * element), b_ih, split ? NULL : b_hh, hidden);
    if (!split) continue;
    memset(bias_h, 0, (size_t)(units * element));
    kernels->add(bias_h, NULL, b_hh, hidden);
  }
}

/* A part of W_hr into panels of one product. */
static void pack_projection(const frnn_shape *s, const frnn_kernels *kernels, job_part mine, const void *w,
                            void *packed) {
  range vectors = vectors_of_part(kernels, s->projected, mine);
  int64_t panel = panel_bytes(s, kernels, s->hidden), first = vectors.begin * kernels->lanes;
  frnn_transpose t = {.src = at(w, first * s->hidden * kernels->size),
                      .src_row = s->hidden * kernels->size,
                      .outputs = least(vectors.count * kernels->lanes, s->projected - first),
                      .k = s->hidden,
                      .dst = at(packed, vectors.begin * panel),
                      .dst_vector = panel,
                      .dst_k = panel_bytes(s, kernels, 1)};
  if (t.outputs > 0) kernels->pack_outputs(&t);
}

/* What the parts of a job have in common. */
typedef struct {
  const frnn_pack_call *calls;
  const frnn_kernels *kernels;
  frnn_run run;
  job_parts job_parts;
} packing;

/* A part of W_hh, whose operand has so many features, and of W_ih in the forms that are wanted. */
static void pack_matrices(packing *p, const frnn_pack_call *call, const packed_layout *layout, job_part mine) {
  const frnn_shape *s = &call->shape;
  const frnn_kernels *kernels = p->kernels;
  int64_t features = features_of(s);
  range vectors = range_of(vectors_of_units(s, kernels), mine.slice, mine.slices);
  range of_product = range_of(vectors_of_gates(s, kernels), mine.slice, mine.slices);
  void *for_steps = at(call->packed, (ptrdiff_t)layout->for_steps), *w_hh = at(call->packed, (ptrdiff_t)layout->w_hh);
  void *for_products = at(call->packed, (ptrdiff_t)layout->for_products);
  for (int gate = 0; gate < s->cell->facts.gates && !s->cell->unfused && !frnn_stopped(&p->run); gate++) {
    if (call->forms & FRNN_FOR_STEPS) pack_for_steps(s, kernels, gate, vectors, call->weights.w_ih, s->input, for_steps);
    pack_for_steps(s, kernels, gate, vectors, call->weights.w_hh, features, w_hh);
  }
  if (s->cell->unfused)
    frnn_pack_for_product(s, kernels, of_product, call->weights.w_hh, features,
                          at(w_hh, of_product.begin * panel_bytes(s, kernels, features)));
  if (call->forms & FRNN_FOR_PRODUCTS)
    frnn_pack_for_product(s, kernels, of_product, call->weights.w_ih, s->input,
                          at(for_products, of_product.begin * panel_bytes(s, kernels, s->input)));
}

static void pack_part(void *context, int part, int parts) {
  packing *p = context;
  job_part mine = part_of_job(&p->job_parts, part);
  const frnn_pack_call *call = &p->calls[mine.call];
  const frnn_shape *s = &call->shape;
  packed_layout layout = frnn_lay_packed(s, call->forms);
  (void)parts;
  pack_matrices(p, call, &layout, mine);
  pack_projection(s, p->kernels, mine, call->weights.w_hr, at(call->packed, (ptrdiff_t)layout.w_hr));
  if (mine.slice > 0) return;
  packed_header header = {p->kernels, call->forms, layout};
  memcpy(call->packed, &header, sizeof header);
  frnn_pack_biases(s, p->kernels, &call->weights, at(call->packed, (ptrdiff_t)layout.bias),
                   at(call->packed, (ptrdiff_t)layout.bias_h));
}

int frnn_pack_with(const frnn_kernels *kernels, const frnn_pack_call *calls, int count, int (*interrupted)(void)) {
  const frnn_shape *s = &calls->shape;
  packing p = {.calls = calls, .kernels = kernels};
  p.job_parts = part_by_slices(count, MULTIPLY_ADDS_OF_PACKING * weights_of(s), vectors_of_units(s, kernels));
  frnn_begin(&p.run, p.job_parts.work, parts_of(&p.job_parts), interrupted);
  frnn_parallel(&p.run, p.job_parts.work, pack_part, &p, parts_of(&p.job_parts));
  return frnn_end(&p.run);
}

int frnn_pack(const frnn_pack_call *calls, int count, int (*interrupted)(void)) {
  return frnn_pack_with(frnn_kernels_for(calls->shape.dtype), calls, count, interrupted);
}
