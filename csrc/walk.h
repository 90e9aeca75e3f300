/* walk.h - a call on its way forward through time: what forward.c, which shares out the work, asks of walk.c, which
 * does it.
 *
 * It must not know: threads. */
#ifndef FRNN_WALK_H
#define FRNN_WALK_H

#include "packed.h"
#include "ragged.h"

/* Where things stand in the workspace. What is only there for ragged rows comes last. */
typedef struct {
  size_t z, c, scratch, ids, x, h, c_at[2], h_at[2];
  int64_t steps;
  size total;
} forward_layout;

/* A call and what follows from it. */
typedef struct {
  const frnn_forward_call *call;
  const frnn_shape *shape;
  const frnn_cell *cell;
  const frnn_table *table;
  packed_layout packed;
  forward_layout layout;
  int in_tape, in_step;
  ptrdiff_t row;            /* a padded row of units */
  frnn_sequence tape, work; /* where z stands: by time, or by time in the chunk */
} walk;

walk frnn_begin_walk(const frnn_forward_call *call);

/* Steps [from, to) of the walk that are projected together. */
typedef struct {
  int64_t from, to;
} chunk;

static inline chunk chunk_of(const walk *w, int64_t from) {
  return (chunk){from, least(from + w->layout.steps, w->shape->steps)};
}

/* For some rows: their state before the first step; after the last. */
void frnn_begin_rows(const walk *w, range rows);
void frnn_end_rows(const walk *w, range rows);

/* x of a chunk where the kernels can read it; then bias + W_ih x for some rows and some of the gates' vectors, unless
 * x enters in the step. */
void frnn_gather(const walk *w, chunk c, range rows);
void frnn_project(const walk *w, chunk c, range rows, range vectors);

/* A step: what it begins with, for some rows; its phases, for some of these rows and some vectors of units; and what
 * becomes of its outputs. */
void frnn_prepare_step(const walk *w, int64_t i, range rows);
void frnn_take_step(const walk *w, chunk c, int64_t i, int phase, range rows, range vectors);
void frnn_settle_step(const walk *w, int64_t i, range rows);

#endif
