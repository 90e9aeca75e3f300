/* lstm_variant.h - variants of the LSTM cell: (L1) to (L13) as fastrnn/reference/variants.py changes them.
 *
 * Tape: i f g o, even if gates are coupled; then the slots of norm.h if products are normalised; c after zoneout. c
 * before zoneout follows from these, bit for bit. G is the number of gates in the products: 4, or 3, i g o, if gates
 * are coupled.
 *
 * Columns of gradients: of W_ih x, then of W_hh h (*); of the pre-activations; these times N, for the side of x, then
 * of h (*); of the peepholes; of gain and shift of c (*). (*): only if products are normalised; side: see norm.h.
 *
 * It must not know: time, threads. */

enum { LSTM_SEPARATE = 4 };

INLINE int lstm_of_c(int G) { return LSTM_SEPARATE + 2 * G + 1; } /* the slot of N of c */

/* (L1) to (L6). If c must still be normalised, c and o wait in their slots and h is not computed. */
INLINE void lstm_variant_units(const int N, int G, int normalised, const frnn_step *s, const unit_options *a, int64_t m,
                               int64_t unit) {
  const frnn_variant *v = s->variant->numbers;
  const void *peephole = v->extra[FRNN_WEIGHT_PEEPHOLE];
  real *z = AT(real, s->z, m * s->z_row) + unit;
  vec i[N_MOST], f[N_MOST], g[N_MOST], o[N_MOST], c[N_MOST], before[N_MOST], h[N_MOST];
  real *slot[4] = {NULL, NULL, NULL, NULL};
  for (int k = 0; k < 4 && (normalised || s->keep); k++) slot[k] = AT(real, z, k * s->gate);
  EACH {
    i[n] = vload(z + n * LANES);
    f[n] = vload(AT(real, z, s->gate) + n * LANES);
    g[n] = vload(AT(real, z, (G - 2) * s->gate) + n * LANES);
    o[n] = vload(AT(real, z, (G - 1) * s->gate) + n * LANES);
    before[n] = vload(state_before(s, LSTM_C, m) + unit + n * LANES);
  }
  if (peephole) {
    EACH i[n] = vfma(extra_at(peephole, 0, s->hidden, unit + n * LANES), before[n], i[n]);
    if (G == 4) EACH f[n] = vfma(extra_at(peephole, 1, s->hidden, unit + n * LANES), before[n], f[n]);
  }
  gate_each(N, a, i, slot[0]);
  if (G == 4) {
    gate_each(N, a, f, slot[1]);
  } else {
    EACH f[n] = vset1(1) - i[n];
    if (slot[1]) EACH vstore(slot[1] + n * LANES, f[n]);
  }
  tanh_each(N, a, g, slot[2]);
  EACH c[n] = vfma(f[n], before[n], i[n] * g[n]);
  real bound = (real)v->number[FRNN_CELL_CLIP];
  if (bound > 0) EACH c[n] = vclip(c[n], vset1(bound));
  if (peephole) EACH o[n] = vfma(extra_at(peephole, G - 2, s->hidden, unit + n * LANES), c[n], o[n]);
  gate_each(N, a, o, slot[3]);
  EACH h[n] = c[n];
  if (!normalised) tanhs(N, h);
  EACH {
    int64_t u = unit + n * LANES, left = s->hidden - u;
    vec after = c[n];
    if (has_zoneout(s->variant, 1)) after = vmix(zoneout_at(s->variant, 1, m, u, left), before[n], c[n]);
    vstore(state_after(s, LSTM_C, m) + u, after);
    if (normalised) {
      vstore(AT(real, z, lstm_of_c(G) * s->gate) + n * LANES, c[n]);
      continue;
    }
    vstore_part(state_after(s, FRNN_STATE_H, m) + u, zone_h(s, m, u, o[n] * h[n]), left);
  }
}

/* (V10). */
INLINE void lstm_normalise_c(const frnn_step *s, const unit_options *a, const normalised_row *r, int64_t m) {
  const frnn_variant *v = s->variant->numbers;
  real *c = slot_of(r, lstm_of_c(r->G));
  const real *o = slot_of(r, 3);
  gates_of_row all = {c, r->gate, 1, s->hidden};
  real mean = mean_of(&all), scale = scale_of(&all, mean);
  scales_of(r)[SCALE_C] = scale;
  for (int64_t u = 0; u < s->hidden; u += LANES) {
    vec n = (vload(c + u) - vset1(mean)) * vset1(scale);
    vec e = vfma(extra_at(v->extra[FRNN_WEIGHT_LN_C], 0, s->hidden, u), n,
                 extra_at(v->extra[FRNN_BIAS_LN_C], 0, s->hidden, u));
    ivec reached;
    vec h = unmarked(a, vload(o + u), &reached) * vtanh(e);
    vstore(c + u, n);
    vstore_part(state_after(s, FRNN_STATE_H, m) + u, zone_h(s, m, u, h), s->hidden - u);
  }
}

