/* bfloat16.h - panels of weights rounded to bfloat16: a lane of 32 bits holds number k of a row in its upper half, and
 * number k + 1 in its lower half. A bfloat16 is the upper half of a float, so a mask or a shift widens it.
 *
 * Rows that are operands are rounded too: each number is a float; or, if the instruction set multiplies pairs, a pair
 * is a lane as in panels. Such an instruction does two fused multiply-adds, the upper half first.
 *
 * It must not know: cells, time, threads. */

#define KBLOCK (4096 / (int)sizeof(real)) /* k of panels: a block stays in L2 while rows pass by */

/* The lanes of k numbers of a row. */
#define PACKED(k) ((k) / 2 + (k) % 2)
/* Bytes of k numbers of a row that products read, k even. */
#define ALONG(k, a_k) ((k) * (MULTIPLIES_PAIRS ? 2 : (a_k)))

typedef uint32_t bits __attribute__((vector_size(VEC_BYTES)));
#define UPPER_HALF 0xffff0000u

/* The numbers of lanes that a step of k multiplies: those of one half, or both as they are. */
enum { UPPER, LOWER, BOTH };

INLINE vec load_numbers(const int which, const real *lanes) {
  return which == BOTH ? vload(lanes) : which == LOWER ? vload_lower(lanes) : vload_upper(lanes);
}

INLINE vec multiply_add(const int which, vec x, vec w, vec sum) {
  return which == BOTH ? vfma_pairs(x, w, sum) : vfma(x, w, sum);
}

/* x rounded to nearest even, in the upper half of each lane. A NaN stays one. */
INLINE bits rounded(vec x) {
  bits of_x = (bits)x, is_nan = (bits)(x != x);
  bits nearest = of_x + 0x7fffu + (of_x >> 16 & 1u);
  return ((is_nan & (of_x | 0x400000u)) | (~is_nan & nearest)) & UPPER_HALF;
}

/* A step of k, or of a pair: the numbers of one lane after another. */
INLINE void chain_step(const int R, const int V, const int G, const int which, vec *acc, const char *row,
                       ptrdiff_t a_row, const real *panels, ptrdiff_t panel) {
  if (R <= V) {
    vec x[MAX_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) x[r] = vset1(*(const real *)(row + r * a_row));
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) {
      vec w = load_numbers(which, panels + (v / G) * panel + (v % G) * LANES);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) acc[r * V + v] = multiply_add(which, x[r], w, acc[r * V + v]);
    }
  } else {
    vec w[ACCUMULATORS];
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) w[v] = load_numbers(which, panels + (v / G) * panel + (v % G) * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      vec x = vset1(*(const real *)(row + r * a_row));
#pragma GCC unroll 16
      for (int v = 0; v < V; v++) acc[r * V + v] = multiply_add(which, x, w[v], acc[r * V + v]);
    }
  }
}

/* Two steps of k with one load of each lane. */
INLINE void chain_pair(const int R, const int V, const int G, vec *acc, const char *row, ptrdiff_t a_row, ptrdiff_t a_k,
                       const real *panels, ptrdiff_t panel) {
  vec x[MAX_ROWS], next[MAX_ROWS];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
    x[r] = vset1(*(const real *)(row + r * a_row));
    next[r] = vset1(*(const real *)(row + r * a_row + a_k));
  }
#pragma GCC unroll 16
  for (int v = 0; v < V; v++) {
    vec pair = vload(panels + (v / G) * panel + (v % G) * LANES), upper = vupper(pair), lower = vlower(pair);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) acc[r * V + v] = vfma(x[r], upper, acc[r * V + v]);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) acc[r * V + v] = vfma(next[r], lower, acc[r * V + v]);
  }
}

/* Registers of a tile with one load of each lane: accumulators, two steps of the rows, a lane and its two numbers, the
 * mask. Tiles for which there are too few read each lane twice. */
#define ONE_LOAD(R, V) ((R) <= (V) && (R) * (V) + 2 * (R) + 4 <= REGISTERS)

