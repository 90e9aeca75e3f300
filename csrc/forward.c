/* forward.c - forward through time, for inference and for training.
 *
 * For a chunk of time steps, one product gives bias + W_ih x for all their rows; then step by step the cell's tile adds
 * W_hh h and makes the new state. Training writes the chunk straight into the tape, whose slots the tile then turns into
 * gates.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "sequence.h"

/* Rows of a chunk: its pre-activations stay in L2. */
enum { CHUNK_ROWS = 64 };

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
  forward_layout at = {.steps = chunk_steps(s, CHUNK_ROWS)};
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

void frnn_pack(const frnn_shape *s, const frnn_weights *w, void *packed) {
  const frnn_table *table = frnn_table_for(s->dtype);
  const frnn_cell *cell = &frnn_cells[s->cell];
  packed_layout layout = lay_packed(s);
  int64_t element = table->size, units = padded(s), vector = table->lanes * element;
  int64_t hidden = s->hidden, gate_vectors = units / table->lanes;
  memcpy(at(packed, (ptrdiff_t)layout.table), &table, sizeof table);
  for (int gate = 0; gate < cell->gates; gate++) {
    /* W_ih: a panel per vector of outputs, gate after gate, up to the padding of each. */
    ptrdiff_t panel = s->input * vector;
    char *w_ih = at(packed, (ptrdiff_t)layout.w_ih + gate * gate_vectors * panel);
    int64_t used = (hidden + table->lanes - 1) / table->lanes;
    frnn_transpose t = {at(w->w_ih, gate * hidden * s->input * element), s->input * element, hidden, s->input,
                        w_ih, panel, vector};
    if (s->input > 0) {
      table->pack_outputs(&t);
      memset(w_ih + used * panel, 0, (size_t)((gate_vectors - used) * panel));
    }
    /* W_hh: the gates of one phase interleaved, phase after phase. */
    int phase = gate >= cell->panels[0], first = phase ? cell->panels[0] : 0;
    char *w_hh = at(packed, (ptrdiff_t)layout.w_hh + first * used * hidden * vector + (gate - first) * vector);
    t = (frnn_transpose){at(w->w_hh, gate * hidden * hidden * element), hidden * element, hidden, hidden, w_hh,
                         hidden * vector * cell->panels[phase], vector * cell->panels[phase]};
    table->pack_outputs(&t);
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
                    .panels = at(call->packed, (ptrdiff_t)packed.w_hh),
                    .bias_h = at(call->packed, (ptrdiff_t)packed.bias_h),
                    .keep = in_tape,
                    .h = at(call->first.h, first_row),
                    .h_row = (ptrdiff_t)bytes,
                    .c_in = c,
                    .c_in_row = row};
  if (cell->states == 2) {
    memset(c, 0, (size_t)(rows.count * row));
    copy_rows(c, row, at(call->first.c, first_row), (ptrdiff_t)bytes, rows.count, bytes);
  }
  for (int64_t from = 0; from < s->steps; from += layout.steps) {
    int64_t to = least(from + layout.steps, s->steps), t0 = earliest(s, from, to);
    frnn_sequence z = in_tape ? (frnn_sequence){row_at(tape, t0, rows.begin), tape.step, tape.row}
                              : dense(z_work, rows.count, z_row);
    project(call, rows, from, to, z);
    for (int64_t i = from; i < to; i++) {
      int64_t t = time_of(s, i);
      step.y = row_at(call->y, t, rows.begin);
      step.z = row_at(z, t - t0, 0);
      step.c_out = in_tape ? at(step.z, cell->slots * row) : c;
      step.c_row = in_tape ? z_row : row;
      step.backwards = (int)(i & 1);
      table->step[s->cell](&step);
      step.h = step.y;
      step.h_row = call->y.row;
      step.c_in = step.c_out;
      step.c_in_row = step.c_row;
    }
  }
  void *last_h = at(call->last.h, first_row);
  if (last_h != step.h) copy_rows(last_h, (ptrdiff_t)bytes, step.h, step.h_row, rows.count, bytes);
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
