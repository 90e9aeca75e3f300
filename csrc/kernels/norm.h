/* norm.h - layer normalisation of a row's products: (V2), (V3), (V12) and (V13) of fastrnn/reference/variants.py.
 *
 * N(q) is q normalised, (V2). A row of z has, from slot `separate` on, N(W_hh h), then N(W_ih x), a slot for each gate;
 * then a slot of scales, and in the LSTM a slot of N(c). Before normalisation, W_hh h is in the slots of N(W_hh h), and
 * W_ih x in the slots of the gates. A group is gates that are normalised together. A group has two sides: W_ih x and
 * W_hh h.
 *
 * It must not know: time, threads. */

#define EPSILON ((real)1e-5)

enum { SCALE_IH, SCALE_HH = 2, SCALE_C = 4 }; /* in the slot of scales, for each of two groups */

/* Sums run in the lanes of a block of 64 bytes, whatever the size of a vector, and these lanes are added in pairs: so
 * results do not depend on the instruction set. Rows of z are full blocks, but may hold anything beyond the last
 * unit. */
enum { BLOCK = FRNN_ALIGN / (int)sizeof(real), PARTS = FRNN_ALIGN / VEC_BYTES };

INLINE real total_of(const vec *part) {
  real lanes[BLOCK];
#pragma GCC unroll 4
  for (int p = 0; p < PARTS; p++) vstore(lanes + p * LANES, part[p]);
#pragma GCC unroll 4
  for (int half = BLOCK / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  return lanes[0];
}

/* Loads a vector of a block; lanes beyond the last unit are zeros. */
INLINE vec load_units(const int full, const real *q, int64_t left) {
  if (full) return vload(q);
  return left > 0 ? vload_part(q, left) : (vec){0};
}

INLINE vec first_lanes(const int full, vec v, int64_t n) {
  real lanes[LANES] = {0};
  if (full || n >= LANES) return v;
  if (n > 0) vstore_part(lanes, v, n);
  return vload(lanes);
}

/* Some gates of a row. */
typedef struct {
  const real *row;
  ptrdiff_t gate;
  int count;
  int64_t hidden;
} gates_of_row;

INLINE void add_block(const int full, const real *q, int64_t left, vec *part) {
#pragma GCC unroll 4
  for (int p = 0; p < PARTS; p++) part[p] += load_units(full, q + p * LANES, left - p * LANES);
}

INLINE void add_squares(const int full, const real *q, real mean, int64_t left, vec *part) {
#pragma GCC unroll 4
  for (int p = 0; p < PARTS; p++) {
    vec d = first_lanes(full, vload(q + p * LANES) - vset1(mean), left - p * LANES);
    part[p] = vfma(d, d, part[p]);
  }
}

NOINLINE real mean_of(const gates_of_row *g) {
  vec part[PARTS] = {{0}};
  for (int k = 0; k < g->count; k++) {
    const real *q = AT(const real, g->row, k * g->gate);
    int64_t u = 0;
    for (; u + BLOCK <= g->hidden; u += BLOCK) add_block(1, q + u, BLOCK, part);
    if (u < g->hidden) add_block(0, q + u, g->hidden - u, part);
  }
  return total_of(part) / (real)(g->count * g->hidden);
}

NOINLINE real scale_of(const gates_of_row *g, real mean) {
  vec part[PARTS] = {{0}};
  for (int k = 0; k < g->count; k++) {
    const real *q = AT(const real, g->row, k * g->gate);
    int64_t u = 0;
    for (; u + BLOCK <= g->hidden; u += BLOCK) add_squares(1, q + u, mean, BLOCK, part);
    if (u < g->hidden) add_squares(0, q + u, mean, g->hidden - u, part);
  }
  real variance = total_of(part) / (real)(g->count * g->hidden) + EPSILON;
  return 1 / (FRNN_BITS == 32 ? (real)__builtin_sqrtf((float)variance) : (real)__builtin_sqrt((double)variance));
}

/* The rows of z of a step, or of the tape. */
typedef struct {
  real *z;
  ptrdiff_t gate;
  int G, separate;
} normalised_row;

INLINE real *slot_of(const normalised_row *r, int slot) { return AT(real, r->z, slot * r->gate); }
INLINE real *scales_of(const normalised_row *r) { return slot_of(r, r->separate + 2 * r->G); }

/* One side of a group: the mean and scale that normalise it, then the gain and the shift. */
typedef struct {
  real mean, scale;
  const real *gain, *shift; /* of the gate at hand; shift may be NULL */
} side;

INLINE vec normalised_side(const int full, const side *s, real *to, vec q, int64_t u, int64_t left) {
  vec n = (q - vset1(s->mean)) * vset1(s->scale);
  vstore(to, n);
  return vfma(load_units(full, s->gain + u, left), n, s->shift ? load_units(full, s->shift + u, left) : (vec){0});
}

INLINE side side_of(const gates_of_row *g) {
  real mean = mean_of(g);
  return (side){.mean = mean, .scale = scale_of(g, mean)};
}

INLINE const real *of_gate(const void *extra, int64_t gate, int64_t hidden) {
  return extra ? (const real *)extra + gate * hidden : NULL;
}

INLINE void normalise_units(const int full, const normalised_row *r, int g, const side *x, const side *h, int added,
                            int64_t u, int64_t left) {
  real *to = slot_of(r, g) + u, *n_h = slot_of(r, r->separate + g) + u, *n_x = slot_of(r, r->separate + r->G + g) + u;
  vec a = normalised_side(full, x, n_x, vload(to), u, left), b = normalised_side(full, h, n_h, vload(n_h), u, left);
  vstore(to, added ? a + b : a);
  if (!added) vstore(AT(real, to, r->gate), b);
}

/* Normalises a group of a row: gates [first, last). Adds up its two sides if `added`; else that of h goes to the next
 * slot. */
NOINLINE void normalise_group(const frnn_step *s, const normalised_row *r, int first, int last, int group, int added) {
  const frnn_variant *v = s->variant->numbers;
  gates_of_row of_x = {slot_of(r, first), r->gate, last - first, s->hidden};
  gates_of_row of_h = {slot_of(r, r->separate + first), r->gate, last - first, s->hidden};
  side x = side_of(&of_x), h = side_of(&of_h);
  scales_of(r)[SCALE_IH + group] = x.scale;
  scales_of(r)[SCALE_HH + group] = h.scale;
  for (int g = first; g < last; g++) {
    int64_t u = 0;
    x.gain = of_gate(v->extra[FRNN_WEIGHT_LN_IH], g, s->hidden), x.shift = of_gate(s->variant->shift_ih, g, s->hidden);
    h.gain = of_gate(v->extra[FRNN_WEIGHT_LN_HH], g, s->hidden), h.shift = of_gate(s->variant->shift_hh, g, s->hidden);
    for (; u + LANES <= s->hidden; u += LANES) normalise_units(1, r, g, &x, &h, added, u, LANES);
    if (u < s->hidden) normalise_units(0, r, g, &x, &h, added, u, s->hidden - u);
  }
}

/* The two means of (V12) for a group: of dN and of dN N. dN is the gradient of a gate times its gain. */
typedef struct {
  real mean, along;
} means;

INLINE void add_means(const int full, const real *d, const real *gain, const real *n, int64_t left, vec *sum,
                      vec *along) {
#pragma GCC unroll 4
  for (int p = 0; p < PARTS; p++) {
    int64_t u = p * LANES;
    vec dn = load_units(full, d + u, left - u) * load_units(full, gain + u, left - u);
    sum[p] += dn;
    along[p] = vfma(dn, load_units(full, n + u, left - u), along[p]);
  }
}

NOINLINE means means_of(const real *d, const void *gains, int first, int last, const real *n, ptrdiff_t gate,
                        int64_t hidden) {
  vec sum[PARTS] = {{0}}, along[PARTS] = {{0}};
  real count = (real)((last - first) * hidden);
  for (int g = first; g < last; g++) {
    const real *gain = of_gate(gains, g, hidden), *of_d = d + g * hidden, *k = AT(const real, n, g *gate);
    int64_t u = 0;
    for (; u + BLOCK <= hidden; u += BLOCK) add_means(1, of_d + u, gain + u, k + u, BLOCK, sum, along);
    if (u < hidden) add_means(0, of_d + u, gain + u, k + u, hidden - u, sum, along);
  }
  return (means){total_of(sum) / count, total_of(along) / count};
}

/* (V12) for a vector. */
INLINE vec normalise_back(vec dn, vec n, means m, real scale) {
  return vset1(scale) * (dn - vset1(m.mean) - n * vset1(m.along));
}

/* One side of a group of a row: from the gradients d of its gates those of its products and of its gains. */
NOINLINE void side_back(const frnn_back *b, const real *d, int first, int last, const void *gain, const real *n,
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
