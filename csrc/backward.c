/* backward.c - backward through time: who does what when. What there is to do is sweep.c's.
 *
 * A call is cut into groups of rows. A thread takes a group from its begin to its end, chunk of time steps by chunk;
 * where threads are more than groups, they share out each chunk. Sums over time and rows run in the order of the sweep,
 * whatever the chunk; those of the groups are added up in their order.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#include "sweep.h"

/* Rows of a chunk: few enough that what the products read of them, the gate gradients and their operands, is still
 * near, and enough that reading and writing the weights' gradients once per chunk is little beside the products. */
enum { CHUNK_ROWS_LEAST = 256, CHUNK_ROWS_MOST = 1024, CHUNK_BYTES = 262144, WEIGHT_BYTES_PER_ROW = 32768 };

static int64_t chunk_rows(const frnn_shape *s) {
  double element = (double)element_size(s), gates = (double)frnn_cells[s->cell].gates * (double)s->hidden;
  double width = (double)s->input + (double)s->hidden;
  double near = CHUNK_BYTES / (element * (gates + width)), worth = element * gates * width / WEIGHT_BYTES_PER_ROW;
  double rows = near > worth ? near : worth;
  return rows > CHUNK_ROWS_MOST ? CHUNK_ROWS_MOST : rows < CHUNK_ROWS_LEAST ? CHUNK_ROWS_LEAST : (int64_t)rows;
}

/* Where the weights are few, the batch goes in groups of rows with weight gradients of their own, added up at the end:
 * then no thread waits for another, nor reads what it wrote. The groups show in the sums, so they follow from the shape
 * alone: 1, 2 or 4. Each reads the weights and the gradients for itself, and its steps have a cost of their own, so the
 * weights must be few, and the rows enough. */
enum { GROUPS_MOST = 4, GROUPS_WEIGHT_BYTES = 327680, ROWS_OF_A_SUM = 8, MULTIPLY_ADDS_OF_A_SUM = 100000 };

static int groups_of(const frnn_shape *s) {
  int few = weights_of(s) * (double)element_size(s) <= GROUPS_WEIGHT_BYTES && !s->tokens; /* tables are large */
  int groups = few ? GROUPS_MOST : 1;
  while (groups > 1 && (s->batch / groups < ROWS_OF_A_SUM ||
                        recurrent_weights_of(s) * (double)s->batch / groups < MULTIPLY_ADDS_OF_A_SUM))
    groups /= 2;
  return groups;
}

/* Bytes of a row of gate gradients. One more line per row: rows a power of two apart would share the sets of the
 * cache. */
static int64_t gate_gradient_row(size *total, const frnn_shape *s) {
  int64_t gates = product(total, frnn_cells[s->cell].columns, s->hidden);
  int64_t bytes = product(total, gates + s->projected, element_size(s));
  return bytes / FRNN_ALIGN * FRNN_ALIGN + 2 * FRNN_ALIGN;
}

/* What it takes to make steps again. */
static void lay_again(const frnn_shape *s, int64_t batch, backward_layout *at) {
  size_t packed = frnn_packed_size(s), forward = frnn_forward_size(s);
  int64_t steps = product(&at->part, least(s->checkpoint, s->steps), batch);
  int64_t row = product(&at->part, padded(s), tape_slots(&frnn_cells[s->cell]));
  at->total.overflow |= packed == 0 || forward == 0;
  at->packed = reserve(&at->total, 1, (int64_t)packed);
  at->forward = reserve(&at->part, 1, (int64_t)forward);
  at->tape = reserve(&at->part, element_size(s), product(&at->part, steps, row));
}

