/* pack.h - packs rows into panels, and adds rows. These run once per call or per chunk, never per step.
 *
 * It must not know: cells, time, threads. */

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
