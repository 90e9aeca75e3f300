/* fastrnn.h - the C interface: one layer, one direction, forward and backward through time.
 *
 * The library allocates nothing and keeps nothing. The caller provides every buffer, aligned to 64 bytes; functions
 * below compute the sizes. Arrays are float or double, all of one dtype. Weights are dense, in PyTorch's layout; gates
 * i f g o (LSTM) and r z n (GRU). Strides are in bytes. All functions may be called from many threads at once. */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; frnn_version returns that of the library. */
#define FRNN_VERSION "0.1.0"
const char *frnn_version(void);

/* Statuses. FRNN_INVALID: the call cannot be right, and nothing was done. Pointers that are NULL, buffers that are not
 * aligned, elements of x, y, states and their gradients that are not at multiples of their size, sizes out of range,
 * options that the cell does not take, packed weights of another layer or without the form are noticed; the sizes of
 * buffers, and what arrays hold, are up to the caller. FRNN_MISSING: this build has no kernels of the dtype that this
 * CPU runs (csrc/CMakeLists.txt can leave some out), and nothing was done. The others: see FRNN_TOGETHER. */
enum { FRNN_INTERRUPTED = -1, FRNN_FORKED = -2, FRNN_INVALID = -3, FRNN_MISSING = -4 };

enum frnn_dtype { FRNN_F32, FRNN_F64, FRNN_DTYPES };

/* The precision of packed weights: that of the dtype; or, for float32 alone, one of three others. bfloat16 weights:
 * matrices rounded to nearest even, with all arithmetic in float32. int8: matrices, and the rows that they multiply,
 * are integers with a scale for each row; their products are summed exactly, all else is float32. bfloat16: matrices,
 * and the rows that they multiply, are rounded, all else is float32; subnormal numbers count as zeros in such a call.
 */
enum frnn_precision { FRNN_FULL, FRNN_BFLOAT16_WEIGHTS, FRNN_INT8, FRNN_BFLOAT16, FRNN_PRECISIONS };

/* The options of cells. Their values are in frnn_variant, frnn_dropout_masks or frnn_shape. */
enum frnn_option {
  FRNN_CLIP,
  FRNN_CELL_CLIP,
  FRNN_RECURRENT_ACTIVATION,
  FRNN_RECURRENT_DROPOUT,
  FRNN_ZONEOUT,
  FRNN_COUPLED,
  FRNN_LAYER_NORM,
  FRNN_PEEPHOLE,
  FRNN_PROJ_SIZE,
  FRNN_OPTIONS
};

/* Parameters of variants beyond weights and biases: gains of W_ih x, of W_hh h and of c, and the shift of c, for layer
 * normalisation; peepholes of all gates but g. */
enum frnn_extra {
  FRNN_WEIGHT_LN_IH,
  FRNN_WEIGHT_LN_HH,
  FRNN_WEIGHT_LN_C,
  FRNN_BIAS_LN_C,
  FRNN_WEIGHT_PEEPHOLE,
  FRNN_EXTRAS
};

/* The names of options and extra parameters, as in the layers of the Python package: "cell_clip", "weight_ln_ih"; and
 * of precisions, "" that of the dtype. NULL past the end. */
const char *frnn_precision_name(int precision);
const char *frnn_option_name(int option);
const char *frnn_extra_name(int extra);

/* A cell: the computation of one step. frnn_cell_at lists the library's cells, each plain cell before its variants:
 * NULL past the end. Equations: fastrnn/reference. */
typedef struct frnn_cell frnn_cell;
const frnn_cell *frnn_cell_at(int i);
const frnn_cell *frnn_cell_named(const char *name); /* NULL if there is none */

/* The facts of a cell that a caller of the library needs. Gates are blocks of `hidden` rows of the weights: i f g o of
 * the LSTM (i g o if they are coupled), r z n of the GRU. A state has at most FRNN_STATES_MOST arrays. */
