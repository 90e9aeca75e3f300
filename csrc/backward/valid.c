/* valid.c - whether a backward call can be right: what it returns before it does anything.
 *
 * It must not know: arithmetic, time, threads. */
#include "../internal/valid.h"
#include "step.h"

static int all_are_aligned(const frnn_backward_call *call) {
  const frnn_shape *s = &call->shape;
  const frnn_sequence *all[] = {&call->x, &call->y, &call->aux, &call->dy, &call->dx, &call->daux};
  int aligned = are_aligned(s, &call->dlast);
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) aligned &= is_aligned(s, all[i]);
  for (int i = 0; i < s->cell->facts.states; i++) aligned &= is_aligned(s, &call->dstate[i]);
  return aligned;
}

static int is_valid(const frnn_backward_call *call) {
  const frnn_shape *s = &call->shape;
  if (!is_buffer(call->work) || !is_buffer(call->tape) || s->precision != FRNN_FULL) return 0;
  if (s->batch == 0) return 1;
  if (s->steps > 0 && s->hidden > 0 && !call->y.data) return 0;
  return all_are_aligned(call) && has_states(s, &call->first) && has_states(s, &call->dfirst) &&
         has_gains(s, &call->variant) && takes_options(s->cell, &call->variant, &call->dropout) &&
         has_inputs(s, &call->ids, &call->x, &call->aux) && has_weights(s, &call->weights, !s->has_ids && s->input > 0);
}

int frnn_backward_status(const frnn_backward_call *calls, int count) {
  int status = !calls || count < 1 || count > FRNN_TOGETHER ? FRNN_INVALID : shape_status(&calls->shape);
  if (status == 0 && is_too_large(&calls->shape, rows_of_pass(&calls->shape), 1)) status = FRNN_INVALID;
  for (int i = 0; i < count && status == 0; i++)
    if (!are_alike(&calls[i].shape, &calls->shape) || !is_valid(&calls[i])) status = FRNN_INVALID;
  return status;
}
