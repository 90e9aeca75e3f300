/* sequence.h - what the files that know time have in common: sizes, times, rows, parts of jobs.
 *
 * Everything is indexed by the time t of the data; only the order of the pass knows of `reverse`.
 *
 * Threads. Work is divided by calls (the directions of a layer, the groups of a backward pass), by groups of rows,
 * and where these are too few by slices of units, which wait for one another after every step. The weight gradients of
 * a chunk are divided by their outputs. No sum is shared, so threads never show in a result.
 *
 * It must not know: dtypes, instruction sets, activations, Python. */
#ifndef FRNN_SEQUENCE_H
#define FRNN_SEQUENCE_H

#include <assert.h>
#include <fenv.h>
#include <string.h>

#include "internal.h"

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline void *at(const void *base, ptrdiff_t bytes) { return (char *)(uintptr_t)base + bytes; }

/* ---- sizes ------------------------------------------------------------------------------------------------- */

/* A count of bytes that remembers whether it overflowed. */
typedef struct {
  size_t bytes;
  int overflow;
} size;

/* 0 where it overflows, so that what is made of it does not. */
static inline int64_t product(size *s, int64_t a, int64_t b) {
  int64_t p = 0;
  int overflow = a < 0 || b < 0 || __builtin_mul_overflow(a, b, &p);
  s->overflow |= overflow;
  return overflow ? 0 : p;
}

static inline int64_t sum(size *s, int64_t a, int64_t b) {
  int64_t c = 0;
  int overflow = __builtin_add_overflow(a, b, &c);
  s->overflow |= overflow;
  return overflow ? 0 : c;
}

/* Reserves count elements, aligned; returns where they begin. */
static inline size_t reserve(size *s, int64_t element, int64_t count) {
  size_t begin = s->bytes;
  int64_t bytes = product(s, count, element);
  if (bytes > INT64_MAX - FRNN_ALIGN) {
    s->overflow = 1;
    return begin;
  }
  s->overflow |= __builtin_add_overflow(s->bytes, (size_t)((bytes + FRNN_ALIGN - 1) & -FRNN_ALIGN), &s->bytes);
  s->overflow |= s->bytes > PTRDIFF_MAX / 2;
  return begin;
}

static inline size_t total(const size *s) { return s->overflow ? 0 : s->bytes + FRNN_ALIGN; }

static inline int64_t element_size(const frnn_shape *s) { return s->dtype == FRNN_F32 ? 4 : 8; }

/* And of an element of packed weights. */
static inline int64_t packed_element(const frnn_shape *s) { return element_size(s); }

/* Units of a gate in padded rows. */
static inline int64_t padded(const frnn_shape *s) {
  int64_t unit = FRNN_ALIGN / element_size(s);
  return s->hidden > INT64_MAX - unit ? INT64_MAX : (s->hidden + unit - 1) / unit * unit;
}

/* Features of h and y. */
static inline int64_t features_of(const frnn_shape *s) { return s->projected ? s->projected : s->hidden; }

/* Numbers in a row of a state. */
static inline int64_t numbers_of_state(const frnn_shape *s, int state) {
  return state == FRNN_STATE_H ? features_of(s) : s->hidden;
}

/* States that the tape and the workspace hold: all but h, which stands in y. */
static inline int held_states(const frnn_cell *cell) { return cell->facts.states - 1; }

/* Of a step: the cell's, which has products apart if it is unfused, and the projection of its output. */
static inline int phases_of(const frnn_shape *s) {
  const frnn_cell *cell = s->cell;
  return cell->phases * (1 + cell->unfused) + (s->projected > 0);
}

/* And of a step backward. */
static inline int back_phases_of(const frnn_shape *s) { return s->cell->back_phases + (s->projected > 0); }

/* Whether h's way into a step or out of it leads through another product: of r * h, or with W_hr. */
static inline int has_extra_product(const frnn_shape *s) { return s->cell->phases == 2 || s->projected > 0; }

/* Outputs rounded up to whole vectors of any set. */
static inline int64_t vectors_of(const frnn_shape *s, int64_t outputs) {
  int64_t unit = FRNN_ALIGN / element_size(s);
  return outputs > INT64_MAX - unit ? INT64_MAX : (outputs + unit - 1) / unit * unit;
}