enum { FRNN_STATES_MOST = 4 };
typedef struct {
  const char *name;       /* "lstm_coupled" */
  const char *plain;      /* the cell that it is a variant of, "lstm"; its own name if it is a plain cell */
  unsigned takes;         /* bit i: it accepts option i */
  unsigned has;           /* bit i: it has option i built in */
  int gates, recurrent;   /* gates of W_ih, and of W_hh; 0: there is no W_hh, and no b_hh */
  int states;             /* arrays of a state: h, which is the output, then others, such as the LSTM's c */
  int aux;                /* numbers that a step reads for each row besides x, such as a time gap */
  int extra[FRNN_EXTRAS]; /* numbers of each extra parameter, in units of `hidden`; 0: it has none */
} frnn_cell_facts;
const frnn_cell_facts *frnn_facts_of(const frnn_cell *cell); /* NULL for NULL */

typedef struct {
  const frnn_cell *cell;
  int dtype;
  int reverse; /* from the last step to the first */
  int64_t steps, batch, input, hidden;
  int ragged;         /* 1 if a call's frnn_rows are used; 0: all rows take all steps */
  int has_ids;        /* 1 if x comes as ids; input is 0 then */
  int64_t projected;  /* 0: h and y have `hidden` features. Else so many: h is W_hr times the LSTM's output */
  int64_t checkpoint; /* 0: a tape keeps every step. n: it has checkpoints, the states but h before every n-th step */
  int precision;      /* of packed weights; FRNN_FULL in a backward pass */
} frnn_shape;

/* Element i of step t and row b lies at data + t * step + b * row + i * sizeof(element). */
typedef struct {
  void *data;
  ptrdiff_t step, row;
} frnn_sequence;

typedef struct {
  const void *w_ih, *w_hh; /* (gates * hidden, input), (gates * hidden, hidden) */
  const void *b_ih, *b_hh; /* (gates * hidden) or NULL. W_hh and b_hh have `recurrent` gates, maybe not as many */
  const void *w_hr;        /* (projected, hidden); then w_hh is (gates * hidden, projected), and so is h */
  const float *scale_ih, *scale_hh, *scale_hr; /* of int8 weights: the scale of each row; NULL: packing computes it */
} frnn_weights;

/* The values of a variant's options; all zero: none is set. A normalised variant needs all its gains; its shift and its
 * peepholes may be NULL. */
typedef struct {
  double number[FRNN_OPTIONS]; /* of the options that are numbers: bounds of pre-activations and of c, the slope of a
                                  hard sigmoid in place of the sigmoid; 0: the option is not set */
  double zoneout[FRNN_STATES_MOST]; /* the rate of each state, used if it has no mask */
  const void *extra[FRNN_EXTRAS];
} frnn_variant;

/* The dropout masks drawn for a pass of a variant, with rows in sorted order (see frnn_rows); NULL: none. */
typedef struct {
  const void *recurrent;                 /* (batch, features of h), dense: factors of h in the recurrent products */
  const void *zoneout[FRNN_STATES_MOST]; /* (steps, batch, hidden), dense: the zoneout mask of each state: 1 where an
                                            element keeps its old value, else 0; none if h is projected */
} frnn_dropout_masks;

/* The steps that each row takes; all NULL: every step. A row takes its first `length` steps, in reverse from the last
 * of them on; its y is 0 beyond. Rows are in sorted order, from the longest to the shortest; a sorted index counts
 * them. If the mask of a step is 0, the row is held: it keeps its state, and y is its h. If reset is 1, the row's state
 * before that step is zero, or the call's first state. */
typedef struct {
  const int64_t *lengths;       /* 0 to steps, from the longest to the shortest */
  const int64_t *sort_order;    /* the batch row of each sorted index; NULL: the rows are sorted */
  const int64_t *inverse_order; /* the sorted index of each batch row; NULL if sort_order is */
  int64_t begin;                /* the sorted index that `lengths` and `sort_order` begin with; 0 in a call */
  const uint8_t *mask, *reset;  /* (steps, batch), in the batch's own order; both have the stride `step` */
  ptrdiff_t step;
  int reset_to_first;
} frnn_rows;

/* 1 if a sum over so many rows goes by blocks rather than by one chain: then it needs arrays beside it. */
int frnn_goes_by_blocks(int64_t rows);

/* x as ids: element t * step + b of `numbers` is the row of a table that holds bias + W_ih x for every possible x. A
 * backward pass adds the table's gradient to `gradient`, (count, gates * hidden), whose columns are in the order of
 * W_ih's rows. If sums over steps * batch rows go by blocks, `gradient` has three such arrays side by side, zeros at
 * first, and `seen` points to `count` zeros; otherwise `seen` is NULL. */