/* Two steps of k, as the registers allow. */
INLINE void chain_steps(const int R, const int V, const int G, vec *acc, const char *row, ptrdiff_t a_row,
                        ptrdiff_t a_k, const real *panels, ptrdiff_t panel) {
  if (ONE_LOAD(R, V)) {
    chain_pair(R, V, G, acc, row, a_row, a_k, panels, panel);
    return;
  }
  chain_step(R, V, G, UPPER, acc, row, a_row, panels, panel);
  __asm__ volatile("" : "+r"(panels) : : "memory"); /* or the compiler would load both halves, and spill others */
  chain_step(R, V, G, LOWER, acc, row + a_k, a_row, panels, panel);
}

/* acc[r][p][g] += sum over k of a[r][k] * b[p][k][g]. */
INLINE void chain(const int R, const int P, const int G, vec *acc, const void *a, ptrdiff_t a_row, ptrdiff_t a_k,
                  const real *panels, ptrdiff_t panel, int64_t k) {
  const char *row = a;
  if (MULTIPLIES_PAIRS) {
#pragma GCC unroll 1
    for (; k > 0; k -= 2, row += sizeof(real), panels += G * LANES)
      chain_step(R, P * G, G, BOTH, acc, row, a_row, panels, panel);
    return;
  }
  if (R * P * G < LONG_STEP) {
    UNROLL_PAIRS
    for (; k > 1; k -= 2, row += 2 * a_k, panels += G * LANES)
      chain_steps(R, P * G, G, acc, row, a_row, a_k, panels, panel);
  } else {
#pragma GCC unroll 1
    for (; k > 1; k -= 2, row += 2 * a_k, panels += G * LANES)
      chain_steps(R, P * G, G, acc, row, a_row, a_k, panels, panel);
  }
  if (k > 0) chain_step(R, P * G, G, UPPER, acc, row, a_row, panels, panel);
}

/* Write and read LANES columns of k, or as many as there are: the vectors of `square`. Those beyond are zeros. */
INLINE void store_columns(const vec *square, int64_t columns, real *panel, ptrdiff_t step) {
#pragma GCC unroll 8
  for (int i = 0; i < LANES; i += 2)
    if (i < columns) vstore(panel + i / 2 * step, (vec)(rounded(square[i]) | rounded(square[i + 1]) >> 16));
}

INLINE void load_columns(vec *square, int64_t columns, const real *panel, ptrdiff_t step) {
#pragma GCC unroll 8
  for (int i = 0; i < LANES; i += 2) {
    vec pair = i < columns ? vload(panel + i / 2 * step) : (vec){0};
    square[i] = vupper(pair);
    square[i + 1] = vlower(pair);
  }
}

/* Column k of a panel of one gate. */
INLINE vec column_of(const real *panel, int64_t k) {
  vec pair = vload(panel + k / 2 * LANES);
  return k % 2 ? vlower(pair) : vupper(pair);
}

KERNEL void widen(const void *panel, int64_t k, int gates, void *full) {
  const real *from = panel;
  real *to = full;
  for (; k > 1; k -= 2, from += gates * LANES, to += 2 * gates * LANES) {
    for (int g = 0; g < gates; g++) {
      vec pair = vload(from + g * LANES);
      vstore(to + g * LANES, vupper(pair));
      vstore(to + (gates + g) * LANES, vlower(pair));
    }
  }
  for (int g = 0; g < gates && k > 0; g++) vstore(to + g * LANES, vload_upper(from + g * LANES));
}

/* Rows rounded, as operands. The last pair of an odd number has -0 in its lower half: its product changes no sum. */
KERNEL void round_rows(const frnn_operands *o) {
  for (int64_t m = 0; m < o->m; m++) {
    const real *x = AT(const real, o->rows, m * o->row);
    char *to = AT(char, o->operands, m * o->operand_row);
    for (int64_t k = 0; k < o->k; k += LANES) vstore_rounded(to, k, (vec)rounded(vload_part(x + k, o->k - k)));
    if (MULTIPLIES_PAIRS && o->k % 2 == 1) ((uint32_t *)(void *)to)[o->k / 2] |= 0x8000u;
  }
}

#define COMPACT 1