NOINLINE void lstm_variant_step(int G, int normalised, const frnn_step *s) {
  unit_options a = unit_options_of(s->variant);
  for (int64_t m = 0; m < s->m; m++) {
    normalised_row r = {AT(real, s->z, m * s->z_row), s->gate, G, LSTM_SEPARATE};
    if (normalised) normalise_group(s, &r, 0, G, 0, 1);
    UNITS_TOGETHER(lstm_variant_units, G, normalised, s, &a, m);
    if (normalised) lstm_normalise_c(s, &a, &r, m);
  }
}

KERNEL void lstm_variant_step_plain(const frnn_step *s) { lstm_variant_step(4, 0, s); }
KERNEL void lstm_variant_step_coupled(const frnn_step *s) { lstm_variant_step(3, 0, s); }
KERNEL void lstm_variant_step_normalised(const frnn_step *s) { lstm_variant_step(4, 1, s); }
KERNEL void lstm_variant_step_both(const frnn_step *s) { lstm_variant_step(3, 1, s); }

/* A step backward: all its rows read this. */
typedef struct {
  const frnn_back *b;
  unit_options a;
  int zones[2]; /* 1 if h has zoneout; 1 if c has */
  const void *peephole;
  double cell_clip;
} lstm_back_step;

INLINE lstm_back_step lstm_step_back(const frnn_back *b) {
  const frnn_variant *v = b->variant->numbers;
  return (lstm_back_step){.b = b,
                          .a = unit_options_of(b->variant),
                          .zones = {has_zoneout(b->variant, 0), has_zoneout(b->variant, 1)},
                          .peephole = v->extra[FRNN_WEIGHT_PEEPHOLE],
                          .cell_clip = v->number[FRNN_CELL_CLIP]};
}

/* A row of such a step. */
typedef struct {
  int64_t m;
  normalised_row z;
  const real *c_in, *dy;
  real *dh_row, *dc_row, *dg, *of_gates; /* its columns; those of the pre-activations */
} lstm_back_row;

INLINE lstm_back_row lstm_row(int G, int normalised, const frnn_back *b, int64_t m) {
  real *dg = AT(real, b->dg, m * b->dg_row);
  return (lstm_back_row){.m = m,
                         .z = {AT(real, b->z, m * b->z_row), b->gate, G, LSTM_SEPARATE},
                         .c_in = back_before(b, LSTM_C, m),
                         .dy = b->dy ? AT(const real, b->dy, m * b->dy_row) : NULL,
                         .dh_row = back_gradient(b, FRNN_STATE_H, m),
                         .dc_row = back_gradient(b, LSTM_C, m),
                         .dg = dg,
                         .of_gates = dg + (normalised ? 2 * G * b->hidden : 0)};
}

/* Units of a row as forward computed them, from the tape; c before zoneout is recomputed. */
typedef struct {
  int64_t u, left;
  vec i, f, g, o, before, c;
  ivec reached[4]; /* by i f g o */
} lstm_back_units;

INLINE lstm_back_units lstm_units(const lstm_back_step *s, const lstm_back_row *r, int64_t u) {
  lstm_back_units q = {.u = u, .left = s->b->hidden - u};
  const real *z = r->z.z + u;
  q.i = unmarked(&s->a, vload(z), &q.reached[0]);
  q.f = unmarked(&s->a, vload(AT(const real, z, r->z.gate)), &q.reached[1]);
  q.g = unmarked(&s->a, vload(AT(const real, z, 2 * r->z.gate)), &q.reached[2]);
  q.o = unmarked(&s->a, vload(AT(const real, z, 3 * r->z.gate)), &q.reached[3]);
  __builtin_prefetch(AT(const real, r->c_in + u, ROWS_AHEAD * s->b->state[LSTM_C].before_row));
  q.before = vload(r->c_in + u);
  q.c = vfma(q.f, q.before, q.i * q.g);
  if (s->cell_clip > 0) q.c = vclip(q.c, vset1((real)s->cell_clip));
  return q;
}

