/* check.c - the kernels without Python: every cell, dtype and instruction set of this machine against oracle.h, and a
 * hash of every result, so that sets, compilers and machines can be compared bit for bit (cross.sh does).
 *
 *   check [threads] [fused]
 *
 * Prints PASS and FAIL lines, then lines "hash <bits> <dtype> <cell or function> <pass> <16 digits>", <bits> being
 * "fused" or a set without fused multiply-add, then which sets have run; exit status 1 on a failure. Data come from an
 * integer recurrence and have 24 bits, so they are the same numbers everywhere and in both dtypes. Work memory, tapes
 * and outputs begin as NaN; the memory around and between the elements of an output must stay so. */
#include <stdio.h>

#include "common.h"
#include "arrays.h"
#include "oracle.h"

enum { SETS = 4 };
/* INT8, BFLOAT16: inference at these precisions, float32 alone */
enum pass { FORWARD, INFERENCE, BACKWARD, INT8, BFLOAT16, PASSES };

/* The number of the plain cell whose results a cell has if no option is set; -1 if there is none. */
static int plain_of(int cell) {
  const frnn_cell_facts *facts = frnn_facts_of(frnn_cell_at(cell));
  for (int i = 0; !facts->has && frnn_cell_at(i); i++)
    if (strcmp(name_of(i), facts->plain) == 0) return i;
  return -1;
}

static enum equations equations_for(int cell) { return equations_of(name_of(plain_of(cell))); }

static const char *const pass_names[PASSES] = {"forward", "inference", "backward", "int8", "bfloat16"};

/* ---- data ----------------------------------------------------------------------------------------------------- */

/* n numbers in [-scale, scale); scale is a power of two. */
static double *numbers(int n, double scale) {
  double *p = zeros(n);
  for (int i = 0; i < n; i++) p[i] = number() * scale;
  return p;
}

/* ---- judging -------------------------------------------------------------------------------------------------- */

typedef struct {
  uint64_t hash[PASSES];
  double worst; /* error, divided by the error that is allowed */
  int cases, failures;
} verdict;

static void fail(verdict *v, const problem *p, const char *array_name, const char *why) {
  if (v->failures++ < 5)
    printf("  %s %s: T %d B %d I %d H %d%s, %s: %s\n", frnn_isa(), equation_names[p->cell], p->T, p->B, p->I, p->H,
           p->reverse ? " reverse" : "", array_name, why);
}

/* Compares an output with the oracle's, hashes it, checks the memory around it and frees it. */
static void judge(verdict *v, int pass, const problem *p, const char *name, array *a, const double *want) {
  size_t size = size_of(a->dtype);
  double eps = a->dtype == FRNN_F32 ? 0x1p-23 : 0x1p-52, scale = 1, worst = 0;
  char why[100];
  int n = elements_of(a), wrong = 0;
  for (int i = 0; i < n; i++) scale = fabs(want[i]) > scale ? fabs(want[i]) : scale;
  double bound = eps * scale * (16 + p->I + gates_of(p->cell) * p->H + p->T * p->B);
  for (int i = 0; i < n && !wrong; i += a->features) {
    unsigned char *row = element(a, i);
    for (int f = 0; f < a->features && !wrong; f++, row += size) {
      double got = value_at(row, a->dtype), error = fabs(got - want[i + f]);
      if (!(error <= bound)) {
        snprintf(why, sizeof why, "element %d is %.9g, not %.9g", i + f, got, want[i + f]);
        fail(v, p, name, why);
        wrong = 1;
      }
      worst = error > worst ? error : worst;
      v->hash[pass] = hash_bytes(v->hash[pass], row, size);
      memset(row, 0xFF, size);
    }
  }
  v->worst = fmax(v->worst, worst / bound);
  if (!wrong && !is_clear(a)) fail(v, p, name, "something was written beside its elements");
  free(a->memory);
}

/* ---- one case on one set -------------------------------------------------------------------------------------- */