typedef struct {
  const int64_t *numbers;
  ptrdiff_t step;
  const void *table;
  void *gradient;
  int64_t *seen, count;
} frnn_ids;

/* A state's arrays, as many as the cell has, each (batch, hidden), dense; h with a projection is (batch, projected). */
typedef struct {
  void *of[FRNN_STATES_MOST];
} frnn_state;

/* The forms in which packed weights hold W_ih, as bits: for the tiles of a step, and for a product over many steps.
 * W_hh and W_hr have one form each. frnn_form_of returns the form that a pass of some shape reads; 0 if the pass packs
 * W_ih itself. */
enum { FRNN_FOR_STEPS = 1, FRNN_FOR_PRODUCTS = 2 };
unsigned frnn_form_of(const frnn_shape *shape);

/* Bytes of the weights packed in some forms (steps, batch, reverse, ragged, has_ids and checkpoint do not matter), of
 * the workspaces of a forward and a backward pass, and of a tape. Each returns 0 if the size does not fit size_t or the
 * shape is refused (FRNN_INVALID, FRNN_MISSING), and only then. */
size_t frnn_packed_size(const frnn_shape *shape, unsigned forms);
size_t frnn_forward_size(const frnn_shape *shape);
size_t frnn_tape_size(const frnn_shape *shape);
size_t frnn_backward_size(const frnn_shape *shape);

/* A tape of every step, from its first boundary of 64 bytes on, is an array (steps, batch, slots, units): slots of
 * gates, i f g o, or r z n and W_hn h + b_hn if r comes after the product, then others, and last the states but h;
 * units padded; rows in sorted order. If a pre-activation reached clip, the highest bit of its gate's exponent is set;
 * otherwise it is clear, except in a NaN. */
int64_t frnn_tape_slots(const frnn_shape *shape);
int64_t frnn_tape_units(const frnn_shape *shape);

typedef struct {
  frnn_shape shape;
  frnn_weights weights; /* w_ih if frnn_form_of returns 0; biases if the step reads them: normalised products */
  frnn_variant variant;
  frnn_dropout_masks dropout;
  const void *packed; /* at least in the form that frnn_form_of returns */
  frnn_rows rows;
  frnn_ids ids;
  frnn_sequence x, y;     /* in; out, separate from each other */
  frnn_sequence aux;      /* in, if the cell has aux */
  frnn_state first, last; /* in; out. May be the same memory */
  void *tape;             /* out, or NULL for inference */
  void *work;
  const void *plan; /* by frnn_plan for this shape; or NULL */
  int turned; /* 1: the first step reads the panels of weights from the last to the first, the next one the other way
                 round, and so on. Results are the same. Calls that go on where the last one ended find panels in the
                 caches */
} frnn_forward_call;

/* The functions below do up to FRNN_TOGETHER calls at once, such as the directions of a layer: calls of one shape but
 * for `reverse`, with separate outputs. They poll `interrupted`, unless NULL, now and then on the caller's thread. If
 * it returns other than 0, they return FRNN_INTERRUPTED soon, their outputs half done. It may fork the process while
 * other threads compute parts of the call: the child loses these parts, and there they return FRNN_FORKED soon, their
 * outputs half done. If they refuse the call, they return FRNN_INVALID or FRNN_MISSING. Otherwise they return 0. */
enum { FRNN_TOGETHER = 2 };

/* Weights in the order the kernels read them. Packed weights follow from the weights alone, so they serve passes of any
 * steps and batch, and any number of passes at once. The shape's steps, batch, reverse, ragged, has_ids and checkpoint
 * do not matter. */
typedef struct {
  frnn_shape shape;
  frnn_weights weights;
  unsigned forms;   /* of W_ih */
  void *packed;     /* out */
  const void *like; /* packed weights, whose instruction set packs these too; NULL: the selected one */
} frnn_pack_call;

int frnn_pack(const frnn_pack_call *calls, int count, int (*interrupted)(void));

