/* layout.c - offsets in the buffer of a backward pass. Its size and its use come from the same computation.
 *
 * It must not know: arithmetic, threads. */
#include "../internal/valid.h"
#include "step.h"

/* Rows of a chunk: few enough that the gate gradients and their operands are still in the cache when the products read
 * them; enough that reading and writing the weight gradients once per chunk costs little beside the products. */
enum { CHUNK_ROWS_LEAST = 256, CHUNK_ROWS_MOST = 1024, CHUNK_BYTES = 262144, WEIGHT_BYTES_PER_ROW = 32768 };

static int64_t chunk_rows(const frnn_shape *s) {
  double element = (double)element_size(s), gates = (double)s->cell->facts.gates * (double)s->hidden;
  double width = (double)s->input + (double)s->hidden;
  double near = CHUNK_BYTES / (element * (gates + width)), worth = element * gates * width / WEIGHT_BYTES_PER_ROW;
  double rows = near > worth ? near : worth;
  return rows > CHUNK_ROWS_MOST ? CHUNK_ROWS_MOST : rows < CHUNK_ROWS_LEAST ? CHUNK_ROWS_LEAST : (int64_t)rows;
}

/* If the weights are few, the batch is divided into groups of rows. Each group has weight gradients of its own, which
 * are added up at the end: no thread waits for another or reads what it wrote. The groups change the order of the sums,
 * so they follow from the shape alone: 1, 2, 4 or 8. Each group reads all weights and gradients, and its steps have a
 * fixed cost, so the weights must be few and the rows enough. More groups than USUAL gain only on machines with more
 * cores; elsewhere they must cost nothing, so each of them must have many rows. */
enum { GROUPS_WEIGHT_BYTES = 327680, MULTIPLY_ADDS_OF_A_SUM = 100000 };
enum { ROWS_OF_A_SUM = 8, USUAL = 4, ROWS_IF_MORE = 128 };

static int groups_of(const frnn_shape *s) {
  int few = weights_of(s) * (double)element_size(s) <= GROUPS_WEIGHT_BYTES && !s->has_ids; /* tables are large */
  int groups = few ? GROUPS_MOST : 1;
  while (groups > 1 && (s->batch / groups < (groups > USUAL ? ROWS_IF_MORE : ROWS_OF_A_SUM) ||
                        recurrent_weights_of(s) * (double)s->batch / groups < MULTIPLY_ADDS_OF_A_SUM))
    groups /= 2;
  return groups;
}

/* Bytes of a row of gate gradients. Each row has at least one cache line more: rows a power of two apart would fall
 * into the same sets of the cache. */
static int64_t gate_gradient_row(size *total, const frnn_shape *s) {
  int64_t gates = product(total, s->cell->columns, s->hidden);
  int64_t bytes = product(total, sum(total, gates, s->projected), element_size(s));
  return sum(total, bytes / FRNN_ALIGN * FRNN_ALIGN, 2 * FRNN_ALIGN);
}

/* Steps of a chunk whose rows fill blocks exactly. Just `steps` if sums do not go by blocks, or if it would take too
 * many rows. */
static int64_t whole_blocks(const frnn_shape *s, int64_t steps, int in_blocks) {
  int64_t together = 1;
  if (!in_blocks || s->batch > CHUNK_ROWS_MOST) return steps;
  while (together * s->batch % FRNN_BLOCK_ROWS > 0) together *= 2;
  if (together * s->batch > CHUNK_ROWS_MOST) return steps;
  return steps / together > 0 ? steps / together * together : together;
}

/* The sums of a group, and the arrays beside sums that go by blocks. Beside a product's sum, columns are rounded up to
 * full vectors. */
static void lay_gradients(const frnn_shape *s, backward_layout *at) {
  const frnn_cell *cell = s->cell;
  size *part = &at->part;
  int64_t gates = product(part, cell->facts.gates, s->hidden), element = element_size(s);
  int64_t recurrent = product(part, cell->facts.recurrent, s->hidden);
  const int64_t rows[] = {gates, recurrent, s->projected, gates, recurrent};
  const int64_t columns[] = {s->input, features_of(s), s->hidden, 1, 1};
  for (int i = 0; i < GRADIENTS; i++) {
    int64_t row = i < OF_EXTRA ? rows[i] : product(part, s->hidden, cell->facts.extra[i - OF_EXTRA]);
    int64_t column = i < OF_EXTRA ? columns[i] : 1, vectors = i < OF_B_IH ? vectors_of(s, column) : 1;
    at->elements[i] = product(part, row, column);
    at->beside[i] = at->in_blocks ? product(part, row, vectors) : 0;
    at->sum[i] = reserve(part, element, at->groups > 1 ? at->elements[i] : 0);
    at->arrays[i] = reserve(part, element, product(part, at->beside[i], ARRAYS_BESIDE));
  }
}

