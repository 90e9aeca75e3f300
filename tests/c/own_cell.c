/* own_cell.c - runs the cells of own_cells.h, which are a caller's own, and checks them against the same equations in
 * plain C (own_oracle.h): on every instruction set, in both dtypes, in passes and streams, ragged or not, from tapes of
 * every step and from checkpoints, on one thread and on several.
 *
 *   own_cell [threads] [fused]
 *
 * Gradients in float64 are compared with derivatives in random directions, those in float32 with those in float64.
 * Prints PASS and FAIL lines, then lines "hash <bits> <dtype> <cell> <pass> <16 digits>" as check.c; exit status 1 on a
 * failure. */
#include <stdio.h>

#include "common.h"
#include "arrays.h"
#include "own_cells.h"
#include "own_problem.h"
#include "own_oracle.h"
#include "own_runs.h"

enum { SETS = 4 };
enum pass { FORWARD, BACKWARD, PASSES };
static const char *const pass_names[PASSES] = {"forward", "backward"};
static const char *const output_names[OUTPUTS] = {
    "y",        "h",     "last 1", "last 2", "last 3", "dx", "daux",     "dh0",      "dfirst 1", "dfirst 2",
    "dfirst 3", "dw_ih", "dw_hh",  "db_ih",  "db_hh",  "dh", "dstate 1", "dstate 2", "dstate 3"};
static int threads;

/* ---- judging ---------------------------------------------------------------------------------------------------- */

typedef struct {
  uint64_t hash[PASSES];
  double worst; /* error, divided by the error that is allowed */
  int cases, failures;
} verdict;

static void fail(verdict *v, const problem *p, const char *what, const char *why) {
  if (v->failures++ < 8)
    printf("  %s %s: T %d B %d I %d H %d%s%s%s%s%s, %s: %s\n", frnn_isa(), facts_of(p)->name, p->T, p->B, p->I, p->H,
           p->reverse ? " reverse" : "", p->has_ids ? " ids" : "", p->mask ? " mask" : "", p->lengths ? " lengths" : "",
           p->sort_order ? " sorted" : "", what, why);
}

static void judge_error(verdict *v, const problem *p, int output, double got, double want, double scale, double eps) {
  double error = fabs(got - want) / (eps * scale * (16 + p->I + facts_of(p)->gates * p->H + p->T * p->B));
  char why[100];
  if (error > v->worst) v->worst = error;
  if (error <= 1) return;
  snprintf(why, sizeof why, "%.9g, not %.9g", got, want);
  fail(v, p, output_names[output], why);
}

/* 1 if element i of an output must be written: in dstate only steps that its row takes. */
static int counts(const problem *p, int output, int i) {
  return output < GRADIENT + STATE || i / p->H / p->B < length_of(p, i / p->H % p->B);
}

/* Compares an output element by element with `want`, or with `wide`, the same output in float64. */
static void judge_values(verdict *v, const problem *p, int output, const array *a, const array *wide,
                         const double *want) {
  double scale = 1, eps = a->dtype == FRNN_F32 ? 0x1p-23 : 0x1p-52;
  int failures = v->failures;
  for (int i = 0; i < elements_of(a); i++)
    if (counts(p, output, i)) scale = fmax(scale, fabs(want ? want[i] : value_of(wide, i)));
  for (int i = 0; i < elements_of(a) && v->failures == failures; i++)
    if (counts(p, output, i)) judge_error(v, p, output, value_of(a, i), want ? want[i] : value_of(wide, i), scale, eps);
}

/* Compares a gradient with the derivative in one direction. The gradient of an id table is transposed to that of
 * W_ih. */
static void judge_direction(verdict *v, const problem *p, int what, const array *a) {
  const tensor *g = &p->given[what];
  double sum = 0, scale = 1;
  for (int i = 0; i < elements_of(a); i++) {
    int k = p->has_ids && what == W_IH ? i % a->features * g->features + i / a->features : i;
    double part = counts(p, GRADIENT + what, i) ? value_of(a, i) * g->direction[k] : 0;
    sum += part;
    scale += fabs(part);
  }
  judge_error(v, p, GRADIENT + what, sum, p->derivative[what], scale, 0x1p-52);
}

