/* transpose.h - packs a matrix into panels, and unpacks it: W as the user stores it has its outputs as rows, panels
 * have them as lanes. Runs once per call, or once for all calls.
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
  store_columns(square, full ? LANES : columns, panel, step);
}

KERNEL void pack(const frnn_transpose *p) {
  ptrdiff_t step = p->dst_k / (ptrdiff_t)sizeof(real);
  for (int64_t n = 0; n < p->outputs; n += LANES) {
    real *panel = AT(real, p->dst, n / LANES * p->dst_vector);
    const char *src = AT(const char, p->src, n * p->src_row);
    int64_t rows = p->outputs - n, k = 0;
    if (rows >= LANES)
      for (; k + LANES <= p->k; k += LANES)
        pack_square(1, src + k * (ptrdiff_t)sizeof(real), p->src_row, LANES, LANES, panel + PACKED(k) * step, step);
    for (; k < p->k; k += LANES)
      pack_square(0, src + k * (ptrdiff_t)sizeof(real), p->src_row, rows, p->k - k, panel + PACKED(k) * step, step);
  }
}

INLINE void unpack_square(char *src, ptrdiff_t src_row, int64_t rows, int64_t columns, const real *panel,
                          ptrdiff_t step) {
  vec square[LANES];
  load_columns(square, columns, panel, step);
  vtranspose(square);
#pragma GCC unroll 16
  for (int i = 0; i < LANES; i++)
    if (i < rows) vstore_part((real *)(src + i * src_row), square[i], columns);
}

KERNEL void unpack(const frnn_transpose *p) {
  ptrdiff_t step = p->dst_k / (ptrdiff_t)sizeof(real);
  for (int64_t n = 0; n < p->outputs; n += LANES)
    for (int64_t k = 0; k < p->k; k += LANES)
      unpack_square(AT(char, p->src, n * p->src_row + k * (ptrdiff_t)sizeof(real)), p->src_row, p->outputs - n,
                    p->k - k, AT(const real, p->dst, n / LANES * p->dst_vector) + PACKED(k) * step, step);
}

KERNEL void column(const void *panel, int64_t k, int64_t columns, void *lanes) {
  (void)columns;
  vstore(lanes, column_of(panel, k));
}
