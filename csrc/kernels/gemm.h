/* gemm.h - products: the chains of a step's tile, and the packed GEMM.
 *
 * Layout. b is packed in panels [vector of outputs][k][gate][lane]; a is read in place, along k (rows of activations)
 * or across it (gate gradients, which are so transposed). A tile holds R rows x P panels x G gates of accumulators in
 * registers. k is never split between accumulators: a tile that stops at KBLOCK and goes on later stores and reloads
 * exact values, so every result is one chain. full.h, bfloat16.h or int8.h has the chain, what a lane of a panel holds,
 * and COMPACT: 1 for less code that takes somewhat more time. Then the tiles of a cell share an epilogue, which reads
 * their sums from memory; else it is a part of every tile. And the product has no form of its own for whole vectors.
 *
 * It must not know: cells, time, threads. */

#define ROW_BLOCK 128 /* rows of a: a block stays in L2 while panels pass by */

/* The most rows of a tile with G gates, for tiles four vectors wide; three wide for three gates, if there are registers
 * beside the accumulators (with 16, four rows of three gates would take every one). */
#define TILE_ROWS(G) (ACCUMULATORS / (ACCUMULATORS < 24 ? 4 : 4 / (G) * (G)))
/* The panels of a tile: enough that a step of k reads so many bytes, and no more. That many chains, even of a single
 * row, keep up with L2. If a step has many tiles, the last panels are still in the cache when the next step reads them
 * from last to first. */
#define BYTES_PER_K 256
#define WIDE_ENOUGH(P, G) ((P) > 2 && (P) / 2 * (G) * VEC_BYTES >= BYTES_PER_K)

/* The same over a factor of a step, for rows from m and the gates of units from `vector` on. `before` vectors of other
 * phases come before its panels. */
INLINE void chain_factor(const int R, const int P, const int G, vec *acc, const frnn_factor *f, int64_t m,
                         int64_t vector, int64_t before) {
  chain(R, P, G, acc, AT(const char, f->rows, m * f->row), f->row, sizeof(real),
        (const real *)f->panels + (before + vector * G) * PACKED(f->k) * LANES, PACKED(f->k) * G * LANES, f->k);
}

/* Loads the values that the chains begin with: the gates from `gate` on of units from `vector` on. */
INLINE void start_chains(const int R, const int P, const int G, vec *acc, const frnn_step *s, int64_t m, int64_t vector,
                         int gate) {
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
    int64_t from = s->start_of ? s->start_of[m + r] : m + r;
    const real *row = AT(const real, s->start, from * s->start_row + gate * s->gate) + vector * LANES;
#pragma GCC unroll 16
    for (int v = 0; v < P * G; v++) acc[r * P * G + v] = vload(AT(const real, row, v % G * s->gate) + v / G * LANES);
  }
}

/* All chains of a tile: bias, x, h. */
INLINE void run_chains(const int R, const int P, const int G, vec *acc, const frnn_step *s, int64_t m, int64_t vector) {
  start_chains(R, P, G, acc, s, m, vector, 0);
#pragma GCC unroll 1
  for (int i = FRNN_X; i <= FRNN_H; i++) chain_factor(R, P, G, acc, &s->in[i], m, vector, 0);
}

/* Writes a tile's sums to memory, for an epilogue that is a function of its own. */
INLINE void keep_units(const int V, const vec *acc, vec *units) {
#pragma GCC unroll 32
  for (int v = 0; v < V; v++) vstore((real *)&units[v], acc[v]);
}

/* A tile without an epilogue: the pre-activations go to z, where an unfused cell reads them. */
INLINE void chains_tile(const int R, const int P, const frnn_step *s, int64_t m, int64_t vector) {
  vec acc[ACCUMULATORS];
  run_chains(R, P, 1, acc, s, m, vector);
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) vstore(AT(real, s->z, (m + r) * s->z_row) + (vector + p) * LANES, acc[r * P + p]);
  }
}

#define CHAINS_TILES(T) T(chains, 1, 4)

/* R rows x P vectors of c, over k of one block; `full` if the last vector has all lanes. */
INLINE void gemm_tile_of(const int R, const int P, const int full, const frnn_gemm *g, int64_t m, int64_t vector) {
  vec acc[ACCUMULATORS];
  int64_t n = vector * LANES, last = g->n - n - (P - 1) * LANES;
  const char *init = AT(const char, g->init, m * g->init_row + n * (ptrdiff_t)sizeof(real));
  char *c = AT(char, g->c, m * g->c_row + n * (ptrdiff_t)sizeof(real));
  if (g->init) {
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
      for (int p = 0; p < P; p++) {
        const real *from = AT(const real, init, r * g->init_row) + p * LANES;
        acc[r * P + p] = full || p < P - 1 ? vload(from) : vload_part(from, last);
      }
    }
  } else {
#pragma GCC unroll 32
    for (int v = 0; v < R * P; v++) acc[v] = (vec){0};
  }
  chain(R, P, 1, acc, AT(const char, g->a, m * g->a_row), g->a_row, g->a_k,
        AT(const real, g->panels, vector * g->panel), g->panel / (ptrdiff_t)sizeof(real), g->k);
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) {
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) {
      real *to = AT(real, c, r * g->c_row) + p * LANES;
      if (full || p < P - 1)
        vstore(to, acc[r * P + p]);
      else
        vstore_part(to, acc[r * P + p], last);
    }
  }
}

INLINE void gemm_tile(const int R, const int P, const frnn_gemm *g, int64_t m, int64_t vector) {
  if (!COMPACT && g->n - vector * LANES >= P * LANES)
    gemm_tile_of(R, P, 1, g, m, vector);
  else
    gemm_tile_of(R, P, 0, g, m, vector);
}
