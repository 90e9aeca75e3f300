/* valid.c - whether packing and forward calls can be right: what they return before they do anything.
 *
 * It must not know: arithmetic, time, threads. */
#include "../internal/valid.h"
#include "packed.h"

int frnn_pack_status(const frnn_pack_call *calls, int count) {
  int status = !calls || count < 1 || count > FRNN_TOGETHER ? FRNN_INVALID : shape_status(&calls->shape);
  if (status == 0 && is_too_large(&calls->shape, 0, 0)) status = FRNN_INVALID;
  for (int i = 0; i < count && status == 0; i++) {
    const frnn_shape *s = &calls[i].shape;
    if (!are_alike(s, &calls->shape) || !is_buffer(calls[i].packed) || calls[i].forms & ~(unsigned)BOTH_FORMS ||
        (calls[i].like && !are_packed(s, calls[i].like)) ||
        !has_weights(s, &calls[i].weights, calls[i].forms != 0 && s->input > 0))
      status = FRNN_INVALID;
  }
  return status;
}

/* Packed weights serve a pass if they were packed for its shape, in its form; a pass over ids reads no W_ih. */
static int serves(const frnn_forward_call *call) {
  const frnn_shape *s = &call->shape;
  const packed_header *packed = call->packed;
  if (!are_of_shape(s, packed)) return 0;
  if (s->has_ids || s->input == 0 || packed->forms == BOTH_FORMS) return 1;
  unsigned form = frnn_form_of(s);
  if (form == 0 && call->weights.w_ih) return 1;
  return (packed->forms & (form ? form : FRNN_FOR_PRODUCTS)) != 0;
}

static int is_valid(const frnn_forward_call *call) {
  const frnn_shape *s = &call->shape;
  if (!is_buffer(call->work) || (call->tape && !is_buffer(call->tape))) return 0;
  if (s->steps > 0 && s->hidden > 0 && (!call->y.data || (s->has_ids && !call->ids.table))) return 0;
  if (!is_aligned(s, &call->x) || !is_aligned(s, &call->y) || !is_aligned(s, &call->aux)) return 0;
  return has_states(s, &call->first) && has_states(s, &call->last) && has_gains(s, &call->variant) &&
         takes_options(s->cell, &call->variant, &call->dropout) && has_inputs(s, &call->ids, &call->x, &call->aux) &&
         serves(call);
}

int frnn_forward_status(const frnn_forward_call *calls, int count) {
  int status = !calls || count < 1 || count > FRNN_TOGETHER ? FRNN_INVALID : shape_is_invalid(&calls->shape);
  if (status == 0 && is_too_large(&calls->shape, rows_of_pass(&calls->shape), 1)) status = FRNN_INVALID;
  for (int i = 0; i < count && status == 0; i++)
    if ((i > 0 && !are_alike(&calls[i].shape, &calls->shape)) || (calls->shape.batch > 0 && !is_valid(&calls[i])))
      status = FRNN_INVALID;
  return status;
}
