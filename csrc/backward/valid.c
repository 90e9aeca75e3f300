/* valid.c - whether a backward call can be right: what it returns before it does anything.
 *
 * It must not know: arithmetic, time, threads. */
#include "../internal/valid.h"
#include "step.h"

static int is_valid(const frnn_backward_call *call) {
  const frnn_shape *s = &call->shape;
  if (!is_buffer(call->work) || !is_buffer(call->tape) || s->precision != FRNN_FULL) return 0;
  if (s->batch == 0) return 1;
  if (s->steps > 0 && s->hidden > 0 && !call->y.data) return 0;
  return has_states(s, &call->first) && has_states(s, &call->dfirst) && has_gains(s, &call->variant) &&
         has_inputs(s, &call->ids, &call->x, &call->aux) && has_weights(s, &call->weights, !s->has_ids && s->input > 0);
}

int frnn_backward_status(const frnn_backward_call *calls, int count) {
  int status = !calls || count < 1 || count > FRNN_TOGETHER ? FRNN_INVALID : shape_status(&calls->shape);
  for (int i = 0; i < count && status == 0; i++)
    if (!are_alike(&calls[i].shape, &calls->shape) || !is_valid(&calls[i])) status = FRNN_INVALID;
  return status;
}