/* Packed weights hold no address, so they may be copied, and may lie in memory that several processes read. The last
 * 64 bytes of frnn_packed_size are not used: a copy need not have them. Packed weights begin with a header of at most
 * FRNN_HEADER bytes, which must stay as it is: calls find the numbers by it. A process that gets packed weights from
 * another one calls frnn_read_packed first. It checks the header, not the numbers, and fills in the facts: of the shape
 * the cell, dtype, input, hidden, projected and precision; the forms; the version of the library and the instruction
 * set that packed them, texts within the packed weights, or NULL if these are no packed weights at all. Returns 0;
 * FRNN_INVALID if these are not `size` bytes of weights that this version packed for a cell of the library;
 * FRNN_MISSING if this build or this CPU lacks the instructions. */
typedef struct {
  frnn_shape shape;
  unsigned forms;
  const char *version, *isa;
} frnn_packed_facts;
int frnn_read_packed(const void *packed, size_t size, frnn_packed_facts *facts);
enum { FRNN_HEADER = 192 };

/* Arrays for the matrices that were packed and for the scales of their rows, each as frnn_weights describes it; one
 * that is NULL is not written. int8 weights have scales, others do not. */
typedef struct {
  void *w_ih, *w_hh, *w_hr;
  float *scale_ih, *scale_hh, *scale_hr;
} frnn_matrices;

/* Writes these arrays. Returns what frnn_pack returns. Packing them again gives the same packed weights. */
int frnn_unpack(const frnn_shape *shape, const void *packed, const frnn_matrices *to, int (*interrupted)(void));

/* Writes a plan, the values that follow from the shape alone, for a caller who makes many short calls of one shape.
 * Without a plan each frnn_forward computes them. A call with a plan is refused if its shape was invalid when the plan
 * was made, or for its `work` and `packed`; the rest is not checked again. */
size_t frnn_plan_size(void);
void frnn_plan(const frnn_shape *shape, void *plan);

int frnn_forward(const frnn_forward_call *calls, int count, int (*interrupted)(void));

/* Gradients of any function of y and of the last state. x, y, first, tape and the weights must be as they were in the
 * forward pass. An input gradient that is NULL is zero. Gradients of weights that are NULL are not computed. */
typedef struct {
  frnn_shape shape;
  frnn_weights weights;
  frnn_variant variant;
  frnn_dropout_masks dropout;
  frnn_rows rows;
  frnn_ids ids;
  frnn_sequence x, y;
  frnn_state first;
  const void *tape;
  frnn_sequence dy;                       /* in; data may be NULL */
  frnn_state dlast;                       /* in; each may be NULL */
  frnn_sequence aux;                      /* in, if the cell has aux */
  frnn_sequence dx, daux;                 /* out; data may be NULL */
  frnn_sequence dstate[FRNN_STATES_MOST]; /* out, each data may be NULL: the gradient of a state after each step that
                                             its row takes */
  frnn_state dfirst;                      /* out */
  void *dw_ih, *dw_hh;                    /* out, each may be NULL */
  void *db_ih, *db_hh, *dw_hr;
  void *dextra[FRNN_EXTRAS]; /* out, each may be NULL */
  void *work;
} frnn_backward_call;

int frnn_backward(const frnn_backward_call *calls, int count, int (*interrupted)(void));

/* The table of `count` rows for frnn_ids. Row i is bias + W_ih x for row i of x, (count, input). If x is NULL, it is
 * that of a one at feature used[i] among zeros; without `used`, at feature i, and count is input. The shape's steps and
 * batch do not matter. */
typedef struct {
  frnn_shape shape;
  frnn_weights weights;
  const void *packed; /* the same weights, packed for products. NULL: the call packs them in `work` */
  int64_t count;
  const void *x;
  const int64_t *used;
  void *table;
  void *work;
} frnn_id_table_call;

size_t frnn_id_table_size(const frnn_shape *shape, int64_t count);
size_t frnn_id_table_work_size(const frnn_shape *shape, int64_t count);
int frnn_make_id_table(const frnn_id_table_call *call, int (*interrupted)(void));

/* After a backward pass: from the gradient of a table the gradient of W_ih, and of the embedding if x's rows come from
 * one. The table's gradient, (count, gates * hidden), is the `gradient` of the pass' frnn_ids: frnn_id_gradient_size
 * bytes, zeros at first. */
typedef struct {
  frnn_id_table_call table; /* the call that computed the table, or would */
  const void *gradient;
  int64_t vocabulary;  /* the number of all ids: rows of the embedding, or input */
  const int64_t *used; /* the ids in the table, each once; NULL: all ids */
  void *dw_ih;         /* out */
  void *dembedding;    /* out, (vocabulary, input); NULL if not wanted or without an embedding */
  void *work;
} frnn_id_gradients_call;

