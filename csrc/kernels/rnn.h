/* rnn.h - the Elman cell with tanh or relu, and its derivative: equations (R1) to (R3) of fastrnn/reference/cells.py.
 *
 * Tape: nothing, for h_t gives the derivative of either nonlinearity.
 *
 * It must not know: time, batches, threads. */

enum nonlinearity { TANH, RELU };

/* The epilogue of a tile for N of its units (rows x panels, panels inside), from `first` on. */
INLINE void rnn_end(const int N, const int P, const int nonlinearity, const frnn_step *s, int64_t m, int64_t unit,
                    int first, vec *a) {
  if (nonlinearity == TANH)
    tanhs(N, a);
  else
    EACH a[n] = vmax(a[n], (vec){0});
  EACH {
    int64_t u = unit + (first + n) % P * LANES;
    vstore_part(state_after(s, FRNN_STATE_H, m + (first + n) / P) + u, a[n], s->hidden - u);
  }
}

/* The same for all units of a tile, two by two. */
NOINLINE void rnn_ends(int units, int P, int nonlinearity, const frnn_step *s, int64_t m, int64_t unit, vec *a) {
  int first = 0;
  for (; first + TOGETHER <= units; first += TOGETHER)
    rnn_end(TOGETHER, P, nonlinearity, s, m, unit, first, a + first * 1);
  if (first < units) rnn_end(1, P, nonlinearity, s, m, unit, first, a + first * 1);
}

INLINE void rnn_tile(const int R, const int P, const int nonlinearity, const frnn_step *s, int64_t m, int64_t vector) {
  vec acc[ACCUMULATORS];
  int64_t unit = vector * LANES;
  run_chains(R, P, 1, acc, s, m, vector);
  if (COMPACT) {
    vec units[ACCUMULATORS];
    keep_units(R * P * 1, acc, units);
    rnn_ends(R * P, P, s->kind, s, m, unit, units);
    return;
  }
#pragma GCC unroll 16
  for (int first = 0; first < R * P; first += TOGETHER)
    rnn_end(R * P - first < TOGETHER ? R * P - first : TOGETHER, P, nonlinearity, s, m, unit, first, acc + first);
}

INLINE void rnn_tanh_tile(const int R, const int P, const frnn_step *s, int64_t m, int64_t vector) {
  rnn_tile(R, P, TANH, s, m, vector);
}

INLINE void rnn_relu_tile(const int R, const int P, const frnn_step *s, int64_t m, int64_t vector) {
  rnn_tile(R, P, RELU, s, m, vector);
}

#define RNN_TILES(T) T(rnn_tanh, 1, 4) T(rnn_relu, 1, 4)

INLINE void rnn_back(const int nonlinearity, const frnn_back *b) {
  for (int64_t m = 0; m < b->m; m++) {
    const real *y = back_after(b, FRNN_STATE_H, m);
    const real *dy = b->dy ? AT(const real, b->dy, m * b->dy_row) : NULL;
    real *dh_row = back_gradient(b, FRNN_STATE_H, m);
    real *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      vec h = vload_part(y + u, left), dh = vload(dh_row + u);
      if (dy) dh += vload_part(dy + u, left);
      /* relu: if h is 0, a gradient of NaN or infinity becomes 0, so select rather than multiply */
      vec da = nonlinearity == TANH ? dh * vfma(-h, h, vset1(1)) : (vec)((ivec)dh & (ivec)(h != (vec){0}));
      vstore_part(dg + u, da, left);
      vstore(dh_row + u, (vec){0});
    }
  }
}

KERNEL void rnn_tanh_back(const frnn_back *b) { rnn_back(TANH, b); }
KERNEL void rnn_relu_back(const frnn_back *b) { rnn_back(RELU, b); }

#define RNN_STEPS [FRNN_RNN_TANH] = {rnn_tanh_step}, [FRNN_RNN_RELU] = {rnn_relu_step}
#define RNN_CELLS [FRNN_RNN_TANH] = {.back = {rnn_tanh_back}}, [FRNN_RNN_RELU] = {.back = {rnn_relu_back}}
