/* packed.h - a layer's parameters as the forward tiles read them: laid out by layout.c, packed by packed.c once a call,
 * read by step.c.
 *
 * It must not know: time, threads. */
#ifndef FRNN_PACKED_H
#define FRNN_PACKED_H

#include "../internal/sequence.h"

enum { PROJECTED_ROWS_MOST = 256 }; /* in one product */

/* Where everything stands in a buffer of packed weights. */
typedef struct {
  size_t w_ih, w_hh, w_hr, bias, bias_h;
  size total;
} packed_layout;

/* Where things stand in the workspace. What is only there for ragged rows comes last. */
typedef struct {
  size_t z, c, scratch, made, after_dropout, ids, x, h, c_at[2], h_at[2];
  int64_t steps;
  size total;
} forward_layout;

packed_layout frnn_lay_packed(const frnn_shape *s);
forward_layout frnn_lay_forward(const frnn_shape *s);

/* What packed weights begin with: the kernels that packed, for panels are as wide as their vectors, so that forward
 * passes use them whatever instruction set has been selected since; and what follows from the shape alone, so that a
 * step of a stream need not work it out. */
typedef struct {
  const frnn_kernels *kernels;
  packed_layout at;
  forward_layout work;
  int in_step;
} packed_header;

/* frnn_pack with given kernels. */
int frnn_pack_with(const frnn_kernels *kernels, const frnn_forward_call *calls, int count, int (*interrupted)(void));

/* Whether x enters in the step's own tile, or by a product over a chunk before. Both give the same bits. The tile saves
 * writing and reading the pre-activations; the product reads W_ih once for many steps. */
int frnn_enters_in_step(const frnn_shape *s);

/* Whether a product over all of time, its only reader, packs W_ih as it goes: some panels, and their product at once,
 * so that they need never leave the cache. For so few rows as no threads divide among them. */
int frnn_packs_in_product(const frnn_shape *s);

/* Some vectors of a matrix of k columns, of all gates one after another, into panels of one product; those beyond a
 * gate's units are zeros. */
void frnn_pack_for_product(const frnn_shape *s, const frnn_kernels *kernels, range vectors, const void *w, int64_t k,
                           void *packed);

/* What the chains begin with: both biases added up, but where the last gate's stay apart: then bias_h has the recurrent
 * one. Zeros where products are normalised, which come before biases. */
void frnn_pack_biases(const frnn_shape *s, const frnn_kernels *kernels, const frnn_weights *w, void *bias,
                      void *bias_h);

/* Vectors of all gates, padding included. */
static inline int64_t vectors_of_gates(const frnn_shape *s, const frnn_kernels *kernels) {
  return s->cell->facts.gates * (padded(s) / kernels->lanes);
}

/* Where W_hh is packed as one product too. */
static inline int is_unfused(const frnn_shape *s) { return s->cell->unfused; }

#endif
