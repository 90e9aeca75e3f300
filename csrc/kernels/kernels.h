/* kernels.h - everything one instruction set and dtype exports: a stub in isa/ sets its target and its macros, then
 * includes this file once. All is static but the frnn_kernels.
 *
 * It must not know: time, threads, Python. */
#include "../internal/internal.h"

#include "vec.h"

#include "vmath.h"

#include "gemm.h"

#include "states.h"

#include "blocks.h"

#include "rnn.h"

#include "lstm.h"

#include "gru.h"

#include "variant.h"

#include "norm.h"

#include "rnn_variant.h"

#include "lstm_variant.h"

#include "gru_variant.h"

#include "min.h"

#include "pack.h"

#include "probe.h"

/* The tiles of all steps, each as (name, gates, number of widths: 3 stands for 1, 2 and 4 panels, 4 for these and 8).
 * The function name_tile is the body of such a tile. */
#define STEP_TILES(T) RNN_TILES(T) LSTM_TILES(T) GRU_TILES(T) CHAINS_TILES(T)

#define TILE_KIND(name, G, widths) TILE_##name,
enum tile_kind { STEP_TILES(TILE_KIND) TILE_KINDS };

typedef void gemm_tile_function(const frnn_gemm *, int64_t row, int64_t vector);
typedef void blocks_tile_function(const frnn_product_sum *, int64_t row, int64_t vector);
typedef void step_tile_function(const frnn_step *, int64_t row, int64_t vector);

/* By the number of panels: 1, 2, 4, 8. NULL if the registers do not hold the tile. */
#define WIDTHS 4
struct tiles {
  gemm_tile_function *gemm[WIDTHS];
  blocks_tile_function *blocks[WIDTHS];
  step_tile_function *step[TILE_KINDS][WIDTHS];
};

#define ROWS 1
#include "rows.h"
#define ROWS 2
#include "rows.h"
#define ROWS 3
#include "rows.h"
#define ROWS 4
#include "rows.h"
#define ROWS 5
#include "rows.h"
#define ROWS 6
#include "rows.h"
#define ROWS 7
#include "rows.h"
#define ROWS 8
#include "rows.h"

static const struct tiles *const tiles_of[] = {NULL,        &tiles_by_1, &tiles_by_2, &tiles_by_3, &tiles_by_4,
                                               &tiles_by_5, &tiles_by_6, &tiles_by_7, &tiles_by_8};

/* The base 2 logarithm of the number of panels that the next tile takes of those left. */
INLINE int widest(int count, int64_t left) {
  int width = count - 1;
  while (width > 0 && ((int64_t)1 << width) > left) width--;
  return width;
}

INLINE int widths_of_gemm(int rows) {
  int count = WIDTHS;
  while (!tiles_of[rows]->gemm[count - 1]) count--;
  return count;
}

INLINE int widths_of_step(int kind, int rows) {
  int count = WIDTHS;
  while (!tiles_of[rows]->step[kind][count - 1]) count--;
  return count;
}

KERNEL int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Divides rows evenly among tiles: 8 as 4 + 4 rather than 6 + 2, for a tile of few rows reads more per product. */
typedef struct {
  int64_t tiles, larger; /* the first ones have a row more */
  int rows;              /* of the smaller ones */
} row_tiles;

INLINE row_tiles split_rows(int64_t rows, int most) {
  int64_t tiles = (rows + most - 1) / most;
  return (row_tiles){tiles, rows % tiles, (int)(rows / tiles)};
}

/* One block of k and of rows. Panels are the outer loop, so that each stays in the cache while the rows pass by it. */
KERNEL void gemm_block(const frnn_gemm *g) {
  int64_t vectors = (g->n + LANES - 1) / LANES;
  row_tiles tiles = split_rows(g->m, TILE_ROWS(1));
  int widths = widths_of_gemm(tiles.rows + (tiles.larger > 0));
  for (int64_t v = 0; v < vectors;) {
    int width = widest(widths, vectors - v);
    for (int64_t t = 0, m = 0; t < tiles.tiles; t++) {
      int rows = tiles.rows + (t < tiles.larger);
      tiles_of[rows]->gemm[width](g, m, v);
      m += rows;
    }
    v += (int64_t)1 << width;
  }
}

