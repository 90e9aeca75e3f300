/* own_cells.h - cells of a caller's own: specs and plain functions, as csrc/README.md describes. They have features
 * that no cell of the library has, such as four states, aux, or gates on x alone beside others.
 *
 * In place of tanh and the sigmoid they have functions of IEEE operations alone, so that all machines give the same
 * bits. They compute in double and round the values that they store.
 *
 * It must not know: calls, expected results. */
#include <math.h>

#include "own_rows.h"

enum own_cell { FOUR, ATTENTION, ALONE, HELD, OWN_CELLS };
static const frnn_cell own_cells[OWN_CELLS];

static double squash(double p) { return p / sqrt(1 + p * p); }
static double gate(double p) { return 0.5 + 0.5 * squash(p); }

/* Slopes of squash and gate, as functions of their values. */
static double squash_slope(double q) { return (1 - q * q) * sqrt(1 - q * q); }
static double gate_slope(double g) { return squash_slope(2 * g - 1) / 2; }

/* ---- four: four states, a gate on x alone, two numbers of aux --------------------------------------------------- */

/* Gates i f z o over x and h, k over x alone; o is first in W_hh. States h c n m. With a and b of aux:
 *   m' = f m + k a    n' = f n + i    c' = f c + i z + b m    h' = o squash(c' + n' m')
 * With recurrent dropout; with zoneout of n alone, where n' = n if the mask is 1. */
enum { C = 1, N, M };
enum { FOUR_I, FOUR_F, FOUR_Z, FOUR_O, FOUR_K, FOUR_A, FOUR_B };

static void four_unit(const step_row *r, int64_t j) {
  double i = gate(get(r->z[FOUR_I], j)), f = gate(get(r->z[FOUR_F], j)), z = squash(get(r->z[FOUR_Z], j));
  double o = gate(get(r->z[FOUR_O], j)), k = gate(get(r->z[FOUR_K], j)), before = get(r->before[M], j);
  double m = f * before + k * get(r->aux, 0), n_before = get(r->before[N], j);
  double n = stays(r->zoneout[N], j) ? n_before : f * n_before + i;
  double c = f * get(r->before[C], j) + i * z + get(r->aux, 1) * before;
  put(r->z[FOUR_I], j, i);
  put(r->z[FOUR_F], j, f);
  put(r->z[FOUR_Z], j, z);
  put(r->z[FOUR_O], j, o);
  put(r->z[FOUR_K], j, k);
  put(r->after[C], j, c);
  put(r->after[N], j, n);
  put(r->after[M], j, m);
  put(r->after[FRNN_STATE_H], j, o * squash(c + n * m));
}

static void four_back_unit(const back_row *r, int64_t j) {
  double i = get(r->z[FOUR_I], j), f = get(r->z[FOUR_F], j), z = get(r->z[FOUR_Z], j), o = get(r->z[FOUR_O], j);
  double k = get(r->z[FOUR_K], j), m = get(r->after[M], j), n = get(r->after[N], j), dh = gradient_of_h(r, j);
  double q = squash(get(r->after[C], j) + n * m), d = dh * o * squash_slope(q), before = get(r->before[M], j);
  double dc = get(r->d[C], j) + d, dn = get(r->d[N], j) + d * m, dm = get(r->d[M], j) + d * n;
  double dn_made = stays(r->zoneout[N], j) ? 0 : dn;
  double df = dm * before + dn_made * get(r->before[N], j) + dc * get(r->before[C], j);
  show(r, C, j, dc);
  show(r, N, j, dn);
  show(r, M, j, dm);
  put(r->dg[FOUR_I], j, (dc * z + dn_made) * gate_slope(i));
  put(r->dg[FOUR_F], j, df * gate_slope(f));
  put(r->dg[FOUR_Z], j, dc * i * squash_slope(z));
  put(r->dg[FOUR_O], j, dh * q * gate_slope(o));
  put(r->dg[FOUR_K], j, dm * get(r->aux, 0) * gate_slope(k));
  put(r->dg[FOUR_A], j, dm * k);
  put(r->dg[FOUR_B], j, dc * before);
  keep_dropped(r, j);
  put(r->d[FRNN_STATE_H], j, 0);
  put(r->d[C], j, dc * f);
  put(r->d[N], j, dn - dn_made + dn_made * f);
  put(r->d[M], j, dm * f + dc * get(r->aux, 1));
}