/* (L11): returns da_o. `de` is the gradient of e, the argument of tanh in (L6) or (V10). */
INLINE vec lstm_outer(int G, int normalised, const lstm_back_step *s, const lstm_back_row *r, const lstm_back_units *q,
                      vec *de) {
  const frnn_back *b = s->b;
  const frnn_variant *v = b->variant->numbers;
  vec dh = vload(r->dh_row + q->u), by = (vec){0}, e = q->c;
  if (normalised)
    e = vfma(extra_at(v->extra[FRNN_WEIGHT_LN_C], 0, b->hidden, q->u), vload(slot_of(&r->z, lstm_of_c(G)) + q->u),
             extra_at(v->extra[FRNN_BIAS_LN_C], 0, b->hidden, q->u));
  vec tanh_e = vtanh(e);
  if (r->dy) dh += vload_part(r->dy + q->u, q->left);
  if (s->zones[0]) by = gradient_past_step(b->variant, 0, r->m, q->u, q->left, &dh);
  vstore(r->dh_row + q->u, by);
  if (b->scratch) vstore_part(AT(real, b->scratch, r->m * b->scratch_row) + q->u, q->o * tanh_e, q->left);
  if (b->dropout_factors) keep_dropped(b, r->m, q->u);
  *de = dh * q->o * vfma(-tanh_e, tanh_e, vset1(1));
  return gate_back(&s->a, dh * tanh_e, q->o, q->reached[3]);
}

/* (V14): writes the gradients of the peepholes. Returns `back`, dc_{t-1}, plus the part that comes through the
 * peepholes of i and f. */
INLINE vec lstm_through_peepholes(int G, const lstm_back_step *s, const lstm_back_units *q, real *to, vec da_i,
                                  vec da_f, vec da_o, vec back) {
  int64_t hidden = s->b->hidden;
  back = vfma(da_i, extra_at(s->peephole, 0, hidden, q->u), back);
  vstore_part(to, da_i * q->before, q->left);
  if (G == 4) {
    back = vfma(da_f, extra_at(s->peephole, 1, hidden, q->u), back);
    vstore_part(to + hidden, da_f * q->before, q->left);
  }
  vstore_part(to + (G - 2) * hidden, da_o * q->c, q->left);
  return back;
}

/* (L7) to (L10), (L12), (V14), (V15), from da_o and through_h, the gradient of c that comes through h. */
INLINE void lstm_inner(int G, int normalised, const lstm_back_step *s, const lstm_back_row *r, const lstm_back_units *q,
                       vec da_o, vec through_h) {
  const frnn_back *b = s->b;
  int64_t hidden = b->hidden;
  real *to = r->of_gates + q->u, *of_peephole = r->of_gates + (normalised ? 3 : 1) * G * hidden + q->u;
  vec dc = vload(r->dc_row + q->u), came = dc, by = (vec){0}, da_f = (vec){0};
  if (s->zones[1]) by = gradient_past_step(b->variant, 1, r->m, q->u, q->left, &dc);
  dc += through_h;
  if (s->peephole) dc = vfma(da_o, extra_at(s->peephole, G - 2, hidden, q->u), dc);
  show_gradient(b, LSTM_C, r->m, q->u, s->zones[FRNN_STATE_H] || s->zones[LSTM_C] ? came : dc);
  if (s->cell_clip > 0) dc = (vec)((ivec)dc & ~(ivec)(vabs(q->c) >= vset1((real)s->cell_clip)));
  vec da_i = gate_back(&s->a, dc * (G == 4 ? q->g : q->g - q->before), q->i, q->reached[0]);
  vstore_part(to, da_i, q->left);
  if (G == 4) {
    da_f = gate_back(&s->a, dc * q->before, q->f, q->reached[1]);
    vstore_part(to + hidden, da_f, q->left);
  }
  vstore_part(to + (G - 2) * hidden, tanh_back(&s->a, dc * q->i, q->g, q->reached[2]), q->left);
  vstore_part(to + (G - 1) * hidden, da_o, q->left);
  by = vfma(dc, q->f, by);
  if (s->peephole) by = lstm_through_peepholes(G, s, q, of_peephole, da_i, da_f, da_o, by);
  vstore(r->dc_row + q->u, by);
}

NOINLINE void lstm_variant_back(int G, const frnn_back *b) {
  lstm_back_step s = lstm_step_back(b);
  for (int64_t m = 0; m < b->m; m++) {
    lstm_back_row r = lstm_row(G, 0, b, m);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      lstm_back_units q = lstm_units(&s, &r, u);
      vec de, da_o = lstm_outer(G, 0, &s, &r, &q, &de);
      lstm_inner(G, 0, &s, &r, &q, da_o, de);
    }
  }
}

KERNEL void lstm_variant_back_plain(const frnn_back *b) { lstm_variant_back(4, b); }
KERNEL void lstm_variant_back_coupled(const frnn_back *b) { lstm_variant_back(3, b); }

/* The column, in units of hidden, of the gradient of c's gain. The next is that of its shift, which is de. */
INLINE int64_t lstm_column_of_gain(int G) { return 6 * G - 1; }

/* Normalised products: backward needs sums over a row twice, so it has three phases. Phase one computes de (see
 * lstm_outer). */