KERNEL void gemm(const frnn_gemm *full) {
  int64_t row_block = least(full->m, ROW_BLOCK);
  if (full->m <= 0 || full->n <= 0) return;
  for (int64_t m = 0; m < full->m; m += row_block) {
    frnn_gemm g = *full;
    g.m = least(row_block, full->m - m);
    g.a = AT(const char, full->a, m *g.a_row);
    g.c = AT(char, full->c, m *g.c_row);
    g.init = full->init ? AT(const char, full->init, m *g.init_row) : NULL;
    int64_t k = 0;
    do {
      g.k = least(KBLOCK, full->k - k);
      gemm_block(&g);
      k += g.k;
      g.a = AT(const char, g.a, g.k *g.a_k);
      g.panels = AT(const char, g.panels, g.k *VEC_BYTES);
      g.init = g.c;
      g.init_row = g.c_row;
    } while (k < full->k);
  }
}

/* As gemm_block for sums by blocks: one block of k and of rows. With `grows`, after all of k, adds the blocks to the
 * sums. */
INLINE void sum_block(const int grows, const frnn_product_sum *s) {
  int64_t vectors = (s->product.n + LANES - 1) / LANES;
  row_tiles tiles = split_rows(s->product.m, TILE_ROWS(1));
  int widths = widths_of_gemm(tiles.rows + (tiles.larger > 0));
  for (int64_t v = 0; v < vectors;) {
    int width = widest(widths, vectors - v);
    for (int64_t t = 0, m = 0; t < tiles.tiles; t++) {
      int rows = tiles.rows + (t < tiles.larger);
      if (grows)
        grow_tile(s, rows, (int64_t)1 << width, m, v);
      else
        tiles_of[rows]->blocks[width](s, m, v);
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

/* All rows and vectors of one step. */
INLINE void step(const int kind, const int G, const frnn_step *s) {
  if (s->m <= 0) return;
  row_tiles tiles = split_rows(s->m, TILE_ROWS(G));
  int widths = widths_of_step(kind, tiles.rows + (tiles.larger > 0));
  for (int64_t done = 0; done < s->vectors;) {
    int width = widest(widths, s->vectors - done);
    int64_t v = s->vector + (s->backwards ? s->vectors - done - ((int64_t)1 << width) : done);
    for (int64_t t = 0, m = 0; t < tiles.tiles; t++) {
      int rows = tiles.rows + (t < tiles.larger);
      tiles_of[rows]->step[kind][width](s, m, v);
      m += rows;
    }
    done += (int64_t)1 << width;
  }
}

#define STEP_FUNCTION(name, G, widths) \
  KERNEL void name##_step(const frnn_step *s) { step(TILE_##name, G, s); }
STEP_TILES(STEP_FUNCTION)

INLINE void map(vec (*function)(vec), const void *x, void *y, int64_t n) {
  for (int64_t i = 0; i < n; i += LANES)
    vstore_part((real *)y + i, function(vload_part((const real *)x + i, n - i)), n - i);
}
KERNEL void map_exp(const void *x, void *y, int64_t n) { map(vexp, x, y, n); }
KERNEL void map_sigmoid(const void *x, void *y, int64_t n) { map(vsigmoid, x, y, n); }
KERNEL void map_tanh(const void *x, void *y, int64_t n) { map(vtanh, x, y, n); }

#define QUOTE_(name) #name
#define QUOTE(name) QUOTE_(name)
#define TABLE_(isa, bits) frnn_##isa##_f##bits
#define TABLE(isa, bits) TABLE_(isa, bits)

extern const frnn_kernels TABLE(FRNN_ISA, FRNN_BITS);
const frnn_kernels TABLE(FRNN_ISA, FRNN_BITS) = {
    .isa = QUOTE(FRNN_ISA),
    .fused = FUSED,
    .size = sizeof(real),
    .lanes = LANES,
    .gemm = gemm,
    .pack_outputs = pack_outputs,
    .pack_rows = pack_rows,
    .add = add,
    .sum_rows = sum_rows,
    .sum_rows_by_blocks = sum_rows_by_blocks,
    .sum_products = sum_products,
    .add_keeping = add_keeping,
    .multiply_add = multiply_add,
    .chains = chains_step,
    .cells = {RNN_CELLS, RNN_VARIANT_CELLS, LSTM_CELLS, LSTM_VARIANT_CELLS, GRU_CELLS, GRU_VARIANT_CELLS, MIN_CELLS},
    .exp = map_exp,
    .sigmoid = map_sigmoid,
    .tanh = map_tanh,
    .probe_fma = probe_fma,
    .probe_read = probe_read,
};
