/* layout.c - offsets in the buffers of a forward pass. Their sizes and their use come from the same computation.
 *
 * It must not know: arithmetic, threads. */
#include "../internal/valid.h"
#include "packed.h"

enum { INPUTS_PER_ROW = 8 };

/* 1 if x enters in the step's own tile, 0 if it enters by a product over a chunk before. Both give the same bits. The
 * tile saves writing and reading the pre-activations; the product reads W_ih once for many steps. Measured, the tile is
 * faster up to INPUTS_PER_ROW inputs for each row of the batch. A tile of operands has no registers for two sums. */
static int enters_in_step(const frnn_shape *s) {
  if (s->input > 0 && reads_operands(s)) return 0;
  return s->steps == 1 || s->input == 0 || (s->input - 1) / INPUTS_PER_ROW < s->batch;
}

/* 1 if W_ih is packed within the product over all of time, which alone reads it: some panels are packed and multiplied
 * at once, so that they never leave the cache. Only for so few rows that no threads divide them, and at full precision:
 * there alone a call has W_ih. */
static int packs_in_product(const frnn_shape *s) {
  return s->precision == FRNN_FULL && !enters_in_step(s) && s->batch > 0 && s->batch < 2 * ROWS_OF_A_READING &&
         s->steps <= PROJECTED_ROWS_MOST / s->batch;
}

unsigned frnn_form_of(const frnn_shape *s) {
  if (shape_is_invalid(s)) return 0;
  if (packs_in_product(s)) return 0;
  return enters_in_step(s) && !is_unfused(s->cell) ? FRNN_FOR_STEPS : FRNN_FOR_PRODUCTS;
}

packed_layout frnn_lay_packed(const frnn_shape *s, unsigned forms) {
  const frnn_cell *cell = s->cell;
  int64_t element = element_size(s), units = padded(s);
  packed_layout at = {0};
  int64_t gate_units = product(&at.total, units, cell->facts.gates);
  reserve(&at.total, sizeof(packed_header), 1);
  int64_t of_x = product(&at.total, gate_units, packed_lanes(s, s->input));
  at.for_steps = reserve(&at.total, element, forms & FRNN_FOR_STEPS ? of_x : 0);
  at.for_products = reserve(&at.total, element, forms & FRNN_FOR_PRODUCTS ? of_x : 0);
  int64_t recurrent_units = product(&at.total, units, cell->facts.recurrent);
  at.w_hh = reserve(&at.total, element, product(&at.total, recurrent_units, packed_lanes(s, features_of(s))));
  int64_t projected = vectors_of(s, s->projected);
  at.w_hr = reserve(&at.total, element, product(&at.total, projected, packed_lanes(s, s->hidden)));
  at.bias = reserve(&at.total, element, gate_units);
  at.bias_h = reserve(&at.total, element, product(&at.total, units, separate_gates(cell)));
  return at;
}

size_t frnn_packed_size(const frnn_shape *s, unsigned forms) {
  if (shape_status(s) < 0) return 0;
  packed_layout layout = frnn_lay_packed(s, forms);
  return total(&layout.total);
}

/* Rows of a chunk: its pre-activations stay in L2, unless W_ih is so large that reading it for each chunk would cost
 * more. */
enum { CHUNK_ROWS_LEAST = 64, INPUT_WEIGHT_BYTES_PER_ROW = 65536 };

static int64_t projected_rows(const frnn_shape *s) {
  double rows = (double)s->cell->facts.gates * (double)s->hidden * (double)s->input * (double)element_size(s) /
                INPUT_WEIGHT_BYTES_PER_ROW;
  return rows > PROJECTED_ROWS_MOST ? PROJECTED_ROWS_MOST : rows < CHUNK_ROWS_LEAST ? CHUNK_ROWS_LEAST : (int64_t)rows;
}

/* Steps of a chunk: those whose x is projected together; all, if x enters in the step from the user's rows. */
static int64_t steps_of_chunk(const frnn_shape *s) {
  if (enters_in_step(s)) return s->ragged || s->checkpoint ? 1 : most(1, s->steps);
  return packs_in_product(s) ? s->steps : chunk_steps(s, projected_rows(s));
}

