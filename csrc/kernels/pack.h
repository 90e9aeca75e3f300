/* pack.h - packs matrices into panels, and adds rows. Packing and sums over rows run once per call or per chunk, never
 * per step.
 *
 * It must not know: cells, time, threads. */

/* A square of W, LANES rows (outputs) by LANES columns (k), transposed in registers; `full` if it has all of them; else
 * it has `rows` and `columns`, and the outputs beyond are zeros. */
INLINE void pack_square(const int full, const char *src, ptrdiff_t src_row, int64_t rows, int64_t columns, real *panel,
                        ptrdiff_t step) {
  vec square[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++) {
    if (full)
      square[i] = vload((const real *)(src + i * src_row));
    else
      square[i] = i < rows ? vload_part((const real *)(src + i * src_row), columns) : (vec){0};
  }
  vtranspose(square);
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++)
    if (full || i < columns) vstore(panel + i * step, square[i]);
}

KERNEL void pack_outputs(const frnn_transpose *p) {
  ptrdiff_t step = p->dst_k / (ptrdiff_t)sizeof(real);
  for (int64_t n = 0; n < p->outputs; n += LANES) {
    real *panel = AT(real, p->dst, n / LANES * p->dst_vector);
    const char *src = AT(const char, p->src, n * p->src_row);
    int64_t rows = p->outputs - n, k = 0;
    if (rows >= LANES)
      for (; k + LANES <= p->k; k += LANES)
        pack_square(1, src + k * (ptrdiff_t)sizeof(real), p->src_row, LANES, LANES, panel + k * step, step);
    for (; k < p->k; k += LANES)
      pack_square(0, src + k * (ptrdiff_t)sizeof(real), p->src_row, rows, p->k - k, panel + k * step, step);
  }
}

/* Some rows at a time, so that both sides are read in runs of a page or less. */
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

KERNEL void multiply_add(void *dst, const void *a, const void *b, const void *c, int64_t n) {
  for (int64_t i = 0; i < n; i += LANES) {
    vec x = vload_part((const real *)a + i, n - i), y = vload_part((const real *)b + i, n - i);
    vstore_part((real *)dst + i, c ? vfma(x, y, vload_part((const real *)c + i, n - i)) : x * y, n - i);
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