/* Compares all outputs of a pass and hashes them; `wide`: the same in float64. */
static void judge(verdict *v, const problem *p, const results *out, const results *wide) {
  judge_values(v, p, Y, &out->of[Y], NULL, p->y);
  for (int i = 0; i < facts_of(p)->states; i++) judge_values(v, p, LAST + i, &out->of[LAST + i], NULL, p->last[i]);
  for (int i = 0; i < DIFFERENTIATED; i++) {
    if (!out->of[GRADIENT + i].memory) continue;
    if (wide)
      judge_values(v, p, GRADIENT + i, &out->of[GRADIENT + i], &wide->of[GRADIENT + i], NULL);
    else
      judge_direction(v, p, i, &out->of[GRADIENT + i]);
  }
  for (int k = 0; k < OUTPUTS; k++)
    for (int i = 0; out->of[k].memory && i < elements_of(&out->of[k]); i++) {
      uint64_t *hash = &v->hash[k < GRADIENT ? FORWARD : BACKWARD];
      if (counts(p, k, i)) *hash = hash_bytes(*hash, element(&out->of[k], i), size_of(out->of[k].dtype));
    }
  v->cases++;
}

/* Compares the first outputs of two runs bit for bit, with the memory around them: the second run's setting must make
 * no difference. */
static void compare(verdict *v, const problem *p, const results *a, const results *b, int outputs, const char *name) {
  char why[100];
  for (int k = 0; k < outputs; k++) {
    if (!b->of[k].memory || memcmp(a->of[k].memory, b->of[k].memory, a->of[k].bytes) == 0) continue;
    snprintf(why, sizeof why, "other bits than: %s", name);
    fail(v, p, output_names[k], why);
  }
}

/* Fails if anything was written beside the elements. */
static void look_beside(verdict *v, const problem *p, results *out) {
  for (int k = 0; k < OUTPUTS; k++) {
    array *a = &out->of[k];
    if (!a->memory) continue;
    for (int i = 0; i < elements_of(a); i++)
      if (counts(p, k, i)) clear_element(a, i);
    if (!is_clear(a)) fail(v, p, output_names[k], "something was written beside its elements");
  }
}

/* Compares the checkpoints of one tape with the states before every n-th step in the other. */
static void compare_tapes(verdict *v, const problem *p, int dtype, const char *all, const char *checkpoints, int n) {
  frnn_shape s = shape_of(p, dtype, &(setting){0});
  int states = facts_of(p)->states, slots = (int)frnn_tape_slots(&s);
  size_t units = (size_t)frnn_tape_units(&s) * size_of(dtype), bytes = (size_t)p->H * size_of(dtype);
  for (int k = 1; k * n < p->T; k++) {
    int t = p->reverse ? p->T - k * n : k * n - 1;
    for (int b = 0; b < p->B && (!p->lengths || p->lengths[b] > t); b++)
      for (int state = 1; state < states; state++) {
        const char *here = all + (size_t)((t * p->B + b) * slots + slots - states + state) * units;
        const char *there = checkpoints + (size_t)((k * p->B + b) * (states - 1) + state - 1) * units;
        if (memcmp(here, there, bytes) != 0) fail(v, p, "checkpoint", "other bits than the tape of every step");
      }
  }
}

/* ---- a case ----------------------------------------------------------------------------------------------------- */

/* Runs both directions in one call: each must have the bits that it has alone. */
static void run_directions(verdict *v, const problem *p, int dtype, enum layout layout, const inputs *in,
                           const results *alone) {
  setting one = {.threads = threads, .directions = 1}, two = {.threads = threads, .directions = 2};
  problem other = *p;
  results both[] = {outputs_of(p, dtype, layout, 0), outputs_of(p, dtype, layout, 0)},
          there = outputs_of(p, dtype, layout, 0);
  if (p->has_ids) return; /* both would add to one gradient of the table */
  other.reverse ^= 1;
  run_passes(p, dtype, &two, in, both);
  run_passes(&other, dtype, &one, in, &there);
  compare(v, p, alone, &both[0], OUTPUTS, "two directions");
  compare(v, &other, &there, &both[1], OUTPUTS, "two directions");
}

static void run_others(verdict *v, const problem *p, int dtype, enum layout layout, const inputs *in,
                       const results *out, const char *tape) {
  const setting settings[] = {
      {"inference in all forms", .threads = 1, .all_forms = 1, .no_tape = 1, .directions = 1},
      {"inference with a plan", .threads = threads, .planned = 1, .no_tape = 1, .directions = 1},
      {"one thread", .threads = 1, .directions = 1},
      {"some gradients", .threads = threads, .directions = 1, .unasked = 1},
      {"checkpoints", .threads = threads, .checkpoint = 2, .directions = 1},
      {"checkpoints, some gradients", .threads = 1, .checkpoint = 3, .all_forms = 1, .directions = 1, .unasked = 2},
      {"a stream", .threads = threads, .all_forms = 1, .planned = 1, .no_tape = 1, .directions = 1}};
  int count = sizeof settings / sizeof *settings, streams = !p->lengths && !(p->reset && p->reset_to_first);
  for (int i = 0; i < count; i++) {
    results other = outputs_of(p, dtype, layout, settings[i].unasked);
    if (i < count - 1) {
      const char *there = run_passes(p, dtype, &settings[i], in, &other);
      if (settings[i].checkpoint) compare_tapes(v, p, dtype, tape, there, settings[i].checkpoint);
    } else if (streams) {
      run_stream(p, dtype, &settings[i], in, &other);
    } else {
      continue;
    }
    compare(v, p, out, &other, settings[i].no_tape ? GRADIENT : OUTPUTS, settings[i].name);
  }
}

