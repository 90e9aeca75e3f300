/* rows.h - the tiles of ROWS rows, one to eight panels wide. kernels.h includes this file once for every number of
 * rows: constants are what lets the compiler keep a tile in registers, and each tile is a function of its own
 * because registers are allotted per function. Tiles that do not fit the registers of the set are left out.
 *
 * It must not know: anything but which tiles there are. */

#define JOIN_(name, rows) name##_by_##rows
#define JOIN(name, rows) JOIN_(name, rows)
#define TILE(name) JOIN(name, ROWS)
#define FITS(P, G) (ROWS <= TILE_ROWS(G) && ROWS * (P) * (G) <= ACCUMULATORS && !WIDE_ENOUGH(P, G))

NOINLINE void TILE(gemm_1)(const frnn_gemm *s, int64_t m, int64_t v) { gemm_tile(ROWS, 1, s, m, v); }
NOINLINE void TILE(gemm_2)(const frnn_gemm *s, int64_t m, int64_t v) { gemm_tile(ROWS, 2, s, m, v); }
NOINLINE void TILE(gemm_4)(const frnn_gemm *s, int64_t m, int64_t v) { gemm_tile(ROWS, 4, s, m, v); }
NOINLINE void TILE(gemm_8)(const frnn_gemm *s, int64_t m, int64_t v) { gemm_tile(ROWS, 8, s, m, v); }

NOINLINE void TILE(blocks_1)(const frnn_product_sum *s, int64_t m, int64_t v) { blocks_tile(ROWS, 1, s, m, v); }
NOINLINE void TILE(blocks_2)(const frnn_product_sum *s, int64_t m, int64_t v) { blocks_tile(ROWS, 2, s, m, v); }
NOINLINE void TILE(blocks_4)(const frnn_product_sum *s, int64_t m, int64_t v) { blocks_tile(ROWS, 4, s, m, v); }
NOINLINE void TILE(blocks_8)(const frnn_product_sum *s, int64_t m, int64_t v) { blocks_tile(ROWS, 8, s, m, v); }

NOINLINE void TILE(rnn_tanh_1)(const frnn_step *s, int64_t m, int64_t v) { rnn_tile(ROWS, 1, TANH, s, m, v); }
NOINLINE void TILE(rnn_tanh_2)(const frnn_step *s, int64_t m, int64_t v) { rnn_tile(ROWS, 2, TANH, s, m, v); }
NOINLINE void TILE(rnn_tanh_4)(const frnn_step *s, int64_t m, int64_t v) { rnn_tile(ROWS, 4, TANH, s, m, v); }
NOINLINE void TILE(rnn_tanh_8)(const frnn_step *s, int64_t m, int64_t v) { rnn_tile(ROWS, 8, TANH, s, m, v); }

NOINLINE void TILE(rnn_relu_1)(const frnn_step *s, int64_t m, int64_t v) { rnn_tile(ROWS, 1, RELU, s, m, v); }
NOINLINE void TILE(rnn_relu_2)(const frnn_step *s, int64_t m, int64_t v) { rnn_tile(ROWS, 2, RELU, s, m, v); }
NOINLINE void TILE(rnn_relu_4)(const frnn_step *s, int64_t m, int64_t v) { rnn_tile(ROWS, 4, RELU, s, m, v); }
NOINLINE void TILE(rnn_relu_8)(const frnn_step *s, int64_t m, int64_t v) { rnn_tile(ROWS, 8, RELU, s, m, v); }

NOINLINE void TILE(lstm_1)(const frnn_step *s, int64_t m, int64_t v) { lstm_tile(ROWS, 1, s, m, v); }
NOINLINE void TILE(lstm_2)(const frnn_step *s, int64_t m, int64_t v) { lstm_tile(ROWS, 2, s, m, v); }
NOINLINE void TILE(lstm_4)(const frnn_step *s, int64_t m, int64_t v) { lstm_tile(ROWS, 4, s, m, v); }

NOINLINE void TILE(gru_after_1)(const frnn_step *s, int64_t m, int64_t v) { gru_after_tile(ROWS, 1, s, m, v); }
NOINLINE void TILE(gru_after_2)(const frnn_step *s, int64_t m, int64_t v) { gru_after_tile(ROWS, 2, s, m, v); }
NOINLINE void TILE(gru_after_4)(const frnn_step *s, int64_t m, int64_t v) { gru_after_tile(ROWS, 4, s, m, v); }

