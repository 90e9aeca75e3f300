/* rnn_variant.h - variants of the Elman cell: (R1) to (R3) as fastrnn/reference/variants.py changes them.
 *
 * Tape: h before zoneout. That of relu needs no mark of a reached bound (variant.h): it equals the bound then.
 *
 * It must not know: time, threads. */

INLINE void rnn_variant_units(const int N, const int nonlinearity, const frnn_step *s, const unit_options *a, int64_t m,
                              int64_t unit) {
  vec h[N_MOST];
  real *z = AT(real, s->z, m * s->z_row) + unit;
  EACH h[n] = vload(z + n * LANES);
  if (nonlinearity == TANH) {
    tanh_each(N, a, h, s->keep ? z : NULL);
  } else {
    EACH h[n] = vmax(h[n], (vec){0});
    if (a->clips) EACH h[n] = vclip(h[n], a->clip);
    if (s->keep) EACH vstore(z + n * LANES, h[n]);
  }
  EACH {
    int64_t u = unit + n * LANES;
    vstore_part(state_after(s, FRNN_STATE_H, m) + u, zone_h(s, m, u, h[n]), s->hidden - u);
  }
}

INLINE void rnn_variant_step(const int nonlinearity, const frnn_step *s) {
  unit_options a = unit_options_of(s->variant);
  for (int64_t m = 0; m < s->m; m++) UNITS_TOGETHER(rnn_variant_units, nonlinearity, s, &a, m);
}

INLINE void rnn_variant_back(const int nonlinearity, const frnn_back *b) {
  unit_options a = unit_options_of(b->variant);
  for (int64_t m = 0; m < b->m; m++) {
    const real *z = AT(const real, b->z, m * b->z_row);
    const real *dy = b->dy ? AT(const real, b->dy, m * b->dy_row) : NULL;
    real *dh_row = back_gradient(b, FRNN_STATE_H, m), *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      vec output = vload(z + u), dh = vload(dh_row + u);
      if (dy) dh += vload_part(dy + u, left);
      vstore(dh_row + u, gradient_past_step(b->variant, 0, m, u, left, &dh));
      if (nonlinearity == TANH) {
        ivec reached;
        output = unmarked(&a, output, &reached);
        dh = tanh_back(&a, dh, output, reached);
      } else {
        dh = unless_reached(&a, (vec)((ivec)dh & ~(ivec)(output <= (vec){0})), (ivec)(output >= a.clip));
      }
      vstore_part(dg + u, dh, left);
      keep_dropped(b, m, u);
    }
  }
}

KERNEL void rnn_tanh_variant_step(const frnn_step *s) { rnn_variant_step(TANH, s); }
KERNEL void rnn_relu_variant_step(const frnn_step *s) { rnn_variant_step(RELU, s); }
KERNEL void rnn_tanh_variant_back(const frnn_back *b) { rnn_variant_back(TANH, b); }
KERNEL void rnn_relu_variant_back(const frnn_back *b) { rnn_variant_back(RELU, b); }

#define RNN_VARIANT_CELLS                                                                       \
  [FRNN_RNN_TANH_VARIANT] = {.step = {rnn_tanh_variant_step}, .back = {rnn_tanh_variant_back}}, \
  [FRNN_RNN_RELU_VARIANT] = {.step = {rnn_relu_variant_step}, .back = {rnn_relu_variant_back}}
