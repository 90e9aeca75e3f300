/* options.c - every cell with the options of its variants: bounds, hard sigmoids, peepholes, gains, dropout masks,
 * projections, rows that end, are held or are reset. The tests in Python check that results are right, on the sets of
 * the machine they run on. This program prints hashes of the bits, so that cross.sh can compare other sets, compilers
 * and machines.
 *
 *   options [threads] [fused]
 *
 * Prints PASS and FAIL lines, then lines "hash <bits> <dtype> <cell> <pass> <16 digits>" as check.c; exit status 1 on a
 * failure. */
#include <math.h>
#include <stdio.h>

#include "common.h"

enum { SETS = 4, ARRAYS = 60, CASES = 48 };
enum pass { FORWARD, INFERENCE, EXPECTED, BACKWARD, PASSES };
static const char *const pass_names[PASSES] = {"variant_forward", "variant_inference", "variant_expected",
                                               "variant_backward"};

/* ---- arrays: all of a case are given back together ----------------------------------------------------------------
 */

static void *arrays[ARRAYS];
static int held;

static void *keep(size_t bytes) {
  if (held == ARRAYS) abort();
  return arrays[held++] = work_memory(bytes + 1);
}

static void give_back(void) {
  while (held > 0) free(arrays[--held]);
}

static void set(void *p, int dtype, int64_t i, double value) {
  float narrow = (float)value;
  memcpy((char *)p + i * (int64_t)size_of(dtype), dtype == FRNN_F32 ? (void *)&narrow : (void *)&value, size_of(dtype));
}

static void *drawn(int dtype, int64_t n, double scale) {
  void *p = keep((size_t)n * size_of(dtype));
  for (int64_t i = 0; i < n; i++) set(p, dtype, i, number() * scale);
  return p;
}

/* Each element is `value` or 0, one as often as the other. */
static void *drawn_mask(int dtype, int64_t n, double value) {
  void *p = keep((size_t)n * size_of(dtype));
  for (int64_t i = 0; i < n; i++) set(p, dtype, i, number() < 0 ? value : 0);
  return p;
}

/* One flag in `one_in` is `exception`. */
static uint8_t *flags(int64_t n, int exception, int one_in) {
  uint8_t *p = keep((size_t)n);
  for (int64_t i = 0; i < n; i++) p[i] = (uint8_t)(number() < 2.0 / one_in - 1 ? exception : !exception);
  return p;
}

typedef struct {
  void *p;
  int64_t count;
} output;

/* ---- a case ---------------------------------------------------------------------------------------------------------
 */

typedef struct {
  uint64_t hash[PASSES];
  int not_finite;
} verdict;

static output outputs[ARRAYS];
static int outputs_held;

static void *blank(int dtype, int64_t n) {
  output o = {keep((size_t)n * size_of(dtype)), n};
  outputs[outputs_held++] = o;
  return o.p;
}

/* Hashes all outputs made since the last call, and counts their elements that are not finite. */
static void judge(verdict *v, int pass, int dtype) {
  for (int i = 0; i < outputs_held; i++) {
    output o = outputs[i];
    for (int64_t k = 0; k < o.count; k++)
      v->not_finite += !(dtype == FRNN_F32 ? isfinite(((float *)o.p)[k]) : isfinite(((double *)o.p)[k]));
    v->hash[pass] = hash_bytes(v->hash[pass], o.p, (size_t)o.count * size_of(dtype));
  }
  outputs_held = 0;
}

static frnn_sequence dense(void *p, int dtype, int64_t rows, int64_t features) {
  ptrdiff_t row = features * (ptrdiff_t)size_of(dtype);
  return (frnn_sequence){p, rows * row, row};
}

/* By the case's number: a full batch; masks and resets; or masks, and rows that end, which are sorted in another order
 * than the batch's. */
