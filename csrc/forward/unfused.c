/* unfused.c - a step of an unfused cell, a variant: first products into z, then the cell, row by row.
 *
 * h's part of the chains goes on in z from where x's part left it, so it is one chain as in a tile; where products are
 * normalised, it stands separate from x's. Rows of a step are divided whole, for sums over a row may be wanted.
 *
 * It must not know: dtypes, instruction sets, activations, threads, Python. */
#include "step.h"

/* Some gates, and which parts of their chains. */
typedef struct {
  int first, gates; /* of the phase's, counted over all */
  int slot;         /* of z, where the first of them goes */
  const void *start;
  ptrdiff_t start_row;
  const int64_t *start_of;
  int x, h; /* whether x's part and h's are in them */
} gate_chains;

/* A part of the vectors of the phase's gates, counted over all. */
static void run_chains(const forward_pass *w, const frnn_step *whole, gate_chains p, range vectors) {
  int64_t of_gate = padded(w->shape) / w->kernels->lanes;
  int64_t first = p.first * of_gate, begin = most(first, vectors.begin);
  int64_t end = least(first + p.gates * of_gate, vectors.begin + vectors.count);
  if (begin >= end) return;
  frnn_step s = *whole;
  s.vector = begin - first;
  s.vectors = end - begin;
  s.start = p.start;
  s.start_row = p.start_row;
  s.start_of = p.start_of;
  s.z = at(s.z, p.slot * s.gate);
  if (!p.x) s.in[FRNN_X].k = 0;
  if (!p.h) s.in[FRNN_H].k = 0;
  for (int i = FRNN_X; i <= FRNN_H; i++)
    if (s.in[i].k > 0) s.in[i].panels = at(s.in[i].panels, first * panel_bytes(w->shape, w->kernels, s.in[i].k));
  w->kernels->chains(&s);
}

/* The products of a phase: of its gates, for a part of their vectors. */
static void multiply_phase(const forward_pass *w, const frnn_step *whole, int phase, job_part mine) {
  const frnn_cell *cell = w->cell;
  frnn_step s = *whole;
  int first = phase ? cell->panels[0] : 0, gates = cell->panels[phase];
  int separate = cell->normalised ? gates : cell->split_bias, together = gates - separate;
  int64_t of_gate = padded(w->shape) / w->kernels->lanes;
  range vectors = range_of(gates * of_gate, mine.slice, mine.slices);
  vectors.begin += first * of_gate;
  s.in[FRNN_H].rows = phase ? s.scratch : s.variant.after_dropout;
  s.in[FRNN_H].row = phase ? s.gate : s.variant.after_dropout_row;
  const void *start = at(s.start, first * s.gate);
  run_chains(w, &s, (gate_chains){first, together, first, start, s.start_row, s.start_of, 1, 1}, vectors);
  if (!separate) return;
  start = at(s.start, together * s.gate);
  if (s.start != s.z)
    run_chains(w, &s, (gate_chains){together, separate, together, start, s.start_row, s.start_of, 1, 0}, vectors);
  run_chains(w, &s, (gate_chains){together, separate, cell->separate, s.bias_h, 0, NULL, 0, 1}, vectors);
}

static const void *moved(const void *rows, int64_t count, ptrdiff_t row) { return rows ? at(rows, count * row) : NULL; }

/* The step for some of its rows. */
static frnn_step rows_of_step(const frnn_step *whole, range rows) {
  frnn_step s = *whole;
  s.m = rows.count;
  if (s.start == s.z) s.start = at(s.z, rows.begin * s.z_row);
  if (s.start_of) s.start_of += rows.begin;
  s.in[FRNN_X].rows = moved(s.in[FRNN_X].rows, rows.begin, s.in[FRNN_X].row);
  s.z = at(s.z, rows.begin * s.z_row);
  s.y = at(s.y, rows.begin * s.y_row);
  s.in[FRNN_H].rows = moved(s.in[FRNN_H].rows, rows.begin, s.in[FRNN_H].row);
  s.c_in = moved(s.c_in, rows.begin, s.c_in_row);
  s.c_out = at(s.c_out, rows.begin * s.c_row);
  s.scratch = at(s.scratch, rows.begin * s.gate);
  s.variant.after_dropout = moved(s.variant.after_dropout, rows.begin, s.variant.after_dropout_row);
  for (int i = 0; i < 2; i++) s.variant.zoneout[i] = moved(s.variant.zoneout[i], rows.begin, s.variant.zoneout_row);
  return s;
}

/* Arguments of the variant's step, for rows from a sorted index on. */
static frnn_variant_arguments variant_arguments_of(const forward_pass *w, const frnn_step *s, int64_t t,
                                                   int64_t index) {
  const frnn_forward_call *call = w->call;
  frnn_variant_arguments variant = {.numbers = &call->variant,
                                    .shift_ih = call->weights.b_ih,
                                    .shift_hh = call->weights.b_hh,
                                    .features = features_of(w->shape),
                                    .after_dropout = s->in[FRNN_H].rows,
                                    .after_dropout_row = s->in[FRNN_H].row,
                                    .zoneout_row = w->shape->hidden * w->kernels->size};
  if (call->dropout.recurrent) {
    variant.after_dropout = frnn_after_dropout(w, index);
    variant.after_dropout_row = w->row;
  }
  for (int i = 0; i < w->cell->facts.states; i++)
    variant.zoneout[i] = moved(call->dropout.zoneout[i], t * w->full->batch + index, variant.zoneout_row);
  return variant;
}

/* Rows whose z stays in L1 from their products to the cell's end; all where those would be too few. */
enum { NEAR_BYTES = 16384, NEAR_ROWS_LEAST = 12 };

static int64_t near_rows(const frnn_step *s) {
  int64_t rows = NEAR_BYTES / s->z_row / NEAR_ROWS_LEAST * NEAR_ROWS_LEAST;
  return rows < NEAR_ROWS_LEAST ? s->m : rows;
}

void frnn_take_unfused_step(const forward_pass *w, frnn_step *step, int64_t t, int phase, int64_t index,
                            job_part mine) {
  int of_cell = phase / 2, products = phase % 2 == 0;
  step->variant = variant_arguments_of(w, step, t, index);
  if (mine.slices > 1) {
    frnn_step rows = rows_of_step(step, range_of(step->m, mine.slice, mine.slices));
    if (products)
      multiply_phase(w, step, of_cell, mine);
    else
      w->kernels->step[w->cell->number][of_cell](&rows);
    return;
  }
  range rows = {0, near_rows(step)};
  for (; products && rows.begin < step->m; rows.begin += rows.count) {
    rows.count = next_count(rows.count, step->m - rows.begin);
    frnn_step some = rows_of_step(step, rows);
    multiply_phase(w, &some, of_cell, mine);
    w->kernels->step[w->cell->number][of_cell](&some);
  }
}
