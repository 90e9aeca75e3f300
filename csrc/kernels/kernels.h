/* kernels.h - everything one instruction set and dtype exports: a stub in isa/ sets its target and its macros, then
 * includes this file once. All is static but the frnn_kernels.
 *
 * It must not know: time, threads, Python. */
#include "../internal/internal.h"

#include "vec.h"

#include "vmath.h"

#include "full.h"

#include "transpose.h"

#include "products.h"

#include "blocks.h"

#include "variant.h"

#include "norm.h"

#include "rnn_variant.h"

#include "lstm_variant.h"

#include "gru_variant.h"

#include "min.h"

#include "pack.h"

#include "probe.h"

typedef void blocks_tile_function(const frnn_product_sum *, int64_t row, int64_t vector);
struct block_tiles {
  blocks_tile_function *blocks[WIDTHS];
};

#define ROWS 1
#include "block_rows.h"
#undef ROWS
#define ROWS 2
#include "block_rows.h"
#undef ROWS
#define ROWS 3
#include "block_rows.h"
#undef ROWS
#define ROWS 4
#include "block_rows.h"
#undef ROWS
#define ROWS 5
#include "block_rows.h"
#undef ROWS
#define ROWS 6
#include "block_rows.h"
#undef ROWS
#define ROWS 7
#include "block_rows.h"
#undef ROWS
#define ROWS 8
#include "block_rows.h"
#undef ROWS

static const struct block_tiles *const block_tiles_of[] = {NULL,         &blocks_by_1, &blocks_by_2,
                                                           &blocks_by_3, &blocks_by_4, &blocks_by_5,
                                                           &blocks_by_6, &blocks_by_7, &blocks_by_8};

/* As gemm_block for sums by blocks: one block of k and of rows. With `grows`, after all of k, adds the blocks to the
 * sums. */
INLINE void sum_block(const int grows, const frnn_product_sum *s) {
  int64_t vectors = (s->product.n + LANES - 1) / LANES;
  row_tiles tiles = split_rows(s->product.m, TILE_ROWS(1));
  int width = widths_of_gemm(tiles.rows + (tiles.larger > 0)) - 1;
  for (int64_t v = 0; v < vectors;) {
    width = narrower(width, vectors - v);
    for (int64_t t = 0, m = 0; t < tiles.tiles; t++) {
      int rows = tiles.rows + (t < tiles.larger);
      if (grows)
        grow_tile(s, rows, (int64_t)1 << width, m, v);
      else
        block_tiles_of[rows]->blocks[width](s, m, v);
      m += rows;
    }
    v += (int64_t)1 << width;
  }
}

KERNEL void sum_products(const frnn_product_sum *full) {
  const frnn_gemm *all = &full->product;
  int64_t row_block = least(all->m, ROW_BLOCK), vectors = (all->n + LANES - 1) / LANES;
  if (all->m <= 0 || all->n <= 0) return;
  for (int64_t m = 0; m < all->m; m += row_block) {
    frnn_product_sum s = *full;
    frnn_gemm *g = &s.product;
    g->m = least(row_block, all->m - m);
    g->a = AT(const char, all->a, m * g->a_row);
    g->c = AT(char, all->c, m * g->c_row);
    void **arrays[] = {&s.beside.block, &s.beside.blocks, &s.beside.lost};
    for (int i = 0; i < 3; i++) *arrays[i] = AT(char, *arrays[i], m * vectors * VEC_BYTES);
    int64_t k = 0;
    do {
      g->k = least(KBLOCK, all->k - k);
      k += g->k;
      s.blocks.ends = full->blocks.ends && k == all->k;
      sum_block(0, &s);
      s.blocks.until = FRNN_BLOCK_ROWS - (FRNN_BLOCK_ROWS - s.blocks.until + g->k) % FRNN_BLOCK_ROWS;
      g->a = AT(const char, g->a, g->k * g->a_k);
      g->panels = AT(const char, g->panels, g->k *VEC_BYTES);
    } while (k < all->k);
    if (s.blocks.grows) sum_block(1, &s);
  }
}

INLINE void map(vec (*function)(vec), const void *x, void *y, int64_t n) {
  for (int64_t i = 0; i < n; i += LANES)
    vstore_part((real *)y + i, function(vload_part((const real *)x + i, n - i)), n - i);
}
KERNEL void map_exp(const void *x, void *y, int64_t n) { map(vexp, x, y, n); }
KERNEL void map_sigmoid(const void *x, void *y, int64_t n) { map(vsigmoid, x, y, n); }
KERNEL void map_tanh(const void *x, void *y, int64_t n) { map(vtanh, x, y, n); }

/* exp(x - max) over its sum, which is added up in the order of the elements: the same for all widths of vectors. The
   sum has 64 bits, because rows may have millions of elements. */
KERNEL void softmax(void *row, int64_t n) {
  real *x = row, most = x[0];
  double sum = 0;
  for (int64_t i = 1; i < n; i++) most = x[i] > most || x[i] != x[i] ? x[i] : most;
  for (int64_t i = 0; i < n; i += LANES) vstore_part(x + i, vexp(vload_part(x + i, n - i) - vset1(most)), n - i);
  for (int64_t i = 0; i < n; i++) sum += x[i];
  for (int64_t i = 0; i < n; i += LANES) vstore_part(x + i, vload_part(x + i, n - i) / vset1((real)sum), n - i);
}

#define KIND_(bits) f##bits
#define KIND(bits) KIND_(bits)

extern const frnn_kernels TABLE(FRNN_ISA, KIND(FRNN_BITS));
const frnn_kernels TABLE(FRNN_ISA, KIND(FRNN_BITS)) = {
    .isa = QUOTE(FRNN_ISA),
    .fused = FUSED,
    .size = sizeof(real),
    .lanes = LANES,
    .products = PRODUCTS,
    .pack_rows = pack_rows,
    .add = add,
    .sum_rows = sum_rows,
    .sum_rows_by_blocks = sum_rows_by_blocks,
    .sum_products = sum_products,
    .add_keeping = add_keeping,
    .multiply_add = multiply_add,
    .cells = {RNN_CELLS, RNN_VARIANT_CELLS, LSTM_CELLS, LSTM_VARIANT_CELLS, GRU_CELLS, GRU_VARIANT_CELLS, MIN_CELLS},
    .exp = map_exp,
    .sigmoid = map_sigmoid,
    .tanh = map_tanh,
    .softmax = softmax,
    .probe_fma = probe_fma,
    .probe_read = probe_read,
};