static frnn_rows rows_of(const frnn_shape *s, int n) {
  int64_t B = s->batch, T = s->steps;
  frnn_rows r = {.step = B, .reset_to_first = n / 2 % 2};
  if (n % 3 == 0) return r;
  r.mask = flags(T * B, 0, 4);
  if (n % 3 == 1) r.reset = flags(T * B, 1, 8);
  if (n % 3 == 1) return r;
  int64_t *lengths = keep((size_t)B * sizeof(int64_t)), *sort_order = keep((size_t)B * sizeof(int64_t));
  int64_t *inverse_order = keep((size_t)B * sizeof(int64_t));
  for (int64_t p = 0; p < B; p++) {
    lengths[p] = T - (T + 1) * p / B;
    sort_order[p] = (p + n) % B;
    inverse_order[sort_order[p]] = p;
  }
  r.lengths = lengths;
  r.sort_order = sort_order;
  r.inverse_order = inverse_order;
  return r;
}

static int takes(const frnn_cell_facts *facts, int option) { return facts->takes >> option & 1; }

/* Runs a case; its options follow from its number. */
static void run_case(verdict *v, int cell, int dtype, int n) {
  static const int sizes[][4] = {{5, 7, 3, 17},  {4, 13, 5, 33},  {3, 2, 19, 8}, {40, 3, 6, 65},
                                 {2, 17, 9, 16}, {3, 40, 4, 101}, {6, 1, 40, 5}, {130, 5, 1, 3}};
  const int *size = sizes[n % 8];
  const frnn_cell_facts *facts = frnn_facts_of(frnn_cell_at(cell));
  int gates = facts->gates, states = facts->states, is_variant = strcmp(facts->name, facts->plain) != 0;
  int64_t T = size[0], B = size[1], I = size[2], H = size[3],
          P = takes(facts, FRNN_PROJ_SIZE) && n % 4 == 3 ? H / 2 + 1 : 0;
  int64_t features = P ? P : H, recurrent = facts->recurrent * H;
  double scale = 2 / sqrt((double)H);
  seed = (uint64_t)n + 1;
  frnn_shape s = {.cell = frnn_cell_at(cell),
                  .dtype = dtype,
                  .reverse = n / 3 % 2,
                  .steps = T,
                  .batch = B,
                  .input = I,
                  .hidden = H};
  s.projected = P;
  s.ragged = n % 3 > 0;
  frnn_forward_call f = {.shape = s, .rows = rows_of(&s, n)};
  f.weights = (frnn_weights){.w_ih = drawn(dtype, gates * H * I, 1),
                             .w_hh = recurrent ? drawn(dtype, recurrent * features, scale) : NULL,
                             .b_ih = drawn(dtype, gates * H, 1),
                             .b_hh = recurrent && n % 5 ? drawn(dtype, recurrent, 1) : NULL,
                             .w_hr = P ? drawn(dtype, P * H, scale) : NULL};
  for (int e = 0; e < FRNN_EXTRAS; e++)
    if (facts->extra[e]) f.variant.extra[e] = drawn(dtype, facts->extra[e] * H, 1);
  if (is_variant) {
    if (n & 1) f.variant.number[FRNN_CLIP] = 0.75;
    if (n & 2 && takes(facts, FRNN_CELL_CLIP)) f.variant.number[FRNN_CELL_CLIP] = 0.5;
    if (n % 3 == 1 && takes(facts, FRNN_RECURRENT_ACTIVATION)) f.variant.number[FRNN_RECURRENT_ACTIVATION] = 0.2;
    if (n & 8) f.dropout.recurrent = drawn_mask(dtype, B * features, 2);
    for (int i = 0; n & 4 && !P && i < states; i++) { /* zoneout of a projected h is undefined */
      f.variant.zoneout[i] = 0.25;
      f.dropout.zoneout[i] = drawn_mask(dtype, T * B * H, 1);
    }
  }
  f.x = dense(drawn(dtype, T * B * I, 1), dtype, B, I);
  f.first = (frnn_state){{drawn(dtype, B * features, 1), states == 2 ? drawn(dtype, B * H, 1) : NULL}};
  unsigned form = frnn_form_of(&s);
  frnn_pack_call packing = {
      .shape = s, .weights = f.weights, .forms = form, .packed = keep(frnn_packed_size(&s, form))};
  frnn_pack(&packing, 1, NULL);
  f.packed = packing.packed;
  f.work = keep(frnn_forward_size(&s));
  void *tape = keep(frnn_tape_size(&s));
  for (int pass = EXPECTED; pass >= FORWARD; pass--) {
    frnn_forward_call call = f;
    if (pass == EXPECTED) call.dropout = (frnn_dropout_masks){0};
    call.y = f.y = dense(blank(dtype, T * B * features), dtype, B, features);
    call.last = (frnn_state){{blank(dtype, B * features), states == 2 ? blank(dtype, B * H) : NULL}};
    call.tape = pass == FORWARD ? tape : NULL;
    frnn_forward(&call, 1, NULL);
    judge(v, pass, dtype);
  }
  frnn_backward_call b = {.shape = s, .weights = f.weights, .variant = f.variant, .dropout = f.dropout, .rows = f.rows};
  b.x = f.x;
  b.y = f.y;
  b.first = f.first;
  b.tape = tape;
  b.dy = dense(drawn(dtype, T * B * features, 1), dtype, B, features);
  b.dlast = (frnn_state){{drawn(dtype, B * features, 1), states == 2 ? drawn(dtype, B * H, 1) : NULL}};
  b.dx = dense(blank(dtype, T * B * I), dtype, B, I);
  b.dfirst = (frnn_state){{blank(dtype, B * features), states == 2 ? blank(dtype, B * H) : NULL}};
  b.dw_ih = blank(dtype, gates * H * I);
  b.dw_hh = recurrent ? blank(dtype, recurrent * features) : NULL;
  b.db_ih = blank(dtype, gates * H);
  b.db_hh = f.weights.b_hh ? blank(dtype, recurrent) : NULL;
  if (P) b.dw_hr = blank(dtype, P * H);
  for (int e = 0; e < FRNN_EXTRAS; e++)
    if (facts->extra[e]) b.dextra[e] = blank(dtype, facts->extra[e] * H);
  b.work = keep(frnn_backward_size(&s));
  frnn_backward(&b, 1, NULL);
  judge(v, BACKWARD, dtype);
  give_back();
}

