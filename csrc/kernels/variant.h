/* variant.h - what the variants of the cells share: bounds, hard sigmoids, zoneout; equations (V5) to (V7) and (V11) of
 * fastrnn/variants.py.
 *
 * A variant's products stand in its slots of z before the functions here and in the *_variant.h read them, row by row,
 * and turn them into what a tape keeps: gates, and in a slot of bits which pre-activations reached their bound.
 *
 * It must not know: time, threads. */

/* Of a variant's numbers those that every unit needs. */
typedef struct {
  int clips, hard;
  vec clip, slope;
} alteration;

INLINE alteration alteration_of(const frnn_altered *how) {
  const frnn_variant *v = how->numbers;
  return (alteration){v->clip > 0, v->slope > 0, vset1((real)v->clip), vset1((real)v->slope)};
}

INLINE vec vclip(vec x, vec bound) { return -vmax(-vmax(x, -bound), -bound); }

/* N pre-activations within their bound; where they reached it, the gate's bit is set. */
INLINE void clip_each(const int N, const alteration *a, vec *p, ivec *reached, int gate) {
  if (!a->clips) return;
  EACH reached[n] |= (ivec)(vabs(p[n]) >= a->clip) & ((integer)1 << gate);
  EACH p[n] = vclip(p[n], a->clip);
}

INLINE void gate_each(const int N, const alteration *a, vec *p, ivec *reached, int gate) {
  clip_each(N, a, p, reached, gate);
  if (!a->hard) {
    sigmoids(N, p);
    return;
  }
  EACH p[n] = vfma(a->slope, p[n], vset1((real)0.5));
  EACH p[n] = -vmax(-vmax(p[n], (vec){0}), vset1(-1));
}

INLINE void tanh_each(const int N, const alteration *a, vec *p, ivec *reached, int gate) {
  clip_each(N, a, p, reached, gate);
  tanhs(N, p);
}

INLINE vec unless_reached(const alteration *a, vec d, ivec reached, int gate) {
  if (!a->clips) return d;
  return (vec)((ivec)d & (ivec)((reached & ((integer)1 << gate)) == (ivec){0}));
}

/* The gradient of a pre-activation from that of its gate's value. */
INLINE vec gate_back(const alteration *a, vec d, vec value, ivec reached, int gate) {
  vec slope = value * (vset1(1) - value), through = d * slope;
  if (a->hard) {
    ivec flat = (ivec)(value <= (vec){0}) | (ivec)(value >= vset1(1));
    through = (vec)((ivec)(a->slope * d) & ~flat);
  }
  return unless_reached(a, through, reached, gate);
}

INLINE vec tanh_back(const alteration *a, vec d, vec value, ivec reached, int gate) {
  return unless_reached(a, d * vfma(-value, value, vset1(1)), reached, gate);
}

/* Whether some of a state stays, and how much of it for the units of row m from u on. */
INLINE int some_stay(const frnn_altered *how, int state) {
  return how->stays[state] != NULL || how->numbers->stays[state] > 0;
}

INLINE vec stays_at(const frnn_altered *how, int state, int64_t m, int64_t u, int64_t left) {
  if (!how->stays[state]) return vset1((real)how->numbers->stays[state]);
  return vload_part(AT(const real, how->stays[state], m * how->stays_row) + u, left);
}

/* (V11). */
INLINE vec vmix(vec stays, vec before, vec after) { return vfma(stays, before, (vset1(1) - stays) * after); }

/* What of a state's gradient goes by its step; the rest stays in d. */
INLINE vec gradient_that_stays(const frnn_altered *how, int state, int64_t m, int64_t u, int64_t left, vec *d) {
  if (!some_stay(how, state)) return (vec){0};
  vec stays = stays_at(how, state, m, u, left), by = stays * *d;
  *d = (vset1(1) - stays) * *d;
  return by;
}

/* Some of an extra parameter, 0 where it is NULL: that of a gate's units from u on. */
INLINE vec extra_at(const void *extra, int64_t gate, int64_t hidden, int64_t u) {
  return extra ? vload_part((const real *)extra + gate * hidden + u, hidden - u) : (vec){0};
}

/* h_{t-1} as the products had it; if it was dropped, it goes to where the weights' gradient reads it. */
INLINE vec keep_dropped(const frnn_back *b, int64_t m, int64_t u) {
  int64_t left = b->how.features - u;
  if (left <= 0) return (vec){0};
  vec h = vload_part(AT(const real, b->h, m * b->h_row) + u, left);
  if (!b->recurrent) return h;
  h *= vload_part(AT(const real, b->recurrent, m * b->recurrent_row) + u, left);
  vstore_part(AT(real, b->how.dropped, m * b->how.dropped_row) + u, h, left);
  return h;
}

/* Vectors of units, two at a time while there are two. */
#define UNITS_TOGETHER(function, ...)                                                        \
  do {                                                                                       \
    int64_t u = 0;                                                                           \
    for (; u + LANES < s->hidden; u += TOGETHER * LANES) function(TOGETHER, __VA_ARGS__, u); \
    if (u < s->hidden) function(1, __VA_ARGS__, u);                                          \
  } while (0)
