/* sequence.h - what forward.c and backward.c share: sizes, times, rows, parts.
 *
 * Everything is indexed by the time t of the data; only the order of the walk knows of `reverse`.
 *
 * Threads. Forward and the backward sweep are shared out by rows of the batch, each part taking all of time, or of the
 * chunk, on its rows; the products of a chunk by their outputs. No sum is shared, so threads never show in a result.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#ifndef FRNN_SEQUENCE_H
#define FRNN_SEQUENCE_H

#include <assert.h>
#include <fenv.h>
#include <string.h>

#include "internal.h"

/* Multiply-adds under which a job stays on the caller's thread: some ten times what waking a worker costs. */
#define WORTH_SHARING 4e6

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline void *at(const void *base, ptrdiff_t bytes) { return (char *)(uintptr_t)base + bytes; }

/* ---- sizes ------------------------------------------------------------------------------------------------- */

/* A count of bytes that remembers whether it overflowed. */
typedef struct {
  size_t bytes;
  int overflow;
} size;

static inline int64_t product(size *s, int64_t a, int64_t b) {
  int64_t p = 0;
  s->overflow |= a < 0 || b < 0 || __builtin_mul_overflow(a, b, &p);
  return p;
}

/* Reserves count elements, aligned; returns where they begin. */
static inline size_t reserve(size *s, int64_t element, int64_t count) {
  size_t begin = s->bytes;
  int64_t bytes = product(s, count, element);
  s->overflow |= bytes > INT64_MAX - FRNN_ALIGN;
  s->overflow |= __builtin_add_overflow(s->bytes, (size_t)((bytes + FRNN_ALIGN - 1) & -FRNN_ALIGN), &s->bytes);
  s->overflow |= s->bytes > PTRDIFF_MAX / 2;
  return begin;
}

static inline size_t total(const size *s) { return s->overflow ? 0 : s->bytes + FRNN_ALIGN; }

static inline int64_t element_size(const frnn_shape *s) { return s->dtype == FRNN_F32 ? 4 : 8; }

/* Units of a gate in padded rows. */
static inline int64_t padded(const frnn_shape *s) {
  int64_t unit = FRNN_ALIGN / element_size(s);
  return s->hidden > INT64_MAX - unit ? INT64_MAX : (s->hidden + unit - 1) / unit * unit;
}

/* Outputs rounded up to whole vectors of any set. */
static inline int64_t vectors_of(const frnn_shape *s, int64_t outputs) {
  int64_t unit = FRNN_ALIGN / element_size(s);
  return outputs > INT64_MAX - unit ? INT64_MAX : (outputs + unit - 1) / unit * unit;
}

/* Steps of a chunk of about that many rows: chunks of one length, but for the last. */
static inline int64_t chunk_steps(const frnn_shape *s, int64_t rows) {
  int64_t steps = most(1, rows / most(1, s->batch)), chunks = (s->steps + steps - 1) / steps;
  return chunks > 0 ? (s->steps + chunks - 1) / chunks : 1;
}

/* Slots per unit and step: what the gates' pre-activations need while they are made, and what a tape keeps. */
static inline int64_t tape_slots(const frnn_cell *cell) { return cell->slots + (cell->states == 2); }

/* The t of the s-th step of the walk. */
static inline int64_t time_of(const frnn_shape *shape, int64_t s) { return shape->reverse ? shape->steps - 1 - s : s; }

/* The earliest t of steps [from, to) of the walk. */
static inline int64_t earliest(const frnn_shape *shape, int64_t from, int64_t to) {
  return shape->reverse ? shape->steps - to : from;
}

static inline void *row_at(frnn_sequence q, int64_t t, int64_t b) { return at(q.data, t * q.step + b * q.row); }

static inline frnn_sequence dense(void *data, int64_t batch, ptrdiff_t row) {
  return (frnn_sequence){data, batch * row, row};
}

/* Rows (t, b) of a chunk as runs of rows one stride apart, in both sequences: all in one, or a run for each step,
 * or for each row, whichever are the fewest. */
typedef struct {
  int64_t runs, rows;
  ptrdiff_t a, c;         /* from row to row within a run */
  ptrdiff_t a_run, c_run; /* from run to run */
} run;

static inline run runs_of(frnn_sequence a, frnn_sequence c, int64_t steps, int64_t batch) {
  int together = (a.step == batch * a.row && c.step == batch * c.row) || steps == 1;
  if (together) return (run){1, steps * batch, a.row, c.row, 0, 0};
  if (steps < batch) return (run){steps, batch, a.row, c.row, a.step, c.step};
  return (run){batch, steps, a.step, c.step, a.row, c.row};
}

/* c = init + a * panels over all rows of a chunk, `g` giving all but the rows. */
static inline void product_of_rows(const frnn_table *table, frnn_gemm g, frnn_sequence a, frnn_sequence c,
                                   int64_t steps, int64_t batch) {
  run r = runs_of(a, c, steps, batch);
  g.m = r.rows;
  g.a_row = r.a;
  g.c_row = r.c;
  for (int64_t i = 0; i < r.runs; i++) {
    g.a = at(a.data, i * r.a_run);
    g.c = at(c.data, i * r.c_run);
    table->gemm(&g);
  }
}

/* Rows of one stride into rows of another. NULL: zeros. */
static inline void copy_rows(void *dst, ptrdiff_t dst_row, const void *src, ptrdiff_t src_row, int64_t rows,
                             size_t bytes) {
  for (int64_t b = 0; b < rows; b++) {
    if (src)
      memcpy(at(dst, b * dst_row), at(src, b * src_row), bytes);
    else
      memset(at(dst, b * dst_row), 0, bytes);
  }
}

/* Parts of a job worth that many multiply-adds, at most one for each of `most` things. */
static inline int parts_for(double work, int64_t most) {
  return work < WORTH_SHARING ? 1 : (int)least(frnn_threads(), most);
}

/* The rows of the batch that a part takes. */
typedef struct {
  int64_t begin, count;
} row_range;

static inline row_range range_of(int64_t all, int part, int parts) {
  int64_t begin = all * part / parts;
  return (row_range){begin, all * (part + 1) / parts - begin};
}

#endif