/* The workspace that recomputes a segment. */
static void lay_recompute(const frnn_shape *s, int64_t batch, backward_layout *at) {
  size_t packed = frnn_packed_size(s, frnn_form_of(s)), forward = frnn_forward_size(s);
  int64_t steps = product(&at->part, least(s->checkpoint, s->steps), batch);
  int64_t row = product(&at->part, padded(s), tape_slots(s->cell));
  at->total.overflow |= packed == 0 || forward == 0;
  at->packed = reserve(&at->total, 1, (int64_t)packed);
  at->forward = reserve(&at->part, 1, (int64_t)forward);
  at->tape = reserve(&at->part, element_size(s), product(&at->part, steps, row));
}

backward_layout frnn_lay_backward(const frnn_shape *s) {
  const frnn_cell *cell = s->cell;
  int64_t element = element_size(s), units = padded(s), extra_product = has_extra_product(s);
  backward_layout at = {.groups = groups_of(s)};
  frnn_shape of_group = *s;
  of_group.batch = s->batch / at.groups + (s->batch % at.groups > 0);
  at.in_blocks = goes_by_blocks(product(&at.part, s->steps, of_group.batch));
  if (s->ragged)
    of_group.batch = s->batch; /* groups of ragged rows have equal numbers of steps: one may have most of the rows */
  at.steps = whole_blocks(&of_group, chunk_steps(&of_group, chunk_rows(s)), at.in_blocks);
  at.rows = s->ragged ? most(s->batch, chunk_rows(s)) : product(&at.part, at.steps, of_group.batch);
  int64_t gate_rows = product(&at.total, cell->facts.gates, s->hidden);
  at.w_ih = reserve(&at.total, element, product(&at.total, gate_rows, vectors_of(s, s->input)));
  int64_t recurrent_rows = product(&at.total, cell->facts.recurrent, s->hidden);
  at.w_hh = reserve(&at.total, element, product(&at.total, recurrent_rows, vectors_of(s, features_of(s))));
  at.w_hr = reserve(&at.total, element, product(&at.total, s->projected, units));
  int64_t rows = at.rows;
  at.group_batch = of_group.batch;
  int64_t row_units = product(&at.part, of_group.batch, units);
  int64_t state_units = product(&at.part, row_units, cell->facts.states);
  at.d_state = reserve(&at.part, element, state_units);
  at.held_first = reserve(&at.part, element, product(&at.part, row_units, held_states(cell)));
  at.drh = reserve(&at.part, element, product(&at.part, row_units, extra_product || is_unfused(cell)));
  at.rh = reserve(&at.part, element, product(&at.part, rows, product(&at.part, units, extra_product)));
  at.after_dropout = reserve(&at.part, element, product(&at.part, rows, product(&at.part, units, is_unfused(cell))));
  at.dg_row = gate_gradient_row(&at.part, s);
  at.dg = reserve(&at.part, 1, product(&at.part, rows, at.dg_row));
  at.operand[INPUT] = reserve(&at.part, element, product(&at.part, rows, vectors_of(s, s->input)));
  at.operand[HIDDEN] = reserve(&at.part, element, product(&at.part, rows, units));
  at.operand[SCRATCH] = reserve(&at.part, element, product(&at.part, rows, product(&at.part, units, extra_product)));
  if (s->ragged) {
    at.first = reserve(&at.part, sizeof(int64_t), sum(&at.part, rows, 1));
    at.dx = reserve(&at.part, element, product(&at.part, rows, s->input));
    at.zeros = reserve(&at.part, element, most(s->input, units));
    for (int i = 0; i < BACKWARD_INPUTS; i++)
      at.inputs[i] = reserve(&at.part, element, product(&at.part, rows, i == INPUT_X ? s->input : units));
    at.d_first = reserve(&at.part, element, state_units);
    at.d_lost = reserve(&at.part, element, state_units);
  }
  at.ids = reserve(&at.part, sizeof(int64_t), s->has_ids ? rows : 0);
  lay_gradients(s, &at);
  if (s->checkpoint) lay_recompute(s, of_group.batch, &at);
  at.total.overflow |= at.part.overflow;
  at.parts = reserve(&at.total, at.groups, (int64_t)at.part.bytes);
  return at;
}

size_t frnn_backward_size(const frnn_shape *s) {
  if (shape_status(s) < 0) return 0;
  backward_layout layout = frnn_lay_backward(s);
  return total(&layout.total);
}
