/* common.h - what the programs of this folder share: names, memory, and numbers that are the same everywhere. */
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

static const char *const cell_names[FRNN_CELLS] = {[FRNN_RNN_TANH] = "rnn_tanh",
                                                   [FRNN_RNN_RELU] = "rnn_relu",
                                                   [FRNN_LSTM] = "lstm",
                                                   [FRNN_GRU_AFTER] = "gru_after",
                                                   [FRNN_GRU_BEFORE] = "gru_before",
                                                   [FRNN_RNN_TANH_VARIANT] = "rnn_tanh_variant",
                                                   [FRNN_RNN_RELU_VARIANT] = "rnn_relu_variant",
                                                   [FRNN_LSTM_VARIANT] = "lstm_variant",
                                                   [FRNN_LSTM_COUPLED] = "lstm_coupled",
                                                   [FRNN_LSTM_PEEPHOLE] = "lstm_peephole",
                                                   [FRNN_LSTM_COUPLED_PEEPHOLE] = "lstm_coupled_peephole",
                                                   [FRNN_LSTM_NORMALISED] = "lstm_normalised",
                                                   [FRNN_LSTM_COUPLED_NORMALISED] = "lstm_coupled_normalised",
                                                   [FRNN_GRU_AFTER_VARIANT] = "gru_after_variant",
                                                   [FRNN_GRU_BEFORE_VARIANT] = "gru_before_variant",
                                                   [FRNN_GRU_NORMALISED] = "gru_normalised"};
static const char *const dtype_names[FRNN_DTYPES] = {"f32", "f64"};

static size_t size_of(int dtype) { return dtype == FRNN_F32 ? 4 : 8; }

static uint64_t seed = 1;

/* In [-1, 1), of 24 bits. */
static double number(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return ((double)(seed >> 40) - 0x1p23) * 0x1p-23;
}

/* Aligned, and NaN in either dtype. */
static void *work_memory(size_t bytes) {
  void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!p || bytes == 0) abort();
  memset(p, 0xFF, bytes);
  return p;
}

static inline uint64_t hash_bytes(uint64_t hash, const void *p, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
  return hash;
}
