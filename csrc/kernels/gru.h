/* gru.h - the GRU cell, r z n, with the reset gate after or before the recurrent product, and its derivative: equations
 * (G1) to (G9) of fastrnn/reference/cells.py.
 *
 * Tape: r, z, n; with the reset after also W_hn h + b_hn, which r multiplies. The reset before needs two phases in a
 * step, for every unit of r * h enters the product of every unit of n.
 *
 * The columns of gate gradients are n r z, and after them n * r if the reset comes after. So the columns for x (n r z)
 * are neighbours, and so are those for h (r z n*r): each product is one chain.
 *
 * It must not know: time, batches, threads. */

/* (1 - z) n + z h: exactly h where z is 1, exactly n where z is 0. */
INLINE vec gru_blend(vec z, vec n, vec h) { return vfma(z, h, (vset1(1) - z) * n); }

/* Addresses and values of unit n of an epilogue, which takes N units of a tile (rows x panels, panels inside) from
 * `first` on. */
#define ROW (m + (first + n) / P)
#define UNIT (unit + (first + n) % P * LANES)
#define SLOT(which) (AT(real, s->z, ROW * s->z_row + (which) * s->gate) + UNIT)
#define H_BEFORE vload_part(state_before(s, FRNN_STATE_H, ROW) + UNIT, s->hidden - UNIT)

INLINE void gru_after_end(const int N, const int P, const frnn_step *s, int64_t m, int64_t unit, int first,
                          const vec *a) {
  vec r[N_MOST], z[N_MOST], new[N_MOST];
  EACH r[n] = a[n * 3];
  EACH z[n] = a[n * 3 + 1];
  sigmoids(N, r);
  sigmoids(N, z);
  EACH new[n] = vfma(r[n], a[n * 3 + 2], vload(SLOT(2)));
  tanhs(N, new);
  EACH vstore_part(state_after(s, FRNN_STATE_H, ROW) + UNIT, gru_blend(z[n], new[n], H_BEFORE), s->hidden - UNIT);
  if (!s->keep) return;
  EACH vstore(SLOT(0), r[n]);
  EACH vstore(SLOT(1), z[n]);
  EACH vstore(SLOT(2), new[n]);
  EACH vstore(SLOT(3), a[n * 3 + 2]);
}

/* The same for all units of a tile, two by two. */
NOINLINE void gru_after_ends(int units, int P, const frnn_step *s, int64_t m, int64_t unit, vec *a) {
  int first = 0;
  for (; first + TOGETHER <= units; first += TOGETHER) gru_after_end(TOGETHER, P, s, m, unit, first, a + first * 3);
  if (first < units) gru_after_end(1, P, s, m, unit, first, a + first * 3);
}

INLINE void gru_after_tile(const int R, const int P, const frnn_step *s, int64_t m, int64_t vector) {
  vec acc[ACCUMULATORS];
  int64_t unit = vector * LANES;
  start_chains(R, P, 3, acc, s, m, vector, 0);
#pragma GCC unroll 1
  for (int i = FRNN_X; i <= FRNN_H; i++) {
    /* n has two chains: that over x goes to its slot, and the registers begin a new one with the bias of h. */
    if (i == FRNN_H) {
#pragma GCC unroll 32
      for (int v = 0; v < R * P; v++) {
        real *slot = AT(real, s->z, (m + v / P) * s->z_row + 2 * s->gate) + unit + v % P * LANES;
        if (s->start != s->z) vstore(slot, acc[v * 3 + 2]);
        acc[v * 3 + 2] = vload((const real *)s->bias_h + unit + v % P * LANES);
      }
    }
    chain_factor(R, P, 3, acc, &s->in[i], m, vector, 0);
  }
  if (COMPACT) {
    vec units[ACCUMULATORS];
    keep_units(R * P * 3, acc, units);
    gru_after_ends(R * P, P, s, m, unit, units);
    return;
  }
#pragma GCC unroll 16
  for (int first = 0; first < R * P; first += TOGETHER)
    gru_after_end(R * P - first < TOGETHER ? R * P - first : TOGETHER, P, s, m, unit, first, acc + first * 3);
}

