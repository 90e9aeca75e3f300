/* block_rows.h - the tiles of sums by blocks, of ROWS rows, as rows.h has the others.
 *
 * It must not know: anything but which tiles there are. */

NOINLINE void TILE(blocks_1)(const frnn_product_sum *s, int64_t m, int64_t v) { blocks_tile(ROWS, 1, s, m, v); }
NOINLINE void TILE(blocks_2)(const frnn_product_sum *s, int64_t m, int64_t v) { blocks_tile(ROWS, 2, s, m, v); }
NOINLINE void TILE(blocks_4)(const frnn_product_sum *s, int64_t m, int64_t v) { blocks_tile(ROWS, 4, s, m, v); }
NOINLINE void TILE(blocks_8)(const frnn_product_sum *s, int64_t m, int64_t v) { blocks_tile(ROWS, 8, s, m, v); }

static const struct block_tiles JOIN(blocks, ROWS) = {
    .blocks = {FITS(1, 1) ? TILE(blocks_1) : NULL, FITS(2, 1) ? TILE(blocks_2) : NULL,
               FITS(4, 1) ? TILE(blocks_4) : NULL, FITS(8, 1) ? TILE(blocks_8) : NULL},
};