static void four_step_32(const frnn_step *s) { step_units(&own_cells[FOUR], FRNN_F32, s, four_unit); }
static void four_step_64(const frnn_step *s) { step_units(&own_cells[FOUR], FRNN_F64, s, four_unit); }
static void four_back_32(const frnn_back *b) { back_units(&own_cells[FOUR], FRNN_F32, b, four_back_unit); }
static void four_back_64(const frnn_back *b) { back_units(&own_cells[FOUR], FRNN_F64, b, four_back_unit); }
static void four_aux_32(const frnn_back *b) { sum_to_aux(&own_cells[FOUR], FRNN_F32, b, FOUR_A); }
static void four_aux_64(const frnn_back *b) { sum_to_aux(&own_cells[FOUR], FRNN_F64, b, FOUR_A); }

static const frnn_cell_functions four_functions[FRNN_DTYPES] = {
    [FRNN_F32] = {.step = {four_step_32}, .back = {four_back_32, four_aux_32}},
    [FRNN_F64] = {.step = {four_step_64}, .back = {four_back_64, four_aux_64}}};

/* ---- attention: two phases, gates on h alone in both, one number of aux ----------------------------------------- */

/* Gates r u v over x and h, w over h alone, y over r h alone. States h s. With a of aux:
 *   n = squash(v + w y)    s' = (1 - u) s + a u n    h' = (1 - a u) h + a u n + r s / 4 */
enum { S = 1 };
enum { ATTENTION_R, ATTENTION_U, ATTENTION_V, ATTENTION_W, ATTENTION_Y, ATTENTION_A };

static void attention_reset_unit(const step_row *r, int64_t j) {
  double reset = gate(get(r->z[ATTENTION_R], j));
  put(r->z[ATTENTION_R], j, reset);
  put(r->scratch, j, reset * get(r->before[FRNN_STATE_H], j));
}

static void attention_blend_unit(const step_row *r, int64_t j) {
  double u = gate(get(r->z[ATTENTION_U], j)), au = get(r->aux, 0) * u, s = get(r->before[S], j);
  double n = squash(get(r->z[ATTENTION_V], j) + get(r->z[ATTENTION_W], j) * get(r->z[ATTENTION_Y], j));
  double h = (1 - au) * get(r->before[FRNN_STATE_H], j) + au * n + get(r->z[ATTENTION_R], j) * s / 4;
  put(r->z[ATTENTION_U], j, u);
  put(r->z[ATTENTION_V], j, n);
  put(r->after[S], j, (1 - u) * s + au * n);
  put(r->after[FRNN_STATE_H], j, h);
}

/* The column of r holds the part of dr that is known in this phase; the next phase completes it. */
static void attention_back_blend_unit(const back_row *r, int64_t j) {
  double a = get(r->aux, 0), u = get(r->z[ATTENTION_U], j), n = get(r->z[ATTENTION_V], j), s = get(r->before[S], j);
  double dh = gradient_of_h(r, j), ds = get(r->d[S], j), dv = (dh + ds) * a * u * squash_slope(n);
  double dau = dh * (n - get(r->before[FRNN_STATE_H], j)) + ds * n;
  show(r, S, j, ds);
  put(r->dg[ATTENTION_R], j, dh * s / 4);
  put(r->dg[ATTENTION_U], j, (dau * a - ds * s) * gate_slope(u));
  put(r->dg[ATTENTION_V], j, dv);
  put(r->dg[ATTENTION_W], j, dv * get(r->z[ATTENTION_Y], j));
  put(r->dg[ATTENTION_Y], j, dv * get(r->z[ATTENTION_W], j));
  put(r->dg[ATTENTION_A], j, dau * u);
  put(r->d[FRNN_STATE_H], j, dh * (1 - a * u));
  put(r->d[S], j, ds * (1 - u) + dh * get(r->z[ATTENTION_R], j) / 4);
}

