/* unfused.c - a step of an unfused cell, such as a variant: first its products into z, then the cell, row by row.
 *
 * The chain over h goes on in z from the value that the chain over x left there, so both are one chain as in a tile. If
 * products are normalised, the two have separate slots. Threads divide the cell by rows and not by units, for a cell
 * may sum over a row.
 *
 * It must not know: dtypes, instruction sets, activations, threads, Python. */
#include "step.h"

/* Some gates' chains over x, over h, or over both one after the other. Their results go to z from `slot` on. */
typedef struct {
  int x, h, gates, slot; /* as of frnn_chains */
  const void *start;
  ptrdiff_t start_row;
  const int64_t *start_of;
} chains_of_step;

static void run_chains(const forward_pass *w, const frnn_step *full, chains_of_step c, job_part mine) {
  int64_t of_gate = padded(w->shape) / w->kernels->lanes;
  range vectors = range_of(c.gates * of_gate, mine.slice, mine.slices);
  int first[] = {[FRNN_X] = c.x, [FRNN_H] = c.h};
  if (vectors.count < 1) return;
  frnn_step s = *full;
  s.vector = vectors.begin;
  s.vectors = vectors.count;
  s.start = c.start;
  s.start_row = c.start_row;
  s.start_of = c.start_of;
  s.z = at(s.z, c.slot * s.gate);
  for (int i = FRNN_X; i <= FRNN_H; i++) {
    if (first[i] == NOT_IN) s.in[i].k = 0;
    if (s.in[i].k > 0)
      s.in[i].panels = at(s.in[i].panels, first[i] * of_gate * panel_bytes(w->shape, w->kernels, s.in[i].k));
  }
  w->products->chains(&s);
}

/* Computes a part of each product of a phase. */
static void multiply_phase(const forward_pass *w, const frnn_step *full, int phase, job_part mine) {
  const frnn_cell *cell = w->cell;
  frnn_step s = *full;
  int separate = 0;
  for (const frnn_chains *c = cell->chains; c < cell->chains + FRNN_CHAINS; c++) {
    chains_of_step chains = {c->x, c->h, c->gates, c->slot, NULL, s.start_row, s.start_of};
    if (c->gates > 0 && c->x == NOT_IN) {
      chains.start = at(s.bias_h, separate * s.gate);
      chains.start_row = 0;
      chains.start_of = NULL;
      separate += c->gates;
    } else {
      chains.start = at(s.start, c->x * s.gate);
    }
    if (c->gates == 0 || c->phase != phase) continue;
    int there = c->h == NOT_IN && s.start == s.z; /* a product over a chunk has computed them already */
    if (!there) run_chains(w, &s, chains, mine);
  }
}

static const void *moved(const void *rows, int64_t count, ptrdiff_t row) { return rows ? at(rows, count * row) : NULL; }

/* The step for some of its rows; their variant arguments go to `variant`. */
static frnn_step rows_of_step(const frnn_step *full, range rows, frnn_variant_arguments *variant) {
  frnn_step s = *full;
  *variant = *full->variant;
  s.variant = variant;
  s.m = rows.count;
  if (s.start == s.z) s.start = at(s.z, rows.begin * s.z_row);
  if (s.start_of) s.start_of += rows.begin;
  s.in[FRNN_X].rows = moved(s.in[FRNN_X].rows, rows.begin, s.in[FRNN_X].row);
  s.z = at(s.z, rows.begin * s.z_row);
  s.in[FRNN_H].rows = moved(s.in[FRNN_H].rows, rows.begin, s.in[FRNN_H].row);
  s.aux = moved(s.aux, rows.begin, s.aux_row);
  for (int i = 0; i < FRNN_STATES_MOST; i++) {
    s.state[i].before = moved(s.state[i].before, rows.begin, s.state[i].before_row);
    s.state[i].after = at(s.state[i].after, rows.begin * s.state[i].after_row);
    variant->zoneout[i] = moved(variant->zoneout[i], rows.begin, variant->zoneout_row);
  }
  s.scratch = at(s.scratch, rows.begin * s.gate);
  variant->after_dropout = moved(variant->after_dropout, rows.begin, variant->after_dropout_row);
  return s;
}

/* The variant arguments of a step, for rows from a sorted index on. */
static frnn_variant_arguments variant_arguments_of(const forward_pass *w, const frnn_step *s, int64_t t,
                                                   int64_t index) {
  const frnn_forward_call *call = w->call;
  frnn_variant_arguments variant = {.numbers = &call->variant,
                                    .shift_ih = call->weights.b_ih,
                                    .shift_hh = call->weights.b_hh,
                                    .features = features_of(w->shape),
                                    .after_dropout = s->state[FRNN_STATE_H].before,
                                    .after_dropout_row = s->state[FRNN_STATE_H].before_row,
                                    .zoneout_row = w->shape->hidden * w->kernels->size};
  if (call->dropout.recurrent) {
    variant.after_dropout = frnn_after_dropout(w, index);
    variant.after_dropout_row = w->row;
  }
  for (int i = 0; i < w->cell->facts.states; i++)
    variant.zoneout[i] = moved(call->dropout.zoneout[i], t * w->full->batch + index, variant.zoneout_row);
  return variant;
}

/* Rows that go through products and cell together, so that their z stays in L1; all rows if these would be too few. */
enum { NEAR_BYTES = 16384, NEAR_ROWS_LEAST = 12 };

static int64_t near_rows(const frnn_step *s) {
  int64_t rows = NEAR_BYTES / s->z_row / NEAR_ROWS_LEAST * NEAR_ROWS_LEAST;
  return rows < NEAR_ROWS_LEAST ? s->m : rows;
}

void frnn_take_unfused_step(const forward_pass *w, const frnn_step *given, int64_t t, frnn_phase phase, int64_t index,
                            job_part mine) {
  int products = phase.kind == FRNN_PRODUCTS;
  frnn_variant_arguments variant = variant_arguments_of(w, given, t, index), of_rows;
  frnn_step step = *given;
  step.variant = &variant;
  if (mine.slices > 1) {
    frnn_step rows = rows_of_step(&step, range_of(step.m, mine.slice, mine.slices), &of_rows);
    if (products)
      multiply_phase(w, &step, phase.number, mine);
    else
      w->functions->step[phase.number](&rows);
    return;
  }
  range rows = {0, near_rows(&step)};
  for (; products && rows.begin < step.m; rows.begin += rows.count) {
    rows.count = next_count(rows.count, step.m - rows.begin);
    frnn_step some = rows_of_step(&step, rows, &of_rows);
    multiply_phase(w, &some, phase.number, mine);
    w->functions->step[phase.number](&some);
  }
}
