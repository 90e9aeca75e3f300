/* sequence.h - helpers of the files that know time: sizes, times, rows, parts of jobs.
 *
 * Everything is indexed by the time t of the data; only the order of the pass knows of `reverse`.
 *
 * Threads. Work is divided by calls (the directions of a layer, the groups of a backward pass), by groups of rows, and
 * if these are too few by slices of units, which wait for one another after every step. The weight gradients of a chunk
 * are divided by their outputs. No two parts add to one sum, so threads never show in a result.
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

/* a * b; 0 if that overflows, so that later sizes computed from it do not. */
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

/* Reserves `count` elements; returns their offset in bytes, a multiple of FRNN_ALIGN. */
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

static inline int64_t bytes_of(int dtype) { return dtype == FRNN_F32 ? 4 : 8; }

static inline int64_t element_size(const frnn_shape *s) { return bytes_of(s->dtype); }

/* The lanes that hold k numbers of a row of packed weights: each lane has an element's bytes, in which the precision
 * has one number or several. All sizes and strides of packed weights follow from this. */
static inline int64_t packed_lanes(const frnn_shape *s, int64_t k) {
  if (s->precision == FRNN_INT8) return k == 0 ? 0 : (k - 1) / 4 + 1 + FRNN_INT8_HEADER(k);
  return s->precision == FRNN_FULL ? k : k / 2 + k % 2;
}

/* 1 if the products of packed weights read operands rather than rows. */
static inline int reads_operands(const frnn_shape *s) {
  return s->precision == FRNN_INT8 || s->precision == FRNN_BFLOAT16;
}

/* Bytes of the operand of a row of k numbers: room for a scale and for any instruction set's form of the numbers. */
static inline int64_t operand_bytes(int64_t k) {
  return k > INT64_MAX / 8 ? INT64_MAX : FRNN_OPERAND_HEADER + ((k + 15) / 16 * 64);
}

/* Units of a gate, rounded up to full vectors of the widest instruction set. */
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

/* The number of states that the tape and the workspace hold: all but h, which is in y. */
static inline int held_states(const frnn_cell *cell) { return cell->facts.states - 1; }

/* The first phase of a list, from some phase on, that steps of this shape have. */
static inline const frnn_phase *next_phase(const frnn_shape *s, const frnn_phase *phase) {
  return phase->kind == FRNN_PROJECTION && s->projected == 0 ? phase + 1 : phase;
}

/* The number of phases in a list that steps of this shape have. */
static inline int phases_of(const frnn_shape *s, const frnn_phase *list) {
  int count = 0;
  for (const frnn_phase *p = next_phase(s, list); p->kind != FRNN_NO_PHASE; p = next_phase(s, p + 1)) count++;
  return count;
}

/* 1 if products come first and then the cell, row by row. */
static inline int is_unfused(const frnn_cell *cell) { return cell->forward->kind == FRNN_PRODUCTS; }

/* 1 if W_hh multiplies scratch. */
static inline int multiplies_scratch(const frnn_cell *cell) {
  for (const frnn_block *b = cell->hh; b < cell->hh + FRNN_BLOCKS; b++)
    if (b->count > 0 && b->operand == FRNN_SCRATCH) return 1;
  return 0;
}

/* 1 if a step has an extra product besides W_hh h: with r * h, or with W_hr. */
static inline int has_extra_product(const frnn_shape *s) { return multiplies_scratch(s->cell) || s->projected > 0; }

/* A count of outputs, rounded up to full vectors of the widest instruction set. */
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

/* The gates of one phase: [first, first + count) of a matrix. */
typedef struct {
  int first, count;
} phase_gates;

/* The gates of W_hh if `h`, else of W_ih, in a phase. They are neighbours. */
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

/* The number of gates whose chains run over h alone. */
static inline int separate_gates(const frnn_cell *cell) {
  int gates = 0;
  for (const frnn_chains *c = cell->chains; c < cell->chains + FRNN_CHAINS; c++)
    if (c->gates > 0 && c->x == NOT_IN) gates += c->gates;
  return gates;
}

static inline const frnn_cell_functions *functions_of(const frnn_kernels *kernels, const frnn_shape *s) {
  return s->cell->own ? &s->cell->own[s->dtype] : &kernels->cells[s->cell->number];
}

/* Slots of a tape per unit and step: for the cell's gates, in which pre-activations come first, and for the states but
 * h. */
static inline int64_t tape_slots(const frnn_cell *cell) { return cell->slots + held_states(cell); }