/* The same packed weights in other memory; where they were, nothing is left of them. */
static void *moved(void *packed, size_t size) {
  void *to = work_memory(size);
  memcpy(to, packed, size - 64);
  memset(packed, 0xff, size - 64);
  free(packed);
  return to;
}

/* Packs in all forms, for a shape with other sizes of the batch, which must not matter; or in the form of the shape
 * alone. */
static void *pack(const frnn_shape *shape, const frnn_weights *weights, int all_forms) {
  frnn_pack_call call = {.shape = *shape, .weights = *weights, .forms = frnn_form_of(shape)};
  if (all_forms) {
    call.shape.steps = 1 + shape->batch, call.shape.batch = 3 * shape->steps, call.shape.reverse ^= 1;
    call.forms = FRNN_FOR_STEPS | FRNN_FOR_PRODUCTS;
  }
  call.packed = work_memory(frnn_packed_size(&call.shape, call.forms));
  frnn_pack(&call, 1, NULL);
  return all_forms ? moved(call.packed, frnn_packed_size(&call.shape, call.forms)) : call.packed;
}

static void run_case(verdict *v, int cell, int dtype, enum layout layout, const problem *p) {
  int T = p->T, B = p->B, I = p->I, H = p->H, rows = gates_of(p->cell) * H, lstm = p->cell == LSTM;
  int recurrent = frnn_facts_of(frnn_cell_at(cell))->recurrent * H;
  frnn_shape shape = {.cell = frnn_cell_at(cell),
                      .dtype = dtype,
                      .reverse = p->reverse,
                      .steps = T,
                      .batch = B,
                      .input = I,
                      .hidden = H};
  array x = make(dtype, layout, T, B, I, p->x), h0 = make(dtype, DENSE, 1, B, H, p->h0);
  array c0 = make(dtype, DENSE, 1, B, H, p->c0), w_ih = make(dtype, DENSE, 1, rows, I, p->w_ih);
  array w_hh = make(dtype, DENSE, 1, recurrent, H, p->w_hh), b_ih = make(dtype, DENSE, 1, 1, rows, p->b_ih);
  array b_hh = make(dtype, DENSE, 1, 1, recurrent, p->b_hh), dy = make(dtype, layout, T, B, H, p->dy);
  array dh = make(dtype, DENSE, 1, B, H, p->dh), dc = make(dtype, DENSE, 1, B, H, p->dc);
  frnn_weights weights = {.w_ih = w_ih.q.data,
                          .w_hh = recurrent ? w_hh.q.data : NULL,
                          .b_ih = p->b_ih ? b_ih.q.data : NULL,
                          .b_hh = recurrent && p->b_hh ? b_hh.q.data : NULL};
  void *tape = work_memory(frnn_tape_size(&shape));
  array y, h, c;
  for (int pass = INFERENCE; pass >= FORWARD; pass--) {
    void *packed = pack(&shape, &weights, pass == INFERENCE);
    void *work = work_memory(frnn_forward_size(&shape));
    y = make(dtype, layout, T, B, H, NULL), h = make(dtype, DENSE, 1, B, H, NULL),
    c = make(dtype, DENSE, 1, B, H, NULL);
    frnn_forward_call call = {.shape = shape, .weights = weights, .packed = packed, .x = x.q, .y = y.q, .work = work};
    call.first = (frnn_state){{h0.q.data, lstm ? c0.q.data : NULL}};
    call.last = (frnn_state){{h.q.data, lstm ? c.q.data : NULL}};
    call.tape = pass == FORWARD ? tape : NULL;
    frnn_forward(&call, 1, NULL);
    judge(v, pass, p, "h", &h, p->h_last);
    if (lstm) judge(v, pass, p, "c", &c, p->c_last);
    if (!lstm) free(c.memory);
    if (pass == INFERENCE) judge(v, pass, p, "y", &y, p->y);
    free(packed), free(work);
  }
  void *work = work_memory(frnn_backward_size(&shape));
  array dx = make(dtype, layout, T, B, I, NULL), dh0 = make(dtype, DENSE, 1, B, H, NULL);
  array dc0 = make(dtype, DENSE, 1, B, H, NULL), dw_ih = make(dtype, DENSE, 1, rows, I, NULL);
  array dw_hh = make(dtype, DENSE, 1, recurrent, H, NULL), db_ih = make(dtype, DENSE, 1, 1, rows, NULL);
  array db_hh = make(dtype, DENSE, 1, 1, recurrent, NULL);
  frnn_backward_call call = {.shape = shape, .weights = weights, .x = x.q, .y = y.q, .tape = tape, .dx = dx.q};
  call.first = (frnn_state){{h0.q.data, lstm ? c0.q.data : NULL}};
  if (p->dy) call.dy = dy.q;
  call.dlast = (frnn_state){{p->dh ? dh.q.data : NULL, lstm && p->dc ? dc.q.data : NULL}};
  call.dfirst = (frnn_state){{dh0.q.data, lstm ? dc0.q.data : NULL}};
  call.dw_ih = dw_ih.q.data, call.db_ih = db_ih.q.data;
  if (recurrent) call.dw_hh = dw_hh.q.data, call.db_hh = db_hh.q.data;
  call.work = work;
  frnn_backward(&call, 1, NULL);
  judge(v, FORWARD, p, "y", &y, p->y);
  judge(v, BACKWARD, p, "dx", &dx, p->dx);
  judge(v, BACKWARD, p, "dh0", &dh0, p->dh0);
  if (lstm) judge(v, BACKWARD, p, "dc0", &dc0, p->dc0);
  if (!lstm) free(dc0.memory);
  judge(v, BACKWARD, p, "dw_ih", &dw_ih, p->dw_ih);
  judge(v, BACKWARD, p, "dw_hh", &dw_hh, p->dw_hh);
  judge(v, BACKWARD, p, "db_ih", &db_ih, p->db_ih);
  judge(v, BACKWARD, p, "db_hh", &db_hh, p->db_hh);
  v->cases++;
  array *inputs[] = {&x, &h0, &c0, &w_ih, &w_hh, &b_ih, &b_hh, &dy, &dh, &dc};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) free(inputs[i]->memory);
  free(tape), free(work);
}

