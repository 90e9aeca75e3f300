/* loose.c - a step of a loose cell, a variant: first products into z, then the cell, row by row.
 *
 * h's part of the chains goes on in z from where x's part left it, so it is one chain as in a tile; where products are
 * normalised, it stands apart from x's. Rows of a step are shared out whole, for sums over a row may be wanted.
 *
 * It must not know: dtypes, instruction sets, activations, threads, Python. */
#include "walk.h"

/* Some gates' part of a product, whose vectors are [first, first + count) of all gates' together. */
typedef struct {
  int64_t first, count;
  int slot;         /* of z, where the first of them goes */
  const void *init; /* NULL: what is in z already, or nothing */
  int begins;       /* rather than go on from what is in z */
} passage;

static void multiply(const walk *w, const frnn_step *s, const void *rows, ptrdiff_t row, passage p, range vectors) {
  int64_t lanes = w->table->lanes, vector = lanes * w->table->size, panel = s->in[FRNN_H].k * vector;
  int64_t begin = most(p.first, vectors.begin), end = least(p.first + p.count, vectors.begin + vectors.count);
  if (begin >= end) return;
  ptrdiff_t from = (begin - p.first) * vector;
  void *to = at(s->z, p.slot * s->gate + from);
  frnn_gemm g = {.m = s->m,
                 .n = (end - begin) * lanes,
                 .k = s->in[FRNN_H].k,
                 .a = rows,
                 .a_row = row,
                 .a_k = w->table->size,
                 .panels = at(s->in[FRNN_H].panels, begin * panel),
                 .panel = panel,
                 .init = p.init     ? at(p.init, from)
                         : p.begins ? NULL
                                    : to,
                 .init_row = p.init ? 0 : s->z_row,
                 .c = to,
                 .c_row = s->z_row};
  w->table->gemm(&g);
}

/* The products of a phase: of its gates, for a share of their vectors. */
static void multiply_phase(const walk *w, const frnn_step *s, int phase, share mine) {
  const frnn_cell *cell = w->cell;
  int64_t of_gate = padded(w->shape) / w->table->lanes;
  int first = phase ? cell->panels[0] : 0, gates = cell->panels[phase], together = gates - cell->split_bias;
  range vectors = range_of(gates * of_gate, mine.slice, mine.slices);
  const void *rows = phase ? s->scratch : s->how.dropped;
  ptrdiff_t row = phase ? s->gate : s->how.dropped_row;
  vectors.begin += first * of_gate;
  passage all = {first * of_gate, together * of_gate, first, NULL, 0};
  if (cell->normalised) all = (passage){0, gates * of_gate, cell->apart, NULL, 1};
  multiply(w, s, rows, row, all, vectors);
  if (!cell->split_bias) return;
  passage last = {together * of_gate, of_gate, cell->apart, s->bias_h, 1};
  multiply(w, s, rows, row, last, vectors);
}

static const void *moved(const void *rows, int64_t count, ptrdiff_t row) { return rows ? at(rows, count * row) : NULL; }

/* The step for a share of its rows. */
static frnn_step rows_of_step(const frnn_step *whole, share mine) {
  range rows = range_of(whole->m, mine.slice, mine.slices);
  frnn_step s = *whole;
  s.m = rows.count;
  s.z = at(s.z, rows.begin * s.z_row);
  s.y = at(s.y, rows.begin * s.y_row);
  s.in[FRNN_H].rows = moved(s.in[FRNN_H].rows, rows.begin, s.in[FRNN_H].row);
  s.c_in = moved(s.c_in, rows.begin, s.c_in_row);
  s.c_out = at(s.c_out, rows.begin * s.c_row);
  s.scratch = at(s.scratch, rows.begin * s.gate);
  s.how.dropped = moved(s.how.dropped, rows.begin, s.how.dropped_row);
  for (int i = 0; i < 2; i++) s.how.stays[i] = moved(s.how.stays[i], rows.begin, s.how.stays_row);
  return s;
}

/* What the step reads besides, for rows from a position on. */
static frnn_altered altered(const walk *w, const frnn_step *s, int64_t t, int64_t position) {
  const frnn_forward_call *call = w->call;
  frnn_altered how = {.numbers = &call->variant,
                      .shift_ih = call->weights.b_ih,
                      .shift_hh = call->weights.b_hh,
                      .features = features_of(w->shape),
                      .dropped = s->in[FRNN_H].rows,
                      .dropped_row = s->in[FRNN_H].row,
                      .stays_row = w->shape->hidden * w->table->size};
  if (call->noise.recurrent) {
    how.dropped = frnn_dropped(w, position);
    how.dropped_row = w->row;
  }
  for (int i = 0; i < w->cell->states; i++)
    how.stays[i] = moved(call->noise.stays[i], t * w->whole->batch + position, how.stays_row);
  return how;
}

void frnn_take_loose_step(const walk *w, frnn_step *step, int64_t t, int phase, int64_t position, share mine) {
  step->how = altered(w, step, t, position);
  if (phase % 2 == 0) {
    multiply_phase(w, step, phase / 2, mine);
    return;
  }
  frnn_step rows = rows_of_step(step, mine);
  w->table->step[w->shape->cell][phase / 2](&rows);
}
