/* packed.h - a layer's parameters as the forward tiles read them: laid out by layout.c, packed by packed.c, read by
 * step.c.
 *
 * It must not know: time, threads. */
#ifndef FRNN_PACKED_H
#define FRNN_PACKED_H

#include "../internal/sequence.h"
#include "../internal/valid.h"

enum { PROJECTED_ROWS_MOST = 256 }; /* in one product */
enum { REFUSED = -1 };
enum { BOTH_FORMS = FRNN_FOR_STEPS | FRNN_FOR_PRODUCTS };

/* Offsets in a buffer of packed weights, W_ih in either form. */
typedef struct {
  size_t for_steps, for_products, w_hh, w_hr, bias, bias_h;
  size total;
} packed_layout;

/* Offsets in the workspace, and other values that follow from the shape. Arrays for ragged rows and checkpoints alone
 * come last. */
typedef struct {
  size_t w_ih, z, held, scratch, output, after_dropout, operand, operand_x, ids, x, aux, h, held_at[2], h_at[2];
  int64_t steps;        /* of a chunk */
  int in_step, packing; /* 1 if x enters in the step, REFUSED in the plan of an invalid shape; 1 if the product over all
                           of time packs W_ih */
  size_t widened;       /* the weights, if the pass widens them; the other offsets are those of the widened pass */
  size total;
} forward_layout;

packed_layout frnn_lay_packed(const frnn_shape *s, unsigned forms);
forward_layout frnn_lay_forward(const frnn_shape *s);

/* 1 if a pass of this shape widens its weights before, see widen.c; the shape of the pass then. */
int frnn_widens(const frnn_shape *s);
frnn_shape frnn_widened_shape(const frnn_shape *narrow);

/* Packed weights begin with this header, and have no address, so that processes can share them. Panels are as wide as
 * the vectors of the kernels that packed them, so forward passes use those kernels whatever instruction set has been
 * selected since. The sizes are those of the packing call. */
typedef struct {
  frnn_packer by;
  int32_t cell; /* its number; OWN_CELL for a caller's own, which has none */
  uint32_t forms;
  int64_t input, hidden, projected;
  packed_layout at;
} packed_header;
_Static_assert(sizeof(packed_header) <= FRNN_HEADER, "the header grew");
enum { OWN_CELL = -1 };

/* Writes the header of packed weights of a shape. */
void frnn_begin_packed(const frnn_shape *s, frnn_packer by, unsigned forms, void *packed);

/* 1 if these are packed weights of the shape's dtype, as far as the header tells. */
static inline int are_packed(const frnn_shape *s, const void *packed) {
  const packed_header *header = packed;
  return is_buffer(packed) && header->by.dtype == s->dtype && frnn_kernels_of(&header->by);
}

/* 1 if the cell is that of the header. Callers' own cells are told apart by their layouts alone. */
static inline int is_of_cell(const frnn_shape *s, const packed_header *header) {
  if (header->cell != OWN_CELL) return !s->cell->own && header->cell == s->cell->number;
  frnn_shape own = *s;
  own.input = header->input;
  packed_layout layout = frnn_lay_packed(&own, header->forms);
  return s->cell->own && memcmp(&layout, &header->at, offsetof(packed_layout, total)) == 0;
}

/* 1 if they are those of a layer of this cell, precision and sizes; a pass over ids has no input. */
static inline int are_of_shape(const frnn_shape *s, const void *packed) {
  if (!are_packed(s, packed)) return 0;
  const packed_header *own = packed;
  return own->by.precision == s->precision && own->hidden == s->hidden && own->projected == s->projected &&
         (own->input == s->input || s->has_ids) && is_of_cell(s, own);
}

/* valid.c: 0, FRNN_INVALID or FRNN_MISSING. */
int frnn_pack_status(const frnn_pack_call *calls, int count);
int frnn_forward_status(const frnn_forward_call *calls, int count);

/* Does frnn_pack with given kernels. */
int frnn_pack_with(const frnn_kernels *kernels, const frnn_pack_call *calls, int count, int (*interrupted)(void));

/* Bytes of a vector: of one lane of each output in a panel, and of numbers of a row. */
static inline int64_t vector_bytes(const frnn_kernels *kernels) { return kernels->lanes * kernels->size; }

/* Bytes of k columns of one vector of outputs, as packed. */
static inline int64_t panel_bytes(const frnn_shape *s, const frnn_kernels *kernels, int64_t k) {
  return packed_lanes(s, k) * vector_bytes(kernels);
}

/* A matrix of k columns, and the scales of its rows or NULL. */
typedef struct {
  const void *w;
  int64_t k;
  const float *scales;
} frnn_matrix;

/* Packs some vectors of a matrix, all gates one after another, into panels of one product; units beyond a gate's are
 * zeros. */
void frnn_pack_for_product(const frnn_shape *s, const frnn_kernels *kernels, const frnn_products *products,
                           range vectors, frnn_matrix matrix, void *packed);

/* scales.c: write and read the scales of a matrix' outputs, in panels of int8 weights. NULL: they are computed. */
void frnn_write_scales(const frnn_transpose *t, int64_t lanes, const float *scales);
void frnn_read_scales(const frnn_transpose *t, int64_t lanes, float *scales);

/* Writes the biases that the chains begin with. `bias` is for chains over x: b_ih, plus b_hh if they go on over h.
 * `bias_h` is for chains over h alone. Both are zeros in a cell that normalises its products, for it adds the biases
 * later. */
void frnn_pack_biases(const frnn_shape *s, const frnn_kernels *kernels, const frnn_weights *w, void *bias,
                      void *bias_h);

/* Vectors of all gates of W_ih, padding included. */
static inline int64_t vectors_of_gates(const frnn_shape *s, const frnn_kernels *kernels) {
  return s->cell->facts.gates * (padded(s) / kernels->lanes);
}

#endif
