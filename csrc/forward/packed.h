/* packed.h - a layer's parameters as the forward tiles read them: laid out by layout.c, packed by packed.c, read by
 * step.c.
 *
 * It must not know: time, threads. */
#ifndef FRNN_PACKED_H
#define FRNN_PACKED_H

#include "../internal/sequence.h"

enum { PROJECTED_ROWS_MOST = 256 }; /* in one product */

/* Where everything stands in a buffer of packed weights: W_ih in either form. */
typedef struct {
  size_t for_steps, for_products, w_hh, w_hr, bias, bias_h;
  size total;
} packed_layout;

/* Where things stand in the workspace, and what else follows from the shape. What is only there for ragged rows comes
 * last. */
typedef struct {
  size_t w_ih, z, held, scratch, output, after_dropout, ids, x, aux, h, held_at[2], h_at[2];
  int64_t steps;        /* of a chunk */
  int in_step, packing; /* whether x enters in the step; whether W_ih is packed for the product as it goes */
  size total;
} forward_layout;

packed_layout frnn_lay_packed(const frnn_shape *s, unsigned forms);
forward_layout frnn_lay_forward(const frnn_shape *s);

/* Packed weights begin with this header. Panels are as wide as the vectors of the kernels that packed them, so forward
 * passes use those kernels whatever instruction set has been selected since. */
typedef struct {
  const frnn_kernels *kernels;
  unsigned forms;
  packed_layout at;
} packed_header;

/* frnn_pack by some kernels. */
int frnn_pack_with(const frnn_kernels *kernels, const frnn_pack_call *calls, int count, int (*interrupted)(void));

/* Bytes of k columns of one vector of outputs, as packed. Elements of packed weights may be narrower than those of
 * rows: only this, the kernels' own packing and their tiles know how they stand. */
static inline int64_t panel_bytes(const frnn_shape *s, const frnn_kernels *kernels, int64_t k) {
  return k * kernels->lanes * packed_element(s);
}

/* Some vectors of a matrix of k columns, of all gates one after another, into panels of one product; those beyond a
 * gate's units are zeros. */
void frnn_pack_for_product(const frnn_shape *s, const frnn_kernels *kernels, range vectors, const void *w, int64_t k,
                           void *packed);

/* What the chains begin with: those over x, with both biases added up if they go on over h; in bias_h those over h
 * alone. Zeros where products are normalised, which come before biases. */
void frnn_pack_biases(const frnn_shape *s, const frnn_kernels *kernels, const frnn_weights *w, void *bias,
                      void *bias_h);

/* Vectors of all gates of W_ih, padding included. */
static inline int64_t vectors_of_gates(const frnn_shape *s, const frnn_kernels *kernels) {
  return s->cell->facts.gates * (padded(s) / kernels->lanes);
}

#endif
