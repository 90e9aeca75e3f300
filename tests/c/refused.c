/* refused.c - calls that cannot be right return FRNN_INVALID and write nothing; functions without a status return 0 or
 * NULL. A program that links the library, in float32. Prints what was not refused, with exit status 1.
 *
 * It must not know: what right calls compute. */
#include <fastrnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { T = 5, B = 3, I = 4, H = 6, BYTES = 1 << 16 };

typedef struct {
  frnn_pack_call pack;
  frnn_forward_call forward;
  frnn_backward_call backward;
  frnn_id_table_call table;
  frnn_id_gradients_call gradients;
  frnn_dense_call dense;
} problem;

static char *memory; /* all arrays and buffers, each of BYTES */
static int arrays, failed;

static void *array(void) { return memory + BYTES * (size_t)arrays++; }

static frnn_sequence sequence(int features) { return (frnn_sequence){array(), B * features * 4, features * 4}; }

static frnn_state state(void) { return (frnn_state){{array(), array()}}; }

/* Right calls of an LSTM; weights are packed, and a tape is written. */
static problem right(void) {
  problem p;
  memset(&p, 0, sizeof p);
  memset(memory, 0, (size_t)BYTES * 64);
  arrays = 0;
  frnn_shape s = {.cell = frnn_cell_named("lstm"), .steps = T, .batch = B, .input = I, .hidden = H};
  frnn_weights w = {.w_ih = array(), .w_hh = array(), .b_ih = array(), .b_hh = array()};
  p.pack = (frnn_pack_call){s, w, FRNN_FOR_STEPS | FRNN_FOR_PRODUCTS, array(), NULL};
  p.forward =
      (frnn_forward_call){.shape = s, .weights = w, .packed = p.pack.packed, .x = sequence(I), .y = sequence(H)};
  p.forward.first = state(), p.forward.last = state(), p.forward.tape = array(), p.forward.work = array();
  p.backward = (frnn_backward_call){.shape = s, .weights = w, .x = p.forward.x, .y = p.forward.y};
  p.backward.first = p.forward.first, p.backward.tape = p.forward.tape, p.backward.work = array();
  p.backward.dfirst = state(), p.backward.dx = sequence(I), p.backward.dw_ih = array();
  p.table = (frnn_id_table_call){.shape = s, .weights = w, .count = I, .table = array(), .work = array()};
  p.gradients = (frnn_id_gradients_call){.table = p.table, .gradient = array(), .vocabulary = I, .dw_ih = array()};
  frnn_dense_shape head = {FRNN_F32, FRNN_SIGMOID, H, 2};
  p.dense = (frnn_dense_call){array(), B, array(), array()};
  frnn_pack_dense(&head, array(), array(), (void *)p.dense.packed);
  if (frnn_pack(&p.pack, 1, NULL) || frnn_forward(&p.forward, 1, NULL)) exit(1);
  return p;
}

static void expect(const char *what, int right) {
  if (!right) printf("not refused: %s\n", what);
  failed += !right;
}