/* Reset before, phase one: r and z; r * h to scratch, z to its slot. */
INLINE void gru_reset_end(const int N, const int P, const frnn_step *s, int64_t m, int64_t unit, int first,
                          const vec *a) {
  vec r[N_MOST], z[N_MOST];
  EACH r[n] = a[n * 2];
  EACH z[n] = a[n * 2 + 1];
  sigmoids(N, r);
  sigmoids(N, z);
  EACH vstore(AT(real, s->scratch, ROW * s->gate) + UNIT, r[n] * H_BEFORE);
  EACH vstore(SLOT(1), z[n]);
  if (!s->keep) return;
  EACH vstore(SLOT(0), r[n]);
}

/* The same for all units of a tile, two by two. */
NOINLINE void gru_reset_ends(int units, int P, const frnn_step *s, int64_t m, int64_t unit, vec *a) {
  int first = 0;
  for (; first + TOGETHER <= units; first += TOGETHER) gru_reset_end(TOGETHER, P, s, m, unit, first, a + first * 2);
  if (first < units) gru_reset_end(1, P, s, m, unit, first, a + first * 2);
}

INLINE void gru_reset_tile(const int R, const int P, const frnn_step *s, int64_t m, int64_t vector) {
  vec acc[ACCUMULATORS];
  int64_t unit = vector * LANES;
  run_chains(R, P, 2, acc, s, m, vector);
  if (COMPACT) {
    vec units[ACCUMULATORS];
    keep_units(R * P * 2, acc, units);
    gru_reset_ends(R * P, P, s, m, unit, units);
    return;
  }
#pragma GCC unroll 16
  for (int first = 0; first < R * P; first += TOGETHER)
    gru_reset_end(R * P - first < TOGETHER ? R * P - first : TOGETHER, P, s, m, unit, first, acc + first * 2);
}

/* Phase two: n from r * h, and the blend. */
INLINE void gru_blend_end(const int N, const int P, const frnn_step *s, int64_t m, int64_t unit, int first, vec *new) {
  tanhs(N, new);
  EACH vstore_part(state_after(s, FRNN_STATE_H, ROW) + UNIT, gru_blend(vload(SLOT(1)), new[n], H_BEFORE),
                   s->hidden - UNIT);
  if (!s->keep) return;
  EACH vstore(SLOT(2), new[n]);
}

/* The same for all units of a tile, two by two. */
NOINLINE void gru_blend_ends(int units, int P, const frnn_step *s, int64_t m, int64_t unit, vec *a) {
  int first = 0;
  for (; first + TOGETHER <= units; first += TOGETHER) gru_blend_end(TOGETHER, P, s, m, unit, first, a + first * 1);
  if (first < units) gru_blend_end(1, P, s, m, unit, first, a + first * 1);
}

INLINE void gru_blend_tile(const int R, const int P, const frnn_step *s, int64_t m, int64_t vector) {
  vec acc[ACCUMULATORS];
  int64_t unit = vector * LANES;
  int64_t before = (s->hidden + LANES - 1) / LANES * 2;
  start_chains(R, P, 1, acc, s, m, vector, 2);
#pragma GCC unroll 1
  for (int i = FRNN_X; i <= FRNN_H; i++) chain_factor(R, P, 1, acc, &s->in[i], m, vector, before);
  if (COMPACT) {
    vec units[ACCUMULATORS];
    keep_units(R * P * 1, acc, units);
    gru_blend_ends(R * P, P, s, m, unit, units);
    return;
  }
#pragma GCC unroll 16
  for (int first = 0; first < R * P; first += TOGETHER)
    gru_blend_end(R * P - first < TOGETHER ? R * P - first : TOGETHER, P, s, m, unit, first, acc + first);
}