/* ---- narrow weights ------------------------------------------------------------------------------------------- */

/* Rounds floats to bfloat16, to nearest even. */
static void round_to_bfloat16(array *a) {
  for (int i = 0; i < elements_of(a); i++) {
    uint32_t bits;
    memcpy(&bits, element(a, i), 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(element(a, i), &bits, 4);
  }
}

/* y, computed with weights that are packed in a precision. */
static array forward_in(int precision, frnn_shape shape, const frnn_weights *weights, const problem *p, const array *x,
                        const frnn_state *first) {
  shape.precision = precision;
  array y = make(shape.dtype, DENSE, p->T, p->B, p->H, NULL), h = make(shape.dtype, DENSE, 1, p->B, p->H, NULL);
  array c = make(shape.dtype, DENSE, 1, p->B, p->H, NULL);
  frnn_pack_call packing = {.shape = shape, .weights = *weights, .forms = FRNN_FOR_STEPS | FRNN_FOR_PRODUCTS};
  packing.packed = work_memory(frnn_packed_size(&shape, packing.forms));
  frnn_pack(&packing, 1, NULL);
  frnn_forward_call call = {.shape = shape, .weights = *weights, .packed = packing.packed, .x = x->q, .y = y.q};
  call.first = *first;
  call.last = (frnn_state){{h.q.data, p->cell == LSTM ? c.q.data : NULL}};
  call.work = work_memory(frnn_forward_size(&shape));
  frnn_forward(&call, 1, NULL);
  free(packing.packed), free(call.work), free(h.memory), free(c.memory);
  return y;
}

/* Weights packed as bfloat16 have the bits of rounded weights. The other precisions have those of all sets, with and
 * without instructions that the set need not have. */
static void run_narrow(verdict *v, int cell, const problem *p) {
  int rows = gates_of(p->cell) * p->H, recurrent = frnn_facts_of(frnn_cell_at(cell))->recurrent * p->H;
  frnn_shape shape = {.cell = frnn_cell_at(cell),
                      .dtype = FRNN_F32,
                      .reverse = p->reverse,
                      .steps = p->T,
                      .batch = p->B,
                      .input = p->I,
                      .hidden = p->H};
  array x = make(FRNN_F32, DENSE, p->T, p->B, p->I, p->x), h0 = make(FRNN_F32, DENSE, 1, p->B, p->H, p->h0);
  array c0 = make(FRNN_F32, DENSE, 1, p->B, p->H, p->c0), w_ih = make(FRNN_F32, DENSE, 1, rows, p->I, p->w_ih);
  array w_hh = make(FRNN_F32, DENSE, 1, recurrent, p->H, p->w_hh);
  frnn_weights weights = {.w_ih = w_ih.q.data, .w_hh = recurrent ? w_hh.q.data : NULL};
  frnn_state first = {{h0.q.data, p->cell == LSTM ? c0.q.data : NULL}};
  static const int precisions[] = {FRNN_INT8, FRNN_BFLOAT16};
  for (int i = 0; i < 2; i++) {
    frnn_use_extensions(FRNN_ALL_EXTENSIONS);
    int extended = frnn_extension(0) != NULL;
    array with = forward_in(precisions[i], shape, &weights, p, &x, &first);
    frnn_use_extensions(FRNN_NO_EXTENSIONS);
    if (extended) {
      array without = forward_in(precisions[i], shape, &weights, p, &x, &first);
      if (memcmp(with.memory, without.memory, with.bytes) != 0)
        fail(v, p, "y", "other bits by instructions that the set need not have");
      free(without.memory);
    }
    frnn_use_extensions(FRNN_FAST_EXTENSIONS);
    v->hash[INT8 + i] = hash_bytes(v->hash[INT8 + i], with.memory, with.bytes);
    free(with.memory);
  }
  array narrow = forward_in(FRNN_BFLOAT16_WEIGHTS, shape, &weights, p, &x, &first);
  round_to_bfloat16(&w_ih), round_to_bfloat16(&w_hh);
  array wide = forward_in(FRNN_FULL, shape, &weights, p, &x, &first);
  if (memcmp(narrow.memory, wide.memory, narrow.bytes) != 0)
    fail(v, p, "y", "bfloat16 weights have other bits than rounded weights");
  array *all[] = {&x, &h0, &c0, &w_ih, &w_hh, &narrow, &wide};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->memory);
}

