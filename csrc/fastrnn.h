/* fastrnn.h - the C interface: one layer, one direction, forward and backward through time.
 *
 * The library allocates nothing and keeps nothing: the caller gives every buffer, whose sizes the functions below
 * compute, aligned to 64 bytes. Arrays are float or double, all of one dtype. Weights are dense, in PyTorch's
 * layout; gates i f g o (LSTM) and r z n (GRU). Strides are in bytes. All functions may be called from many
 * threads at once. */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stddef.h>
#include <stdint.h>

enum frnn_dtype { FRNN_F32, FRNN_F64, FRNN_DTYPES };

/* The options of cells: frnn_variant, frnn_dropout_masks or the shape has their values. */
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

/* Parameters of variants beyond weights and biases: gain of W_ih x, of W_hh h and of c, and shift of c, where they are
 * normalised; peepholes of all gates but g. */
enum frnn_extra {
  FRNN_WEIGHT_LN_IH,
  FRNN_WEIGHT_LN_HH,
  FRNN_WEIGHT_LN_C,
  FRNN_BIAS_LN_C,
  FRNN_WEIGHT_PEEPHOLE,
  FRNN_EXTRAS
};

/* The names of both, as the layers of the Python package have them: "cell_clip", "weight_ln_ih". NULL past the end. */
const char *frnn_option_name(int option);
const char *frnn_extra_name(int extra);

/* A cell: what one step computes. frnn_cell_at lists those of the library, each plain one before its variants: NULL
 * past the end. Equations: fastrnn/reference. */
typedef struct frnn_cell frnn_cell;
const frnn_cell *frnn_cell_at(int i);
const frnn_cell *frnn_cell_named(const char *name); /* NULL where there is none */

/* What the library's caller must know of a cell. Gates are row blocks of the weights, `hidden` rows each: i f g o of
 * the LSTM (i g o where they are coupled), r z n of the GRU. A state has at most FRNN_STATES_MOST arrays. */
enum { FRNN_STATES_MOST = 4 };
typedef struct {
  const char *name;       /* "lstm_coupled" */
  const char *plain;      /* the name of the cell that it is a variant of, "lstm"; its own where it is none */
  unsigned takes;         /* bit i: it can be given option i */
  unsigned has;           /* bit i: it has option i built in */
  int gates, recurrent;   /* gates of W_ih, and of W_hh; 0: there is no W_hh, and no b_hh */
  int states;             /* arrays of a state: h, which is the output, then others, as the LSTM's c */
  int aux;                /* numbers that a step reads of each row besides x, a time gap say */
  int extra[FRNN_EXTRAS]; /* numbers of each extra parameter, in units of `hidden`; 0: it has no such */
} frnn_cell_facts;
const frnn_cell_facts *frnn_facts_of(const frnn_cell *cell);

typedef struct {
  const frnn_cell *cell;
  int dtype;
  int reverse; /* from the last step to the first */
  int64_t steps, batch, input, hidden;
  int ragged;         /* whether `rows` below say anything */
  int has_ids;        /* whether x comes as ids; input is 0 then */
  int64_t projected;  /* 0: h and y have `hidden` features. Else so many, for h is W_hr of what the cell makes; LSTM */
  int64_t checkpoint; /* 0: a tape keeps every step. n: states but h before every n-th; backward recomputes steps */
} frnn_shape;

/* Element i of step t and row b lies at data + t * step + b * row + i * sizeof(element). */
typedef struct {
  void *data;
  ptrdiff_t step, row;
} frnn_sequence;

typedef struct {
  const void *w_ih, *w_hh; /* (gates * hidden, input), (gates * hidden, hidden) */
  const void *b_ih, *b_hh; /* (gates * hidden) or NULL. W_hh and b_hh have gates of their own, `recurrent` many */
  const void *w_hr;        /* (projected, hidden); then w_hh is (gates * hidden, projected), and so is h */
} frnn_weights;

/* What makes a variant differ; all zero: nothing. A normalised one needs all its gains, its shift and peepholes may be
 * NULL. */
typedef struct {
  double number[FRNN_OPTIONS]; /* of the options that are numbers: bounds of pre-activations and of c, the slope of a
                                  hard sigmoid in place of the sigmoid; 0: the option is not given */
  double zoneout[FRNN_STATES_MOST]; /* rates of each state, used where no mask is drawn */
  const void *extra[FRNN_EXTRAS];
} frnn_variant;

/* What was drawn for a pass of a variant, with its rows in the order of frnn_rows; NULL: nothing. */
typedef struct {
  const void *recurrent;                 /* (batch, features of h), dense: factors of h in the recurrent products */
  const void *zoneout[FRNN_STATES_MOST]; /* (steps, batch, hidden), dense: of each state the zoneout mask: 1 where an
                                          element stays, else 0; not where h is projected */
} frnn_dropout_masks;