NOINLINE void lstm_normalised_outer(int G, const frnn_back *b) {
  lstm_back_step s = lstm_step_back(b);
  for (int64_t m = 0; m < b->m; m++) {
    lstm_back_row r = lstm_row(G, 1, b, m);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      real *gain = r.dg + lstm_column_of_gain(G) * b->hidden + u;
      for (int k = 0; k < 2 * G + 2; k++)
        __builtin_prefetch(AT(real, slot_of(&r.z, LSTM_SEPARATE + k) + u, ROWS_AHEAD * b->z_row));
      lstm_back_units q = lstm_units(&s, &r, u);
      vec de, da_o = lstm_outer(G, 1, &s, &r, &q, &de);
      vstore_part(r.of_gates + (G - 1) * b->hidden + u, da_o, left);
      vstore_part(gain, de * vload(slot_of(&r.z, lstm_of_c(G)) + u), left);
      vstore_part(gain + b->hidden, de, left);
    }
  }
}

/* Phase two: the gradients of the pre-activations. */
NOINLINE void lstm_normalised_inner(int G, const frnn_back *b) {
  const void *gain = b->variant->numbers->extra[FRNN_WEIGHT_LN_C];
  lstm_back_step s = lstm_step_back(b);
  for (int64_t m = 0; m < b->m; m++) {
    lstm_back_row r = lstm_row(G, 1, b, m);
    const real *de = r.dg + (lstm_column_of_gain(G) + 1) * b->hidden, *n = slot_of(&r.z, lstm_of_c(G));
    means all = means_of(de, gain, 0, 1, n, b->gate, b->hidden);
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u;
      vec dn = vload_part(de + u, left) * extra_at(gain, 0, b->hidden, u);
      vec through_h = normalise_back(dn, vload(n + u), all, scales_of(&r.z)[SCALE_C]);
      lstm_back_units q = lstm_units(&s, &r, u);
      lstm_inner(G, 1, &s, &r, &q, vload_part(r.of_gates + (G - 1) * b->hidden + u, left), through_h);
    }
  }
}

/* Phase three: the gradients of the products. */
NOINLINE void lstm_normalised_sides(int G, const frnn_back *b) {
  const frnn_variant *v = b->variant->numbers;
  for (int64_t m = 0; m < b->m; m++) {
    lstm_back_row r = lstm_row(G, 1, b, m);
    const real *scales = scales_of(&r.z);
    int64_t side = G * b->hidden;
    side_back(b, r.of_gates, 0, G, v->extra[FRNN_WEIGHT_LN_IH], slot_of(&r.z, LSTM_SEPARATE + G), scales[SCALE_IH],
              r.dg, r.of_gates + side);
    side_back(b, r.of_gates, 0, G, v->extra[FRNN_WEIGHT_LN_HH], slot_of(&r.z, LSTM_SEPARATE), scales[SCALE_HH],
              r.dg + side, r.of_gates + 2 * side);
  }
}

KERNEL void lstm_normalised_back_outer(const frnn_back *b) { lstm_normalised_outer(4, b); }
KERNEL void lstm_normalised_back_inner(const frnn_back *b) { lstm_normalised_inner(4, b); }
KERNEL void lstm_normalised_back_sides(const frnn_back *b) { lstm_normalised_sides(4, b); }
KERNEL void lstm_both_back_outer(const frnn_back *b) { lstm_normalised_outer(3, b); }
KERNEL void lstm_both_back_inner(const frnn_back *b) { lstm_normalised_inner(3, b); }
KERNEL void lstm_both_back_sides(const frnn_back *b) { lstm_normalised_sides(3, b); }

#define LSTM_VARIANT_CELLS                                                                                   \
  [FRNN_LSTM_VARIANT] = {.step = {lstm_variant_step_plain}, .back = {lstm_variant_back_plain}},              \
  [FRNN_LSTM_COUPLED] = {.step = {lstm_variant_step_coupled}, .back = {lstm_variant_back_coupled}},          \
  [FRNN_LSTM_PEEPHOLE] = {.step = {lstm_variant_step_plain}, .back = {lstm_variant_back_plain}},             \
  [FRNN_LSTM_COUPLED_PEEPHOLE] = {.step = {lstm_variant_step_coupled}, .back = {lstm_variant_back_coupled}}, \
  [FRNN_LSTM_NORMALISED] = {.step = {lstm_variant_step_normalised},                                          \
                            .back = {lstm_normalised_back_outer, lstm_normalised_back_inner,                 \
                                     lstm_normalised_back_sides}},                                           \
  [FRNN_LSTM_COUPLED_NORMALISED] = {.step = {lstm_variant_step_both},                                        \
                                    .back = {lstm_both_back_outer, lstm_both_back_inner, lstm_both_back_sides}}
