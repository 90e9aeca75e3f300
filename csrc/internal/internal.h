/* internal.h - the interface between the loops over time and the kernels.
 *
 * One `frnn_kernels` per instruction set and dtype holds every function that does arithmetic. Their arguments
 * are structs of addresses and strides, so that the loops over time never know the dtype.
 *
 * Strides are in bytes and may be negative. "Rows" are batch rows or (time, row) pairs; the last axis of every array is
 * contiguous. The user's arrays are dense; the library's own pad each gate's units to FRNN_ALIGN bytes. Panels hold a
 * matrix for the tiles: [vector of outputs][k][gate][lane], see README.md.
 *
 * It must not know: instruction sets, Python. */
#ifndef FRNN_INTERNAL_H
#define FRNN_INTERNAL_H

#include <fenv.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "../fastrnn.h"

#define FRNN_ALIGN 64

/* c[m][n] = init[m][n] + sum over k, in order, of a[m][k] * b[k][n]. */
typedef struct {
  int64_t m, n, k;
  const void *a;
  ptrdiff_t a_row, a_k; /* one of the two is the element's size */
  const void *panels;   /* one gate, n / lanes panels */
  ptrdiff_t panel;      /* from one panel to the next */
  const void *init;     /* NULL: zero. May be c. */
  ptrdiff_t init_row;   /* 0: one row for all */
  void *c;
  ptrdiff_t c_row;
} frnn_gemm;

/* The next rows of a sum that goes by blocks of FRNN_BLOCK_ROWS rows, see sums.h. */
enum { FRNN_BLOCK_ROWS = 32 };
typedef struct {
  int64_t until; /* rows until the current block is full: FRNN_BLOCK_ROWS if none is begun */
  int ends;      /* a block ends with the last row, full or not */
  int grows;     /* after these rows the sum takes in its blocks */
} frnn_blocks;

/* The arrays beside a sum, zeros at first: the current block, the sum of the full blocks, and the rounding error of the
 * sum. */
typedef struct {
  void *block, *blocks, *lost;
} frnn_beside;

/* c += a b over k, by blocks; init is not used. Arrays beside c have its rows, rounded up to vectors. The kernels
 * choose the order of their elements; it is the same in all calls for the same rows. */
typedef struct {
  frnn_gemm product;
  frnn_beside beside;
  frnn_blocks blocks;
} frnn_product_sum;

/* dst[n] += sum over k of src[k][n], by blocks. */
typedef struct {
  const void *src;
  ptrdiff_t src_k;
  int64_t k, n;
  void *dst;
  frnn_beside beside;
  frnn_blocks blocks;
} frnn_row_sum;

/* dst panels from a matrix whose rows are the outputs (W as the user stores it): a transposition. A lane of a panel
 * holds as many numbers of k as the precision has in the bytes of one element; dst_k is the distance of such lanes. */
typedef struct {
  const void *src;
  ptrdiff_t src_row;
  int64_t outputs, k;
  void *dst; /* the panels of this gate */
  ptrdiff_t dst_vector, dst_k;
} frnn_transpose;

/* A factor of a tile's chains: m rows of k numbers, and the panels that they are multiplied with, phase after phase. */
typedef struct {
  const void *rows;
  ptrdiff_t row;
  int64_t k;
  const void *panels;
} frnn_factor;

enum { FRNN_X, FRNN_H };

/* Packed int8 weights begin with lanes that are no numbers: first the scales of the outputs; then, for each block of
 * FRNN_INT8_BLOCK numbers of k, -128 times their sum. A sum over one block fits 32 bits. Rows that are operands begin
 * with FRNN_OPERAND_HEADER bytes, of which the first four are their scale. */
enum { FRNN_INT8_LARGEST = 127, FRNN_INT8_BLOCK = 131072, FRNN_OPERAND_HEADER = 64 };
#define FRNN_INT8_BLOCKS(k) (((k) - 1) / FRNN_INT8_BLOCK + 1)
#define FRNN_INT8_HEADER(k) (1 + FRNN_INT8_BLOCKS(k))

/* h among the arrays of a state; the most arrays of a state of a fused cell. */
enum { FRNN_STATE_H, FRNN_TILE_STATES = 2 };