/* The status of a call, FRNN_INVALID if the call wrote something too. */
#define REFUSED(name, call, ...)                                       \
  do {                                                                 \
    problem p = right();                                               \
    static char before[64][BYTES];                                     \
    memcpy(before, memory, sizeof before);                             \
    __VA_ARGS__;                                                       \
    int status = call;                                                 \
    expect(name ": " #__VA_ARGS__, status == FRNN_INVALID);            \
    expect(name " wrote", memcmp(before, memory, sizeof before) == 0); \
  } while (0)

#define PACK(...) REFUSED("pack", frnn_pack(&p.pack, 1, NULL), __VA_ARGS__)
#define FORWARD(...) REFUSED("forward", frnn_forward(&p.forward, 1, NULL), __VA_ARGS__)
#define BACKWARD(...) REFUSED("backward", frnn_backward(&p.backward, 1, NULL), __VA_ARGS__)
#define TABLE(...) REFUSED("table", frnn_make_id_table(&p.table, NULL), __VA_ARGS__)
#define GRADIENTS(...) REFUSED("gradients", frnn_id_gradients(&p.gradients, NULL), __VA_ARGS__)
#define DENSE(...) REFUSED("dense", frnn_dense(&p.dense, NULL), __VA_ARGS__)

#define MOVED(pointer) pointer = (char *)pointer + 1

/* What no call with a shape takes. */
#define SHAPES(CALL, s)                                \
  do {                                                 \
    CALL(s.cell = NULL);                               \
    CALL(s.dtype = -1);                                \
    CALL(s.dtype = FRNN_DTYPES);                       \
    CALL(s.precision = FRNN_PRECISIONS);               \
    CALL(s.dtype = FRNN_F64, s.precision = FRNN_INT8); \
    CALL(s.steps = -1);                                \
    CALL(s.batch = -1);                                \
    CALL(s.input = -1);                                \
    CALL(s.hidden = -1);                               \
    CALL(s.projected = -1);                            \
    CALL(s.checkpoint = -1);                           \
    CALL(s.hidden = INT64_MAX);                        \
    CALL(s.input = (int64_t)1 << 62);                  \
  } while (0)

static void packs(void) {
  SHAPES(PACK, p.pack.shape);
  PACK(p.pack.weights.w_ih = NULL);
  PACK(p.pack.weights.w_hh = NULL);
  PACK(p.pack.packed = NULL);
  PACK(MOVED(p.pack.packed));
  PACK(p.pack.forms = 8);
  PACK(p.pack.shape.projected = 3); /* without w_hr */
  PACK(p.pack.like = array());      /* zeros */
  PACK(p.pack.like = p.pack.packed, MOVED(p.pack.like));
  REFUSED("count", frnn_pack(&p.pack, -1, NULL), (void)p);
  REFUSED("count", frnn_pack(&p.pack, FRNN_TOGETHER + 1, NULL), (void)p);
}

static void passes(void) {
  SHAPES(FORWARD, p.forward.shape);
  SHAPES(BACKWARD, p.backward.shape);
  FORWARD(p.forward.shape.steps = INT64_MAX);
  FORWARD(p.forward.shape.batch = (int64_t)1 << 62);
  BACKWARD(p.backward.shape.steps = INT64_MAX);
  BACKWARD(p.backward.shape.batch = (int64_t)1 << 62);
  FORWARD(p.forward.shape.hidden = H - 1); /* the packed weights are others */
  FORWARD(p.forward.shape.input = I - 1);
  FORWARD(p.forward.shape.cell = frnn_cell_named("lstm_coupled"));
  FORWARD(p.forward.shape.precision = FRNN_BFLOAT16_WEIGHTS);
  FORWARD(p.forward.packed = NULL);
  FORWARD(MOVED(p.forward.packed));
  FORWARD(p.forward.packed = array());
  FORWARD(p.forward.work = NULL);
  FORWARD(MOVED(p.forward.work));
  FORWARD(MOVED(p.forward.tape));
  FORWARD(p.forward.x.data = NULL);
  FORWARD(MOVED(p.forward.x.data));
  FORWARD(p.forward.x.row = 3);
  FORWARD(p.forward.y.data = NULL);
  FORWARD(p.forward.y.step = 3);
  FORWARD(p.forward.first.of[1] = NULL);
  FORWARD(MOVED(p.forward.first.of[0]));
  FORWARD(p.forward.last.of[0] = NULL);
  FORWARD(p.forward.shape.has_ids = 1);
  FORWARD(p.forward.variant.number[FRNN_CLIP] = 1); /* "lstm_variant" takes it */
  FORWARD(p.forward.variant.zoneout[1] = 0.5);
  FORWARD(p.forward.variant.extra[FRNN_WEIGHT_PEEPHOLE] = array());
  FORWARD(p.forward.dropout.recurrent = array());
  BACKWARD(p.backward.shape.precision = FRNN_INT8);
  BACKWARD(p.backward.tape = NULL);
  BACKWARD(MOVED(p.backward.tape));
  BACKWARD(p.backward.work = NULL);
  BACKWARD(p.backward.weights.w_ih = NULL);
  BACKWARD(p.backward.weights.w_hh = NULL);
  BACKWARD(p.backward.x.data = NULL);
  BACKWARD(p.backward.y.data = NULL);
  BACKWARD(MOVED(p.backward.dx.data));
  BACKWARD(p.backward.dfirst.of[1] = NULL);
  BACKWARD(MOVED(p.backward.dfirst.of[0]));
  BACKWARD(p.backward.variant.number[FRNN_CELL_CLIP] = 1);
  REFUSED("count", frnn_forward(&p.forward, 3, NULL), (void)p);
  REFUSED("count", frnn_backward(&p.backward, 0, NULL), (void)p);
  REFUSED("plan", frnn_forward(&p.forward, 1, NULL), p.forward.shape.steps = INT64_MAX, p.forward.plan = array(),
          frnn_plan(&p.forward.shape, (void *)p.forward.plan), memcpy(before, memory, sizeof before));
}

static void others(void) {
  SHAPES(TABLE, p.table.shape);
  SHAPES(GRADIENTS, p.gradients.table.shape);
  TABLE(p.table.count = -1);
  TABLE(p.table.count = I + 1);
  TABLE(p.table.table = NULL);
  TABLE(p.table.work = NULL);
  TABLE(p.table.weights.w_ih = NULL);
  TABLE(p.table.packed = array());
  GRADIENTS(p.gradients.vocabulary = I - 1);
  GRADIENTS(p.gradients.gradient = NULL);
  GRADIENTS(p.gradients.dw_ih = NULL);
  GRADIENTS(p.gradients.dembedding = array()); /* without x */
  GRADIENTS(p.gradients.table.x = array());    /* without work */
  DENSE(p.dense.packed = NULL);
  DENSE(MOVED(p.dense.packed));
  DENSE(p.dense.rows = -1);
  DENSE(p.dense.x = NULL);
  DENSE(p.dense.y = NULL);
  frnn_matrices to = {0};
  REFUSED("unpack", frnn_unpack(NULL, p.pack.packed, &to, NULL), (void)p);
  REFUSED("unpack", frnn_unpack(&p.pack.shape, NULL, &to, NULL), (void)p);
  REFUSED("unpack", frnn_unpack(&p.pack.shape, p.pack.packed, NULL, NULL), (void)p);
  REFUSED("unpack", frnn_unpack(&p.pack.shape, p.pack.packed, &to, NULL), p.pack.shape.hidden++);
}

enum { PANELS = 400 }; /* a place behind the headers */

/* The status of reading packed weights, of which byte `at` has another value, or `less` of which are missing. */
static int read_packed(size_t at, size_t less) {
  problem p = right();
  frnn_packed_facts facts;
  size_t size = frnn_packed_size(&p.pack.shape, p.pack.forms) - 64;
  ((char *)p.pack.packed)[at] ^= less == 0;
  int status = frnn_read_packed(p.pack.packed, size - less, &facts);
  if (at == PANELS)
    expect("facts", facts.shape.cell == p.pack.shape.cell && facts.shape.hidden == H && facts.shape.input == I &&
                        facts.forms == p.pack.forms && !strcmp(facts.version, FRNN_VERSION) &&
                        (!strcmp(facts.isa, frnn_isa_available(0)) || !strcmp(facts.isa, frnn_isa_available(1))));
  return status;
}

/* The same for a dense layer. */
static int read_dense(size_t at, size_t less) {
  problem p = right();
  frnn_dense_shape head = {FRNN_F32, FRNN_SIGMOID, H, 2}, found;
  ((char *)(void *)p.dense.packed)[at] ^= less == 0;
  int status = frnn_read_dense(p.dense.packed, frnn_dense_size(&head) - 64 - less, &found);
  if (at == PANELS) expect("a head's shape", found.inputs == H && found.outputs == 2);
  return status;
}

static void reads(void) {
  problem p = right();
  frnn_packed_facts facts;
  expect("read: right ones", read_packed(PANELS, 0) == 0 && read_dense(PANELS, 0) == 0);
  expect("read: too few bytes", read_packed(0, 1) == FRNN_INVALID && read_dense(0, 1) == FRNN_INVALID);
  expect("read: no bytes", frnn_read_packed(p.pack.packed, 0, &facts) == FRNN_INVALID);
  expect("read: another version", read_packed(8, 0) == FRNN_INVALID && read_dense(8, 0) == FRNN_INVALID);
  expect("read: another set", read_packed(32, 0) == FRNN_MISSING && read_dense(32, 0) == FRNN_MISSING);
  expect("read: an extension that the set has not", read_packed(52, 0) == FRNN_MISSING);
  for (size_t i = 0; i < 128; i++) read_packed(i, 0), read_dense(i, 0); /* a sanitizer watches */
  expect("read: a null", frnn_read_packed(NULL, BYTES, &facts) == FRNN_INVALID &&
                             frnn_read_packed(p.pack.packed, BYTES, NULL) == FRNN_INVALID &&
                             frnn_read_dense(NULL, BYTES, NULL) == FRNN_INVALID);
  expect("read: an odd place", frnn_read_packed((char *)p.pack.packed + 1, BYTES, &facts) == FRNN_INVALID);
  memset(p.pack.packed, 0, BYTES);
  expect("read: zeros", frnn_read_packed(p.pack.packed, BYTES, &facts) == FRNN_INVALID && !facts.version);
}

static void nulls(void) {
  frnn_dense_shape head = {FRNN_F32, FRNN_SOFTMAX + 1, 3, 2};
  expect("calls", frnn_pack(NULL, 1, NULL) == FRNN_INVALID && frnn_forward(NULL, 1, NULL) == FRNN_INVALID &&
                      frnn_backward(NULL, 1, NULL) == FRNN_INVALID && frnn_make_id_table(NULL, NULL) == FRNN_INVALID &&
                      frnn_id_gradients(NULL, NULL) == FRNN_INVALID && frnn_dense(NULL, NULL) == FRNN_INVALID);
  expect("sizes", !frnn_packed_size(NULL, 1) && !frnn_forward_size(NULL) && !frnn_tape_size(NULL) &&
                      !frnn_backward_size(NULL) && !frnn_id_table_size(NULL, 1) && !frnn_id_table_work_size(NULL, 1) &&
                      !frnn_id_gradient_size(NULL, 1) && !frnn_id_gradients_size(NULL) && !frnn_dense_size(NULL));
  frnn_shape wide = {.cell = frnn_cell_named("lstm"), .steps = 1, .batch = 1, .hidden = 1, .precision = FRNN_INT8};
  wide.input = (int64_t)1 << 62; /* operands of so many numbers take 2^64 bytes */
  expect("a size that does not fit", !frnn_forward_size(&wide));
  expect("a head", !frnn_dense_size(&head));
  head.activation = FRNN_LINEAR, head.outputs = -3;
  expect("a head", !frnn_dense_size(&head));
  expect("forms", !frnn_form_of(NULL) && !frnn_tape_slots(NULL) && !frnn_tape_units(NULL));
  expect("cells", !frnn_cell_named(NULL) && !frnn_cell_named("lst") && !frnn_cell_at(-1) && !frnn_facts_of(NULL));
  expect("sets", frnn_select(NULL) == -1 && frnn_select("") == -1 && !frnn_isa_fused(NULL));
}

int main(void) {
  memory = aligned_alloc(64, (size_t)BYTES * 64);
  if (!memory) return 1;
  packs();
  passes();
  others();
  reads();
  nulls();
  printf("%d not refused\n", failed);
  return failed > 0;
}
