/* min.h - minGRU and minLSTM, whose gates see x alone, and their derivatives: equations (M1) to (M13) of
 * fastrnn/reference/cells.py.
 *
 * The products are in the slots of z, one for each gate, before the functions here read them row by row. Tape of
 * minGRU: z and h~. Tape of minLSTM: f and i after normalisation, h~, then the sigmoids of the
 * pre-activations of f and of i.
 *
 * It must not know: time, batches, threads. */

/* take * old + (1 - take) * new: exactly old where take is 1, exactly new where it is 0. */
INLINE vec min_blend(vec take, vec old, vec new) { return vfma(take, old, (vset1(1) - take) * new); }

INLINE void min_gru_units(const int N, const frnn_step *s, int64_t m, int64_t unit) {
  real *z = AT(real, s->z, m * s->z_row) + unit;
  vec take[N_MOST];
  EACH take[n] = vload(z + n * LANES);
  sigmoids(N, take);
  EACH {
    int64_t u = unit + n * LANES, left = s->hidden - u;
    vec before = vload_part(state_before(s, FRNN_STATE_H, m) + u, left), new = vload(AT(real, z, s->gate) + n * LANES);
    vstore_part(state_after(s, FRNN_STATE_H, m) + u, min_blend(take[n], new, before), left);
    if (s->keep) vstore(z + n * LANES, take[n]);
  }
}

/* i / f from the pre-activations p_f and p_i of the two gates, as
 * exp(min(p_i, 0) - min(p_f, 0)) (1 + exp(-|p_f|)) / (1 + exp(-|p_i|)). So 0/0 cannot occur. */
INLINE vec min_ratio(vec p_f, vec p_i) {
  const vec zero = {0}, one = vset1(1);
  vec difference = -vmax(-p_i, zero) + vmax(-p_f, zero);
  return vexp(difference) * (one + vexp(-vabs(p_f))) / (one + vexp(-vabs(p_i)));
}

/* f / (f + i) and i / (f + i) have a form each: 1 minus the other would lose all digits of a small one. */
INLINE void min_lstm_units(const int N, const frnn_step *s, int64_t m, int64_t unit) {
  const vec one = vset1(1);
  real *z = AT(real, s->z, m * s->z_row) + unit;
  EACH {
    int64_t u = unit + n * LANES, left = s->hidden - u;
    real *f = z + n * LANES, *i = AT(real, f, s->gate);
    vec p_f = vload(f), p_i = vload(i), ratio = min_ratio(p_f, p_i);
    vec forget = one / (one + ratio), input = one / (one + one / ratio);
    vec before = vload_part(state_before(s, FRNN_STATE_H, m) + u, left), new = vload(AT(real, f, 2 * s->gate));
    vstore_part(state_after(s, FRNN_STATE_H, m) + u, vfma(forget, before, input * new), left);
    if (!s->keep) continue;
    vstore(f, forget);
    vstore(i, input);
    vstore(AT(real, f, 3 * s->gate), vsigmoid(p_f));
    vstore(AT(real, f, 4 * s->gate), vsigmoid(p_i));
  }
}

KERNEL void min_gru_step(const frnn_step *s) {
  for (int64_t m = 0; m < s->m; m++) UNITS_TOGETHER(min_gru_units, s, m);
}

KERNEL void min_lstm_step(const frnn_step *s) {
  for (int64_t m = 0; m < s->m; m++) UNITS_TOGETHER(min_lstm_units, s, m);
}

/* dh_t with dy, for the units of row m from u on. */
INLINE vec min_gradient(const frnn_back *b, int64_t m, int64_t u) {
  vec d = vload(back_gradient(b, FRNN_STATE_H, m) + u);
  if (b->dy) d += vload_part(AT(const real, b->dy, m * b->dy_row) + u, b->hidden - u);
  return d;
}

/* (M4) to (M6): dg is dz, dh~. */
KERNEL void min_gru_back(const frnn_back *b) {
  const vec one = vset1(1);
  for (int64_t m = 0; m < b->m; m++) {
    real *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      const real *slots = AT(const real, b->z, m * b->z_row) + u;
      vec d = min_gradient(b, m, u), z = vload(slots), new = vload(AT(const real, slots, b->gate));
      vec before = vload_part(back_before(b, FRNN_STATE_H, m) + u, left);
      vstore_part(dg + u, d * (new - before) * (z * (one - z)), left);
      vstore_part(dg + b->hidden + u, d * z, left);
      vstore(back_gradient(b, FRNN_STATE_H, m) + u, d * (one - z));
    }
  }
}

/* (M10) to (M13): dg is df, di, dh~. */
KERNEL void min_lstm_back(const frnn_back *b) {
  const vec one = vset1(1);
  for (int64_t m = 0; m < b->m; m++) {
    real *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      const real *slots = AT(const real, b->z, m * b->z_row) + u;
      vec d = min_gradient(b, m, u), f = vload(slots), i = vload(AT(const real, slots, b->gate));
      vec new = vload(AT(const real, slots, 2 * b->gate)), of_f = vload(AT(const real, slots, 3 * b->gate));
      vec of_i = vload(AT(const real, slots, 4 * b->gate));
      vec through_gates = d * (vload_part(back_before(b, FRNN_STATE_H, m) + u, left) - new) * (f * i);
      vstore_part(dg + u, through_gates * (one - of_f), left);
      vstore_part(dg + b->hidden + u, -through_gates * (one - of_i), left);
      vstore_part(dg + 2 * b->hidden + u, d * i, left);
      vstore(back_gradient(b, FRNN_STATE_H, m) + u, d * f);
    }
  }
}

#define MIN_CELLS                                                                                                \
  [FRNN_MIN_GRU] = {.step = {min_gru_step}, .back = {min_gru_back}}, [FRNN_MIN_LSTM] = {.step = {min_lstm_step}, \
                                                                                        .back = {min_lstm_back}}
