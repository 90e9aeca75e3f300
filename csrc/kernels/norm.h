/* norm.h - layer normalisation of a row's products: (V2), (V3), (V12) and (V13) of fastrnn/variants.py.
 *
 * A row of z has, from slot `apart` on, N of W_hh h, then N of W_ih x, a slot for each gate; then a slot of scales, and
 * the LSTM's one of N of c. Before, W_hh h stands where its N comes to stand, W_ih x in the slots of the
 * gates. Of the gates some are normalised together: they are a group.
 *
 * It must not know: time, threads. */

#define EPSILON ((real)1e-5)

enum { SCALE_IH, SCALE_HH = 2, SCALE_C = 4 }; /* in the slot of scales, for each of two groups */

/* Sums run in as many lanes as there are in 64 bytes, whatever a vector has, and those are added in pairs: so results
 * do not depend on the set. */
#define WIDE (FRNN_ALIGN / (int)sizeof(real))
#define PARTS (FRNN_ALIGN / VEC_BYTES)

INLINE real total_of(const vec *part) {
  real lanes[WIDE];
  for (int p = 0; p < PARTS; p++) vstore(lanes + p * LANES, part[p]);
  for (int half = WIDE / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}

INLINE vec first_lanes(vec v, int64_t n) {
  if (n >= LANES) return v;
  real lanes[LANES] = {0};
  vstore_part(lanes, v, n);
  return vload(lanes);
}

/* Gates of a row. */
typedef struct {
  const real *row;
  ptrdiff_t gate;
  int count;
  int64_t hidden;
} gates_of_row;

INLINE real mean_of(const gates_of_row *g) {
  vec part[PARTS] = {{0}};
  for (int k = 0; k < g->count; k++)
    for (int64_t u = 0; u < g->hidden; u += LANES)
      part[u / LANES % PARTS] += vload_part(AT(const real, g->row, k * g->gate) + u, g->hidden - u);
  return total_of(part) / (real)(g->count * g->hidden);
}

INLINE real scale_of(const gates_of_row *g, real mean) {
  vec part[PARTS] = {{0}};
  for (int k = 0; k < g->count; k++)
    for (int64_t u = 0; u < g->hidden; u += LANES) {
      vec q = vload_part(AT(const real, g->row, k * g->gate) + u, g->hidden - u) - vset1(mean);
      q = first_lanes(q, g->hidden - u);
      part[u / LANES % PARTS] = vfma(q, q, part[u / LANES % PARTS]);
    }
  real variance = total_of(part) / (real)(g->count * g->hidden) + EPSILON;
  return 1 / (FRNN_BITS == 32 ? (real)__builtin_sqrtf((float)variance) : (real)__builtin_sqrt((double)variance));
}

/* The rows of z of a step, or of the tape. */
typedef struct {
  real *z;
  ptrdiff_t gate;
  int G, apart;
} normalised_row;

INLINE real *slot_of(const normalised_row *r, int slot) { return AT(real, r->z, slot * r->gate); }
INLINE real *scales_of(const normalised_row *r) { return slot_of(r, r->apart + 2 * r->G); }

/* One group of a row: gates [first, last), whose two sides are added up, or stand side by side if not `added`. */
INLINE void normalise_group(const frnn_step *s, const normalised_row *r, int first, int last, int group, int added) {
  const frnn_variant *v = s->how.numbers;
  gates_of_row x = {slot_of(r, first), r->gate, last - first, s->hidden};
  gates_of_row h = {slot_of(r, r->apart + first), r->gate, last - first, s->hidden};
  real mean_x = mean_of(&x), mean_h = mean_of(&h), *scales = scales_of(r);
  real scale_x = scale_of(&x, mean_x), scale_h = scale_of(&h, mean_h);
  scales[SCALE_IH + group] = scale_x;
  scales[SCALE_HH + group] = scale_h;
  for (int g = first; g < last; g++)
    for (int64_t u = 0; u < s->hidden; u += LANES) {
      real *to = slot_of(r, g) + u, *n_h = slot_of(r, r->apart + g) + u, *n_x = slot_of(r, r->apart + r->G + g) + u;
      vec of_x = (vload(to) - vset1(mean_x)) * vset1(scale_x), of_h = (vload(n_h) - vset1(mean_h)) * vset1(scale_h);
      vec a = vfma(extra_at(v->extra[FRNN_GAIN_IH], g, s->hidden, u), of_x, extra_at(s->how.shift_ih, g, s->hidden, u));
      vec b = vfma(extra_at(v->extra[FRNN_GAIN_HH], g, s->hidden, u), of_h, extra_at(s->how.shift_hh, g, s->hidden, u));
      vstore(n_x, of_x);
      vstore(n_h, of_h);
      vstore(to, added ? a + b : a);
      if (!added) vstore(AT(real, to, r->gate), b);
    }
}

/* What (V12) takes of a group: the means of dN and of dN N, dN being the gradients of some gates times their gains. */
typedef struct {
  real mean, along;
} means;

INLINE means means_of(const real *d, const void *gain, int first, int last, const real *n, ptrdiff_t gate,
                      int64_t hidden) {
  vec sum[PARTS] = {{0}}, along[PARTS] = {{0}};
  real count = (real)((last - first) * hidden);
  for (int g = first; g < last; g++)
    for (int64_t u = 0; u < hidden; u += LANES) {
      int part = (int)(u / LANES % PARTS);
      vec dn = vload_part(d + g * hidden + u, hidden - u) * extra_at(gain, g, hidden, u);
      sum[part] += dn;
      along[part] = vfma(dn, vload(AT(const real, n, g *gate) + u), along[part]);
    }
  return (means){total_of(sum) / count, total_of(along) / count};
}

/* (V12) for a vector. */
INLINE vec normalise_back(vec dn, vec n, means m, real scale) {
  return vset1(scale) * (dn - vset1(m.mean) - n * vset1(m.along));
}

/* Of one side of a row and one group: from the gradients of its gates, d, those of its products and the gains'. */
INLINE void side_back(const frnn_back *b, const real *d, int first, int last, const void *gain, const real *n,
                      real scale, real *product, real *of_gain) {
  means all = means_of(d, gain, first, last, n, b->gate, b->hidden);
  for (int g = first; g < last; g++)
    for (int64_t u = b->unit; u < b->end; u += LANES) {
      int64_t left = b->hidden - u, at = g * b->hidden + u;
      vec of_n = vload_part(d + at, left), k = vload(AT(const real, n, g * b->gate) + u);
      vstore_part(product + at, normalise_back(of_n * extra_at(gain, g, b->hidden, u), k, all, scale), left);
      vstore_part(of_gain + at, of_n * k, left);
    }
}