/* Variant arguments: further arguments of a variant's step, forward and backward. */
typedef struct {
  const frnn_variant *numbers;
  const void *shift_ih, *shift_hh; /* biases, if products are normalised; NULL: zero */
  int64_t features;                /* of h */
  const void *after_dropout;       /* h_{t-1} after dropout, which the recurrent products read */
  ptrdiff_t after_dropout_row;
  const void
      *zoneout[FRNN_STATES_MOST]; /* each state's zoneout mask, dense rows; NULL: numbers->zoneout has the rates */
  ptrdiff_t zoneout_row;
} frnn_variant_arguments;

/* Rows of a state before a step and after it. Those of h are dense. Those of others are padded, and `after` may be
 * `before`. */
typedef struct {
  const void *before;
  ptrdiff_t before_row;
  void *after;
  ptrdiff_t after_row;
} frnn_step_state;

/* From the addresses of a step to those of the next one, in bytes. */
typedef struct {
  ptrdiff_t start, start_of, x, h, z, state[FRNN_STATES_MOST];
} frnn_strides;

/* A step of time, forward, for m rows and some vectors of units, and maybe further steps. Gates are `gate` bytes apart
 * in a row. */
typedef struct {
  int64_t m, hidden, vector, vectors;
  const void *start; /* the values that chains begin with: one bias for all rows, rows of an id table, or z, which holds
                        bias + W_ih x */
  ptrdiff_t start_row;
  const int64_t *start_of; /* the row of `start` for each row; NULL: its own */
  frnn_factor in[2];       /* x, k = 0 if z holds W_ih x already; what W_hh multiplies in this phase: h_{t-1}, after
                              dropout if there is any, or scratch */
  frnn_step_state state[FRNN_STATES_MOST];
  const void *aux; /* dense rows, if the cell has aux */
  ptrdiff_t aux_row;
  void *z; /* out, if keep: the tape's slots; else scratch for the epilogue */
  ptrdiff_t z_row, gate;
  void *scratch;                         /* GRU, reset before: r * h, padded rows, `gate` bytes each */
  const void *bias_h;                    /* the bias that chains over h alone begin with, gate by gate */
  int keep;                              /* write the tape's slots into z */
  int backwards;                         /* read the panels from the last to the first */
  const frnn_variant_arguments *variant; /* variants alone */
  int kind;                              /* of the tile, for an epilogue that several kinds share */
  int64_t more;                          /* the further steps of this call; `by` leads from one to the next */
  frnn_strides by;
} frnn_step;

static inline const void *frnn_further(const void *address, ptrdiff_t by) { return (const char *)address + by; }

/* Makes the arguments of a step those of the next one. */
static inline void frnn_advance(frnn_step *s) {
  const frnn_strides *by = &s->by;
  s->backwards ^= 1;
  s->start = frnn_further(s->start, by->start);
  s->start_of = frnn_further(s->start_of, by->start_of);
  s->in[FRNN_X].rows = frnn_further(s->in[FRNN_X].rows, by->x);
  s->in[FRNN_H].rows = frnn_further(s->in[FRNN_H].rows, by->h);
  s->z = (char *)s->z + by->z;
  for (int i = 0; i < FRNN_TILE_STATES; i++) {
    s->state[i].before = frnn_further(s->state[i].before, by->state[i]);
    s->state[i].after = (char *)s->state[i].after + by->state[i];
  }
}

/* Rows of a state, before the step and after it. `d`: rows of its gradient, padded; in, the gradient from later steps;
 * out, the part that goes to t - 1 without a product. `shown`: rows of the caller's for the gradient of the state after
 * the step; NULL if not wanted. */
typedef struct {
  const void *before;
  ptrdiff_t before_row;
  const void *after;
  ptrdiff_t after_row;
  void *d, *shown;
  ptrdiff_t shown_row;
} frnn_back_state;