#define GRU_TILES(T) T(gru_after, 3, 3) T(gru_reset, 2, 3) T(gru_blend, 1, 4)

#undef ROW
#undef UNIT
#undef SLOT
#undef H_BEFORE

/* Common to both resets: dh_t in; the gradients of z's and n's pre-activations out, z * dh_t left in dh. */
INLINE vec gru_back_blend(const frnn_back *b, const real *slots, const real *h, const real *dy, real *dh_row, real *dg,
                          int64_t u) {
  const vec one = vset1(1);
  int64_t left = b->hidden - u;
  vec z = vload(AT(const real, slots, b->gate) + u), n = vload(AT(const real, slots, 2 * b->gate) + u);
  vec dh = vload(dh_row + u);
  if (dy) dh += vload_part(dy + u, left);
  vec dn = dh * (one - z) * vfma(-n, n, one);
  vstore_part(dg + u, dn, left);
  vstore_part(dg + 2 * b->hidden + u, dh * (vload_part(h + u, left) - n) * (z * (one - z)), left);
  vstore(dh_row + u, dh * z);
  return dn;
}

KERNEL void gru_after_back(const frnn_back *b) {
  const vec one = vset1(1);
  for (int64_t m = 0; m < b->m; m++) {
    const real *slots = AT(const real, b->z, m * b->z_row), *h = back_before(b, FRNN_STATE_H, m);
    const real *dy = b->dy ? AT(const real, b->dy, m * b->dy_row) : NULL;
    real *dh_row = back_gradient(b, FRNN_STATE_H, m), *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      vec dn = gru_back_blend(b, slots, h, dy, dh_row, dg, u);
      vec r = vload(slots + u), recurrent = vload(AT(const real, slots, 3 * b->gate) + u);
      vstore_part(dg + b->hidden + u, dn * recurrent * (r * (one - r)), left);
      vstore_part(dg + 3 * b->hidden + u, dn * r, left);
    }
  }
}

/* Reset before, phase one; the product W_hn^T dn = d(r * h) follows. */
KERNEL void gru_before_back_blend(const frnn_back *b) {
  for (int64_t m = 0; m < b->m; m++) {
    const real *slots = AT(const real, b->z, m * b->z_row), *h = back_before(b, FRNN_STATE_H, m);
    const real *dy = b->dy ? AT(const real, b->dy, m * b->dy_row) : NULL;
    real *dh_row = back_gradient(b, FRNN_STATE_H, m), *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) gru_back_blend(b, slots, h, dy, dh_row, dg, u);
  }
}

/* Phase two: through r * h; r * h itself is written for the gradient of W_hn. */
KERNEL void gru_before_back_reset(const frnn_back *b) {
  const vec one = vset1(1);
  for (int64_t m = 0; m < b->m; m++) {
    const real *slots = AT(const real, b->z, m * b->z_row), *h = back_before(b, FRNN_STATE_H, m);
    const real *drh_row = AT(const real, b->drh, m * b->d_row);
    real *dh_row = back_gradient(b, FRNN_STATE_H, m), *dg = AT(real, b->dg, m * b->dg_row);
    real *rh = AT(real, b->scratch, m * b->scratch_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      vec r = vload(slots + u), h_in = vload_part(h + u, left), drh = vload(drh_row + u);
      vstore_part(dg + b->hidden + u, drh * h_in * (r * (one - r)), left);
      vstore(dh_row + u, vfma(drh, r, vload(dh_row + u)));
      vstore_part(rh + u, r * h_in, left);
    }
  }
}

#define GRU_STEPS [FRNN_GRU_AFTER] = {gru_after_step}, [FRNN_GRU_BEFORE] = {gru_reset_step, gru_blend_step}
#define GRU_CELLS                                                      \
  [FRNN_GRU_AFTER] = {.back = {gru_after_back}}, [FRNN_GRU_BEFORE] = { \
                                                     .back = {gru_before_back_blend, gru_before_back_reset}}