/* ---- all cases ------------------------------------------------------------------------------------------------ */

static verdict verdicts[SETS][FRNN_DTYPES][CELLS_MOST];

/* Case number n of a cell: options follow from the number. */
static void run_sizes(int cell, int n, int T, int B, int I, int H) {
  enum equations equations = equations_for(cell);
  int rows = gates_of(equations) * H;
  double scale = 1;
  while (scale * scale * H > 2) scale /= 2;
  problem p = {.cell = equations, .reverse = n & 1, .T = T, .B = B, .I = I, .H = H};
  p.x = numbers(T * B * I, 1);
  p.h0 = numbers(B * H, 1);
  p.c0 = numbers(B * H, 1);
  p.w_ih = numbers(rows * I, scale);
  p.w_hh = numbers(rows * H, scale);
  p.b_ih = n % 4 == 1 ? NULL : numbers(rows, scale);
  p.b_hh = n % 4 == 2 ? NULL : numbers(rows, scale);
  p.dy = n % 5 == 3 ? NULL : numbers(T * B * H, 1);
  p.dh = n % 7 == 4 ? NULL : numbers(B * H, 1);
  p.dc = n % 3 == 2 ? NULL : numbers(B * H, 1);
  p.y = zeros(T * B * H);
  p.h_last = zeros(B * H);
  p.c_last = zeros(B * H);
  p.dx = zeros(T * B * I);
  p.dh0 = zeros(B * H);
  p.dc0 = zeros(B * H);
  p.dw_ih = zeros(rows * I);
  p.dw_hh = zeros(rows * H);
  p.db_ih = zeros(rows);
  p.db_hh = zeros(rows);
  oracle(&p);
  for (int set = 0; set_at(set); set++) {
    frnn_select(set_at(set));
    for (int dtype = 0; dtype < FRNN_DTYPES; dtype++)
      run_case(&verdicts[set][dtype][cell], cell, dtype, (enum layout)(n % LAYOUTS), &p);
    run_narrow(&verdicts[set][FRNN_F32][cell], cell, &p);
  }
  double *all[] = {p.x, p.h0,     p.c0,     p.w_ih, p.w_hh, p.b_ih, p.b_hh,  p.dy,    p.dh,    p.dc,
                   p.y, p.h_last, p.c_last, p.dx,   p.dh0,  p.dc0,  p.dw_ih, p.dw_hh, p.db_ih, p.db_hh};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Numbers of rows and units at the edges of the tiles of every set; then cases that are long, or wide, or divided among
 * threads, or empty. */
static void run_cell(int cell) {
  static const int rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 17};
  static const int units[] = {1, 3, 4, 7, 8, 9, 15, 16, 17, 32, 33, 65};
  static const int others[][4] = {
      {300, 1, 3, 5},  {1100, 1, 3, 5}, {4, 101, 3, 66},  {150, 2, 40, 19}, {40, 7, 60, 9},
      {5, 70, 2, 4},   {2, 140, 5, 6},  {3, 3, 300, 11},  {2, 5, 3, 290},   {2, 1, 40, 129},
      {3, 25, 65, 40}, {26, 10, 3, 99}, {66, 4, 20, 101}, {0, 3, 2, 5},     {3, 0, 2, 5},
      {3, 2, 0, 5},    {1, 1, 1, 1},    {2800, 3, 3, 5},  {118, 70, 2, 17}}; /* the last two with sums by blocks */
  int n = 0;
  seed = 1; /* a variant gets the same data as its plain cell */
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
    for (size_t u = 0; u < sizeof units / sizeof *units; u++, n++)
      run_sizes(cell, n, 2 + n % 3, rows[r], 1 + (5 * n) % 19, units[u]);
  for (size_t i = 0; i < sizeof others / sizeof *others; i++, n++)
    run_sizes(cell, n, others[i][0], others[i][1], others[i][2], others[i][3]);
}