/* Steps of a chunk of about that many rows: chunks of one length, but for the last. */
static inline int64_t chunk_steps(const frnn_shape *s, int64_t rows) {
  int64_t steps = most(1, rows / most(1, s->batch));
  if (s->steps == 0) return 1;
  int64_t chunks = (s->steps - 1) / steps + 1;
  return (s->steps - 1) / chunks + 1;
}

/* Gates [first, first + count) of a matrix, those of one phase. */
typedef struct {
  int first, count;
} phase_gates;

/* Of W_hh if `h`, else of W_ih. Those of a phase are neighbours. */
static inline phase_gates gates_of_phase(const frnn_cell *cell, int h, int phase) {
  phase_gates gates = {0, 0};
  for (const frnn_chains *c = cell->chains; c < cell->chains + FRNN_CHAINS; c++) {
    int first = h ? c->h : c->x;
    if (c->gates == 0 || c->phase != phase || first == NOT_IN) continue;
    if (gates.count == 0) gates.first = first;
    gates.count += c->gates;
  }
  return gates;
}

/* Gates whose chains run over h alone. */
static inline int separate_gates(const frnn_cell *cell) {
  int gates = 0;
  for (const frnn_chains *c = cell->chains; c < cell->chains + FRNN_CHAINS; c++)
    if (c->gates > 0 && c->x == NOT_IN) gates += c->gates;
  return gates;
}

static inline const frnn_cell_functions *functions_of(const frnn_kernels *kernels, const frnn_shape *s) {
  return s->cell->own ? &s->cell->own[s->dtype] : &kernels->cells[s->cell->number];
}

/* Slots per unit and step: what the gates' pre-activations need while they are made, and what a tape keeps. */
static inline int64_t tape_slots(const frnn_cell *cell) { return cell->slots + held_states(cell); }

/* And what z holds of a step that goes to no tape. */
static inline int64_t work_slots(const frnn_cell *cell) { return cell->unfused ? cell->slots : cell->facts.gates; }

/* Segments of steps, each with its checkpoint. */
static inline int64_t segments_of(const frnn_shape *s) { return s->steps > 0 ? (s->steps - 1) / s->checkpoint + 1 : 0; }

/* The t of the s-th step of the pass. */
static inline int64_t time_of(const frnn_shape *shape, int64_t s) { return shape->reverse ? shape->steps - 1 - s : s; }

/* The earliest t of steps [from, to) of the pass. */
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
static inline void product_of_rows(const frnn_kernels *kernels, frnn_gemm g, frnn_sequence a, frnn_sequence c,
                                   int64_t steps, int64_t batch) {
  run r = runs_of(a, c, steps, batch);
  g.m = r.rows;
  g.a_row = r.a;
  g.c_row = r.c;
  for (int64_t i = 0; i < r.runs; i++) {
    g.a = at(a.data, i * r.a_run);
    g.c = at(c.data, i * r.c_run);
    kernels->gemm(&g);
  }
}

