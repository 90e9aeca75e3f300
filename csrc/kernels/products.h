/* products.h - everything that reads packed weights, for one instruction set, dtype and precision: the tiles of steps,
 * the product, packing. A stub in isa/ includes it once, by itself or within kernels.h, after full.h or bfloat16.h. All
 * is static.
 *
 * It must not know: the order of time (a step's arguments say how far away the next step is), threads, Python. */
#include "gemm.h"

#include "states.h"

#include "rnn.h"

#include "lstm.h"

#include "gru.h"

/* The tiles of all steps, each as (name, gates, number of widths: 3 stands for 1, 2 and 4 panels, 4 for these and 8).
 * The function name_tile is the body of such a tile. */
#define STEP_TILES(T) RNN_TILES(T) LSTM_TILES(T) GRU_TILES(T) CHAINS_TILES(T)

#define TILE_KIND(name, G, widths) TILE_##name,
enum tile_kind { STEP_TILES(TILE_KIND) TILE_KINDS };

/* 1 for a kind that runs the tiles of tanh: an epilogue that tiles share reads the nonlinearity from the step. */
#define RUNS_TANH(kind) (COMPACT && (kind) == TILE_rnn_relu)
_Static_assert((int)TILE_rnn_tanh == TANH && (int)TILE_rnn_relu == RELU, "rnn.h reads a step's kind as a nonlinearity");

typedef void gemm_tile_function(const frnn_gemm *, int64_t row, int64_t vector);
typedef void step_tile_function(const frnn_step *, int64_t row, int64_t vector);

/* By the number of panels: 1, 2, 4, 8. NULL if the registers do not hold the tile. `three`: of three panels, for steps
 * of one row that have no more; in float32 alone, to save code. */
#define WIDTHS 4
struct tiles {
  gemm_tile_function *gemm[WIDTHS];
  step_tile_function *step[TILE_KINDS][WIDTHS], *three[TILE_KINDS];
};

/* rows.h and block_rows.h define names that end in the number of rows, and tiles that fit the registers alone. */
#define JOIN_(name, rows) name##_by_##rows
#define JOIN(name, rows) JOIN_(name, rows)
#define TILE(name) JOIN(name, ROWS)
#define FITS_THREE(G) (ROWS == 1 && !COMPACT && FRNN_BITS == 32 && 3 * (G) <= ACCUMULATORS)
#define FITS(P, G) (ROWS <= TILE_ROWS(G) && ROWS * (P) * (G) <= ACCUMULATORS && !WIDE_ENOUGH(P, G))

#define ROWS 1
#include "rows.h"
#undef ROWS
#define ROWS 2
#include "rows.h"
#undef ROWS
#define ROWS 3
#include "rows.h"
#undef ROWS
#define ROWS 4
#include "rows.h"
#undef ROWS
#define ROWS 5
#include "rows.h"
#undef ROWS
#define ROWS 6
#include "rows.h"
#undef ROWS
#define ROWS 7
#include "rows.h"
#undef ROWS
#define ROWS 8
#include "rows.h"
#undef ROWS

static const struct tiles *const tiles_of[] = {NULL,        &tiles_by_1, &tiles_by_2, &tiles_by_3, &tiles_by_4,
                                               &tiles_by_5, &tiles_by_6, &tiles_by_7, &tiles_by_8};

/* The base 2 logarithm of the number of panels that the next tile takes of those left: at most `width`. */
INLINE int narrower(int width, int64_t left) {
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
  if (rows <= most) return (row_tiles){1, 0, (int)rows};
  int64_t tiles = (rows + most - 1) / most;
  return (row_tiles){tiles, rows % tiles, (int)(rows / tiles)};
}

/* One block of k and of rows. Panels are the outer loop, so that each stays in the cache while the rows pass by it. */
KERNEL void gemm_block(const frnn_gemm *g) {
  int64_t vectors = (g->n + LANES - 1) / LANES;
  row_tiles tiles = split_rows(g->m, TILE_ROWS(1));
  int width = widths_of_gemm(tiles.rows + (tiles.larger > 0)) - 1;
  for (int64_t v = 0; v < vectors;) {
    width = narrower(width, vectors - v);
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
      g.a = AT(const char, g.a, ALONG(g.k, g.a_k));
      g.panels = AT(const char, g.panels, PACKED(g.k) * VEC_BYTES);
      g.init = g.c;
      g.init_row = g.c_row;
    } while (k < full->k);
  }
}

/* All rows and vectors of one step. */
INLINE void one_step(const int kind, const frnn_step *s, row_tiles tiles, int widths) {
  int width = widths - 1;
  for (int64_t done = 0; done < s->vectors;) {
    width = narrower(width, s->vectors - done);
    int64_t v = s->vector + (s->backwards ? s->vectors - done - ((int64_t)1 << width) : done);
    for (int64_t t = 0, m = 0; t < tiles.tiles; t++) {
      int rows = tiles.rows + (t < tiles.larger);
      tiles_of[rows]->step[kind][width](s, m, v);
      m += rows;
    }
    done += (int64_t)1 << width;
  }
}

/* The tile that takes all rows and vectors of a step; NULL if there is none. */
INLINE step_tile_function *only_tile(const int kind, const frnn_step *s, row_tiles tiles, int widths) {
  if (tiles.tiles > 1) return NULL;
  if (s->vectors == 3) return tiles_of[tiles.rows]->three[kind];
  int width = narrower(widths - 1, s->vectors);
  return (int64_t)1 << width == s->vectors ? tiles_of[tiles.rows]->step[kind][width] : NULL;
}

/* All steps. Steps of a single tile do nothing between two tiles but advance. */
INLINE void step(const int own_kind, const int G, frnn_step *s) {
  const int kind = RUNS_TANH(own_kind) ? TILE_rnn_tanh : own_kind;
  if (s->m <= 0) return;
  s->kind = own_kind;
  row_tiles tiles = split_rows(s->m, TILE_ROWS(G));
  int widths = widths_of_step(kind, tiles.rows + (tiles.larger > 0));
  step_tile_function *tile = only_tile(kind, s, tiles, widths);
  for (;; frnn_advance(s)) {
    if (tile)
      tile(s, 0, s->vector);
    else
      one_step(kind, s, tiles, widths);
    if (s->more-- <= 0) return;
  }
}

#define STEP_FUNCTION(name, G, widths) \
  KERNEL void name##_step(frnn_step *s) { step(TILE_##name, G, s); }
STEP_TILES(STEP_FUNCTION)

#define PRODUCTS                                                                                        \
  {                                                                                                     \
    .convert = CONVERT, .pack = pack, .unpack = unpack, .widen = WIDEN, .column = column, .gemm = gemm, \
    .chains = chains_step, .tiles = {RNN_STEPS, LSTM_STEPS, GRU_STEPS}                                  \
  }

#define QUOTE_(name) #name
#define QUOTE(name) QUOTE_(name)
#define TABLE_(isa, kind) frnn_##isa##_##kind
#define TABLE(isa, kind) TABLE_(isa, kind)
