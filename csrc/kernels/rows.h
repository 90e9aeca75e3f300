/* rows.h - the tiles of ROWS rows, one to eight panels wide. kernels.h includes this file once for every number of
 * rows: with constant sizes the compiler keeps a tile in registers, and each tile is a function of its own because
 * registers are allotted per function. Tiles that do not fit the registers of the instruction set are left out.
 *
 * It must not know: anything but which tiles there are. */

NOINLINE void TILE(gemm_1)(const frnn_gemm *s, int64_t m, int64_t v) { gemm_tile(ROWS, 1, s, m, v); }
NOINLINE void TILE(gemm_2)(const frnn_gemm *s, int64_t m, int64_t v) { gemm_tile(ROWS, 2, s, m, v); }
NOINLINE void TILE(gemm_4)(const frnn_gemm *s, int64_t m, int64_t v) { gemm_tile(ROWS, 4, s, m, v); }
NOINLINE void TILE(gemm_8)(const frnn_gemm *s, int64_t m, int64_t v) { gemm_tile(ROWS, 8, s, m, v); }

/* The tiles of a step: of each name in STEP_TILES a function for every width. */
#define DEFINE(name, P) \
  NOINLINE void TILE(name##_##P)(const frnn_step *s, int64_t m, int64_t v) { name##_tile(ROWS, P, s, m, v); }
#define DEFINE_3(name) DEFINE(name, 1) DEFINE(name, 2) DEFINE(name, 3) DEFINE(name, 4)
#define DEFINE_4(name) DEFINE_3(name) DEFINE(name, 8)
#define DEFINE_TILES(name, G, widths) DEFINE_##widths(name)
STEP_TILES(DEFINE_TILES)

#define ENTRY(name, P, G) FITS(P, G) && !RUNS_TANH(TILE_##name) ? TILE(name##_##P) : NULL
#define ENTRIES_3(name, G) ENTRY(name, 1, G), ENTRY(name, 2, G), ENTRY(name, 4, G)
#define ENTRIES_4(name, G) ENTRIES_3(name, G), ENTRY(name, 8, G)
#define TILE_ENTRIES(name, G, widths) {ENTRIES_##widths(name, G)},
#define ENTRY_OF_THREE(name, G, widths) FITS_THREE(G) ? TILE(name##_3) : NULL,

static const struct tiles TILE(tiles) = {
    .gemm = {FITS(1, 1) ? TILE(gemm_1) : NULL, FITS(2, 1) ? TILE(gemm_2) : NULL, FITS(4, 1) ? TILE(gemm_4) : NULL,
             FITS(8, 1) ? TILE(gemm_8) : NULL},
    .step = {STEP_TILES(TILE_ENTRIES)},
    .three = {STEP_TILES(ENTRY_OF_THREE)},
};

#undef DEFINE
#undef DEFINE_3
#undef DEFINE_4
#undef DEFINE_TILES
#undef ENTRY
#undef ENTRIES_3
#undef ENTRIES_4
#undef TILE_ENTRIES
#undef ENTRY_OF_THREE
