/* lstm.h - the LSTM cell: i f g o, equations (L1) to (L6) of fastrnn/reference.py, and its derivative.
 *
 * Tape: the four activated gates, then c. tanh(c) is computed again in backward: dearer than reading it, and
 * cheaper than the memory.
 *
 * It must not know: time, batches, threads. */

/* Pre-activations in; gates, c and h out. */
INLINE vec lstm_cell(vec *i, vec *f, vec *g, vec *o, vec *c) {
  divide_pair(sigmoid_fraction(*i), sigmoid_fraction(*f), i, f);
  divide_pair(tanh_fraction(*g), sigmoid_fraction(*o), g, o);
  *c = vfma(*f, *c, *i * *g);
  return *o * vtanh(*c);
}

INLINE void lstm_tile(const int R, const int P, const frnn_step *s, int64_t m, int64_t vector) {
  vec acc[ACCUMULATORS];
  int64_t unit = vector * LANES;
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 16
    for (int v = 0; v < P * 4; v++)
      acc[r * P * 4 + v] = vload(AT(const real, s->z, (m + r) * s->z_row + v % 4 * s->gate) + unit + v / 4 * LANES);
  }
  chain(R, P, 4, acc, AT(const char, s->h, m * s->h_row), s->h_row, sizeof(real),
        (const real *)s->panels + vector * s->hidden * 4 * LANES, s->hidden * 4 * LANES, s->hidden);
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      vec *a = acc + (r * P + p) * 4;
      int64_t u = unit + p * LANES;
      vec c = vload(AT(const real, s->c_in, (m + r) * s->c_in_row) + u);
      vec h = lstm_cell(a, a + 1, a + 2, a + 3, &c);
      vstore(AT(real, s->c_out, (m + r) * s->c_row) + u, c);
      vstore_part(AT(real, s->y, (m + r) * s->y_row) + u, h, s->hidden - u);
      if (s->keep) {
        real *z = AT(real, s->z, (m + r) * s->z_row) + u;
#pragma GCC unroll 4
        for (int gate = 0; gate < 4; gate++) vstore(AT(real, z, gate * s->gate), a[gate]);
      }
    }
  }
}

/* (L7) to (L13): dh_t and dc_t in; the gates' gradients out, dc_{t-1} in place, nothing of dh beside the product. */
KERNEL void lstm_back(const frnn_back *b) {
  const vec one = vset1(1);
  for (int64_t m = 0; m < b->m; m++) {
    const real *z = AT(const real, b->z, m * b->z_row);
    const real *c_in = AT(const real, b->c_in, m * b->c_in_row), *c_out = AT(const real, b->c_out, m * b->c_row);
    const real *dy = b->dy ? AT(const real, b->dy, m * b->dy_row) : NULL;
    real *dh = AT(real, b->dh, m * b->dh_row), *dc = AT(real, b->dc, m * b->dh_row);
    real *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = 0; u < b->hidden; u += LANES) {
      int64_t left = b->hidden - u;
      vec i = vload(z + u), f = vload(AT(const real, z, b->gate) + u);
      vec g = vload(AT(const real, z, 2 * b->gate) + u), o = vload(AT(const real, z, 3 * b->gate) + u);
      vec tanh_c = vtanh(vload(c_out + u));
      vec h_bar = vload(dh + u);
      if (dy) h_bar += vload_part(dy + u, left);
      vec c_bar = vfma(h_bar * o, vfma(-tanh_c, tanh_c, one), vload(dc + u));
      vstore_part(dg + u, c_bar * g * (i * (one - i)), left);
      vstore_part(dg + b->hidden + u, c_bar * vload(c_in + u) * (f * (one - f)), left);
      vstore_part(dg + 2 * b->hidden + u, c_bar * i * vfma(-g, g, one), left);
      vstore_part(dg + 3 * b->hidden + u, h_bar * tanh_c * (o * (one - o)), left);
      vstore(dc + u, c_bar * f);
      vstore(dh + u, (vec){0});
    }
  }
}
