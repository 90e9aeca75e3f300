/* full.h - panels at full precision: a lane holds one number of k.
 *
 * It must not know: cells, time, threads. */

#define KBLOCK (4096 / (int)sizeof(real)) /* k of panels: a block stays in L2 while rows pass by */

/* The lanes of k numbers of a row. */
#define PACKED(k) (k)
/* Bytes of k numbers of a row that products read, which are a_k apart. */
#define ALONG(k, a_k) ((k) * (a_k))

/* A step of k. The smaller of the two sets is held in registers. */
INLINE void chain_step(const int R, const int V, const int G, vec *acc, const char *row, ptrdiff_t a_row,
                       const real *panels, ptrdiff_t panel) {
  if (R <= V) {
    vec x[MAX_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) x[r] = vset1(*(const real *)(row + r * a_row));
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) {
      vec w = vload(panels + (v / G) * panel + (v % G) * LANES);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) acc[r * V + v] = vfma(x[r], w, acc[r * V + v]);
    }
  } else {
    vec w[ACCUMULATORS];
#pragma GCC unroll 16
    for (int v = 0; v < V; v++) w[v] = vload(panels + (v / G) * panel + (v % G) * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      vec x = vset1(*(const real *)(row + r * a_row));
#pragma GCC unroll 16
      for (int v = 0; v < V; v++) acc[r * V + v] = vfma(x, w[v], acc[r * V + v]);
    }
  }
}

/* acc[r][p][g] += sum over k of a[r][k] * b[p][k][g]. */
INLINE void chain(const int R, const int P, const int G, vec *acc, const void *a, ptrdiff_t a_row, ptrdiff_t a_k,
                  const real *panels, ptrdiff_t panel, int64_t k) {
  const char *row = a;
  if (R * P * G < LONG_STEP) {
    UNROLL_PRODUCT
    for (; k > 0; k--, row += a_k, panels += G * LANES) chain_step(R, P * G, G, acc, row, a_row, panels, panel);
  } else {
#pragma GCC unroll 1
    for (; k > 0; k--, row += a_k, panels += G * LANES) chain_step(R, P * G, G, acc, row, a_row, panels, panel);
  }
}

/* Write and read LANES columns of k, or as many as there are: the vectors of `square`. */
INLINE void store_columns(const vec *square, int64_t columns, real *panel, ptrdiff_t step) {
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++)
    if (i < columns) vstore(panel + i * step, square[i]);
}

INLINE void load_columns(vec *square, int64_t columns, const real *panel, ptrdiff_t step) {
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) square[i] = i < columns ? vload(panel + i * step) : (vec){0};
}

/* Column k of a panel of one gate. */
INLINE vec column_of(const real *panel, int64_t k) { return vload(panel + k * LANES); }

#define WIDEN NULL

#define CONVERT NULL

#define COMPACT (!FUSED) /* see gemm.h */