static backward_layout lay_backward(const frnn_shape *s) {
  const frnn_cell *cell = &frnn_cells[s->cell];
  int64_t element = element_size(s), units = padded(s), two = phases_of(s) == 2;
  backward_layout at = {.groups = groups_of(s)};
  frnn_shape of_group = *s;
  of_group.batch = s->batch / at.groups + (s->batch % at.groups > 0);
  if (s->ragged) of_group.batch = s->batch; /* they are shared out by their steps */
  at.steps = chunk_steps(&of_group, chunk_rows(s));
  at.rows = s->ragged ? most(s->batch, chunk_rows(s)) : product(&at.part, at.steps, of_group.batch);
  int64_t gate_rows = product(&at.total, cell->gates, s->hidden);
  at.w_ih = reserve(&at.total, element, product(&at.total, gate_rows, vectors_of(s, s->input)));
  at.w_hh = reserve(&at.total, element, product(&at.total, gate_rows, vectors_of(s, features_of(s))));
  at.w_hr = reserve(&at.total, element, product(&at.total, s->projected, units));
  int64_t rows = at.rows;
  int64_t row_units = product(&at.part, of_group.batch, units);
  at.dh = reserve(&at.part, element, row_units);
  at.dc = reserve(&at.part, element, product(&at.part, row_units, cell->states - 1));
  at.c_first = reserve(&at.part, element, product(&at.part, row_units, cell->states - 1));
  at.drh = reserve(&at.part, element, product(&at.part, row_units, two));
  at.rh = reserve(&at.part, element, product(&at.part, rows, product(&at.part, units, two)));
  at.dg_row = gate_gradient_row(&at.part, s);
  at.dg = reserve(&at.part, 1, product(&at.part, rows, at.dg_row));
  at.operand[INPUT] = reserve(&at.part, element, product(&at.part, rows, vectors_of(s, s->input)));
  at.operand[HIDDEN] = reserve(&at.part, element, product(&at.part, rows, units));
  at.operand[RESET_HIDDEN] = reserve(&at.part, element, product(&at.part, rows, product(&at.part, units, two)));
  if (s->ragged) {
    at.first = reserve(&at.part, sizeof(int64_t), rows + 1);
    at.dx = reserve(&at.part, element, product(&at.part, rows, s->input));
    at.zeros = reserve(&at.part, element, most(s->input, units));
    for (int i = 0; i < GIVEN; i++)
      at.given[i] = reserve(&at.part, element, product(&at.part, rows, i == GIVEN_X ? s->input : units));
    at.dh_first = reserve(&at.part, element, row_units);
    at.dc_first = reserve(&at.part, element, product(&at.part, row_units, cell->states - 1));
  }
  if (at.groups > 1) {
    const int64_t columns[] = {s->input, features_of(s), 1, 1};
    for (int i = 0; i < 4; i++) at.sums[i] = reserve(&at.part, element, product(&at.part, gate_rows, columns[i]));
    at.sums[4] = reserve(&at.part, element, product(&at.part, s->projected, s->hidden));
  }
  if (s->checkpoint) lay_again(s, of_group.batch, &at);
  at.total.overflow |= at.part.overflow;
  at.parts = reserve(&at.total, at.groups, (int64_t)at.part.bytes);
  return at;
}

size_t frnn_backward_size(const frnn_shape *s) {
  backward_layout layout = lay_backward(s);
  return total(&layout.total);
}

static void *sum_at(const frnn_backward_call *part, const backward_layout *layout, int which, void *wanted) {
  return wanted ? at(part->work, (ptrdiff_t)layout->sums[which]) : NULL;
}

static void move_state(frnn_state *state, ptrdiff_t h, ptrdiff_t c) {
  if (state->h) state->h = at(state->h, h);
  if (state->c) state->c = at(state->c, c);
}

static void move_rows(frnn_sequence *q, int64_t rows) {
  if (q->data) q->data = row_at(*q, 0, rows);
}

/* From some position on. With an order, what is the user's stays where it is: it is found by the order. */
static void move_call(frnn_backward_call *part, int64_t rows) {
  ptrdiff_t h = features_of(&part->shape) * element_size(&part->shape);
  ptrdiff_t c = part->shape.hidden * element_size(&part->shape);
  if (part->rows.lengths) part->rows.lengths += rows;
  if (part->rows.order) {
    part->rows.order += rows;
    part->rows.begin += rows;
    return;
  }
  if (part->rows.mask) part->rows.mask += rows;
  if (part->rows.reset) part->rows.reset += rows;
  move_rows(&part->x, rows);
  move_rows(&part->y, rows);
  move_rows(&part->dy, rows);
  move_rows(&part->dx, rows);
  move_rows(&part->dh, rows);
  move_rows(&part->dc, rows);
  move_state(&part->first, rows * h, rows * c);
  move_state(&part->dlast, rows * h, rows * c);
  move_state(&part->dfirst, rows * h, rows * c);
}