/* ---- exp, sigmoid, tanh: accuracy is exhaustive.c's, here only the bits --------------------------------------- */

static void hash_functions(const char *isa) {
  enum { N = 1 << 18 };
  static void (*const functions[])(int, const void *, void *, int64_t) = {frnn_exp, frnn_sigmoid, frnn_tanh};
  static const char *const names[] = {"exp", "sigmoid", "tanh"};
  static double x64[N], y64[N];
  static float x32[N], y32[N];
  for (int i = 0; i < N; i++) {
    uint32_t bits = (uint32_t)i * 16381u;
    memcpy(&x32[i], &bits, sizeof bits);
    if (isnan(x32[i])) x32[i] = 0;
    x64[i] = x32[i] * 1.000000001;
  }
  for (int f = 0; f < 3; f++) {
    uint64_t hash[FRNN_DTYPES];
    functions[f](FRNN_F32, x32, y32, N);
    functions[f](FRNN_F64, x64, y64, N);
    hash[0] = hash_bytes(0, y32, sizeof y32);
    hash[1] = hash_bytes(0, y64, sizeof y64);
    for (int d = 0; d < FRNN_DTYPES; d++)
      printf("hash %s %s %s values %016llx\n", bits_of(isa), dtype_names[d], names[f], (unsigned long long)hash[d]);
  }
}

