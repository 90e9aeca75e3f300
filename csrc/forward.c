/* forward.c - forward through time, for inference and for training.
 *
 * Step by step, the cell's tile takes bias + W_ih x + W_hh h and makes the new state. Where few rows share a step, one
 * product over a chunk of time gives bias + W_ih x before, and the tile goes on from there: in training straight in the
 * tape, whose slots the tile turns into gates.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "sequence.h"

/* Rows of a chunk: its pre-activations stay in L2, unless W_ih is so large that reading it again would cost more. */
enum { CHUNK_ROWS_LEAST = 64, CHUNK_ROWS_MOST = 256, INPUT_WEIGHT_BYTES_PER_ROW = 65536 };

enum { INPUTS_PER_ROW = 8 };

static int64_t chunk_rows(const frnn_shape *s) {
  double rows = (double)frnn_cells[s->cell].gates * (double)s->hidden * (double)s->input * (double)element_size(s) /
                INPUT_WEIGHT_BYTES_PER_ROW;
  return rows > CHUNK_ROWS_MOST ? CHUNK_ROWS_MOST : rows < CHUNK_ROWS_LEAST ? CHUNK_ROWS_LEAST : (int64_t)rows;
}

/* Whether x enters in the step's own tile, or by a product over a chunk before. Both give the same bits. The tile saves
 * writing and reading the pre-activations; the product reads W_ih once for many steps. Measured, the tile wins while
 * there are not too many inputs for the rows that share one reading of W_ih. */
static int enters_in_step(const frnn_shape *s) { return s->steps == 1 || s->input <= INPUTS_PER_ROW * s->batch; }

/* Where everything stands in a buffer: computed alike for its size and for its use. */
typedef struct {
  size_t table; /* the kernel table that packed, for panels are as wide as its vectors */
  size_t w_ih, w_hh, bias, bias_h;
  size total;
} packed_layout;

static packed_layout lay_packed(const frnn_shape *s) {
  const frnn_cell *cell = &frnn_cells[s->cell];
  int64_t element = element_size(s), units = padded(s);
  packed_layout at = {0};
  int64_t gate_units = product(&at.total, units, cell->gates);
  at.table = reserve(&at.total, sizeof(frnn_table *), 1);
  at.w_ih = reserve(&at.total, element, product(&at.total, gate_units, s->input));
  at.w_hh = reserve(&at.total, element, product(&at.total, gate_units, s->hidden));
  at.bias = reserve(&at.total, element, gate_units);
  at.bias_h = reserve(&at.total, element, units);
  return at;
}

typedef struct {
  size_t z, c, scratch;
  int64_t steps;
  size total;
} forward_layout;

static forward_layout lay_forward(const frnn_shape *s) {
  const frnn_cell *cell = &frnn_cells[s->cell];
  int64_t element = element_size(s), units = padded(s);
  forward_layout at = {.steps = chunk_steps(s, chunk_rows(s))};
  int64_t rows = product(&at.total, at.steps, s->batch);
  int64_t row_units = product(&at.total, s->batch, units);
  at.z = reserve(&at.total, element, product(&at.total, rows, product(&at.total, units, cell->gates)));
  at.c = reserve(&at.total, element, product(&at.total, row_units, cell->states - 1));
  at.scratch = reserve(&at.total, element, cell->phases == 2 ? row_units : 0);
  return at;
}

size_t frnn_packed_size(const frnn_shape *s) {
  packed_layout layout = lay_packed(s);
  return total(&layout.total);
}

size_t frnn_forward_size(const frnn_shape *s) {
  forward_layout layout = lay_forward(s);
  return total(&layout.total);
}

size_t frnn_tape_size(const frnn_shape *s) {
  size tape = {0};
  int64_t rows = product(&tape, s->steps, s->batch);
  reserve(&tape, element_size(s), product(&tape, rows, product(&tape, padded(s), tape_slots(&frnn_cells[s->cell]))));
  return total(&tape);
}

