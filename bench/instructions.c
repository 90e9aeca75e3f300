/* instructions.c - some small cases on one thread, for counting instructions (instructions.py does, with callgrind).
 *
 *   instructions ISA CASE    runs the case; exit status 2 where this machine or build has no such set or case
 *
 * Prints the compiler. Only what runs inside counted() is to be counted: data and memory are there before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

typedef struct {
  const char *name, *cell;
  frnn_shape shape; /* but for the cell */
  int calls;        /* each takes the state that the one before it left */
  int training;
  int64_t ids; /* x is so many ids, and the shape's input none; 0: x has features */
} problem;

static const problem problems[] = {
    {"lstm-forward", "lstm", {.steps = 20, .batch = 1, .input = 40, .hidden = 128}, 1, 0, 0},
    {"lstm-stream", "lstm", {.steps = 1, .batch = 1, .input = 64, .hidden = 64}, 50, 0, 0},
    {"gru-training", "gru_after", {.steps = 10, .batch = 16, .input = 24, .hidden = 64}, 1, 1, 0},
    {"lstm-ids-stream", "lstm", {.steps = 1, .batch = 4, .input = 0, .hidden = 64, .has_ids = 1}, 50, 0, 100},
    {"gru-ids-training", "gru_after", {.steps = 10, .batch = 16, .input = 0, .hidden = 64, .has_ids = 1}, 1, 1, 100},
};

static void *memory(size_t bytes) {
  void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!p) abort();
  return memset(p, 0, (bytes + 63) / 64 * 64);
}

/* n floats in [-1/8, 1/8), the same everywhere. */
static float *numbers(int64_t n) {
  static uint64_t seed = 1;
  float *p = memory((size_t)n * sizeof *p);
  for (int64_t i = 0; i < n; i++) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    p[i] = ((float)(seed >> 40) - 0x1p23f) * 0x1p-26f;
  }
  return p;
}

static frnn_sequence sequence(const frnn_shape *s, int64_t features) {
  ptrdiff_t row = features * (ptrdiff_t)sizeof(float);
  return (frnn_sequence){numbers(s->steps * s->batch * features), s->batch * row, row};
}

/* Ids of each row and step, and the table of what each makes. */
static frnn_ids ids_of(const problem *p, const frnn_shape *shape, const frnn_weights *weights, int64_t rows) {
  frnn_shape s = *shape;
  int64_t *ids = memory((size_t)(s.steps * s.batch) * sizeof *ids);
  for (int64_t i = 0; i < s.steps * s.batch; i++) ids[i] = i * 37 % p->ids;
  s.input = p->ids, s.has_ids = 0;
  frnn_id_table_call call = {.shape = s, .weights = *weights, .count = p->ids};
  call.weights.w_ih = numbers(rows * p->ids);
  call.table = memory(frnn_id_table_size(&s, p->ids)), call.work = memory(frnn_id_table_work_size(&s, p->ids));
  frnn_make_id_table(&call, NULL);
  return (frnn_ids){.numbers = ids, .step = s.batch, .table = call.table, .gradient = numbers(rows * p->ids)};
}

/* Training packs its weights each time, for they have changed; a stream packs once, before. */
__attribute__((noinline)) void counted(const problem *p, const frnn_pack_call *packing, frnn_forward_call *forward,
                                       frnn_backward_call *backward) {
  if (p->training) frnn_pack(packing, 1, NULL);
  for (int i = 0; i < p->calls; i++) frnn_forward(forward, 1, NULL);
  if (p->training) frnn_backward(backward, 1, NULL);
}

static void run(const problem *p) {
  frnn_shape shape = p->shape, *s = &shape;
  shape.cell = frnn_cell_named(p->cell);
  int64_t rows = frnn_facts_of(s->cell)->gates * s->hidden, states = s->batch * s->hidden;
  frnn_weights weights = {numbers(rows * s->input), numbers(rows * s->hidden), numbers(rows), numbers(rows)};
  frnn_state state = {{numbers(states), numbers(states)}};
  frnn_forward_call forward = {.shape = *s, .weights = weights, .first = state, .last = state};
  forward.x = sequence(s, s->input), forward.y = sequence(s, s->hidden);
  frnn_pack_call packing = {.shape = *s, .weights = weights, .forms = frnn_form_of(s)};
  forward.packed = packing.packed = memory(frnn_packed_size(s, packing.forms));
  forward.work = memory(frnn_forward_size(s));
  frnn_backward_call backward = {.shape = *s, .weights = weights, .x = forward.x, .y = forward.y};
  if (p->ids) backward.ids = forward.ids = ids_of(p, s, &weights, rows);
  if (p->training) {
    forward.last = (frnn_state){{numbers(states), numbers(states)}};
    backward.tape = forward.tape = memory(frnn_tape_size(s));
    backward.work = memory(frnn_backward_size(s));
    backward.first = state, backward.dfirst = (frnn_state){{numbers(states), numbers(states)}};
    backward.dy = sequence(s, s->hidden), backward.dx = sequence(s, s->input);
    backward.dw_ih = numbers(rows * s->input), backward.dw_hh = numbers(rows * s->hidden);
    backward.db_ih = numbers(rows), backward.db_hh = numbers(rows);
  } else {
    frnn_pack(&packing, 1, NULL);
    void *plan = memory(frnn_plan_size());
    frnn_plan(s, plan);
    forward.plan = plan;
  }
  counted(p, &packing, &forward, &backward);
}

int main(int argc, char **argv) {
  frnn_set_threads(1);
  if (argc != 3 || frnn_select(argv[1]) != 0) return 2;
  printf("%s\n", frnn_compiler());
  for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
    if (strcmp(argv[2], problems[i].name) != 0) continue;
    run(&problems[i]);
    return 0;
  }
  return 2;
}
