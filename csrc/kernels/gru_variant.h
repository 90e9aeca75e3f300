/* gru_variant.h - variants of the GRU cell, with the reset gate after or before the recurrent product: (G1) to (G9) as
 * fastrnn/reference/variants.py changes them.
 *
 * Tape: r z n; with the reset after also W_hn h + b_hn; then the slots of norm.h if products are normalised. Columns of
 * gradients are those of gru.h. If products are normalised, they are: of W_ih x, then of W_hh h, gates r z n each; of
 * the pre-activations r z n, and n of the side of h; these times N, for the side of x, then of h (side: see norm.h).
 *
 * It must not know: time, threads. */

enum { GRU_SEPARATE = 4 };

/* N units of row m from `unit` on. */
#define ROW(slot) (AT(real, s->z, m * s->z_row + (slot) * s->gate) + unit)
#define SLOT(which) (ROW(which) + n * LANES)
#define H_BEFORE vload_part(state_before(s, FRNN_STATE_H, m) + unit + n * LANES, s->hidden - unit - n * LANES)

/* (G4), (V11). */
INLINE void gru_variant_blend(const int N, const frnn_step *s, int64_t m, int64_t unit, const vec *z, const vec *new) {
  EACH {
    int64_t u = unit + n * LANES;
    vec h = zone_h(s, m, u, gru_blend(z[n], new[n], H_BEFORE));
    vstore_part(state_after(s, FRNN_STATE_H, m) + u, h, s->hidden - u);
  }
}

INLINE void gru_after_variant_units(const int N, const frnn_step *s, const unit_options *a, int64_t m, int64_t unit) {
  vec r[N_MOST], z[N_MOST], new[N_MOST];
  EACH r[n] = vload(SLOT(0));
  EACH z[n] = vload(SLOT(1));
  gate_each(N, a, r, s->keep ? ROW(0) : NULL);
  gate_each(N, a, z, s->keep ? ROW(1) : NULL);
  EACH new[n] = vfma(r[n], vload(SLOT(3)), vload(SLOT(2)));
  tanh_each(N, a, new, s->keep ? ROW(2) : NULL);
  gru_variant_blend(N, s, m, unit, z, new);
}

/* Reset before, phase one: r and z; writes r times h after dropout to scratch. */
INLINE void gru_reset_variant_units(const int N, const frnn_step *s, const unit_options *a, int64_t m, int64_t unit) {
  vec r[N_MOST], z[N_MOST];
  EACH r[n] = vload(SLOT(0));
  EACH z[n] = vload(SLOT(1));
  gate_each(N, a, r, ROW(0));
  gate_each(N, a, z, ROW(1));
  EACH {
    int64_t u = unit + n * LANES, left = s->hidden - u;
    vec h = vload_part(AT(const real, s->variant->after_dropout, m * s->variant->after_dropout_row) + u, left);
    vstore(AT(real, s->scratch, m * s->gate) + u, r[n] * h);
  }
}

INLINE void gru_blend_variant_units(const int N, const frnn_step *s, const unit_options *a, int64_t m, int64_t unit) {
  vec z[N_MOST], new[N_MOST];
  EACH {
    ivec reached;
    z[n] = unmarked(a, vload(SLOT(1)), &reached);
    new[n] = vload(SLOT(2));
  }
  tanh_each(N, a, new, ROW(2));
  gru_variant_blend(N, s, m, unit, z, new);
}

#undef ROW
#undef SLOT
#undef H_BEFORE

NOINLINE void gru_after_steps(int normalised, const frnn_step *s) {
  unit_options a = unit_options_of(s->variant);
  for (int64_t m = 0; m < s->m; m++) {
    normalised_row r = {AT(real, s->z, m * s->z_row), s->gate, 3, GRU_SEPARATE};
    if (normalised) normalise_group(s, &r, 0, 2, 0, 1);
    if (normalised) normalise_group(s, &r, 2, 3, 1, 0);
    UNITS_TOGETHER(gru_after_variant_units, s, &a, m);
  }
}

KERNEL void gru_after_variant_step(const frnn_step *s) { gru_after_steps(0, s); }
KERNEL void gru_normalised_step(const frnn_step *s) { gru_after_steps(1, s); }

KERNEL void gru_before_variant_step_reset(const frnn_step *s) {
  unit_options a = unit_options_of(s->variant);
  for (int64_t m = 0; m < s->m; m++) UNITS_TOGETHER(gru_reset_variant_units, s, &a, m);
}