/* The rows of a group as a call of their own. The first group's sums are the call's. */
static frnn_backward_call part_of_call(const frnn_backward_call *whole, const backward_layout *layout, int group) {
  frnn_backward_call part = *whole;
  const frnn_shape *s = &whole->shape;
  range rows = rows_of_part(s, &whole->rows, group, layout->groups);
  part.shape.batch = rows.count;
  part.work = at(whole->work, (ptrdiff_t)(layout->parts + (size_t)group * layout->part.bytes));
  move_call(&part, rows.begin);
  int slots = s->checkpoint ? 1 : (int)tape_slots(&frnn_cells[s->cell]);
  part.tape = at(whole->tape, rows.begin * slots * padded(s) * element_size(s));
  if (group == 0) return part;
  part.dw_ih = sum_at(&part, layout, 0, part.dw_ih);
  part.dw_hh = sum_at(&part, layout, 1, part.dw_hh);
  part.db_ih = sum_at(&part, layout, 2, part.db_ih);
  part.db_hh = sum_at(&part, layout, 3, part.db_hh);
  part.dw_hr = sum_at(&part, layout, 4, part.dw_hr);
  return part;
}

static sweep begin_sweep(const frnn_backward_call *whole, const frnn_backward_call *part) {
  const frnn_shape *s = &part->shape;
  sweep w = {.call = part,
             .shape = s,
             .table = frnn_table_for(s->dtype),
             .cell = &frnn_cells[s->cell],
             .layout = lay_backward(&whole->shape),
             .panels = whole->work,
             .row = padded(s) * element_size(s),
             .from = s->batch > 0 ? s->steps : 0};
  w.tape = dense((void *)(uintptr_t)part->tape, whole->shape.batch, tape_slots(w.cell) * w.row);
  w.dg = dense(at(part->work, (ptrdiff_t)w.layout.dg), s->batch, w.layout.dg_row);
  w.rh = dense(at(part->work, (ptrdiff_t)w.layout.rh), s->batch, w.row);
  if (!s->checkpoint) return w;
  w.kept = dense((void *)(uintptr_t)part->tape, whole->shape.batch, w.row);
  w.tape = dense(at(part->work, (ptrdiff_t)w.layout.tape), s->batch, tape_slots(w.cell) * w.row);
  w.again = (frnn_forward_call){.shape = *s,
                                .weights = part->weights,
                                .packed = at(whole->work, (ptrdiff_t)w.layout.packed),
                                .rows = part->rows,
                                .tokens = part->tokens,
                                .x = part->x,
                                .y = part->y,
                                .first = part->first,
                                .tape = w.tape.data,
                                .work = at(part->work, (ptrdiff_t)w.layout.forward)};
  return w;
}

/* The weights as forward steps read them. */
static int pack_again(const frnn_backward_call *calls, int count, int (*interrupted)(void)) {
  frnn_forward_call forward[FRNN_TOGETHER] = {0};
  backward_layout layout = lay_backward(&calls->shape);
  if (!calls->shape.checkpoint) return 0;
  for (int i = 0; i < count; i++) {
    forward[i].shape = calls[i].shape;
    forward[i].weights = calls[i].weights;
    forward[i].packed = at(calls[i].work, (ptrdiff_t)layout.packed);
  }
  return frnn_pack(forward, count, interrupted);
}

enum { SWEEPS_MOST = FRNN_TOGETHER * GROUPS_MOST };

/* What the parts of a job share. */
typedef struct {
  frnn_backward_call parts[SWEEPS_MOST]; /* call by call its groups */
  sweep sweeps[SWEEPS_MOST];
  int count;
  const frnn_shape *whole; /* of a call */
  frnn_run run;
  sharing packing, steps, pieces; /* of the weights' panels, the sweep, the products */
  int64_t steps_at_once;          /* of all rows, whose dx is a stretch between two looks */
  int64_t k;                      /* the stretch, where each is a job of its own */
} backwards;