/* One step backward through time, for m rows and units [unit, end): everything but the products. */
typedef struct {
  int64_t m, hidden, unit, end;
  frnn_back_state state[FRNN_STATES_MOST];
  ptrdiff_t d_row; /* of every state's gradient */
  const void *z;   /* the tape's slots */
  ptrdiff_t z_row, gate;
  const void *dy; /* NULL: zero */
  ptrdiff_t dy_row;
  void *dg; /* out: the gate gradients, dense */
  ptrdiff_t dg_row;
  void *scratch; /* out: r * h (GRU, reset before), or the cell's output if h is projected (LSTM); else NULL; rows of
                    scratch_row bytes */
  void *drh; /* in: the gradient of W_hh's operand if that is not h itself: r * h, or h after dropout; padded rows of
                d_row bytes. Phases after the product read it */
  ptrdiff_t scratch_row;
  const frnn_variant_arguments *variant; /* variants alone */
  const void *aux;                       /* dense rows, if the cell has aux */
  void *daux; /* out: their gradients, zeros before. They are sums over all units, whose terms an earlier phase wrote,
                 so only the part with unit 0 writes them. NULL if not wanted and in the other parts */
  ptrdiff_t aux_row, daux_row;
  const void *dropout_factors; /* factors of h_{t-1} in the recurrent products; NULL: none */
  ptrdiff_t dropout_factors_row;
} frnn_back;

/* The cells in the order of cells.c. */
enum frnn_cell_number {
  FRNN_RNN_TANH,
  FRNN_RNN_TANH_VARIANT,
  FRNN_RNN_RELU,
  FRNN_RNN_RELU_VARIANT,
  FRNN_LSTM,
  FRNN_LSTM_VARIANT,
  FRNN_LSTM_COUPLED,
  FRNN_LSTM_PEEPHOLE,
  FRNN_LSTM_COUPLED_PEEPHOLE,
  FRNN_LSTM_NORMALISED,
  FRNN_LSTM_COUPLED_NORMALISED,
  FRNN_GRU_AFTER,
  FRNN_GRU_AFTER_VARIANT,
  FRNN_GRU_NORMALISED,
  FRNN_GRU_BEFORE,
  FRNN_GRU_BEFORE_VARIANT,
  FRNN_MIN_GRU,
  FRNN_MIN_LSTM,
  FRNN_CELLS
};

/* A cell's functions, by phase. Those of `step` are an unfused cell's: each follows the products of its phase, and
 * takes all units of m rows. Products that the cell names follow phases of `back`. */
enum { FRNN_PHASES = 2, FRNN_BACK_PHASES = 3 };
typedef struct {
  void (*step[FRNN_PHASES])(const frnn_step *);
  void (*back[FRNN_BACK_PHASES])(const frnn_back *);
} frnn_cell_functions;

/* Rows that become operands, as products read them: with int8 weights each has a scale of its own, but a row of
 * `bounded` rows whose numbers are at most 1 has the same scale as others like it; with bfloat16 they are rounded. */
typedef struct {
  const void *rows;
  ptrdiff_t row;
  int64_t m, k;
  int bounded;
  void *operands;
  ptrdiff_t operand_row;
} frnn_operands;

/* The functions that write and read packed weights of one precision. */
typedef struct {
  void (*convert)(const frnn_operands *); /* NULL: products read rows as they are */
  void (*pack)(const frnn_transpose *);
  void (*unpack)(const frnn_transpose *); /* writes `src` from the panels */
  /* a panel at full precision; NULL at full precision, and if the precision has an arithmetic of its own */
  void (*widen)(const void *panel, int64_t k, int gates, void *full);
  /* column k of a panel of `columns`, a number for each lane */
  void (*column)(const void *panel, int64_t k, int64_t columns, void *lanes);
  void (*gemm)(const frnn_gemm *);
  /* an unfused cell's chains, which write to z: `vectors` counts vectors of all gates, one after another */
  void (*chains)(frnn_step *);
  /* a fused cell's tiles, by phase. A phase reads the results of the phase before for all units */
  void (*tiles[FRNN_CELLS][FRNN_PHASES])(frnn_step *);
} frnn_products;