/* A row of elements: where they are few, memcpy would take as long to be called. */
static inline void copy_row(void *dst, const void *src, size_t bytes) {
  char *to = dst;
  const char *from = src;
  if (bytes > 1024) {
    memcpy(to, from, bytes);
    return;
  }
  for (; bytes >= 16; bytes -= 16, to += 16, from += 16) memcpy(to, from, 16);
  for (; bytes > 0; bytes -= 4, to += 4, from += 4) memcpy(to, from, 4);
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

/* ---- dividing work -------------------------------------------------------------------------------------------- */

typedef struct {
  int64_t begin, count;
} range;

static inline range range_of(int64_t all, int64_t part, int64_t parts) {
  int64_t begin = all * part / parts;
  return (range){begin, all * (part + 1) / parts - begin};
}

/* Costs, in multiply-adds that a core does meanwhile; some 50 are a nanosecond. Measured. */
enum {
  WORTH_A_STEP = 40000,  /* less would not pay for a job of its own, see pool.c */
  ROWS_OF_A_READING = 2, /* reading a weight from L2 costs as much as using it for so many rows */
  ROWS_OF_A_GROUP = 4,   /* rows that make reading the weights for them alone worth while */
  FAR_BYTES = 8000000,   /* of weights that a group had better not read alone, coming from far away */
  MULTIPLY_ADDS_OF_PACKING = 8,
  POLL_INTERVAL = 200000000, /* the most between two polls for interrupts: some 4 ms, and 40 without vectors */
  BETWEEN_POLLS = 1000000    /* and the least, for a poll has its cost */
};

/* The next of some things, in a loop that takes so many at once until none are left: at least one, or the loop would
 * never end. */
static inline int64_t next_count(int64_t at_once, int64_t left) {
  assert(at_once > 0 && left > 0);
  return least(at_once, left);
}

/* How a job is divided: by calls, in each by groups of rows, in each group by slices of units. */
typedef struct {
  int calls, groups, slices;
  double work;           /* of the whole; where slices wait for one another, of a step */
  int64_t rows_at_once;  /* the most rows of a group that go through time together; at least 1 */
  int64_t steps_between; /* steps from poll to poll */
} job_parts;

typedef struct {
  int call, group, groups, slice, slices;
} job_part;

static inline int parts_of(const job_parts *s) { return s->calls * s->groups * s->slices; }

static inline job_part part_of_job(const job_parts *s, int part) {
  int group = part / s->slices;
  return (job_part){group / s->groups, group % s->groups, s->groups, part % s->slices, s->slices};
}

/* A step's cost for a row, at least that of its gates where there is no product with h. */
static inline double recurrent_weights_of(const frnn_shape *s) {
  double gates = s->cell->facts.recurrent + (s->projected > 0);
  return gates > 0 ? gates * (double)s->hidden * (double)features_of(s) : s->cell->facts.gates * (double)s->hidden;
}

static inline double weights_of(const frnn_shape *s) {
  return recurrent_weights_of(s) + (double)s->cell->facts.gates * (double)s->hidden * (double)s->input;
}

/* Vectors that the units of a gate fill. */
static inline int64_t vectors_of_units(const frnn_shape *s, const frnn_kernels *kernels) {
  return (s->hidden + kernels->lanes - 1) / kernels->lanes;
}

/* A part's vectors of so many numbers. */
static inline range vectors_of_part(const frnn_kernels *kernels, int64_t numbers, job_part mine) {
  return range_of((numbers + kernels->lanes - 1) / kernels->lanes, mine.slice, mine.slices);
}

static inline int at_least_one(double x, double most) { return x < 1 ? 1 : (int)(x < most ? x : most); }

/* A job without rows, in slices of `things`, worth that many multiply-adds for each call. */
static inline job_parts part_by_slices(int calls, double work, int64_t things) {
  int each = at_least_one((double)frnn_threads() / calls, FRNN_PARTS / calls);
  int polls = at_least_one(work / POLL_INTERVAL, FRNN_PARTS / calls);
  int slices = at_least_one((double)things, polls > each ? polls : each);
  return (job_parts){calls, 1, slices, work * calls, INT64_MAX, 1};
}

/* Steps of all rows, whose every row takes `row` multiply-adds and whose units stand in so many vectors. */
static inline job_parts part_by_steps(const frnn_shape *s, int calls, double row, int64_t vectors) {
  double step = row * (double)most(s->batch, ROWS_OF_A_READING);
  job_parts all = {calls, 1, 1, step * (double)s->steps * calls, INT64_MAX, 64};
  if (all.work < BETWEEN_POLLS) return all;
  int each = at_least_one((double)frnn_threads() / calls, FRNN_PARTS / calls);
  int far = recurrent_weights_of(s) * (double)element_size(s) > FAR_BYTES;
  all.groups = far ? 1 : at_least_one((double)s->batch / ROWS_OF_A_GROUP, each);
  if (step / all.groups >= WORTH_A_STEP)
    all.slices = at_least_one((double)vectors, each / all.groups);
  else
    all.groups = at_least_one((double)s->batch / ROWS_OF_A_READING, each);
  if (all.slices > 1) all.work = step * calls;
  all.rows_at_once = most(64, (int64_t)(POLL_INTERVAL / most(1, (int64_t)row)));
  all.steps_between = at_least_one(BETWEEN_POLLS / step, 64);
  return all;
}

#endif