/* ---- packing --------------------------------------------------------------------------------------------------- */

static void pack_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->packing, part);
  (void)parts;
  frnn_pack_transposed(&p->sweeps[mine.call * p->sweeps[0].layout.groups], mine);
}

/* ---- the sweep ------------------------------------------------------------------------------------------------- */

/* Of the rows at work in the chunk, and of those that are not, which the last share takes along. */
static range rows_of(const sweep *w, share mine) {
  range rows = range_of(working(w->shape, &w->call->rows, w->t0), mine.group, mine.groups);
  if (mine.group == mine.groups - 1) rows.count = w->shape->batch - rows.begin;
  return rows;
}

static void stretch_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->steps, part);
  const sweep *w = &p->sweeps[mine.call];
  (void)parts;
  frnn_run_stretch(w, p->k, rows_of(w, mine), mine);
}

/* All of a chunk's stretches for some rows, and what these then go into. */
static void run_rows(backwards *p, const sweep *w, share mine) {
  range all = rows_of(w, mine), rows = {all.begin, 0}, steps = {0, 0};
  frnn_gather_given(w, all);
  for (; rows.begin < all.begin + all.count; rows.begin += rows.count) {
    rows.count = least(p->steps.rows_at_once, all.begin + all.count - rows.begin);
    for (int64_t k = 0; k <= stretches_of(w); k++) {
      if (k % p->steps.steps_between == 0 && frnn_stopped(&p->run)) return;
      frnn_run_stretch(w, k, rows, mine);
    }
  }
  for (; steps.begin < w->to - w->from; steps.begin += steps.count) {
    if (frnn_stopped(&p->run)) return;
    steps.count = least(p->steps_at_once, w->to - w->from - steps.begin);
    frnn_finish_rows(w, steps, all);
  }
}

static void rows_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->steps, part);
  (void)parts;
  run_rows(p, &p->sweeps[mine.call], mine);
}

/* The latter alone, where the stretches were jobs of their own. */
static void finish_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->pieces, part);
  const sweep *w = &p->sweeps[mine.call];
  range steps = {0, w->to - w->from}, rows = {0, w->shape->batch};
  (void)parts;
  if (steps.count > rows.count)
    steps = range_of(steps.count, mine.slice, mine.slices);
  else
    rows = range_of(rows.count, mine.slice, mine.slices);
  frnn_finish_rows(w, steps, rows);
}

static void run_sweep(backwards *p) {
  int64_t last = 0;
  for (int i = 0; i < p->count; i++) last = most(last, stretches_of(&p->sweeps[i]));
  if (p->steps.slices == 1) {
    frnn_parallel(&p->run, p->steps.work, rows_part, p, parts_of(&p->steps));
    return;
  }
  for (int i = 0; i < p->count; i++) frnn_gather_given(&p->sweeps[i], (range){0, p->sweeps[i].shape->batch});
  for (p->k = 0; p->k <= last; p->k++) {
    if (p->k % p->steps.steps_between == 0 && frnn_stopped(&p->run)) return;
    frnn_parallel(&p->run, p->steps.work, stretch_part, p, parts_of(&p->steps));
  }
  frnn_parallel(&p->run, p->pieces.work, finish_part, p, parts_of(&p->pieces));
}

/* ---- the gradients of the weights ------------------------------------------------------------------------------- */