/* ---- the report -----------------------------------------------------------------------------------------------------
 */

static int report(int ok, const char *isa, int dtype, int cell, const char *what) {
  printf("%s %s %s %s: %s\n", ok ? "PASS" : "FAIL", isa, dtype_names[dtype], name_of(cell), what);
  return !ok;
}

int main(int argc, char **argv) {
  static verdict verdicts[SETS][FRNN_DTYPES][CELLS_MOST];
  int failed = 0;
  read_arguments(argc, argv);
  frnn_set_threads(argc > 1 ? atoi(argv[1]) : 1);
  for (int set = 0; set_at(set); set++) {
    const char *isa = set_at(set);
    frnn_select(isa);
    for (int dtype = 0; dtype < FRNN_DTYPES; dtype++)
      for (int cell = 0; frnn_cell_at(cell); cell++) {
        verdict *v = &verdicts[set][dtype][cell], *best = &verdicts[0][dtype][cell];
        for (int n = 0; n < CASES; n++) run_case(v, cell, dtype, n);
        failed += report(v->not_finite == 0, isa, dtype, cell, "all is finite, with options");
        failed +=
            report(v->hash[FORWARD] == v->hash[INFERENCE], isa, dtype, cell, "a tape changes no bit, with options");
        if (set > 0 && frnn_isa_fused(isa))
          failed += report(memcmp(v->hash, best->hash, sizeof v->hash) == 0, isa, dtype, cell,
                           "bits of the best set, with options");
        for (int pass = 0; pass < PASSES; pass++)
          printf("hash %s %s %s %s %016llx\n", bits_of(isa), dtype_names[dtype], name_of(cell), pass_names[pass],
                 (unsigned long long)v->hash[pass]);
      }
  }
  return failed > 0;
}