typedef struct {
  const char *isa;
  int fused;              /* 1 if a multiply-add rounds once: all such sets give the same bits */
  int size, lanes;        /* bytes of an element, elements of a vector */
  frnn_products products; /* at full precision */
  /* dst[vector][k][lane] = src[k][n]: rows already along k */
  void (*pack_rows)(const void *src, ptrdiff_t src_k, int64_t k, int64_t n, void *dst, ptrdiff_t panel);
  /* dst[n] = a[n] + b[n]; a or b may be NULL */
  void (*add)(void *dst, const void *a, const void *b, int64_t n);
  /* dst[n] += sum over k, in order, of src[k][n] */
  void (*sum_rows)(const void *src, ptrdiff_t src_k, int64_t k, int64_t n, void *dst);
  void (*sum_rows_by_blocks)(const frnn_row_sum *);
  void (*sum_products)(const frnn_product_sum *);
  /* sum[n] += x[n] + lost[n]; lost[n] is then the rounding error of that, 0 if it is not finite */
  void (*add_keeping)(void *sum, void *lost, const void *x, int64_t n);
  /* dst[n] = a[n] * b[n] + c[n]; c may be NULL */
  void (*multiply_add)(void *dst, const void *a, const void *b, const void *c, int64_t n);
  frnn_cell_functions cells[FRNN_CELLS];
  void (*exp)(const void *x, void *y, int64_t n);
  void (*sigmoid)(const void *x, void *y, int64_t n);
  void (*tanh)(const void *x, void *y, int64_t n);
  void (*softmax)(void *x, int64_t n);                           /* in place */
  double (*probe_fma)(int64_t rounds);                           /* flops done */
  double (*probe_read)(const void *p, size_t n, int64_t rounds); /* a result, so that the compiler does not drop the
                                                                    reads */
} frnn_kernels;

/* Products of a forward step: the chains of some gates, in one phase. They begin with biases, and run over x, over an
 * operand of W_hh, or over one after the other. */
typedef struct {
  int gates; /* 0: none */
  int x, h;  /* the first of the gates among W_ih's and among W_hh's; NOT_IN: they do not run over it */
  int slot;  /* slot of z for the result of the first gate; x, if it has an x */
  int phase;
} frnn_chains;
enum { NOT_IN = -1, FRNN_CHAINS = 3 };

/* The operands of W_hh: h before the step, after dropout if there is any; and scratch, to which an earlier phase of the
 * step wrote r * h. */
enum frnn_operand { FRNN_BEFORE, FRNN_SCRATCH };

/* Columns [column, column + count) of the gate gradients belong to rows [row, row + count) of W_ih or of W_hh, all in
 * units of hidden. Blocks of W_ih cover all its gates, in the first columns, one block after another. Blocks of W_hh
 * cover all gates or none; with none, W_hh has no gradient. Forward, a block of W_hh multiplies `operand`. In a step
 * backward its transpose multiplies the gate gradients, after phase `after`. */
typedef struct {
  int column, row, count;
  enum frnn_operand operand;
  int after;
} frnn_block;
enum { FRNN_BLOCKS = 2 };

/* Columns [column, column + count) of the gate gradients, summed over rows, are the gradient of elements
 * [row, row + count), in units of hidden, of a bias or of an extra parameter. */
enum { FRNN_BIAS_IH = FRNN_EXTRAS, FRNN_BIAS_HH };
typedef struct {
  int column, row, count, of;
} frnn_sum;
enum { FRNN_SUMS = 7 };

/* What a phase of a step computes. A phase reads the results of the phase before for all units.
 *
 * Forward: a fused cell's tile, which is its products and then its function; an unfused cell's products, or its
 * function. Backward: the cell's derivative, and then the products that the cell names. In both: the projection of h,
 * which only shapes with `projected` features have. */
enum frnn_phase_kind { FRNN_NO_PHASE, FRNN_TILE, FRNN_PRODUCTS, FRNN_POINTWISE, FRNN_DERIVATIVE, FRNN_PROJECTION };

/* `number`: of the cell's function in frnn_cell_functions, and of the chains that it follows. */
typedef struct {
  enum frnn_phase_kind kind;
  int number;
} frnn_phase;
enum { FRNN_LISTED = 6 }; /* the phases of the longest list, and FRNN_NO_PHASE, which ends a list */

/* A cell: a spec of numbers, and functions. The functions of the library's cells are in frnn_kernels, at their number.
 * A cell may also be a caller's own, unfused, with functions that know no vectors: `own`, by dtype. */
struct frnn_cell {
  frnn_cell_facts facts;
  int number;
  const frnn_cell_functions *own;
  int slots;   /* gates a tape keeps per unit and step; the states but h come after them */
  int columns; /* of gate gradients */
  frnn_chains chains[FRNN_CHAINS];
  frnn_block ih[FRNN_BLOCKS], hh[FRNN_BLOCKS]; /* count 0: none */
  frnn_phase forward[FRNN_LISTED]; /* in tile 1 or products 1, W_hh multiplies scratch, to which function 0 wrote */
  frnn_phase backward[FRNN_LISTED];
  int normalised;           /* products are normalised, then the cell adds the biases */
  frnn_sum sums[FRNN_SUMS]; /* count 0: none. If biases are among them, ih and hh imply no gradient of a bias */
};

