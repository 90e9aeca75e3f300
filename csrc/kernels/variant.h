/* variant.h - functions for all variants of cells: bounds, hard sigmoids, zoneout, dropout; equations (V1), (V6), (V7)
 * and (V11) of fastrnn/reference/variants.py.
 *
 * A variant's products are in its slots of z before the functions here and in the *_variant.h read them, row by row,
 * and turn them into gates, which the tape keeps. If a pre-activation reached its bound, its gate is marked by the
 * highest bit of the exponent, which is clear in values below 2.
 *
 * It must not know: time, threads. */

/* The options of a variant that every unit reads. */
typedef struct {
  int clips, hard;
  vec clip, slope;
} unit_options;

INLINE unit_options unit_options_of(const frnn_variant_arguments *variant) {
  const frnn_variant *v = variant->numbers;
  double clip = v->number[FRNN_CLIP], slope = v->number[FRNN_RECURRENT_ACTIVATION];
  return (unit_options){clip > 0, slope > 0, vset1((real)clip), vset1((real)slope)};
}

INLINE vec vclip(vec x, vec bound) { return -vmax(-vmax(x, -bound), -bound); }

#define MARK ((integer)((uint64_t)1 << (FRNN_BITS - 2)))

INLINE vec marked(vec value, ivec where) { return (vec)((ivec)value | (where & MARK)); }

/* A gate's value without its mark; `where` is set in the lanes that were marked. A NaN has no mark; a marked 1 is
 * stored as infinity. */
INLINE vec unmarked(const unit_options *a, vec value, ivec *where) {
  *where = (ivec){0};
  if (!a->clips) return value;
  *where = (ivec)(((ivec)value & MARK) != (ivec){0}) & (ivec)(value == value);
  return (vec)((ivec)value & ~(*where & MARK));
}

/* Clips N pre-activations to their bound; `reached` is set in the lanes that reached it. */
INLINE void clip_each(const int N, const unit_options *a, vec *p, ivec *reached) {
  if (!a->clips) return;
  EACH reached[n] = (ivec)(vabs(p[n]) >= a->clip);
  EACH p[n] = vclip(p[n], a->clip);
}

INLINE void keep_each(const int N, const unit_options *a, const vec *value, const ivec *reached, real *slot) {
  if (!slot) return;
  EACH vstore(slot + n * LANES, a->clips ? marked(value[n], reached[n]) : value[n]);
}

/* Turns N pre-activations into the gate's values, and writes these to a slot unless it is NULL. */
INLINE void gate_each(const int N, const unit_options *a, vec *p, real *slot) {
  ivec reached[N_MOST] = {{0}};
  clip_each(N, a, p, reached);
  if (a->hard) {
    EACH p[n] = vfma(a->slope, p[n], vset1((real)0.5));
    EACH p[n] = -vmax(-vmax(p[n], (vec){0}), vset1(-1));
  } else {
    sigmoids(N, p);
  }
  keep_each(N, a, p, reached, slot);
}

INLINE void tanh_each(const int N, const unit_options *a, vec *p, real *slot) {
  ivec reached[N_MOST] = {{0}};
  clip_each(N, a, p, reached);
  tanhs(N, p);
  keep_each(N, a, p, reached, slot);
}

INLINE vec unless_reached(const unit_options *a, vec d, ivec reached) {
  return a->clips ? (vec)((ivec)d & ~reached) : d;
}

/* The gradient of a pre-activation from that of its gate's value. */
INLINE vec gate_back(const unit_options *a, vec d, vec value, ivec reached) {
  vec through = d * (value * (vset1(1) - value));
  if (a->hard) {
    ivec flat = (ivec)(value <= (vec){0}) | (ivec)(value >= vset1(1));
    through = (vec)((ivec)(a->slope * d) & ~flat);
  }
  return unless_reached(a, through, reached);
}

INLINE vec tanh_back(const unit_options *a, vec d, vec value, ivec reached) {
  return unless_reached(a, d * vfma(-value, value, vset1(1)), reached);
}

/* has_zoneout: 1 if a state has zoneout. zoneout_at: the zoneout mask of row m, units from u on; without a mask the
 * rate. */
INLINE int has_zoneout(const frnn_variant_arguments *variant, int state) {
  return variant->zoneout[state] != NULL || variant->numbers->zoneout[state] > 0;
}

INLINE vec zoneout_at(const frnn_variant_arguments *variant, int state, int64_t m, int64_t u, int64_t left) {
  if (!variant->zoneout[state]) return vset1((real)variant->numbers->zoneout[state]);
  return vload_part(AT(const real, variant->zoneout[state], m * variant->zoneout_row) + u, left);
}

/* (V11). */
INLINE vec vmix(vec zoneout, vec before, vec after) { return vfma(zoneout, before, (vset1(1) - zoneout) * after); }

/* (V11) of h of row m, units from u on. */
INLINE vec zone_h(const frnn_step *s, int64_t m, int64_t u, vec h) {
  int64_t left = s->hidden - u;
  if (!has_zoneout(s->variant, 0)) return h;
  vec before = vload_part(state_before(s, FRNN_STATE_H, m) + u, left);
  return vmix(zoneout_at(s->variant, 0, m, u, left), before, h);
}

/* Returns the part of a state's gradient that zoneout takes past the step; the other part is left in d. */
INLINE vec gradient_past_step(const frnn_variant_arguments *variant, int state, int64_t m, int64_t u, int64_t left,
                              vec *d) {
  if (!has_zoneout(variant, state)) return (vec){0};
  vec zoneout = zoneout_at(variant, state, m, u, left), by = zoneout * *d;
  *d = (vset1(1) - zoneout) * *d;
  return by;
}

/* A vector of an extra parameter: a gate's units from u on; 0 if the parameter is NULL. */
INLINE vec extra_at(const void *extra, int64_t gate, int64_t hidden, int64_t u) {
  return extra ? vload_part((const real *)extra + gate * hidden + u, hidden - u) : (vec){0};
}

/* Returns h_{t-1} after dropout, as the products had it. If there is dropout, writes it for the weight gradients. */
INLINE vec keep_dropped(const frnn_back *b, int64_t m, int64_t u) {
  int64_t left = b->variant->features - u;
  if (left <= 0) return (vec){0};
  vec h = vload_part(back_before(b, FRNN_STATE_H, m) + u, left);
  if (!b->dropout_factors) return h;
  h *= vload_part(AT(const real, b->dropout_factors, m * b->dropout_factors_row) + u, left);
  vstore_part(AT(real, b->variant->after_dropout, m * b->variant->after_dropout_row) + u, h, left);
  return h;
}

/* Vectors of units, two at a time while there are two. */
#define UNITS_TOGETHER(function, ...)                                                        \
  do {                                                                                       \
    int64_t u = 0;                                                                           \
    for (; u + LANES < s->hidden; u += TOGETHER * LANES) function(TOGETHER, __VA_ARGS__, u); \
    if (u < s->hidden) function(1, __VA_ARGS__, u);                                          \
  } while (0)
