/* lstm.h - the LSTM cell: i f g o, equations (L1) to (L6) of fastrnn/reference/cells.py, and its derivative.
 *
 * Tape: the four activated gates, then c. Backward recomputes tanh(c): slower than reading it, but it saves the memory.
 *
 * It must not know: time, batches, threads. */

/* The arrays of the state: h, then c. */
enum { LSTM_C = FRNN_STATE_H + 1 };

/* In: pre-activations of N vectors of units, gate by gate, and c. Out: gates, c and h. */
INLINE void lstm_cells(const int N, vec *i, vec *f, vec *g, vec *o, vec *c, vec *h) {
  sigmoids(N, i);
  sigmoids(N, f);
  tanhs(N, g);
  sigmoids(N, o);
  EACH c[n] = vfma(f[n], c[n], i[n] * g[n]);
  EACH h[n] = c[n];
  tanhs(N, h);
  EACH h[n] = o[n] * h[n];
}

/* The epilogue of a tile for N of its units (rows x panels, panels inside), from `first` on. */
INLINE void lstm_end(const int N, const int P, const frnn_step *s, int64_t m, int64_t unit, int first, const vec *a) {
  vec i[N_MOST], f[N_MOST], g[N_MOST], o[N_MOST], c[N_MOST], h[N_MOST];
  EACH {
    i[n] = a[n * 4];
    f[n] = a[n * 4 + 1];
    g[n] = a[n * 4 + 2];
    o[n] = a[n * 4 + 3];
    c[n] = vload(state_before(s, LSTM_C, m + (first + n) / P) + unit + (first + n) % P * LANES);
  }
  lstm_cells(N, i, f, g, o, c, h);
  EACH {
    int64_t row = m + (first + n) / P, u = unit + (first + n) % P * LANES;
    vstore(state_after(s, LSTM_C, row) + u, c[n]);
    vstore_part(state_after(s, FRNN_STATE_H, row) + u, h[n], s->hidden - u);
    if (s->keep) {
      real *z = AT(real, s->z, row * s->z_row) + u;
      vstore(z, i[n]);
      vstore(AT(real, z, s->gate), f[n]);
      vstore(AT(real, z, 2 * s->gate), g[n]);
      vstore(AT(real, z, 3 * s->gate), o[n]);
    }
  }
}

/* The same for all units of a tile, two by two. */
NOINLINE void lstm_ends(int units, int P, const frnn_step *s, int64_t m, int64_t unit, vec *a) {
  int first = 0;
  for (; first + TOGETHER <= units; first += TOGETHER) lstm_end(TOGETHER, P, s, m, unit, first, a + first * 4);
  if (first < units) lstm_end(1, P, s, m, unit, first, a + first * 4);
}

INLINE void lstm_tile(const int R, const int P, const frnn_step *s, int64_t m, int64_t vector) {
  vec acc[ACCUMULATORS];
  int64_t unit = vector * LANES;
  run_chains(R, P, 4, acc, s, m, vector);
  if (COMPACT) {
    vec units[ACCUMULATORS];
    keep_units(R * P * 4, acc, units);
    lstm_ends(R * P, P, s, m, unit, units);
    return;
  }
#pragma GCC unroll 16
  for (int first = 0; first < R * P; first += TOGETHER)
    lstm_end(R * P - first < TOGETHER ? R * P - first : TOGETHER, P, s, m, unit, first, acc + first * 4);
}

#define LSTM_TILES(T) T(lstm, 4, 3)

/* c of the step before is prefetched so many rows ahead: nothing else of that step's slots has been read yet, and the
 * next row's c is too far away for the processor to predict. */
enum { ROWS_AHEAD = 8 };

/* (L7) to (L12). In: dh_t and dc_t. Out: the gates' gradients, and dc_{t-1} in place. dh is zero then: all of dh_{t-1}
 * comes from the product. */
KERNEL void lstm_back(const frnn_back *b) {
  const vec one = vset1(1);
  for (int64_t m = 0; m < b->m; m++) {
    const real *z = AT(const real, b->z, m * b->z_row);
    const real *c_in = back_before(b, LSTM_C, m), *c_out = back_after(b, LSTM_C, m);
    const real *dy = b->dy ? AT(const real, b->dy, m * b->dy_row) : NULL;
    real *dh_row = back_gradient(b, FRNN_STATE_H, m), *dc_row = back_gradient(b, LSTM_C, m);
    real *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      __builtin_prefetch(AT(const real, c_in + u, ROWS_AHEAD * b->state[LSTM_C].before_row));
      vec i = vload(z + u), f = vload(AT(const real, z, b->gate) + u);
      vec g = vload(AT(const real, z, 2 * b->gate) + u), o = vload(AT(const real, z, 3 * b->gate) + u);
      vec tanh_c = vtanh(vload(c_out + u));
      vec dh = vload(dh_row + u);
      if (dy) dh += vload_part(dy + u, left);
      vec dc = vfma(dh * o, vfma(-tanh_c, tanh_c, one), vload(dc_row + u));
      vstore_part(dg + u, dc * g * (i * (one - i)), left);
      vstore_part(dg + b->hidden + u, dc * vload(c_in + u) * (f * (one - f)), left);
      vstore_part(dg + 2 * b->hidden + u, dc * i * vfma(-g, g, one), left);
      vstore_part(dg + 3 * b->hidden + u, dh * tanh_c * (o * (one - o)), left);
      show_gradient(b, LSTM_C, m, u, dc);
      vstore(dc_row + u, dc * f);
      vstore(dh_row + u, (vec){0});
      if (b->scratch) vstore_part(AT(real, b->scratch, m * b->scratch_row) + u, o * tanh_c, left);
    }
  }
}

#define LSTM_STEPS [FRNN_LSTM] = {lstm_step}
#define LSTM_CELLS [FRNN_LSTM] = {.back = {lstm_back}}