/* One gate of W_ih or W_hh into tile panels: the gates of one phase interleaved, phase after phase. */
static void pack_for_tiles(const frnn_shape *s, const frnn_table *table, int gate, const void *w, int64_t k,
                           void *packed) {
  const frnn_cell *cell = &frnn_cells[s->cell];
  int64_t vector = table->lanes * table->size, used = (s->hidden + table->lanes - 1) / table->lanes;
  int phase = gate >= cell->panels[0], first = phase ? cell->panels[0] : 0, gates = cell->panels[phase];
  frnn_transpose t = {.src = at(w, gate * s->hidden * k * table->size),
                      .src_row = k * table->size,
                      .outputs = s->hidden,
                      .k = k,
                      .dst = at(packed, first * used * k * vector + (gate - first) * vector),
                      .dst_vector = k * vector * gates,
                      .dst_k = vector * gates};
  table->pack_outputs(&t);
}

/* One gate of W_ih into panels of one product for all gates, up to the padding of each. */
static void pack_for_product(const frnn_shape *s, const frnn_table *table, int gate, const void *w, void *packed) {
  int64_t vector = table->lanes * table->size, panel = s->input * vector;
  int64_t vectors = padded(s) / table->lanes, used = (s->hidden + table->lanes - 1) / table->lanes;
  char *dst = at(packed, gate * vectors * panel);
  frnn_transpose t = {.src = at(w, gate * s->hidden * s->input * table->size),
                      .src_row = s->input * table->size,
                      .outputs = s->hidden,
                      .k = s->input,
                      .dst = dst,
                      .dst_vector = panel,
                      .dst_k = vector};
  table->pack_outputs(&t);
  memset(dst + used * panel, 0, (size_t)((vectors - used) * panel));
}

void frnn_pack(const frnn_shape *s, const frnn_weights *w, void *packed) {
  const frnn_table *table = frnn_table_for(s->dtype);
  const frnn_cell *cell = &frnn_cells[s->cell];
  packed_layout layout = lay_packed(s);
  int64_t element = table->size, units = padded(s), hidden = s->hidden;
  void *w_ih = at(packed, (ptrdiff_t)layout.w_ih);
  memcpy(at(packed, (ptrdiff_t)layout.table), &table, sizeof table);
  for (int gate = 0; gate < cell->gates; gate++) {
    if (s->input > 0 && enters_in_step(s)) pack_for_tiles(s, table, gate, w->w_ih, s->input, w_ih);
    if (s->input > 0 && !enters_in_step(s)) pack_for_product(s, table, gate, w->w_ih, w_ih);
    pack_for_tiles(s, table, gate, w->w_hh, hidden, at(packed, (ptrdiff_t)layout.w_hh));
    int split = cell->split_bias && gate == cell->gates - 1;
    char *bias = at(packed, (ptrdiff_t)layout.bias + gate * units * element);
    memset(bias, 0, (size_t)(units * element));
    const void *b_ih = w->b_ih ? at(w->b_ih, gate * hidden * element) : NULL;
    const void *b_hh = w->b_hh ? at(w->b_hh, gate * hidden * element) : NULL;
    table->add(bias, b_ih, split ? NULL : b_hh, hidden);
    if (split) {
      void *bias_h = at(packed, (ptrdiff_t)layout.bias_h);
      memset(bias_h, 0, (size_t)(units * element));
      table->add(bias_h, NULL, b_hh, hidden);
    }
  }
}

static const frnn_table *table_of(const void *packed, const packed_layout *layout) {
  const frnn_table *table;
  memcpy(&table, at(packed, (ptrdiff_t)layout->table), sizeof table);
  return table;
}

/* bias + W_ih x of some rows for steps [from, to) of the walk, into rows of z. */
static void project(const frnn_forward_call *call, row_range rows, int64_t from, int64_t to, frnn_sequence z) {
  const frnn_shape *s = &call->shape;
  packed_layout layout = lay_packed(s);
  const frnn_table *table = table_of(call->packed, &layout);
  frnn_gemm g = {.n = frnn_cells[s->cell].gates * padded(s),
                 .k = s->input,
                 .a_k = table->size,
                 .panels = at(call->packed, (ptrdiff_t)layout.w_ih),
                 .panel = s->input * table->lanes * table->size,
                 .init = at(call->packed, (ptrdiff_t)layout.bias)};
  frnn_sequence x = call->x;
  x.data = row_at(x, earliest(s, from, to), rows.begin);
  product_of_rows(table, g, x, z, to - from, rows.count);
}

