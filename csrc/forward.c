/* forward.c - forward through time, for inference and for training.
 *
 * Step by step, the cell's tile takes bias + W_ih x + W_hh h and makes the new state. Where few rows share a step, one
 * product over a chunk of time gives bias + W_ih x before, and the tile goes on from there: in training straight in the
 * tape, whose slots the tile turns into gates.
 *
 * Where rows are shared out among threads (see sequence.h), each part takes all of time; where units are, each step is
 * a job of its own.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "packed.h"

/* Rows of a chunk: its pre-activations stay in L2, unless W_ih is so large that reading it again would cost more. */
enum { CHUNK_ROWS_LEAST = 64, INPUT_WEIGHT_BYTES_PER_ROW = 65536 };

enum { PACKED_AT_ONCE = 262144 /* bytes, a good part of L2 */ };

static int64_t projected_rows(const frnn_shape *s) {
  double rows = (double)frnn_cells[s->cell].gates * (double)s->hidden * (double)s->input * (double)element_size(s) /
                INPUT_WEIGHT_BYTES_PER_ROW;
  return rows > PROJECTED_ROWS_MOST ? PROJECTED_ROWS_MOST : rows < CHUNK_ROWS_LEAST ? CHUNK_ROWS_LEAST : (int64_t)rows;
}

/* Steps that are projected together. Where x enters in the step, z is what a step needs for itself. */
static int64_t steps_of_chunk(const frnn_shape *s) {
  if (frnn_enters_in_step(s)) return 1;
  return frnn_packs_in_product(s) ? s->steps : chunk_steps(s, projected_rows(s));
}

typedef struct {
  size_t z, c, scratch;
  int64_t steps;
  size total;
} forward_layout;