KERNEL void gru_before_variant_step_blend(const frnn_step *s) {
  unit_options a = unit_options_of(s->variant);
  for (int64_t m = 0; m < s->m; m++) UNITS_TOGETHER(gru_blend_variant_units, s, &a, m);
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* da_n and da_z, (G5) and (G6), for the units of row m from u on. Leaves in dh the part that goes to t - 1 without a
 * product. */
INLINE vec gru_variant_back_blend(const frnn_back *b, const unit_options *a, int64_t m, int64_t u, vec *da_z) {
  const real *slots = AT(const real, b->z, m * b->z_row) + u;
  real *dh_row = back_gradient(b, FRNN_STATE_H, m) + u;
  int64_t left = b->hidden - u;
  ivec z_reached, n_reached;
  vec z = unmarked(a, vload(AT(const real, slots, b->gate)), &z_reached), dh = vload(dh_row);
  vec n = unmarked(a, vload(AT(const real, slots, 2 * b->gate)), &n_reached);
  if (b->dy) dh += vload_part(AT(const real, b->dy, m * b->dy_row) + u, left);
  vec zoneout = gradient_past_step(b->variant, 0, m, u, left, &dh);
  vec before = vload_part(back_before(b, FRNN_STATE_H, m) + u, left);
  *da_z = gate_back(a, dh * (before - n), z, z_reached);
  vstore(dh_row, vfma(dh, z, zoneout));
  return tanh_back(a, dh * (vset1(1) - z), n, n_reached);
}

/* Reset after: the gradients of all pre-activations. `column`: the columns of n, r, z and n r. */
NOINLINE void gru_after_back_units(const frnn_back *b, int64_t m, const int *column) {
  unit_options a = unit_options_of(b->variant);
  real *dg = AT(real, b->dg, m * b->dg_row);
  for (int64_t u = b->unit; u < b->end; u += LANES) {
    int64_t left = b->hidden - u;
    const real *slots = AT(const real, b->z, m * b->z_row) + u;
    ivec reached;
    vec da_z, da_n = gru_variant_back_blend(b, &a, m, u, &da_z);
    vec r = unmarked(&a, vload(slots), &reached), recurrent = vload(AT(const real, slots, 3 * b->gate));
    vstore_part(dg + column[0] * b->hidden + u, da_n, left);
    vstore_part(dg + column[1] * b->hidden + u, gate_back(&a, da_n * recurrent, r, reached), left);
    vstore_part(dg + column[2] * b->hidden + u, da_z, left);
    vstore_part(dg + column[3] * b->hidden + u, da_n * r, left);
    if (b->dropout_factors) keep_dropped(b, m, u);
  }
}

KERNEL void gru_after_variant_back(const frnn_back *b) {
  static const int column[] = {0, 1, 2, 3};
  for (int64_t m = 0; m < b->m; m++) gru_after_back_units(b, m, column);
}

/* Normalised products, phase one: the gradients of the pre-activations. */
KERNEL void gru_normalised_back_gates(const frnn_back *b) {
  static const int column[] = {8, 6, 7, 9};
  for (int64_t m = 0; m < b->m; m++) gru_after_back_units(b, m, column);
}

/* Phase two: the gradients of the products, for both sides and the two groups of each. */
KERNEL void gru_normalised_back_sides(const frnn_back *b) {
  const frnn_variant *v = b->variant->numbers;
  const void *gain_x = v->extra[FRNN_WEIGHT_LN_IH], *gain_h = v->extra[FRNN_WEIGHT_LN_HH];
  int64_t hidden = b->hidden;
  for (int64_t m = 0; m < b->m; m++) {
    normalised_row r = {AT(real, b->z, m * b->z_row), b->gate, 3, GRU_SEPARATE};
    real *dg = AT(real, b->dg, m * b->dg_row), *of_x = dg + 6 * hidden, *of_h = dg + 7 * hidden;
    const real *n_h = slot_of(&r, GRU_SEPARATE), *n_x = slot_of(&r, GRU_SEPARATE + 3), *scales = scales_of(&r);
    side_back(b, of_x, 0, 2, gain_x, n_x, scales[SCALE_IH], dg, dg + 10 * hidden);
    side_back(b, of_x, 2, 3, gain_x, n_x, scales[SCALE_IH + 1], dg, dg + 10 * hidden);
    side_back(b, of_x, 0, 2, gain_h, n_h, scales[SCALE_HH], dg + 3 * hidden, dg + 13 * hidden);
    side_back(b, of_h, 2, 3, gain_h, n_h, scales[SCALE_HH + 1], dg + 3 * hidden, dg + 13 * hidden);
  }
}

/* Phase one, reset before the product: W_hn^T dn = d(r * h) follows. */
KERNEL void gru_before_variant_back_blend(const frnn_back *b) {
  unit_options a = unit_options_of(b->variant);
  for (int64_t m = 0; m < b->m; m++) {
    real *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      vec da_z, da_n = gru_variant_back_blend(b, &a, m, u, &da_z);
      vstore_part(dg + u, da_n, left);
      vstore_part(dg + 2 * b->hidden + u, da_z, left);
    }
  }
}

/* Phase two: through r * h, with h after dropout. Writes r * h, and h after dropout if there is dropout, for the weight
 * gradients. */
KERNEL void gru_before_variant_back_reset(const frnn_back *b) {
  unit_options a = unit_options_of(b->variant);
  for (int64_t m = 0; m < b->m; m++) {
    const real *drh_row = AT(const real, b->drh, m * b->d_row);
    real *dh_row = back_gradient(b, FRNN_STATE_H, m), *dg = AT(real, b->dg, m * b->dg_row);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      ivec reached;
      vec r = unmarked(&a, vload(AT(const real, b->z, m * b->z_row) + u), &reached);
      vec drh = vload(drh_row + u), h = keep_dropped(b, m, u);
      vec to_h = drh * r;
      if (b->dropout_factors)
        to_h *= vload_part(AT(const real, b->dropout_factors, m * b->dropout_factors_row) + u, left);
      vstore_part(dg + b->hidden + u, gate_back(&a, drh * h, r, reached), left);
      vstore(dh_row + u, vload(dh_row + u) + to_h);
      vstore_part(AT(real, b->scratch, m * b->scratch_row) + u, r * h, left);
    }
  }
}

#define GRU_VARIANT_CELLS                                                                               \
  [FRNN_GRU_AFTER_VARIANT] = {.step = {gru_after_variant_step}, .back = {gru_after_variant_back}},      \
  [FRNN_GRU_BEFORE_VARIANT] = {.step = {gru_before_variant_step_reset, gru_before_variant_step_blend},  \
                               .back = {gru_before_variant_back_blend, gru_before_variant_back_reset}}, \
  [FRNN_GRU_NORMALISED] = {.step = {gru_normalised_step},                                               \
                           .back = {gru_normalised_back_gates, gru_normalised_back_sides}}