/* All of time for some rows of the batch. */
static void forward_rows(const frnn_forward_call *call, row_range rows) {
  const frnn_shape *s = &call->shape;
  const frnn_cell *cell = &frnn_cells[s->cell];
  forward_layout layout = lay_forward(s);
  packed_layout packed = lay_packed(s);
  const frnn_table *table = table_of(call->packed, &packed);
  int64_t units = padded(s), row = units * table->size;
  size_t bytes = (size_t)(s->hidden * table->size);
  int in_tape = call->tape && cell->slots > 0;
  ptrdiff_t z_row = (in_tape ? tape_slots(cell) : cell->gates) * row;
  char *c = at(call->work, (ptrdiff_t)layout.c + rows.begin * row);
  char *z_work = at(call->work, (ptrdiff_t)layout.z + layout.steps * rows.begin * z_row);
  frnn_sequence tape = dense(call->tape, s->batch, z_row);
  ptrdiff_t first_row = rows.begin * (ptrdiff_t)bytes;
  frnn_step step = {.m = rows.count,
                    .hidden = s->hidden,
                    .y_row = call->y.row,
                    .z_row = z_row,
                    .gate = row,
                    .scratch = at(call->work, (ptrdiff_t)layout.scratch + rows.begin * row),
                    .bias_h = at(call->packed, (ptrdiff_t)packed.bias_h),
                    .keep = in_tape,
                    .in[FRNN_H] = {at(call->first.h, first_row), (ptrdiff_t)bytes, s->hidden,
                                   at(call->packed, (ptrdiff_t)packed.w_hh)},
                    .c_in = c,
                    .c_in_row = row};
  const void *bias = at(call->packed, (ptrdiff_t)packed.bias);
  int in_step = enters_in_step(s);
  step.start_row = in_step ? 0 : z_row;
  if (in_step) step.in[FRNN_X] = (frnn_factor){NULL, call->x.row, s->input, at(call->packed, (ptrdiff_t)packed.w_ih)};
  if (cell->states == 2) {
    memset(c, 0, (size_t)(rows.count * row));
    copy_rows(c, row, at(call->first.c, first_row), (ptrdiff_t)bytes, rows.count, bytes);
  }
  for (int64_t from = 0; from < s->steps; from += layout.steps) {
    int64_t to = least(from + layout.steps, s->steps), t0 = earliest(s, from, to);
    frnn_sequence z =
        in_tape ? (frnn_sequence){row_at(tape, t0, rows.begin), tape.step, tape.row} : dense(z_work, rows.count, z_row);
    if (!in_step) project(call, rows, from, to, z);
    for (int64_t i = from; i < to; i++) {
      int64_t t = time_of(s, i);
      step.y = row_at(call->y, t, rows.begin);
      step.z = row_at(z, t - t0, 0);
      step.start = in_step ? bias : step.z;
      if (in_step) step.in[FRNN_X].rows = row_at(call->x, t, rows.begin);
      step.c_out = in_tape ? at(step.z, cell->slots * row) : c;
      step.c_row = in_tape ? z_row : row;
      step.backwards = (int)(i & 1);
      table->step[s->cell](&step);
      step.in[FRNN_H].rows = step.y;
      step.in[FRNN_H].row = call->y.row;
      step.c_in = step.c_out;
      step.c_in_row = step.c_row;
    }
  }
  void *last_h = at(call->last.h, first_row);
  if (last_h != step.in[FRNN_H].rows)
    copy_rows(last_h, (ptrdiff_t)bytes, step.in[FRNN_H].rows, step.in[FRNN_H].row, rows.count, bytes);
  if (cell->states == 2)
    copy_rows(at(call->last.c, first_row), (ptrdiff_t)bytes, step.c_in, step.c_in_row, rows.count, bytes);
}

static void forward_part(void *context, int part, int parts) {
  const frnn_forward_call *call = context;
  forward_rows(call, range_of(call->shape.batch, part, parts));
}

void frnn_forward(const frnn_forward_call *call) {
  fenv_t environment;
  assert(call->work && call->packed);
  if (call->shape.batch == 0) return;
  fegetenv(&environment);
  const frnn_shape *s = &call->shape;
  double work = (double)s->steps * (double)s->batch * frnn_cells[s->cell].gates * (double)s->hidden *
                (double)(s->input + s->hidden);
  frnn_parallel(forward_part, (void *)(uintptr_t)call, parts_for(work, s->batch));
  fesetenv(&environment);
}