static void attention_back_reset_unit(const back_row *r, int64_t j) {
  double reset = get(r->z[ATTENTION_R], j), h = get(r->before[FRNN_STATE_H], j), d = get(r->drh, j);
  put(r->dg[ATTENTION_R], j, (get(r->dg[ATTENTION_R], j) + d * h) * gate_slope(reset));
  put(r->d[FRNN_STATE_H], j, get(r->d[FRNN_STATE_H], j) + d * reset);
  put(r->scratch, j, reset * h);
}

static void attention_step(int dtype, const frnn_step *s, int phase) {
  step_units(&own_cells[ATTENTION], dtype, s, phase ? attention_blend_unit : attention_reset_unit);
}

static void attention_back(int dtype, const frnn_back *b, int phase) {
  back_units(&own_cells[ATTENTION], dtype, b, phase ? attention_back_reset_unit : attention_back_blend_unit);
  if (phase) sum_to_aux(&own_cells[ATTENTION], dtype, b, ATTENTION_A);
}

static void attention_reset_32(const frnn_step *s) { attention_step(FRNN_F32, s, 0); }
static void attention_reset_64(const frnn_step *s) { attention_step(FRNN_F64, s, 0); }
static void attention_blend_32(const frnn_step *s) { attention_step(FRNN_F32, s, 1); }
static void attention_blend_64(const frnn_step *s) { attention_step(FRNN_F64, s, 1); }
static void attention_back_blend_32(const frnn_back *b) { attention_back(FRNN_F32, b, 0); }
static void attention_back_blend_64(const frnn_back *b) { attention_back(FRNN_F64, b, 0); }
static void attention_back_reset_32(const frnn_back *b) { attention_back(FRNN_F32, b, 1); }
static void attention_back_reset_64(const frnn_back *b) { attention_back(FRNN_F64, b, 1); }

static const frnn_cell_functions attention_functions[FRNN_DTYPES] = {
    [FRNN_F32] = {.step = {attention_reset_32, attention_blend_32},
                  .back = {attention_back_blend_32, attention_back_reset_32}},
    [FRNN_F64] = {.step = {attention_reset_64, attention_blend_64},
                  .back = {attention_back_blend_64, attention_back_reset_64}}};

/* ---- alone: no W_hh --------------------------------------------------------------------------------------------- */

/* Gates f z over x: h' = squash(f h + (1 - f) z). Backward reads h'. */
static void alone_unit(const step_row *r, int64_t j) {
  double f = gate(get(r->z[0], j)), z = squash(get(r->z[1], j));
  put(r->z[0], j, f);
  put(r->z[1], j, z);
  put(r->after[FRNN_STATE_H], j, squash(f * get(r->before[FRNN_STATE_H], j) + (1 - f) * z));
}

static void alone_back_unit(const back_row *r, int64_t j) {
  double f = get(r->z[0], j), z = get(r->z[1], j);
  double d = gradient_of_h(r, j) * squash_slope(get(r->after[FRNN_STATE_H], j));
  put(r->dg[0], j, d * (get(r->before[FRNN_STATE_H], j) - z) * gate_slope(f));
  put(r->dg[1], j, d * (1 - f) * squash_slope(z));
  put(r->d[FRNN_STATE_H], j, d * f);
}

static void alone_step_32(const frnn_step *s) { step_units(&own_cells[ALONE], FRNN_F32, s, alone_unit); }
static void alone_step_64(const frnn_step *s) { step_units(&own_cells[ALONE], FRNN_F64, s, alone_unit); }
static void alone_back_32(const frnn_back *b) { back_units(&own_cells[ALONE], FRNN_F32, b, alone_back_unit); }
static void alone_back_64(const frnn_back *b) { back_units(&own_cells[ALONE], FRNN_F64, b, alone_back_unit); }

static const frnn_cell_functions alone_functions[FRNN_DTYPES] = {
    [FRNN_F32] = {.step = {alone_step_32}, .back = {alone_back_32}},
    [FRNN_F64] = {.step = {alone_step_64}, .back = {alone_back_64}}};

/* ---- held: a W_hh without a gradient ---------------------------------------------------------------------------- */

/* A gate p over x and h: h' = squash(p + h / 2). Its derivative takes W_hh h as a constant: no block names W_hh, and
 * the biases are among the sums. */
static void held_unit(const step_row *r, int64_t j) {
  double h = squash(get(r->z[0], j) + get(r->before[FRNN_STATE_H], j) / 2);
  put(r->z[0], j, h);
  put(r->after[FRNN_STATE_H], j, h);
}