/* Which steps of which rows count; all NULL: all. A row takes its first `length` steps, in reverse from the last of
 * them on, and its y is 0 beyond. Where the mask is 0 it keeps its state, which is its y then. Where reset is 1 its
 * state is zero, or the call's first, before that step of the pass. */
typedef struct {
  const int64_t *lengths;       /* 0 to steps, from the longest to the shortest */
  const int64_t *sort_order;    /* the row of each of these, every row once; NULL: as the rows are */
  const int64_t *inverse_order; /* of each row its index in sort_order; NULL with it */
  int64_t begin;                /* the sorted index that `lengths` and `sort_order` begin with; 0 in a call */
  const uint8_t *mask, *reset;  /* (steps, batch), row by row of the batch, of one stride */
  ptrdiff_t step;
  int reset_to_first;
} frnn_rows;

/* Whether a sum over so many rows goes by blocks, rather than by one chain: then it takes room beside it. */
int frnn_goes_by_blocks(int64_t rows);

/* x as ids: element t * step + b of `numbers` is the row of a table that holds bias + W_ih x for every x there is. In a
 * backward pass the table's gradient is added to `gradient`, (count, gates * hidden), in the order of W_ih's rows.
 * Where sums over steps * batch rows go by blocks, three such arrays stand there side by side, zeros at first, and
 * `seen` points to `count` zeros; otherwise it is NULL. */
typedef struct {
  const int64_t *numbers;
  ptrdiff_t step;
  const void *table;
  void *gradient;
  int64_t *seen, count;
} frnn_ids;

/* A state's arrays, as many as the cell has, each (batch, hidden), dense; a projected h has other features. */
typedef struct {
  void *of[FRNN_STATES_MOST];
} frnn_state;

/* The forms in which packed weights hold W_ih, as bits: for the tiles of a step, and for a product over many steps.
 * W_hh and W_hr have one form each. frnn_form_of says which form a pass of some shape reads; 0 where W_ih need not be
 * packed, for the pass packs it as it goes. */
enum { FRNN_FOR_STEPS = 1, FRNN_FOR_PRODUCTS = 2 };
unsigned frnn_form_of(const frnn_shape *shape);

/* Bytes of the weights packed in some forms (the shape's steps, batch and so on do not matter), of a forward pass' and
 * a backward pass' workspace and of a tape. Each returns 0 where the size does not fit size_t, and only then. */
size_t frnn_packed_size(const frnn_shape *shape, unsigned forms);
size_t frnn_forward_size(const frnn_shape *shape);
size_t frnn_tape_size(const frnn_shape *shape);
size_t frnn_backward_size(const frnn_shape *shape);

/* A tape of every step, from its first boundary of 64 bytes on, is an array (steps, batch, slots, units): slots of
 * gates, i f g o, or r z n and what r multiplies if it comes after, then others, and last the states but h; units
 * padded; rows in the order of frnn_rows. Where a pre-activation reached clip, the highest bit of its gate's exponent
 * is set, which is clear otherwise but in a NaN. */
int64_t frnn_tape_slots(const frnn_shape *shape);
int64_t frnn_tape_units(const frnn_shape *shape);

typedef struct {
  frnn_shape shape;
  frnn_weights weights; /* w_ih where frnn_form_of says 0; biases where a variant's step reads them */
  frnn_variant variant;
  frnn_dropout_masks dropout;
  const void *packed; /* in the form that frnn_form_of says, at least */
  frnn_rows rows;
  frnn_ids ids;
  frnn_sequence x, y;     /* in; out, separate from each other */
  frnn_sequence aux;      /* in, where the cell has some */
  frnn_state first, last; /* in; out. May be the same memory */
  void *tape;             /* out, or NULL for inference */
  void *work;
  const void *plan; /* by frnn_plan for this shape; or NULL */
} frnn_forward_call;

/* The functions below do up to FRNN_TOGETHER calls at once, the directions of a layer, say: calls of one shape but for
 * `reverse` that share no output. `interrupted`, unless NULL, is asked now and then on the caller's thread; where it
 * gives other than 0 they return FRNN_INTERRUPTED soon, their outputs half done. Where it forks the process and other
 * threads were computing parts of the call, these parts are lost in the child: there they return FRNN_FORKED soon,
 * their outputs half done. Else they return 0. */
enum { FRNN_TOGETHER = 2 };
enum { FRNN_INTERRUPTED = -1, FRNN_FORKED = -2 };

/* Weights in the order the kernels read them. What is packed follows from the weights alone, so it serves passes of any
 * steps and batch, and any number of passes at once. The shape's steps, batch and so on do not matter. */
typedef struct {
  frnn_shape shape;
  frnn_weights weights;
  unsigned forms; /* of W_ih */
  void *packed;   /* out */
} frnn_pack_call;