NOINLINE void TILE(gru_reset_1)(const frnn_step *s, int64_t m, int64_t v) { gru_reset_tile(ROWS, 1, s, m, v); }
NOINLINE void TILE(gru_reset_2)(const frnn_step *s, int64_t m, int64_t v) { gru_reset_tile(ROWS, 2, s, m, v); }
NOINLINE void TILE(gru_reset_4)(const frnn_step *s, int64_t m, int64_t v) { gru_reset_tile(ROWS, 4, s, m, v); }

NOINLINE void TILE(gru_blend_1)(const frnn_step *s, int64_t m, int64_t v) { gru_blend_tile(ROWS, 1, s, m, v); }
NOINLINE void TILE(gru_blend_2)(const frnn_step *s, int64_t m, int64_t v) { gru_blend_tile(ROWS, 2, s, m, v); }
NOINLINE void TILE(gru_blend_4)(const frnn_step *s, int64_t m, int64_t v) { gru_blend_tile(ROWS, 4, s, m, v); }
NOINLINE void TILE(gru_blend_8)(const frnn_step *s, int64_t m, int64_t v) { gru_blend_tile(ROWS, 8, s, m, v); }

NOINLINE void TILE(chains_1)(const frnn_step *s, int64_t m, int64_t v) { chains_tile(ROWS, 1, s, m, v); }
NOINLINE void TILE(chains_2)(const frnn_step *s, int64_t m, int64_t v) { chains_tile(ROWS, 2, s, m, v); }
NOINLINE void TILE(chains_4)(const frnn_step *s, int64_t m, int64_t v) { chains_tile(ROWS, 4, s, m, v); }
NOINLINE void TILE(chains_8)(const frnn_step *s, int64_t m, int64_t v) { chains_tile(ROWS, 8, s, m, v); }

static const struct tiles TILE(tiles) = {
    .gemm = {FITS(1, 1) ? TILE(gemm_1) : NULL, FITS(2, 1) ? TILE(gemm_2) : NULL, FITS(4, 1) ? TILE(gemm_4) : NULL,
             FITS(8, 1) ? TILE(gemm_8) : NULL},
    .blocks = {FITS(1, 1) ? TILE(blocks_1) : NULL, FITS(2, 1) ? TILE(blocks_2) : NULL,
               FITS(4, 1) ? TILE(blocks_4) : NULL, FITS(8, 1) ? TILE(blocks_8) : NULL},
    .step[TILE_RNN_TANH] = {FITS(1, 1) ? TILE(rnn_tanh_1) : NULL, FITS(2, 1) ? TILE(rnn_tanh_2) : NULL,
                            FITS(4, 1) ? TILE(rnn_tanh_4) : NULL, FITS(8, 1) ? TILE(rnn_tanh_8) : NULL},
    .step[TILE_RNN_RELU] = {FITS(1, 1) ? TILE(rnn_relu_1) : NULL, FITS(2, 1) ? TILE(rnn_relu_2) : NULL,
                            FITS(4, 1) ? TILE(rnn_relu_4) : NULL, FITS(8, 1) ? TILE(rnn_relu_8) : NULL},
    .step[TILE_LSTM] = {FITS(1, 4) ? TILE(lstm_1) : NULL, FITS(2, 4) ? TILE(lstm_2) : NULL,
                        FITS(4, 4) ? TILE(lstm_4) : NULL},
    .step[TILE_GRU_AFTER] = {FITS(1, 3) ? TILE(gru_after_1) : NULL, FITS(2, 3) ? TILE(gru_after_2) : NULL,
                             FITS(4, 3) ? TILE(gru_after_4) : NULL},
    .step[TILE_GRU_RESET] = {FITS(1, 2) ? TILE(gru_reset_1) : NULL, FITS(2, 2) ? TILE(gru_reset_2) : NULL,
                             FITS(4, 2) ? TILE(gru_reset_4) : NULL},
    .step[TILE_GRU_BLEND] = {FITS(1, 1) ? TILE(gru_blend_1) : NULL, FITS(2, 1) ? TILE(gru_blend_2) : NULL,
                             FITS(4, 1) ? TILE(gru_blend_4) : NULL, FITS(8, 1) ? TILE(gru_blend_8) : NULL},
    .step[TILE_CHAINS] = {FITS(1, 1) ? TILE(chains_1) : NULL, FITS(2, 1) ? TILE(chains_2) : NULL,
                          FITS(4, 1) ? TILE(chains_4) : NULL, FITS(8, 1) ? TILE(chains_8) : NULL},
};

#undef JOIN_
#undef JOIN
#undef TILE
#undef FITS
#undef ROWS