static void weights_part(void *context, int part, int parts) {
  backwards *p = context;
  share mine = share_of(&p->pieces, part);
  (void)parts;
  frnn_add_chunk(&p->sweeps[mine.call], mine);
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

/* A group from its begin to its end. */
static void sweep_part(void *context, int part, int parts) {
  backwards *p = context;
  sweep *w = &p->sweeps[part];
  (void)parts;
  frnn_begin_gradients(w);
  while (frnn_next_chunk(w)) {
    if (w->stale) {
      walk again;
      frnn_begin_again(&again, &w->again, p->whole, w->kept, steps_again(w));
      frnn_run_rows(&p->run, &again, (range){0, w->shape->batch}, p->steps.steps_between);
    }
    run_rows(p, w, (share){part, 0, 1, 0, 1});
    for (int i = 0; i < p->pieces.slices; i++) {
      if (frnn_stopped(&p->run)) return;
      frnn_add_chunk(w, (share){part, 0, 1, i, p->pieces.slices});
    }
  }
  frnn_end_gradients(w);
}

/* All groups chunk by chunk, each chunk by all threads. */
static void sweep_together(backwards *p) {
  for (int i = 0; i < p->count; i++) frnn_begin_gradients(&p->sweeps[i]);
  while (!frnn_stopped(&p->run)) {
    int left = 0;
    for (int i = 0; i < p->count; i++) left |= frnn_next_chunk(&p->sweeps[i]);
    if (!left) break;
    for (int i = 0; i < p->count; i++) {
      const sweep *w = &p->sweeps[i];
      walk again;
      if (!w->stale) continue;
      frnn_begin_again(&again, &w->again, p->whole, w->kept, steps_again(w));
      frnn_run_walks(&p->run, &again, 1);
    }
    run_sweep(p);
    frnn_parallel(&p->run, p->pieces.work, weights_part, p, parts_of(&p->pieces));
  }
  for (int i = 0; i < p->count; i++) frnn_end_gradients(&p->sweeps[i]);
}

static void add_sum(const frnn_table *table, void *sum, const void *other, int64_t n) {
  if (sum) table->add(sum, sum, other, n);
}

/* The sums of a call's groups, one after another, to those of its first. */
static void add_groups(const sweep *first) {
  const frnn_backward_call *sum = first->call;
  const frnn_shape *s = first->shape;
  int64_t rows = first->cell->gates * s->hidden;
  for (const sweep *w = first + 1; w < first + first->layout.groups; w++) {
    add_sum(w->table, sum->dw_ih, w->call->dw_ih, rows * s->input);
    add_sum(w->table, sum->dw_hh, w->call->dw_hh, rows * features_of(s));
    add_sum(w->table, sum->dw_hr, w->call->dw_hr, s->projected * s->hidden);
    add_sum(w->table, sum->db_ih, w->call->db_ih, rows);
    add_sum(w->table, sum->db_hh, w->call->db_hh, rows);
  }
}

static void share_out(backwards *p, const frnn_shape *s, int calls) {
  const sweep *first = &p->sweeps[0];
  const frnn_shape full = as_if_full(first->shape, &first->call->rows), *part = &full;
  double rows = (double)first->layout.rows;
  p->packing = share_slices(calls, MULTIPLY_ADDS_OF_PACKING * weights_of(s), s->hidden);
  p->steps = share_steps(part, p->count, recurrent_weights_of(s), vectors_of_units(s, first->table));
  p->pieces = share_slices(p->count, 2 * weights_of(s) * rows, s->hidden);
  p->steps_at_once = most(1, (int64_t)(STRETCH / (weights_of(s) * (double)most(1, part->batch))));
}

int frnn_backward(const frnn_backward_call *calls, int count, int (*interrupted)(void)) {
  const frnn_shape *s = &calls->shape;
  backwards p;
  assert(count >= 1 && count <= FRNN_TOGETHER);
  backward_layout layout = lay_backward(s);
  double work = 3 * weights_of(s) * (double)steps_of_rows(s, &calls->rows) * count;
  p.count = count * layout.groups;
  p.whole = s;
  for (int i = 0; i < p.count; i++) {
    const frnn_backward_call *whole = &calls[i / layout.groups];
    assert(whole->work && whole->tape);
    p.parts[i] = part_of_call(whole, &layout, i % layout.groups);
    p.sweeps[i] = begin_sweep(whole, &p.parts[i]);
  }
  share_out(&p, s, count);
  if (pack_again(calls, count, interrupted) < 0) return -1;
  frnn_begin(&p.run, work, p.count < parts_of(&p.pieces) ? parts_of(&p.pieces) : p.count, interrupted);
  frnn_parallel(&p.run, p.packing.work, pack_part, &p, parts_of(&p.packing));
  if (p.count >= frnn_threads())
    frnn_parallel(&p.run, work, sweep_part, &p, p.count);
  else
    sweep_together(&p);
  for (int i = 0; i < count; i++) add_groups(&p.sweeps[i * layout.groups]);
  return frnn_end(&p.run);
}