int frnn_pack(const frnn_pack_call *calls, int count, int (*interrupted)(void));

/* Writes down what follows from the shape alone, for a caller who makes the same call again and again: a short step
 * would feel the cost. Otherwise frnn_forward works it out. */
size_t frnn_plan_size(void);
void frnn_plan(const frnn_shape *shape, void *plan);

int frnn_forward(const frnn_forward_call *calls, int count, int (*interrupted)(void));

/* Gradients of any function of y and of the last state. x, y, first, tape and the weights as they were in the
 * forward pass. A gradient coming in that is NULL is zero. Gradients of weights that are NULL are not computed. */
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
  frnn_sequence aux;                      /* in, where the cell has some */
  frnn_sequence dx, daux;                 /* out; data may be NULL */
  frnn_sequence dstate[FRNN_STATES_MOST]; /* out, each data may be NULL: all that comes to a state of each step that
                                             counts */
  frnn_state dfirst;                      /* out */
  void *dw_ih, *dw_hh;                    /* out, each may be NULL */
  void *db_ih, *db_hh, *dw_hr;
  void *dextra[FRNN_EXTRAS]; /* out, each may be NULL */
  void *work;
} frnn_backward_call;

int frnn_backward(const frnn_backward_call *calls, int count, int (*interrupted)(void));

/* The table of `count` rows for frnn_ids. Row i is that of x's row i, (count, input), or where x is NULL that of a
 * one at feature used[i] among zeros; without `used` at feature i, count being input. The shape's steps and batch do
 * not matter. */
typedef struct {
  frnn_shape shape;
  frnn_weights weights;
  int64_t count;
  const void *x;
  const int64_t *used;
  void *table;
  void *work;
} frnn_id_table_call;

size_t frnn_id_table_size(const frnn_shape *shape, int64_t count);
size_t frnn_id_table_work_size(const frnn_shape *shape);
int frnn_make_id_table(const frnn_id_table_call *call, int (*interrupted)(void));

/* After a backward pass: from the gradient of a table (count, gates * hidden), frnn_id_gradient_size bytes of which
 * stand in the pass' frnn_ids, zeros at first, that of W_ih and, where x's rows are those of an embedding, that of the
 * embedding. */
typedef struct {
  frnn_id_table_call table; /* as it was made, or would be */
  const void *gradient;
  int64_t vocabulary;  /* ids that there are: of the embedding, or input */
  const int64_t *used; /* the ids that the table has, each once; NULL: all of them */
  void *dw_ih;         /* out */
  void *dembedding;    /* out, (vocabulary, input); NULL where it is not asked for, and without an embedding */
  void *work;
} frnn_id_gradients_call;

size_t frnn_id_gradient_size(const frnn_shape *shape, int64_t count);
size_t frnn_id_gradients_size(const frnn_id_gradients_call *call);
int frnn_id_gradients(const frnn_id_gradients_call *call, int (*interrupted)(void));

/* c = a b: a (m, k) with strides in bytes, one of them the element's size; b (k, n) and c (m, n) dense. One chain over
 * k for each element, or blocks. */
typedef struct {
  int dtype;
  int64_t m, n, k;
  const void *a, *b;
  ptrdiff_t a_row, a_k;
  void *c;
  void *work;
} frnn_product_call;

size_t frnn_product_size(int dtype, int64_t m, int64_t n, int64_t k);
int frnn_product(const frnn_product_call *call, int (*interrupted)(void));

/* The instruction set in use, and the i-th of those this build has and this machine runs (NULL past the end), best
 * first. frnn_select chooses one by name: 0, or -1 where there is none of that name. A call that is running goes on
 * with the set that it began with, and what was packed is read by the set that packed it. */
const char *frnn_isa(void);
const char *frnn_isa_available(int i);
const char *frnn_isa_compiled(int i);
int frnn_isa_fused(const char *isa); /* 1 if it fuses multiply and add: all such sets give the same bits. Else 0 */
int frnn_select(const char *isa);

const char *frnn_compiler(void);

/* How many threads a call may use, the caller's own included, 1 to FRNN_THREADS: for the whole process, and for the
 * calls of the calling thread alone, which go by the process' number again after 0. */
enum { FRNN_THREADS = 256 };
void frnn_set_threads(int n);
void frnn_set_threads_here(int n);

/* y[i] = function(x[i]), as the kernels compute it. */
void frnn_exp(int dtype, const void *x, void *y, int64_t n);
void frnn_sigmoid(int dtype, const void *x, void *y, int64_t n);
void frnn_tanh(int dtype, const void *x, void *y, int64_t n);

/* What this machine could do: flops done in registers; n bytes (a multiple of 1024) read `rounds` times. */
double frnn_probe_fma(int dtype, int64_t rounds);
double frnn_probe_read(int dtype, const void *p, size_t n, int64_t rounds);

#endif
