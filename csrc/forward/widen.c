/* widen.c - packed weights of bfloat16 as such of float32, for one pass. A tile of several rows computes as fast as its
 * multiply-adds go, and widening takes their place; so if many tiles read each weight, it is widened once, in the
 * workspace.
 *
 * It must not know: dtypes, instruction sets, time. */
#include "step.h"

frnn_forward_call frnn_widened_call(const frnn_forward_call *narrow) {
  frnn_forward_call call = *narrow;
  const packed_header *from = narrow->packed;
  call.shape = frnn_widened_shape(&narrow->shape);
  call.plan = NULL;
  void *packed = at(narrow->work, (ptrdiff_t)(frnn_lay_forward(&narrow->shape).widened));
  call.packed = packed;
  frnn_packer by = from->by;
  by.precision = FRNN_FULL;
  frnn_begin_packed(&call.shape, by, frnn_form_of(&narrow->shape), packed);
  return call;
}

/* A job: all its parts read this. */
typedef struct {
  const frnn_forward_call *narrow, *wide;
  const frnn_kernels *kernels;
  const frnn_products *products; /* of the narrow weights */
  job_parts job_parts;
} widening;

/* Panels of a matrix of k columns, each of some gates, at an offset of either buffer. */
typedef struct {
  size_t narrow, wide;
  int gates;
  int64_t panels, k;
} matrix;

/* Widens a part of the panels. */
static void widen(const widening *p, job_part mine, matrix m) {
  const frnn_forward_call *narrow = &p->narrow[mine.call], *wide = &p->wide[mine.call];
  const packed_header *from = narrow->packed;
  range panels = range_of(m.panels, mine.slice, mine.slices);
  int64_t narrow_panel = m.gates * panel_bytes(&narrow->shape, p->kernels, m.k);
  int64_t wide_panel = m.gates * panel_bytes(&wide->shape, p->kernels, m.k);
  for (int64_t i = panels.begin; i < panels.begin + panels.count && m.k > 0; i++)
    p->products->widen(at(from, (ptrdiff_t)m.narrow + i * narrow_panel), m.k, m.gates,
                       at(wide->packed, (ptrdiff_t)m.wide + i * wide_panel));
}

/* Widens a part of W_ih or W_hh as the tiles of a step read it, phase by phase. */
static void widen_for_steps(const widening *p, job_part mine, int h, matrix m) {
  const frnn_forward_call *narrow = &p->narrow[mine.call], *wide = &p->wide[mine.call];
  int64_t vectors = vectors_of_units(&narrow->shape, p->kernels);
  for (const frnn_phase *phase = narrow->shape.cell->forward; phase->kind == FRNN_TILE; phase++) {
    phase_gates of = gates_of_phase(narrow->shape.cell, h, phase->number);
    int64_t before = of.first * vectors;
    widen(p, mine,
          (matrix){m.narrow + (size_t)(before * panel_bytes(&narrow->shape, p->kernels, m.k)),
                   m.wide + (size_t)(before * panel_bytes(&wide->shape, p->kernels, m.k)), of.count, vectors, m.k});
  }
}

static void widen_part(void *context, int part, int parts) {
  const widening *p = context;
  job_part mine = part_of_job(&p->job_parts, part);
  const frnn_forward_call *call = &p->wide[mine.call];
  const frnn_shape *s = &call->shape;
  const packed_header *from = p->narrow[mine.call].packed, *to = call->packed;
  int64_t of_gate = padded(s) / p->kernels->lanes;
  int recurrent = s->cell->facts.recurrent;
  matrix w_hh = {from->at.w_hh, to->at.w_hh, 1, recurrent * of_gate, features_of(s)};
  (void)parts;
  if (to->forms & FRNN_FOR_STEPS)
    widen_for_steps(p, mine, 0, (matrix){from->at.for_steps, to->at.for_steps, 0, 0, s->input});
  else
    widen(p, mine, (matrix){from->at.for_products, to->at.for_products, 1, s->cell->facts.gates * of_gate, s->input});
  if (recurrent > 0 && is_unfused(s->cell))
    widen(p, mine, w_hh);
  else if (recurrent > 0)
    widen_for_steps(p, mine, 1, w_hh);
  widen(p, mine, (matrix){from->at.w_hr, to->at.w_hr, 1, vectors_of(s, s->projected) / p->kernels->lanes, s->hidden});
  if (mine.slice > 0) return;
  memcpy(at(to, (ptrdiff_t)to->at.bias), at(from, (ptrdiff_t)from->at.bias),
         (size_t)(to->at.total.bytes - to->at.bias));
}

void frnn_widen(frnn_run *run, const frnn_forward_call *narrow, const frnn_forward_call *wide, int count) {
  const packed_header *from = narrow->packed;
  widening p = {narrow, wide, frnn_kernels_of(&from->by), frnn_products_of(&from->by), {0}};
  p.job_parts = part_by_slices(count, weights_of(&narrow->shape), vectors_of_units(&narrow->shape, p.kernels));
  frnn_parallel(run, p.job_parts.work, widen_part, &p, parts_of(&p.job_parts));
}
