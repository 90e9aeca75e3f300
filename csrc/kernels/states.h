/* states.h - rows of a state's arrays in a step, forward and backward.
 *
 * It must not know: cells, time, threads. */

INLINE const real *state_before(const frnn_step *s, int state, int64_t m) {
  return AT(const real, s->state[state].before, m * s->state[state].before_row);
}

INLINE real *state_after(const frnn_step *s, int state, int64_t m) {
  return AT(real, s->state[state].after, m * s->state[state].after_row);
}

INLINE const real *back_before(const frnn_back *b, int state, int64_t m) {
  return AT(const real, b->state[state].before, m * b->state[state].before_row);
}

INLINE const real *back_after(const frnn_back *b, int state, int64_t m) {
  return AT(const real, b->state[state].after, m * b->state[state].after_row);
}

INLINE real *back_gradient(const frnn_back *b, int state, int64_t m) {
  return AT(real, b->state[state].d, m * b->d_row);
}

/* Writes the gradient of a state after the step to the caller's dstate, if wanted. */
INLINE void show_gradient(const frnn_back *b, int state, int64_t m, int64_t u, vec d) {
  const frnn_back_state *q = &b->state[state];
  if (q->shown) vstore_part(AT(real, q->shown, m * q->shown_row) + u, d, b->hidden - u);
}