static verdict verdicts[SETS][FRNN_DTYPES][OWN_CELLS];

static void run_sizes(int cell, int n, int T, int B, int I, int H) {
  enum layout layout = (enum layout)(n % LAYOUTS);
  problem p = draw(cell, n, T, B, I, H);
  const setting usual = {.threads = threads, .directions = 1};
  solve(&p);
  for (int set = 0; set_at(set); set++) {
    results out[FRNN_DTYPES];
    frnn_select(set_at(set));
    for (int dtype = FRNN_F64; dtype >= FRNN_F32; dtype--) {
      verdict *v = &verdicts[set][dtype][cell];
      inputs in = inputs_of(&p, dtype, layout);
      out[dtype] = outputs_of(&p, dtype, layout, 0);
      const char *tape = run_passes(&p, dtype, &usual, &in, &out[dtype]);
      judge(v, &p, &out[dtype], dtype == FRNN_F32 ? &out[FRNN_F64] : NULL);
      run_others(v, &p, dtype, layout, &in, &out[dtype], tape);
      if (n % 3 == 0) run_directions(v, &p, dtype, layout, &in, &out[dtype]);
    }
    for (int dtype = 0; dtype < FRNN_DTYPES; dtype++) look_beside(&verdicts[set][dtype][cell], &p, &out[dtype]);
  }
  if (give_back() > 0) fail(&verdicts[0][0][cell], &p, "work memory", "something was written beyond its end");
}

/* Numbers of rows and units at the edges of tiles, each size with every kind of rows; then products over chunks of
 * time, sums by blocks, slices of units, and empty cases. */
static void run_cell(int cell) {
  static const int rows[] = {1, 5, 70}, units[] = {1, 7, 17, 33};
  static const int others[][4] = {{4, 5, 45, 7},   {40, 5, 45, 9}, {4, 5, 45, 8},   {5, 4, 40, 6},
                                  {120, 70, 2, 3}, {14, 1, 4, 90}, {14, 5, 45, 81}, {20, 7, 45, 81},
                                  {0, 5, 2, 4},    {3, 0, 2, 5},   {3, 2, 0, 5}};
  int n = 0;
  seed = 1;
  for (int r = 0; r < 3; r++)
    for (int u = 0; u < 4; u++)
      for (int kind = 0; kind < 4; kind++, n++) run_sizes(cell, n, 3 + n % 3, rows[r], 1 + (5 * n) % 19, units[u]);
  for (size_t i = 0; i < sizeof others / sizeof *others; i++, n++)
    run_sizes(cell, n, others[i][0], others[i][1], others[i][2], others[i][3]);
}

/* ---- the report ------------------------------------------------------------------------------------------------- */

static int report(int ok, int set, int dtype, int cell, const char *what) {
  printf("%s %s %s %s: %s\n", ok ? "PASS" : "FAIL", set_at(set), dtype_names[dtype], own_cells[cell].facts.name, what);
  return !ok;
}

static int report_cell(int set, int dtype, int cell) {
  const verdict *v = &verdicts[set][dtype][cell], *best = &verdicts[0][dtype][cell];
  const char *isa = set_at(set);
  char text[100];
  snprintf(text, sizeof text, "%d cases, %d failures, worst error %.2f of the bound", v->cases, v->failures, v->worst);
  int failed = report(v->failures == 0, set, dtype, cell, text);
  if (set > 0 && frnn_isa_fused(isa))
    failed += report(memcmp(v->hash, best->hash, sizeof v->hash) == 0, set, dtype, cell, "bits of the best set");
  for (int pass = 0; pass < PASSES; pass++)
    printf("hash %s %s %s %s %016llx\n", bits_of(isa), dtype_names[dtype], own_cells[cell].facts.name, pass_names[pass],
           (unsigned long long)v->hash[pass]);
  return failed;
}

int main(int argc, char **argv) {
  int failed = 0;
  read_arguments(argc, argv);
  threads = argc > 1 ? atoi(argv[1]) : 3;
  for (int cell = 0; cell < OWN_CELLS; cell++) run_cell(cell);
  for (int set = 0; set_at(set); set++)
    for (int dtype = 0; dtype < FRNN_DTYPES; dtype++)
      for (int cell = 0; cell < OWN_CELLS; cell++) failed += report_cell(set, dtype, cell);
  return failed > 0;
}