size_t frnn_id_gradient_size(const frnn_shape *shape, int64_t count);
size_t frnn_id_gradients_size(const frnn_id_gradients_call *call);
int frnn_id_gradients(const frnn_id_gradients_call *call, int (*interrupted)(void));

/* A dense layer, such as a head on h: y = activation(W x + b) for rows of x, at the precision of the dtype. */
enum frnn_activation { FRNN_LINEAR, FRNN_SIGMOID, FRNN_SOFTMAX };
typedef struct {
  int dtype, activation;
  int64_t inputs, outputs;
} frnn_dense_shape;

/* Packs W, (outputs, inputs), and b, (outputs), both dense, into frnn_dense_size bytes, and writes them back. The size
 * is 0 if it does not fit size_t or if there are no kernels of the dtype. */
size_t frnn_dense_size(const frnn_dense_shape *shape);
void frnn_pack_dense(const frnn_dense_shape *shape, const void *weight, const void *bias, void *packed);
void frnn_unpack_dense(const void *packed, void *weight, void *bias);

/* As frnn_read_packed: checks `size` bytes that another process packed, and fills in their shape. */
int frnn_read_dense(const void *packed, size_t size, frnn_dense_shape *shape);

typedef struct {
  const void *packed;
  int64_t rows;
  const void *x; /* (rows, inputs), dense */
  void *y;       /* out, (rows, outputs), dense, separate from x */
} frnn_dense_call;

int frnn_dense(const frnn_dense_call *call, int (*interrupted)(void));

/* The instruction set in use, NULL if this machine runs none of the build's; the i-th set that this machine runs; the
 * i-th set that this build has (NULL past the end). Both lists have the best first. frnn_select chooses one by name: 0,
 * or -1 if this machine runs none of that name. A running call goes on with the set that it began with, and packed
 * weights are read by the set that packed them. */
const char *frnn_isa(void);
const char *frnn_isa_available(int i);
const char *frnn_isa_compiled(int i);
int frnn_isa_fused(const char *isa); /* 1 if it fuses multiply and add: all such sets give the same bits. Else 0 */
int frnn_select(const char *isa);

/* Instructions that some CPUs have besides the set, for products of int8 and of bfloat16: weights that are packed from
 * now on are multiplied with none of them, with those that are fast on this CPU, or with all. Results are the same, but
 * for the time. Returns what was in force. */
enum frnn_extensions { FRNN_NO_EXTENSIONS, FRNN_FAST_EXTENSIONS, FRNN_ALL_EXTENSIONS };
int frnn_use_extensions(int which);

/* The i-th of these that the set in use is extended by now; the i-th that this build has, of all sets (NULL past the
 * end). The names are those of the Linux kernel's list of a CPU's features. */
const char *frnn_extension(int i);
const char *frnn_extension_compiled(int i);

const char *frnn_compiler(void);

/* How many threads a call may use, the caller's own included, 1 to FRNN_THREADS: for the process, and for the calls of
 * the calling thread alone. After frnn_set_threads_here(0) these go by the process' number. */
enum { FRNN_THREADS = 256 };
void frnn_set_threads(int n);
void frnn_set_threads_here(int n);

/* y[i] = function(x[i]), as the kernels compute it. These functions and the next two need a dtype of this build. */
void frnn_exp(int dtype, const void *x, void *y, int64_t n);
void frnn_sigmoid(int dtype, const void *x, void *y, int64_t n);
void frnn_tanh(int dtype, const void *x, void *y, int64_t n);

/* Measure what this machine can do: frnn_probe_fma does multiply-adds in registers and returns their flops;
 * frnn_probe_read reads n bytes (a multiple of 1024) `rounds` times. */
double frnn_probe_fma(int dtype, int64_t rounds);
double frnn_probe_read(int dtype, const void *p, size_t n, int64_t rounds);

/* A number that differs, most likely, if the structs of two versions do. A program that takes the library's functions
 * by their addresses compares it with frnn_abi(). */
enum { FRNN_ABI = 10000 * sizeof(frnn_forward_call) + sizeof(frnn_backward_call) };
int frnn_abi(void);

#ifdef __cplusplus
}
#endif

#endif