static forward_layout lay_pass(const frnn_shape *s) {
  const frnn_cell *cell = s->cell;
  int64_t element = element_size(s), units = padded(s);
  forward_layout at = {.steps = steps_of_chunk(s), .in_step = enters_in_step(s), .packing = packs_in_product(s)};
  int64_t rows = product(&at.total, at.in_step ? 1 : at.steps, s->batch);
  int64_t row_units = product(&at.total, s->batch, units);
  int64_t w_ih = product(&at.total, product(&at.total, units, cell->facts.gates), s->input);
  at.w_ih = reserve(&at.total, element, at.packing ? w_ih : 0);
  at.z = reserve(&at.total, element, product(&at.total, rows, product(&at.total, units, work_slots(cell))));
  int64_t held_units = product(&at.total, row_units, held_states(cell));
  at.held = reserve(&at.total, element, held_units);
  at.scratch = reserve(&at.total, element, multiplies_scratch(cell) ? row_units : 0);
  at.output = reserve(&at.total, element, s->projected ? row_units : 0);
  at.after_dropout = reserve(&at.total, element, is_unfused(cell) ? row_units : 0);
  int64_t operand = reads_operands(s) ? operand_bytes(units) : 0,
          of_x = reads_operands(s) ? operand_bytes(s->input) : 0;
  at.operand = reserve(&at.total, operand, s->batch);
  at.operand_x = reserve(&at.total, of_x, rows);
  if (!s->ragged && !s->checkpoint) return at;
  at.ids = reserve(&at.total, sizeof(int64_t), s->has_ids ? s->batch : 0);
  at.x = reserve(&at.total, element, product(&at.total, rows, s->input));
  at.aux = reserve(&at.total, element, product(&at.total, s->batch, cell->facts.aux));
  at.h = reserve(&at.total, element, row_units);
  for (int i = 0; i < 2; i++) {
    at.h_at[i] = reserve(&at.total, element, row_units);
    at.held_at[i] = reserve(&at.total, element, held_units);
  }
  return at;
}

/* Widening pays if so many tiles read each weight, and more if there are more weights: for that many bytes one more.
 * Beyond the last number of bytes it is faster to read half of them. But in a step of many rows reading does not
 * matter: there READINGS_ENOUGH pay for any number of bytes. Measured. */
enum { READINGS_LEAST = 24, BYTES_PER_READING = 21845, WIDENED_BYTES_MOST = 2097152 };
enum { ROWS_LEAST = 3, ROWS_OF_A_TILE = 6, ROWS_MANY = 16, READINGS_ENOUGH = 128 };

int frnn_widens(const frnn_shape *s) {
  if (s->precision != FRNN_BFLOAT16_WEIGHTS || s->batch < ROWS_LEAST) return 0;
  double readings = (double)((s->batch - 1) / ROWS_OF_A_TILE + 1) * (double)s->steps;
  double bytes = weights_of(s) * (double)element_size(s);
  if (s->batch >= ROWS_MANY && readings >= READINGS_ENOUGH) return 1;
  return readings >= READINGS_LEAST && readings * BYTES_PER_READING >= bytes && bytes <= WIDENED_BYTES_MOST;
}

frnn_shape frnn_widened_shape(const frnn_shape *narrow) {
  frnn_shape s = *narrow;
  s.precision = FRNN_FULL;
  return s;
}

forward_layout frnn_lay_forward(const frnn_shape *s) {
  frnn_shape wide = frnn_widened_shape(s);
  if (!frnn_widens(s)) return lay_pass(s);
  forward_layout at = lay_pass(&wide);
  at.widened = reserve(&at.total, 1, (int64_t)frnn_packed_size(&wide, frnn_form_of(s)));
  return at;
}

size_t frnn_plan_size(void) { return sizeof(forward_layout); }

void frnn_plan(const frnn_shape *s, void *plan) {
  forward_layout layout = {.in_step = REFUSED};
  if (shape_status(s) == 0 && !is_too_large(s, rows_of_pass(s), 1)) layout = frnn_lay_forward(s);
  memcpy(plan, &layout, sizeof layout);
}

size_t frnn_forward_size(const frnn_shape *s) {
  if (shape_status(s) < 0) return 0;
  forward_layout layout = frnn_lay_forward(s);
  return total(&layout.total);
}

size_t frnn_tape_size(const frnn_shape *s) {
  if (shape_status(s) < 0) return 0;
  size tape = {0};
  const frnn_cell *cell = s->cell;
  int64_t steps = s->checkpoint ? segments_of(s) : s->steps, rows = product(&tape, steps, s->batch);
  int64_t slots = s->checkpoint ? held_states(cell) : tape_slots(cell);
  reserve(&tape, element_size(s), product(&tape, rows, product(&tape, padded(s), slots)));
  return total(&tape);
}

int64_t frnn_tape_slots(const frnn_shape *s) { return shape_is_invalid(s) ? 0 : tape_slots(s->cell); }
int64_t frnn_tape_units(const frnn_shape *s) { return shape_is_invalid(s) ? 0 : padded(s); }