/* The kernels of the instruction set that is selected now. Another thread may select another one at any time, so a call
 * reads them once, at its entry, and keeps them. NULL if this build has none of the dtype that this CPU runs. */
const frnn_kernels *frnn_kernels_for(int dtype);

/* The kernels for the forward steps of a layer of so many units: those of the next set if they leave half of a vector
 * empty and it gives the same bits. The functions of half a vector take less time. */
const frnn_kernels *frnn_kernels_for_units(int dtype, int64_t units);

/* The products of the same instruction set for a precision. */
const frnn_products *frnn_products_for(const frnn_kernels *kernels, int precision);

/* The kernels and products that packed some weights, by names and numbers. Packed weights begin with this and hold no
 * address, so they may be moved, and processes that share memory may read the same ones. */
typedef struct {
  char mark[8], version[24], isa[16];
  int32_t set, extended; /* the place in dispatch.c's list, from 1 on; 1 if products are those of the set's extension */
  int32_t dtype, precision;
} frnn_packer;

frnn_packer frnn_packer_of(const frnn_kernels *kernels, const frnn_products *products, int precision);

/* They themselves, for this version's own packer. The first is NULL if the numbers cannot be right. */
const frnn_kernels *frnn_kernels_of(const frnn_packer *by);
const frnn_products *frnn_products_of(const frnn_packer *by);

/* For a packer from elsewhere: 0; FRNN_INVALID if it is none of this version; FRNN_MISSING if this build lacks these
 * kernels, or if this CPU does not run them. */
int frnn_packer_status(const frnn_packer *by);

/* 1 if the bytes are a packer, of whatever version. */
int frnn_is_packer(const frnn_packer *by);

/* The floating-point environment, as far as run.h keeps it. */
typedef union {
  fenv_t whole;
  unsigned word;
} frnn_environment;

/* A running call: the floating-point environment in which all its threads compute, that of its caller, and whether they
 * must stop. Only the thread that began it polls `interrupted`, now and then. */
typedef struct {
  frnn_environment environment, environment_before;
  int (*interrupted)(void);
  uintptr_t caller; /* the thread that began it */
  int64_t polled;   /* the time of the last poll, in nanoseconds */
  atomic_int stop;  /* 0, FRNN_INTERRUPTED or FRNN_FORKED */
  int counted;      /* the pool counts its thread among those that compute */
  int has_pool;     /* this call has the pool: no other call may post jobs */
  int threads;      /* with the pool: threads that a job may use */
  int shared;       /* other threads may be computing parts of a job */
} frnn_run;

/* work: multiply-adds of the call, by which the pool decides whether to wake workers; parts: the most that a job of the
 * call will have. */
void frnn_begin(frnn_run *run, double work, int parts, int (*interrupted)(void));
void frnn_flush_subnormals(frnn_run *run); /* until frnn_end subnormal numbers count as zeros */
int frnn_stopped(frnn_run *run);           /* other than 0 if the call must stop; any thread may call it */
int frnn_end(frnn_run *run);               /* 0, FRNN_INTERRUPTED or FRNN_FORKED */

/* Does task(context, part, parts) for every part, on the threads that are available; returns when all are done. `work`
 * is that of all parts. Parts may run in any order and at once. A part tends to run on the same thread each time, and
 * so finds its data in that core's caches. */
enum { FRNN_PARTS = 256 };
typedef void frnn_task(void *context, int part, int parts);

/* The same turn by turn: `slices` parts, one after another, are a group, and a group's parts are done once in each
 * turn. When all parts of a group's turn are done, next(context, group), on any thread, prepares its next turn, or
 * returns 0 if the group is over. Groups do not wait for one another. */
typedef int frnn_next_turn(void *context, int group);
void frnn_take_turns(frnn_run *run, double work, frnn_task *task, frnn_next_turn *next, void *context, int groups,
                     int slices);

static inline void frnn_parallel(frnn_run *run, double work, frnn_task *task, void *context, int parts) {
  frnn_take_turns(run, work, task, NULL, context, parts, 1);
}

int frnn_threads(void); /* the number that a call of the calling thread may use now */

#endif