/* ---- the report ----------------------------------------------------------------------------------------------- */

static int report(int ok, const char *isa, int dtype, int cell, const char *what) {
  printf("%s %s %s %s: %s\n", ok ? "PASS" : "FAIL", isa, dtype_names[dtype], name_of(cell), what);
  return !ok;
}

/* Reports four checks: results against the oracle; bits with a tape and without; forward bits of the plain cell; bits
 * of the best set, if both fuse multiply and add. */
static int report_cell(int set, int dtype, int cell) {
  const verdict *v = &verdicts[set][dtype][cell], *best = &verdicts[0][dtype][cell];
  const char *isa = set_at(set);
  char text[100];
  snprintf(text, sizeof text, "%d cases, %d failures, worst error %.2f of the bound", v->cases, v->failures, v->worst);
  int failed = report(v->failures == 0, isa, dtype, cell, text);
  failed += report(v->hash[FORWARD] == v->hash[INFERENCE], isa, dtype, cell, "a tape changes no bit");
  uint64_t plain = verdicts[set][dtype][plain_of(cell)].hash[FORWARD];
  if (plain_of(cell) != cell)
    failed += report(v->hash[FORWARD] == plain, isa, dtype, cell, "bits of the plain cell, forward");
  if (set > 0 && frnn_isa_fused(isa))
    failed += report(memcmp(v->hash, best->hash, sizeof v->hash) == 0, isa, dtype, cell, "bits of the best set");
  for (int pass = 0; pass < (dtype == FRNN_F64 ? INT8 : PASSES); pass++)
    printf("hash %s %s %s %s %016llx\n", bits_of(isa), dtype_names[dtype], name_of(cell), pass_names[pass],
           (unsigned long long)v->hash[pass]);
  return failed;
}

static int has(const char *(*list)(int), const char *name) {
  for (int i = 0; list(i); i++)
    if (strcmp(list(i), name) == 0) return 1;
  return 0;
}

/* Says which sets have run, each with the extensions that this CPU has for it, and which ones have not. */
static void say_what_ran(void) {
  const char *ran[16];
  int count = 0;
  frnn_use_extensions(FRNN_ALL_EXTENSIONS);
  for (int set = 0; set_at(set); set++) {
    frnn_select(set_at(set));
    printf("ran %s", frnn_isa());
    for (int i = 0; frnn_extension(i); i++) printf(" %s", ran[count++] = frnn_extension(i));
    printf("\n");
  }
  frnn_use_extensions(FRNN_FAST_EXTENSIONS);
  for (int i = 0; frnn_isa_compiled(i); i++)
    if (!has(frnn_isa_available, frnn_isa_compiled(i))) printf("skipped %s: not on this CPU\n", frnn_isa_compiled(i));
  for (int i = 0, k; frnn_extension_compiled(i); i++) {
    for (k = 0; k < count && strcmp(ran[k], frnn_extension_compiled(i)) != 0;) k++;
    if (k == count) printf("skipped %s: not on this CPU\n", frnn_extension_compiled(i));
  }
}

int main(int argc, char **argv) {
  int failed = 0;
  read_arguments(argc, argv);
  frnn_set_threads(argc > 1 ? atoi(argv[1]) : 1);
  for (int cell = 0; frnn_cell_at(cell); cell++) {
    if (plain_of(cell) < 0) continue;
    if (equations_for(cell) == NONE)
      failed += report(0, "any", 0, cell, "oracle.h has no equations for it");
    else
      run_cell(cell);
  }
  for (int set = 0; set_at(set); set++) {
    for (int dtype = 0; dtype < FRNN_DTYPES; dtype++)
      for (int cell = 0; frnn_cell_at(cell); cell++)
        if (plain_of(cell) >= 0) failed += report_cell(set, dtype, cell);
    frnn_select(set_at(set));
    hash_functions(set_at(set));
  }
  say_what_ran();
  return failed > 0;
}
