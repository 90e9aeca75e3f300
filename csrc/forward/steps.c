/* steps.c - several steps forward in time of a pass whose rows all take every step: the arguments of a step differ from
 * those of the step before by constants, so they are computed once. A short step costs little more than its tile.
 *
 * It must not know: dtypes, instruction sets, activations, threads, Python. */
#include "step.h"

/* Each row takes every step, and a step is nothing but tiles: nothing is copied to a tape or converted between them.
 * What variants add, such as zoneout, is not looked at, for their steps are unfused. */
int frnn_is_steady(const forward_pass *w) {
  const frnn_shape *s = w->shape;
  return !s->ragged && !w->recompute && !w->checkpoints.data && !s->projected && !w->call->dropout.recurrent &&
         !w->products->convert && !is_unfused(w->cell);
}

/* The strides from a phase of a step to the same phase of the next step. The pass' first step has none: it reads the
 * caller's state. */
static frnn_strides strides_of(const forward_pass *w, frnn_phase phase) {
  ptrdiff_t sign = w->shape->reverse ? -1 : 1, z = sign * (w->in_tape ? w->tape.step : w->work.step);
  if (w->layout->in_step && !w->in_tape) z = 0;
  frnn_strides by = {.z = z, .h = phase.number == 0 ? sign * w->call->y.step : 0};
  if (w->shape->has_ids)
    by.start_of = sign * w->call->ids.step * (ptrdiff_t)sizeof(int64_t);
  else if (!w->layout->in_step)
    by.start = z;
  if (w->layout->in_step) by.x = sign * w->call->x.step;
  by.state[FRNN_STATE_H] = sign * w->call->y.step;
  for (int state = 1; state < w->cell->facts.states; state++) by.state[state] = w->in_tape ? z : 0;
  return by;
}

typedef void tile_function(frnn_step *);

/* Takes one step, with a phase after the other. */
static void take_one(const forward_pass *w, chunk c, int64_t i, range rows, range vectors) {
  tile_function *const *tiles = w->products->tiles[w->cell->number];
  for (const frnn_phase *phase = w->cell->forward; phase->kind == FRNN_TILE; phase++) {
    frnn_step step = frnn_step_of(w, c, i, *phase, rows, vectors);
    tiles[phase->number](&step);
  }
}

/* Takes steps [i, end), none of them the pass' first one. A cell with several phases takes them step by step. */
static void take_by_strides(const forward_pass *w, chunk c, int64_t i, int64_t end, range rows, range vectors) {
  tile_function *const *tiles = w->products->tiles[w->cell->number];
  frnn_step arguments[FRNN_PHASES];
  int phases = phases_of(w->shape, w->cell->forward);
  for (int p = 0; p < phases; p++) {
    arguments[p] = frnn_step_of(w, c, i, w->cell->forward[p], rows, vectors);
    arguments[p].by = strides_of(w, w->cell->forward[p]);
  }
  if (phases == 1) {
    arguments->more = end - 1 - i;
    tiles[w->cell->forward->number](arguments);
    return;
  }
  for (; i < end; i++) {
    for (int p = 0; p < phases; p++) {
      tiles[w->cell->forward[p].number](&arguments[p]);
      frnn_advance(&arguments[p]);
    }
  }
}

void frnn_take_steps(const forward_pass *w, chunk c, range steps, range rows) {
  range vectors = {0, vectors_of_units(w->shape, w->kernels)};
  int64_t i = steps.begin, end = steps.begin + steps.count;
  if (i == w->begin) take_one(w, c, i++, rows, vectors);
  if (i < end) take_by_strides(w, c, i, end, rows, vectors);
}