/* Slots of z in a step that writes no tape. */
static inline int64_t work_slots(const frnn_cell *cell) { return is_unfused(cell) ? cell->slots : cell->facts.gates; }

/* The number of segments: runs of steps, each with its checkpoint. */
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

/* Rows (t, b) of a chunk as runs: rows one stride apart, in both sequences. One run has all of them, or there is a run
 * for each step or for each row of the batch, whichever are fewer. */
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

/* c = init + a * panels over all rows of a chunk; `g` has all arguments but the rows. */
static inline void product_of_rows(const frnn_products *products, frnn_gemm g, frnn_sequence a, frnn_sequence c,
                                   int64_t steps, int64_t batch) {
  run r = runs_of(a, c, steps, batch);
  g.m = r.rows;
  g.a_row = r.a;
  g.c_row = r.c;
  for (int64_t i = 0; i < r.runs; i++) {
    g.a = at(a.data, i * r.a_run);
    g.c = at(c.data, i * r.c_run);
    products->gemm(&g);
  }
}

/* Copies a row. If it is short, calling memcpy would take as long as the copy. */
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

/* Copies rows of one stride to rows of another; src NULL: zeros. */
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

/* Costs, as the multiply-adds that a core does in that time; some 50 take a nanosecond. Measured. */
enum {
  WORTH_A_SLICE = 50000, /* of a step: threads that wait for one another after less do not pay, see pool.c */
  ROWS_OF_A_READING = 2, /* reading a weight from L2 costs as much as using it for so many rows of the batch */
  ROWS_OF_A_GROUP = 4,   /* the least rows for which a group may read all weights */
  FAR_BYTES = 8000000,   /* weights of more bytes come from far away: groups do not pay */
  MULTIPLY_ADDS_OF_PACKING = 8,
  POLL_INTERVAL = 200000000, /* the most between two polls for interrupts: 4 ms, 40 ms without vectors */
  BETWEEN_POLLS = 1000000    /* the least between two polls, for a poll has a cost */
};

/* The count of the next turn of a loop that takes at_once of the items left: at least one, or the loop would never
 * end. */
static inline int64_t next_count(int64_t at_once, int64_t left) {
  assert(at_once > 0 && left > 0);
  return least(at_once, left);
}

/* The division of a job: by calls, in each by groups of rows, in each group by slices of units. */
typedef struct {
  int calls, groups, slices;
  double work;           /* of the job */
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

/* The cost of a step for a row: the recurrent weights, or if there are none the cost of the gates. */
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

/* A part's vectors, of those that so many numbers fill. */
static inline range vectors_of_part(const frnn_kernels *kernels, int64_t numbers, job_part mine) {
  return range_of((numbers + kernels->lanes - 1) / kernels->lanes, mine.slice, mine.slices);
}

static inline int at_least_one(double x, double most) { return x < 1 ? 1 : (int)(x < most ? x : most); }

/* Divides a job without rows into slices of `things`; `work` is its multiply-adds for each call. */
static inline job_parts part_by_slices(int calls, double work, int64_t things) {
  int each = at_least_one((double)frnn_threads() / calls, FRNN_PARTS / calls);
  int polls = at_least_one(work / POLL_INTERVAL, FRNN_PARTS / calls);
  int slices = at_least_one((double)things, polls > each ? polls : each);
  return (job_parts){calls, 1, slices, work * calls, INT64_MAX, 1};
}

/* Divides the steps of all rows. A step of a row takes `row` multiply-adds, and its units fill `vectors` vectors. */
static inline job_parts part_by_steps(const frnn_shape *s, int calls, double row, int64_t vectors) {
  double step = row * (double)most(s->batch, ROWS_OF_A_READING);
  job_parts all = {calls, 1, 1, step * (double)s->steps * calls, INT64_MAX, 64};
  if (all.work < BETWEEN_POLLS) return all;
  int each = at_least_one((double)frnn_threads() / calls, FRNN_PARTS / calls);
  int far = recurrent_weights_of(s) * (double)element_size(s) > FAR_BYTES;
  all.groups = far ? 1 : at_least_one((double)s->batch / ROWS_OF_A_GROUP, each);
  double slices = step / all.groups / WORTH_A_SLICE;
  if (slices >= 2)
    all.slices = at_least_one(slices < (double)vectors ? slices : (double)vectors, each / all.groups);
  else
    all.groups = at_least_one((double)s->batch / ROWS_OF_A_READING, each);
  all.rows_at_once = most(64, (int64_t)(POLL_INTERVAL / most(1, (int64_t)row)));
  all.steps_between = at_least_one(BETWEEN_POLLS / step, 64);
  return all;
}

#endif
