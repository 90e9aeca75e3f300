/* own_oracle.h - an oracle for the cells of own_cells.h: their equations, forward alone, a loop per sum, no code of the
 * engine. Numbers are complex. The imaginary part of an input is a direction times TINY; the imaginary part of the loss
 * is then TINY times the derivative in this direction, without the cancellation of finite differences.
 *
 * All arrays are dense, rows in the batch's own order.
 *
 * It must not know: the engine's calls, derivatives. */
#include <complex.h>

typedef double complex dual;
static const dual UNIT = I;
#undef I
static const double TINY = 0x1p-300;

/* A value and its derivative along the direction. */
static dual dual_of(double value, double along) { return value + along * UNIT; }

static dual point(const problem *p, int what, int i) {
  const tensor *g = &p->given[what];
  return dual_of(g->values ? g->values[i] : 0, p->along == what ? TINY * g->direction[i] : 0);
}

/* b[j] + sum of w[j][k] v[k], for n rows j from `first` on. */
static void affine(const problem *p, int w, int b, const dual *v, int first, int n, int k, dual *out) {
  const double *weights = p->given[w].values, *direction = p->along == w ? p->given[w].direction : NULL;
  for (int j = first; j < first + n; j++) {
    double sum = creal(point(p, b, j)), along = cimag(point(p, b, j));
    for (int i = 0; i < k; i++) {
      sum += weights[j * k + i] * creal(v[i]);
      along += weights[j * k + i] * cimag(v[i]);
    }
    for (int i = 0; direction && i < k; i++) along += TINY * direction[j * k + i] * creal(v[i]);
    out[j] = dual_of(sum, along);
  }
}

/* A row of the batch in a step: x and aux, the numbers added to its states, the states, and room for the gates'
 * products with x (a) and h (u), and for the operand of W_hh. */
typedef struct {
  const problem *p;
  int b, t;
  dual *x, *aux, *added[FRNN_STATES_MOST], *state[FRNN_STATES_MOST], *a, *u, *operand;
} oracle_row;

static dual dual_squash(dual p) { return p / csqrt(1 + p * p); }
static dual dual_gate(dual p) { return 0.5 + 0.5 * dual_squash(p); }

/* The factor of recurrent dropout for element j of h. */
static double kept_of_h(const oracle_row *r, int j) {
  return r->p->dropout.values ? r->p->dropout.values[index_of(r->p, r->b) * r->p->H + j] : 1;
}

/* 1 if the zoneout mask keeps the old value of unit j of n. */
static int stays_in(const oracle_row *r, int j) {
  const problem *p = r->p;
  return p->zoneout.values && p->zoneout.values[(r->t * p->B + index_of(p, r->b)) * p->H + j] != 0;
}

/* ---- the equations of own_cells.h, in their order ------------------------------------------------------------- */

static void four_equations(const oracle_row *r) {
  int H = r->p->H;
  for (int j = 0; j < H; j++) r->operand[j] = kept_of_h(r, j) * r->state[FRNN_STATE_H][j];
  affine(r->p, W_HH, B_HH, r->operand, 0, 4 * H, H, r->u);
  for (int j = 0; j < H; j++) {
    dual i = dual_gate(r->a[j] + r->u[H + j]), f = dual_gate(r->a[H + j] + r->u[2 * H + j]);
    dual z = dual_squash(r->a[2 * H + j] + r->u[3 * H + j]), o = dual_gate(r->a[3 * H + j] + r->u[j]);
    dual k = dual_gate(r->a[4 * H + j]), m = f * r->state[M][j] + k * r->aux[0] + r->added[M][j];
    dual n = (stays_in(r, j) ? r->state[N][j] : f * r->state[N][j] + i) + r->added[N][j];
    dual c = f * r->state[C][j] + i * z + r->aux[1] * r->state[M][j] + r->added[C][j];
    r->state[C][j] = c;
    r->state[N][j] = n;
    r->state[M][j] = m;
    r->state[FRNN_STATE_H][j] = o * dual_squash(c + n * m) + r->added[FRNN_STATE_H][j];
  }
}

static void attention_equations(const oracle_row *r) {
  int H = r->p->H;
  dual *h = r->state[FRNN_STATE_H], *s = r->state[S], *a = r->a, *u = r->u;
  affine(r->p, W_HH, B_HH, h, 0, 4 * H, H, u);
  for (int j = 0; j < H; j++) r->operand[j] = dual_gate(a[j] + u[j]) * h[j];
  affine(r->p, W_HH, B_HH, r->operand, 4 * H, H, H, u);
  for (int j = 0; j < H; j++) {
    dual update = dual_gate(a[H + j] + u[H + j]),
         n = dual_squash(a[2 * H + j] + u[2 * H + j] + u[3 * H + j] * u[4 * H + j]);
    dual scored = r->aux[0] * update;
    h[j] = (1 - scored) * h[j] + scored * n + dual_gate(a[j] + u[j]) * s[j] / 4 + r->added[FRNN_STATE_H][j];
    s[j] = (1 - update) * s[j] + scored * n + r->added[S][j];
  }
}