static forward_layout lay_forward(const frnn_shape *s) {
  const frnn_cell *cell = &frnn_cells[s->cell];
  int64_t element = element_size(s), units = padded(s);
  forward_layout at = {.steps = steps_of_chunk(s)};
  int64_t rows = product(&at.total, at.steps, s->batch);
  int64_t row_units = product(&at.total, s->batch, units);
  at.z = reserve(&at.total, element, product(&at.total, rows, product(&at.total, units, cell->gates)));
  at.c = reserve(&at.total, element, product(&at.total, row_units, cell->states - 1));
  at.scratch = reserve(&at.total, element, cell->phases == 2 ? row_units : 0);
  return at;
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

static const frnn_table *table_of(const void *packed, const packed_layout *layout) {
  const frnn_table *table;
  memcpy(&table, at(packed, (ptrdiff_t)layout->table), sizeof table);
  return table;
}

/* A call and what follows from it. */
typedef struct {
  const frnn_forward_call *call;
  const frnn_shape *shape;
  const frnn_cell *cell;
  const frnn_table *table;
  packed_layout packed;
  forward_layout layout;
  int in_tape, in_step;
  ptrdiff_t row;            /* a padded row of units */
  frnn_sequence tape, work; /* where z stands: by time, or by time in the chunk */
} walk;

static walk begin_walk(const frnn_forward_call *call) {
  const frnn_shape *s = &call->shape;
  walk w = {.call = call,
            .shape = s,
            .cell = &frnn_cells[s->cell],
            .packed = frnn_lay_packed(s),
            .layout = lay_forward(s),
            .in_step = frnn_enters_in_step(s),
            .row = padded(s) * element_size(s)};
  assert(call->work && call->packed);
  w.table = table_of(call->packed, &w.packed);
  w.in_tape = call->tape && w.cell->slots > 0;
  w.tape = dense(call->tape, s->batch, tape_slots(w.cell) * w.row);
  w.work = dense(at(call->work, (ptrdiff_t)w.layout.z), s->batch, w.cell->gates * w.row);
  return w;
}

static void *packed_at(const walk *w, size_t offset) { return at(w->call->packed, (ptrdiff_t)offset); }
static void *work_at(const walk *w, size_t offset) { return at(w->call->work, (ptrdiff_t)offset); }

/* Steps [from, to) of the walk that are projected together. */
typedef struct {
  int64_t from, to;
} chunk;

static chunk chunk_of(const walk *w, int64_t from) {
  return (chunk){from, least(from + w->layout.steps, w->shape->steps)};
}

/* The slots of a row from its step's t on. */
static void *z_at(const walk *w, chunk c, int64_t t, int64_t b) {
  return w->in_tape ? row_at(w->tape, t, b) : row_at(w->work, t - earliest(w->shape, c.from, c.to), b);
}

/* bias + W_ih x of a chunk for some rows and some of the gates' vectors, whose panels are given. */
static void project_with(const walk *w, chunk c, range rows, range vectors, const void *panels) {
  const frnn_shape *s = w->shape;
  int64_t vector = w->table->lanes * w->table->size, t = earliest(s, c.from, c.to);
  frnn_gemm g = {.n = vectors.count * w->table->lanes,
                 .k = s->input,
                 .a_k = w->table->size,
                 .panels = panels,
                 .panel = s->input * vector,
                 .init = at(packed_at(w, w->packed.bias), vectors.begin * vector)};
  frnn_sequence x = w->call->x, z = w->in_tape ? w->tape : w->work;
  x.data = row_at(x, t, rows.begin);
  z.data = at(z_at(w, c, t, rows.begin), vectors.begin * vector);
  product_of_rows(w->table, g, x, z, c.to - c.from, rows.count);
}

static void project(const walk *w, chunk c, range rows, range vectors) {
  int64_t panel = w->shape->input * w->table->lanes * w->table->size;
  void *place = at(packed_at(w, w->packed.w_ih), vectors.begin * panel);
  if (!frnn_packs_in_product(w->shape)) {
    project_with(w, c, rows, vectors, place);
    return;
  }
  int64_t some = most(4, PACKED_AT_ONCE / most(1, panel)), end = vectors.begin + vectors.count;
  for (range now = {vectors.begin, 0}; now.begin < end; now.begin += now.count) {
    now.count = least(some, end - now.begin);
    frnn_pack_for_product(w->shape, w->table, now, w->call->weights.w_ih, place);
    project_with(w, c, rows, now, place);
  }
}

/* The state before step i of the walk, from row b on: rows of h, dense, and rows of c, padded. */
static frnn_sequence h_before(const walk *w, int64_t i, int64_t b) {
  ptrdiff_t row = w->shape->hidden * w->table->size;
  if (i == 0) return (frnn_sequence){at(w->call->first.h, b * row), 0, row};
  return (frnn_sequence){row_at(w->call->y, time_of(w->shape, i - 1), b), 0, w->call->y.row};
}

static void *c_slot(const walk *w, int64_t t, int64_t b) { return at(row_at(w->tape, t, b), w->cell->slots * w->row); }

static frnn_sequence c_before(const walk *w, int64_t i, int64_t b) {
  if (w->in_tape && i > 0) return (frnn_sequence){c_slot(w, time_of(w->shape, i - 1), b), 0, w->tape.row};
  return (frnn_sequence){at(work_at(w, w->layout.c), b * w->row), 0, w->row};
}

/* Everything about step i of the walk for some rows and some vectors of units. */
static frnn_step step_of(const walk *w, chunk c, int64_t i, range rows, range units) {
  const frnn_shape *s = w->shape;
  const frnn_forward_call *call = w->call;
  int64_t t = time_of(s, i), b = rows.begin;
  frnn_sequence h = h_before(w, i, b), c_in = c_before(w, i, b);
  ptrdiff_t z_row = w->in_tape ? w->tape.row : w->work.row;
  void *z = z_at(w, c, t, b);
  frnn_step step = {.m = rows.count,
                    .hidden = s->hidden,
                    .vector = units.begin,
                    .vectors = units.count,
                    .start = w->in_step ? packed_at(w, w->packed.bias) : z,
                    .start_row = w->in_step ? 0 : z_row,
                    .in[FRNN_H] = {h.data, h.row, s->hidden, packed_at(w, w->packed.w_hh)},
                    .y = row_at(call->y, t, b),
                    .y_row = call->y.row,
                    .z = z,
                    .z_row = z_row,
                    .gate = w->row,
                    .c_in = c_in.data,
                    .c_in_row = c_in.row,
                    .c_out = w->in_tape ? c_slot(w, t, b) : c_in.data,
                    .c_row = w->in_tape ? w->tape.row : c_in.row,
                    .scratch = at(work_at(w, w->layout.scratch), b * w->row),
                    .bias_h = packed_at(w, w->packed.bias_h),
                    .keep = w->in_tape,
                    .backwards = (int)(i & 1)};
  if (w->in_step)
    step.in[FRNN_X] = (frnn_factor){row_at(call->x, t, b), call->x.row, s->input, packed_at(w, w->packed.w_ih)};
  return step;
}

static void begin_rows(const walk *w, range rows) {
  ptrdiff_t bytes = w->shape->hidden * w->table->size;
  char *c = at(work_at(w, w->layout.c), rows.begin * w->row);
  if (w->cell->states < 2) return;
  memset(c, 0, (size_t)(rows.count * w->row));
  copy_rows(c, w->row, at(w->call->first.c, rows.begin * bytes), bytes, rows.count, (size_t)bytes);
}

/* The last state is what a step after the last one would begin with. */
static void end_rows(const walk *w, range rows) {
  ptrdiff_t bytes = w->shape->hidden * w->table->size;
  frnn_sequence h = h_before(w, w->shape->steps, rows.begin), c = c_before(w, w->shape->steps, rows.begin);
  void *last_h = at(w->call->last.h, rows.begin * bytes);
  if (last_h != h.data) copy_rows(last_h, bytes, h.data, h.row, rows.count, (size_t)bytes);
  if (w->cell->states == 2)
    copy_rows(at(w->call->last.c, rows.begin * bytes), bytes, c.data, c.row, rows.count, (size_t)bytes);
}

/* What the parts of a job share. */
typedef struct {
  walk walks[FRNN_TOGETHER];
  frnn_run run;
  sharing sharing;
  chunk chunk; /* and the step, where each is a job of its own */
  int64_t i;
  int phase;
} passes;

static range rows_of(const passes *p, share mine) {
  return range_of(p->walks[mine.call].shape->batch, mine.group, mine.groups);
}

static range vectors_of_share(const walk *w, share mine) {
  return range_of(vectors_of_units(w->shape, w->table), mine.slice, mine.slices);
}

/* All of time for some rows. */
static void run_rows(passes *p, const walk *w, range rows) {
  range units = {0, vectors_of_units(w->shape, w->table)};
  int64_t steps = w->shape->steps, until_look = 0;
  begin_rows(w, rows);
  for (chunk c = chunk_of(w, 0); c.from < steps; c = chunk_of(w, c.to)) {
    if (!w->in_step) project(w, c, rows, (range){0, vectors_of_gates(w->shape, w->table)});
    for (int64_t i = c.from; i < c.to; i++) {
      if (--until_look < 0) {
        until_look = p->sharing.steps_between;
        if (frnn_stopped(&p->run)) return;
      }
      frnn_step step = step_of(w, c, i, rows, units);
      for (int phase = 0; phase < w->cell->phases; phase++) w->table->step[w->shape->cell][phase](&step);
    }
  }
  end_rows(w, rows);
}

static void rows_part(void *context, int part, int parts) {
  passes *p = context;
  share mine = share_of(&p->sharing, part);
  range rows = rows_of(p, mine);
  (void)parts;
  for (int64_t done = 0, all = rows.count; done < all; done += rows.count, rows.begin += rows.count) {
    rows.count = least(p->sharing.rows_at_once, all - done);
    run_rows(p, &p->walks[mine.call], rows);
  }
}

static void project_part(void *context, int part, int parts) {
  passes *p = context;
  share mine = share_of(&p->sharing, part);
  const walk *w = &p->walks[mine.call];
  (void)parts;
  project(w, p->chunk, rows_of(p, mine), range_of(vectors_of_gates(w->shape, w->table), mine.slice, mine.slices));
}

static void step_part(void *context, int part, int parts) {
  passes *p = context;
  share mine = share_of(&p->sharing, part);
  const walk *w = &p->walks[mine.call];
  frnn_step step = step_of(w, p->chunk, p->i, rows_of(p, mine), vectors_of_share(w, mine));
  (void)parts;
  w->table->step[w->shape->cell][p->phase](&step);
}

/* Step by step, all parts together. */
static void run_in_step(passes *p, int count) {
  const walk *first = &p->walks[0];
  int parts = parts_of(&p->sharing);
  range all = {0, first->shape->batch};
  double projection = (double)vectors_of_gates(first->shape, first->table) * first->table->lanes *
                      (double)first->shape->input * (double)first->layout.steps * (double)all.count * count;
  for (int i = 0; i < count; i++) begin_rows(&p->walks[i], all);
  for (p->chunk = chunk_of(first, 0); p->chunk.from < first->shape->steps; p->chunk = chunk_of(first, p->chunk.to)) {
    if (!first->in_step) frnn_parallel(&p->run, projection, project_part, p, parts);
    for (p->i = p->chunk.from; p->i < p->chunk.to; p->i++) {
      if (p->i % p->sharing.steps_between == 0 && frnn_stopped(&p->run)) return;
      for (p->phase = 0; p->phase < first->cell->phases; p->phase++)
        frnn_parallel(&p->run, p->sharing.work, step_part, p, parts);
    }
  }
  for (int i = 0; i < count; i++) end_rows(&p->walks[i], all);
}

int frnn_forward(const frnn_forward_call *calls, int count, int (*interrupted)(void)) {
  const frnn_shape *s = &calls->shape;
  passes p;
  assert(count >= 1 && count <= FRNN_TOGETHER);
  if (s->batch == 0) return 0;
  for (int i = 0; i < count; i++) p.walks[i] = begin_walk(&calls[i]);
  p.sharing = share_steps(s, count, p.walks[0].in_step ? weights_of(s) : recurrent_weights_of(s),
                          vectors_of_units(s, p.walks[0].table));
  frnn_begin(&p.run, weights_of(s) * (double)s->steps * (double)s->batch * count, parts_of(&p.sharing), interrupted);
  if (p.sharing.slices > 1)
    run_in_step(&p, count);
  else
    frnn_parallel(&p.run, p.sharing.work, rows_part, &p, parts_of(&p.sharing));
  return frnn_end(&p.run);
}