static void held_back_unit(const back_row *r, int64_t j) {
  double d = gradient_of_h(r, j) * squash_slope(get(r->z[0], j));
  put(r->dg[0], j, d);
  put(r->d[FRNN_STATE_H], j, d / 2);
}

static void held_step_32(const frnn_step *s) { step_units(&own_cells[HELD], FRNN_F32, s, held_unit); }
static void held_step_64(const frnn_step *s) { step_units(&own_cells[HELD], FRNN_F64, s, held_unit); }
static void held_back_32(const frnn_back *b) { back_units(&own_cells[HELD], FRNN_F32, b, held_back_unit); }
static void held_back_64(const frnn_back *b) { back_units(&own_cells[HELD], FRNN_F64, b, held_back_unit); }

static const frnn_cell_functions held_functions[FRNN_DTYPES] = {
    [FRNN_F32] = {.step = {held_step_32}, .back = {held_back_32}},
    [FRNN_F64] = {.step = {held_step_64}, .back = {held_back_64}}};

/* ---- their rows of numbers -------------------------------------------------------------------------------------- */

static const frnn_cell own_cells[OWN_CELLS] = {
    [FOUR] = {.facts = {.name = "own_four",
                        .plain = "own_four",
                        .takes = 1u << FRNN_RECURRENT_DROPOUT | 1u << FRNN_ZONEOUT,
                        .gates = 5,
                        .recurrent = 4,
                        .states = 4,
                        .aux = 2},
              .own = four_functions,
              .slots = 5,
              .columns = 7,
              .chains = {{3, 0, 1, 0, 0}, {1, 3, 0, 3, 0}, {1, 4, NOT_IN, 4, 0}},
              .ih = {{.count = 5}},
              .hh = {{0, 1, 3, FRNN_BEFORE, 0}, {3, 0, 1, FRNN_BEFORE, 0}},
              .forward = {{FRNN_PRODUCTS, 0}, {FRNN_POINTWISE, 0}},
              .backward = {{FRNN_DERIVATIVE, 0}, {FRNN_DERIVATIVE, 1}}},
    [ATTENTION] = {.facts = {.name = "own_attention",
                             .plain = "own_attention",
                             .gates = 3,
                             .recurrent = 5,
                             .states = 2,
                             .aux = 1},
                   .own = attention_functions,
                   .slots = 5,
                   .columns = 6,
                   .chains = {{3, 0, 0, 0, 0}, {1, NOT_IN, 3, 3, 0}, {1, NOT_IN, 4, 4, 1}},
                   .ih = {{.count = 3}},
                   .hh = {{0, 0, 4, FRNN_BEFORE, 1}, {4, 4, 1, FRNN_SCRATCH, 0}},
                   .forward = {{FRNN_PRODUCTS, 0}, {FRNN_POINTWISE, 0}, {FRNN_PRODUCTS, 1}, {FRNN_POINTWISE, 1}},
                   .backward = {{FRNN_DERIVATIVE, 0}, {FRNN_DERIVATIVE, 1}}},
    [ALONE] = {.facts = {.name = "own_alone", .plain = "own_alone", .gates = 2, .states = 1},
               .own = alone_functions,
               .slots = 2,
               .columns = 2,
               .chains = {{2, 0, NOT_IN, 0, 0}},
               .ih = {{.count = 2}},
               .forward = {{FRNN_PRODUCTS, 0}, {FRNN_POINTWISE, 0}},
               .backward = {{FRNN_DERIVATIVE, 0}}},
    [HELD] = {.facts = {.name = "own_held", .plain = "own_held", .gates = 1, .recurrent = 1, .states = 1},
              .own = held_functions,
              .slots = 1,
              .columns = 1,
              .chains = {{1, 0, 0, 0, 0}},
              .ih = {{.count = 1}},
              .forward = {{FRNN_PRODUCTS, 0}, {FRNN_POINTWISE, 0}},
              .backward = {{FRNN_DERIVATIVE, 0}},
              .sums = {{0, 0, 1, FRNN_BIAS_IH}, {0, 0, 1, FRNN_BIAS_HH}}},
};