static void alone_equations(const oracle_row *r) {
  int H = r->p->H;
  dual *h = r->state[FRNN_STATE_H];
  for (int j = 0; j < H; j++) {
    dual f = dual_gate(r->a[j]);
    h[j] = dual_squash(f * h[j] + (1 - f) * dual_squash(r->a[H + j])) + r->added[FRNN_STATE_H][j];
  }
}

/* W_hh h has no derivative here: only its value is used. */
static void held_equations(const oracle_row *r) {
  int H = r->p->H;
  dual *h = r->state[FRNN_STATE_H];
  affine(r->p, W_HH, B_HH, h, 0, H, H, r->u);
  for (int j = 0; j < H; j++) {
    dual u = dual_of(creal(r->u[j]), cimag(point(r->p, B_HH, j)));
    h[j] = dual_squash(r->a[j] + u + h[j] / 2) + r->added[FRNN_STATE_H][j];
  }
}

static void (*const equations[OWN_CELLS])(const oracle_row *) = {four_equations, attention_equations, alone_equations,
                                                                 held_equations};

/* ---- time ----------------------------------------------------------------------------------------------------- */

/* Takes a step from the row's present states. */
static void take_step(const oracle_row *r) {
  const problem *p = r->p;
  int I = p->I, H = p->H, states = facts_of(p)->states, row = r->t * p->B + r->b;
  for (int k = 0; k < states * H; k++) r->added[k / H][k % H] = point(p, STATE + k / H, row * H + k % H);
  if (p->mask && !p->mask[row]) {
    for (int k = 0; k < states * H; k++) r->state[k / H][k % H] += r->added[k / H][k % H];
    return;
  }
  for (int i = 0; i < I; i++) r->x[i] = p->has_ids ? p->ids[row] == i : point(p, X, row * I + i);
  for (int i = 0; i < facts_of(p)->aux; i++) r->aux[i] = point(p, AUX, row * facts_of(p)->aux + i);
  affine(p, W_IH, B_IH, r->x, 0, facts_of(p)->gates * H, I, r->a);
  equations[p->cell](r);
}

/* Sets the states with which a row begins, or to which it is reset. */
static void begin(const oracle_row *r, int at_zero) {
  int H = r->p->H;
  for (int k = 0; k < facts_of(r->p)->states * H; k++)
    r->state[k / H][k % H] = at_zero ? 0 : point(r->p, FIRST + k / H, r->b * H + k % H);
}

/* Takes a row through all of time; returns its part of the loss. */
static dual run_row(oracle_row *r) {
  const problem *p = r->p;
  int H = p->H, b = r->b, length = length_of(p, b), states = facts_of(p)->states;
  dual loss = 0;
  begin(r, 0);
  for (int i = 0; i < length; i++) {
    r->t = p->reverse ? length - 1 - i : i;
    int row = r->t * p->B + b;
    if (p->reset && p->reset[row]) begin(r, !p->reset_to_first);
    take_step(r);
    for (int j = 0; j < H; j++) {
      p->y[row * H + j] = creal(r->state[FRNN_STATE_H][j]);
      loss += point(p, DY, row * H + j) * r->state[FRNN_STATE_H][j];
    }
  }
  for (int k = 0; k < states * H; k++) {
    p->last[k / H][b * H + k % H] = creal(r->state[k / H][k % H]);
    loss += point(p, DLAST + k / H, b * H + k % H) * r->state[k / H][k % H];
  }
  return loss;
}

static dual *duals(int n) {
  dual *p = calloc((size_t)n + 1, sizeof *p);
  if (!p) abort();
  return p;
}

/* Computes y, the last states, and the loss' derivative along each direction. */
static void solve(problem *p) {
  int H = p->H, gates = facts_of(p)->gates, recurrent = facts_of(p)->recurrent;
  oracle_row r = {.p = p, .x = duals(p->I), .aux = duals(facts_of(p)->aux), .operand = duals(H)};
  r.a = duals(gates * H);
  r.u = duals(recurrent * H);
  for (int k = 0; k < FRNN_STATES_MOST; k++) r.state[k] = duals(H), r.added[k] = duals(H);
  for (p->along = -1; p->along < DIFFERENTIATED; p->along++) {
    dual loss = 0;
    if (p->along >= 0 && !p->given[p->along].direction) continue;
    for (r.b = 0; r.b < p->B; r.b++) loss += run_row(&r);
    if (p->along >= 0) p->derivative[p->along] = cimag(loss) / TINY;
  }
  dual *all[] = {r.x, r.aux, r.a, r.u, r.operand};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
  for (int k = 0; k < FRNN_STATES_MOST; k++) free(r.state[k]), free(r.added[k]);
}
