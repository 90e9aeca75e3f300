/* cells.c - the cells as rows of numbers. A new cell adds its row here, its header in kernels/ and its functions in
 * the tables of kernels.h and rows.h; fastrnn/cells.py says the same to Python.
 *
 * It must not know: arithmetic, time. */
#include "internal.h"

const frnn_cell frnn_cells[FRNN_CELLS] = {
    [FRNN_RNN_TANH] = {.gates = 1,
                       .states = 1,
                       .slots = 0,
                       .columns = 1,
                       .panels = {1},
                       .ih = {{0, 0, 1}},
                       .hh = {{0, 0, 1}},
                       .phases = 1},
    [FRNN_RNN_RELU] = {.gates = 1,
                       .states = 1,
                       .slots = 0,
                       .columns = 1,
                       .panels = {1},
                       .ih = {{0, 0, 1}},
                       .hh = {{0, 0, 1}},
                       .phases = 1},
    [FRNN_LSTM] = {.gates = 4,
                   .states = 2,
                   .slots = 4,
                   .columns = 4,
                   .panels = {4},
                   .ih = {{0, 0, 4}},
                   .hh = {{0, 0, 4}},
                   .phases = 1},
    [FRNN_GRU_AFTER] = {.gates = 3,
                        .states = 1,
                        .slots = 4,
                        .columns = 4,
                        .panels = {3},
                        .split_bias = 1,
                        .ih = {{0, 2, 1}, {1, 0, 2}},
                        .hh = {{1, 0, 3}},
                        .phases = 1},
    [FRNN_GRU_BEFORE] = {.gates = 3,
                         .states = 1,
                         .slots = 3,
                         .columns = 3,
                         .panels = {2, 1},
                         .ih = {{0, 2, 1}, {1, 0, 2}},
                         .hh = {{1, 0, 2}, {0, 2, 1}},
                         .phases = 2},
};

static int is_cell(int cell) { return cell >= 0 && cell < FRNN_CELLS; }
int frnn_gates(int cell) { return is_cell(cell) ? frnn_cells[cell].gates : 0; }
int frnn_states(int cell) { return is_cell(cell) ? frnn_cells[cell].states : 0; }
