/* pack.h - what brings matrices into panels and sums them: once per call or per chunk, never per step.
 *
 * It must not know: cells, time, threads. */

/* A square of W at a time: LANES rows (outputs) by LANES columns (k), transposed in registers. */
KERNEL void pack_outputs(const frnn_transpose *p) {
  ptrdiff_t step = p->dst_k / (ptrdiff_t)sizeof(real);
  for (int64_t n = 0; n < p->outputs; n += LANES) {
    real *panel = AT(real, p->dst, n / LANES * p->dst_vector);
    for (int64_t k = 0; k < p->k; k += LANES) {
      vec square[LANES];
#pragma GCC unroll 16
      for (int i = 0; i < LANES; i++)
        square[i] =
            n + i < p->outputs ? vload_part(AT(const real, p->src, (n + i) * p->src_row) + k, p->k - k) : (vec){0};
      vtranspose(square);
#pragma GCC unroll 16
      for (int i = 0; i < LANES; i++)
        if (k + i < p->k) vstore(panel + (k + i) * step, square[i]);
    }
  }
}

/* Some rows at a time, so that both sides are walked in runs of a page or less. */
KERNEL void pack_rows(const void *src, ptrdiff_t src_k, int64_t k, int64_t n, void *dst, ptrdiff_t panel) {
  const int64_t run = 16;
  for (int64_t first = 0; first < k; first += run)
    for (int64_t v = 0; v * LANES < n; v++)
      for (int64_t i = first; i < first + run && i < k; i++)
        vstore(AT(real, dst, v * panel) + i * LANES,
               vload_part(AT(const real, src, i *src_k) + v * LANES, n - v * LANES));
}

KERNEL void add(void *dst, const void *a, const void *b, int64_t n) {
  for (int64_t i = 0; i < n; i += LANES) {
    vec sum = a ? vload_part((const real *)a + i, n - i) : (vec){0};
    if (b) sum += vload_part((const real *)b + i, n - i);
    vstore_part((real *)dst + i, sum, n - i);
  }
}

KERNEL void sum_rows(const void *src, ptrdiff_t src_k, int64_t k, int64_t n, void *dst) {
  for (int64_t i = 0; i < n; i += 4 * LANES) {
    vec sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
      sum[v] = i + v * LANES < n ? vload_part((const real *)dst + i + v * LANES, n - i - v * LANES) : (vec){0};
    for (int64_t row = 0; row < k; row++) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++)
        if (i + v * LANES < n) sum[v] += vload_part(AT(const real, src, row *src_k) + i + v * LANES, n - i - v * LANES);
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
      if (i + v * LANES < n) vstore_part((real *)dst + i + v * LANES, sum[v], n - i - v * LANES);
  }
}
