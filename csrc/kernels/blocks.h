/* blocks.h - sums over many rows, block by block: see ../internal/sums.h for why and in which order.
 *
 * Between calls a sum has three arrays beside it: the block that is not full yet, the sum of the full blocks, and the
 * rounding error of the sum. Those of a product lie tile after tile, so that a tile adds up its blocks in one run of
 * full vectors.
 *
 * It must not know: cells, time, threads. */

/* Kahan's addition: after any number of x the sum is off by two roundings of itself. A rounding error that is not
 * finite counts as 0. */
INLINE void grow(vec *sum, vec *lost, vec x) {
  vec y = x + *lost, after = *sum + y, left = y - (after - *sum);
  ivec finite = (ivec)(left - left == (vec){0});
  *lost = (vec)((ivec)left & finite);
  *sum = after;
}

KERNEL void add_keeping(void *sum, void *lost, const void *x, int64_t n) {
  for (int64_t i = 0; i < n; i += LANES) {
    vec s = vload_part((const real *)sum + i, n - i), l = vload_part((const real *)lost + i, n - i);
    grow(&s, &l, vload_part((const real *)x + i, n - i));
    vstore_part((real *)sum + i, s, n - i);
    vstore_part((real *)lost + i, l, n - i);
  }
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* The address of a tile's vectors in one of the arrays. */
INLINE real *place_of_tile(const frnn_product_sum *s, void *array, int64_t rows, int64_t m, int64_t vector) {
  int64_t vectors = (s->product.n + LANES - 1) / LANES;
  return (real *)array + (m * vectors + vector * rows) * LANES;
}

INLINE void load_state(const int V, const real *from, vec *acc) {
#pragma GCC unroll 32
  for (int v = 0; v < V; v++) acc[v] = vload(from + v * LANES);
}

INLINE void store_state(const int V, real *to, const vec *acc) {
#pragma GCC unroll 32
  for (int v = 0; v < V; v++) vstore(to + v * LANES, acc[v]);
}

/* Adds the block in the registers to the sum of the blocks, and clears the registers. */
INLINE void end_block(const int V, real *blocks, vec *acc) {
#pragma GCC unroll 32
  for (int v = 0; v < V; v++) {
    vstore(blocks + v * LANES, vload(blocks + v * LANES) + acc[v]);
    acc[v] = (vec){0};
  }
}

/* R rows x P vectors over k of one block of panels. Full blocks have a loop of their own, whose number of turns the
 * compiler knows. */
INLINE void blocks_tile(const int R, const int P, const frnn_product_sum *s, int64_t m, int64_t vector) {
  const frnn_gemm *g = &s->product;
  vec acc[ACCUMULATORS];
  real *block = place_of_tile(s, s->beside.block, R, m, vector),
       *blocks = place_of_tile(s, s->beside.blocks, R, m, vector);
  ptrdiff_t panel = g->panel / (ptrdiff_t)sizeof(real);
  const char *a = AT(const char, g->a, m * g->a_row);
  const real *panels = AT(const real, g->panels, vector * g->panel);
  int64_t left = g->k, now = 0;
#pragma GCC unroll 32
  for (int v = 0; v < R * P; v++) acc[v] = (vec){0};
  if (s->blocks.until < FRNN_BLOCK_ROWS) {
    load_state(R * P, block, acc);
    now = left < s->blocks.until ? left : s->blocks.until;
  }
  for (int last = 0;; last = 1, now = left) { /* the block that is begun, full blocks, the rest */
    chain(R, P, 1, acc, a, g->a_row, g->a_k, panels, panel, now);
    a += now * g->a_k;
    panels += now * LANES;
    left -= now;
    if (last || now < s->blocks.until % FRNN_BLOCK_ROWS) break;
    if (now > 0) end_block(R * P, blocks, acc);
    for (; left >= FRNN_BLOCK_ROWS; left -= FRNN_BLOCK_ROWS) {
      chain(R, P, 1, acc, a, g->a_row, g->a_k, panels, panel, FRNN_BLOCK_ROWS);
      end_block(R * P, blocks, acc);
      a += FRNN_BLOCK_ROWS * g->a_k;
      panels += FRNN_BLOCK_ROWS * LANES;
    }
    if (left == 0) return;
  }
  if (s->blocks.ends)
    end_block(R * P, blocks, acc);
  else
    store_state(R * P, block, acc);
}

/* Adds the blocks of such a tile to its sum. */
KERNEL void grow_tile(const frnn_product_sum *s, int64_t rows, int64_t panels, int64_t m, int64_t vector) {
  const frnn_gemm *g = &s->product;
  real *blocks = place_of_tile(s, s->beside.blocks, rows, m, vector),
       *lost = place_of_tile(s, s->beside.lost, rows, m, vector);
  for (int64_t v = 0; v < rows * panels; v++, blocks += LANES, lost += LANES) {
    int64_t first = (vector + v % panels) * LANES;
    real *to = AT(real, g->c, (m + v / panels) * g->c_row) + first;
    vec sum = vload_part(to, g->n - first), taken = vload(lost);
    grow(&sum, &taken, vload(blocks));
    vstore_part(to, sum, g->n - first);
    vstore(lost, taken);
    vstore(blocks, (vec){0});
  }
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

/* Up to four vectors of n numbers side by side, zeros beyond them. */
INLINE void load_four(const real *p, int64_t n, vec v[4]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) v[i] = i * LANES < n ? vload_part(p + i * LANES, n - i * LANES) : (vec){0};
}

INLINE void store_four(real *p, int64_t n, const vec v[4]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
    if (i * LANES < n) vstore_part(p + i * LANES, v[i], n - i * LANES);
}

INLINE void add_four(const real *p, int64_t n, vec v[4]) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
    if (i * LANES < n) v[i] += vload_part(p + i * LANES, n - i * LANES);
}

/* Four vectors over all rows, `total` being the sum of the blocks before and after. */
INLINE void sum_four(const frnn_row_sum *s, int64_t first, int64_t n, vec total[4]) {
  int64_t until = s->blocks.until, left = s->k;
  const char *src = AT(const char, s->src, first *(ptrdiff_t)sizeof(real));
  vec sum[4] = {{0}};
  if (until < FRNN_BLOCK_ROWS) load_four((const real *)s->beside.block + first, n, sum);
  for (;; until = FRNN_BLOCK_ROWS) {
    int64_t now = until < left ? until : left;
    for (int64_t row = 0; row < now; row++, src += s->src_k) add_four((const real *)src, n, sum);
    left -= now;
    if (now < until && !s->blocks.ends) break;
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
      total[v] += sum[v];
      sum[v] = (vec){0};
    }
    if (left == 0) return;
  }
  store_four((real *)s->beside.block + first, n, sum);
}

KERNEL void sum_rows_by_blocks(const frnn_row_sum *s) {
  for (int64_t i = 0; i < s->n; i += 4 * LANES) {
    int64_t n = s->n - i;
    vec total[4];
    load_four((const real *)s->beside.blocks + i, n, total);
    sum_four(s, i, n, total);
    if (s->blocks.grows) {
      vec sum[4], lost[4];
      load_four((const real *)s->dst + i, n, sum);
      load_four((const real *)s->beside.lost + i, n, lost);
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) {
        grow(&sum[v], &lost[v], total[v]);
        total[v] = (vec){0};
      }
      store_four((real *)s->dst + i, n, sum);
      store_four((real *)s->beside.lost + i, n, lost);
    }
    store_four((real *)s->beside.blocks + i, n, total);
  }
}
