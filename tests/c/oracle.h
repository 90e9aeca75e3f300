/* oracle.h - one layer in double precision, forward and backward through time, written like the equations of
 * fastrnn/reference/cells.py: a loop per sum, no blocking, no vectors, no code of the kernels.
 *
 * All arrays are dense: x (T, B, I), y (T, B, H), states (B, H), weights (G*H, I) and (G*H, H), the latter only if
 * gates see h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

/* The cells whose equations are here. */
enum equations { RNN_TANH, RNN_RELU, LSTM, GRU_AFTER, GRU_BEFORE, MIN_GRU, MIN_LSTM, NONE };

static const char *const equation_names[] = {"rnn_tanh",   "rnn_relu", "lstm",    "gru_after",
                                             "gru_before", "min_gru",  "min_lstm"};

static enum equations equations_of(const char *cell) {
  for (int i = 0; i < NONE; i++)
    if (strcmp(equation_names[i], cell) == 0) return (enum equations)i;
  return NONE;
}

typedef struct {
  enum equations cell;
  int reverse, T, B, I, H;
  double *x, *h0, *c0, *w_ih, *w_hh, *b_ih, *b_hh; /* biases may be NULL */
  double *dy, *dh, *dc;                            /* dL/dy and of the last state; each may be NULL */
  double *y, *h_last, *c_last;
  double *dx, *dh0, *dc0, *dw_ih, *dw_hh, *db_ih, *db_hh;
} problem;

static double *zeros(int n) {
  double *p = calloc((size_t)n + 1, sizeof(double));
  if (!p) abort();
  return p;
}

static int gates_of(enum equations cell) {
  static const int gates[] = {[LSTM] = 4, [GRU_AFTER] = 3, [GRU_BEFORE] = 3, [MIN_GRU] = 2, [MIN_LSTM] = 3, [NONE] = 0};
  return gates[cell] > 0 ? gates[cell] : 1;
}

static int sees_h(enum equations cell) { return cell != MIN_GRU && cell != MIN_LSTM; }

/* The values of one row that forward keeps for backward: gates after activation (before it, if they see x alone), W_hn
 * h + b_hn, the states. */
typedef struct {
  double *gates, *u_n, *h, *c; /* (T, G*H), (T, H), (T + 1, H) in the order of the pass, likewise */
} history;

static double sigmoid(double p) { return 1 / (1 + exp(-p)); }

/* b[j] + sum of w[j][k] v[k], for n rows j from `first` on. */
static void affine(const double *w, const double *b, const double *v, int first, int n, int k, double *out) {
  for (int j = first; j < first + n; j++) {
    double sum = b ? b[j] : 0;
    for (int i = 0; i < k; i++) sum += w[j * k + i] * v[i];
    out[j] = sum;
  }
}

/* Cells whose gates see x alone: the part of the old state that remains, from the gates' pre-activations p and q. */
static double keeps(enum equations cell, double p, double q) {
  if (cell == MIN_GRU) return sigmoid(-p);
  return 1 / (1 + (1 + exp(-p)) / (1 + exp(-q))); /* f / (f + i) */
}

static void min_step_forward(const problem *p, const double *a, const history *s, int i) {
  int H = p->H, G = gates_of(p->cell);
  memcpy(s->gates + i * G * H, a, sizeof(double) * (size_t)(G * H));
  for (int j = 0; j < H; j++) {
    double old = keeps(p->cell, a[j], a[H + j]);
    s->h[(i + 1) * H + j] = old * s->h[i * H + j] + (1 - old) * a[(G - 1) * H + j];
  }
}

static void min_step_backward(const problem *p, const history *s, int i, double *dh, double *da) {
  int H = p->H, G = gates_of(p->cell);
  const double *h = s->h + i * H, *a = s->gates + i * G * H;
  for (int j = 0; j < H; j++) {
    double old = keeps(p->cell, a[j], a[H + j]), d = dh[j] * (h[j] - a[(G - 1) * H + j]) * old * (1 - old);
    da[j] = p->cell == MIN_GRU ? -d : d * sigmoid(-a[j]);
    if (p->cell == MIN_LSTM) da[H + j] = -d * sigmoid(-a[H + j]);
    da[(G - 1) * H + j] = dh[j] * (1 - old);
    dh[j] *= old;
  }
}

static void step_forward(const problem *p, const double *a, const history *s, int i, double *u) {
  int H = p->H;
  const double *h = s->h + i * H, *c = s->c + i * H;
  double *next = s->h + (i + 1) * H, *c_next = s->c + (i + 1) * H, *gates = s->gates + i * gates_of(p->cell) * H;
  double *reset = zeros(H);
  int before = p->cell == GRU_BEFORE;
  affine(p->w_hh, p->b_hh, h, 0, (before ? 2 : gates_of(p->cell)) * H, H, u);
  for (int j = 0; j < H; j++) reset[j] = sigmoid(a[j] + u[j]) * h[j];
  if (before) affine(p->w_hh, p->b_hh, reset, 2 * H, H, H, u);
  for (int j = 0; j < H; j++) {
    double q[4];
    for (int g = 0; g < gates_of(p->cell); g++) q[g] = a[g * H + j] + u[g * H + j];
    if (p->cell == RNN_TANH) {
      next[j] = gates[j] = tanh(q[0]);
    } else if (p->cell == RNN_RELU) {
      next[j] = gates[j] = q[0] > 0 ? q[0] : 0;
    } else if (p->cell == LSTM) {
      double in = gates[j] = sigmoid(q[0]), forget = gates[H + j] = sigmoid(q[1]);
      double g = gates[2 * H + j] = tanh(q[2]), out = gates[3 * H + j] = sigmoid(q[3]);
      c_next[j] = forget * c[j] + in * g;
      next[j] = out * tanh(c_next[j]);
    } else {
      double r = gates[j] = sigmoid(q[0]), z = gates[H + j] = sigmoid(q[1]);
      double n = gates[2 * H + j] = tanh(before ? q[2] : a[2 * H + j] + r * u[2 * H + j]);
      s->u_n[i * H + j] = u[2 * H + j];
      next[j] = (1 - z) * n + z * h[j];
    }
  }
  free(reset);
}

/* sum over rows j in [first, first + n) of w[j][k] d[j], added to out[k]. */
static void through(const double *w, const double *d, int first, int n, int k, double *out) {
  for (int j = first; j < first + n; j++)
    for (int i = 0; i < k; i++) out[i] += w[j * k + i] * d[j];
}

/* dh and dc of step i in, of step i - 1 out; da and du of the gates out. */
static void step_backward(const problem *p, const history *s, int i, double *dh, double *dc, double *da, double *du) {
  int H = p->H, G = gates_of(p->cell), before = p->cell == GRU_BEFORE;
  const double *h = s->h + i * H, *c = s->c + i * H, *c_next = s->c + (i + 1) * H, *gates = s->gates + i * G * H;
  double *back = zeros(H), *dv = zeros(H);
  for (int j = 0; j < H; j++) {
    const double g0 = gates[j], g1 = G > 1 ? gates[H + j] : 0, g2 = G > 1 ? gates[2 * H + j] : 0;
    if (p->cell == RNN_TANH) {
      da[j] = dh[j] * (1 - g0 * g0);
    } else if (p->cell == RNN_RELU) {
      da[j] = g0 > 0 ? dh[j] : 0;
    } else if (p->cell == LSTM) {
      double o = gates[3 * H + j], t = tanh(c_next[j]), d = dc[j] + dh[j] * o * (1 - t * t);
      da[j] = d * g2 * g0 * (1 - g0);
      da[H + j] = d * c[j] * g1 * (1 - g1);
      da[2 * H + j] = d * g0 * (1 - g2 * g2);
      da[3 * H + j] = dh[j] * t * o * (1 - o);
      dc[j] = d * g1;
    } else {
      da[H + j] = dh[j] * (h[j] - g2) * g1 * (1 - g1);
      da[2 * H + j] = dh[j] * (1 - g1) * (1 - g2 * g2);
      back[j] = dh[j] * g1;
      if (!before) da[j] = da[2 * H + j] * s->u_n[i * H + j] * g0 * (1 - g0);
    }
  }
  if (before) {
    through(p->w_hh, da, 2 * H, H, H, dv);
    for (int j = 0; j < H; j++) {
      da[j] = dv[j] * h[j] * gates[j] * (1 - gates[j]);
      back[j] += dv[j] * gates[j];
    }
  }
  memcpy(du, da, sizeof(double) * (size_t)(G * H));
  if (p->cell == GRU_AFTER)
    for (int j = 0; j < H; j++) du[2 * H + j] *= gates[j];
  through(p->w_hh, du, 0, (before ? 2 : G) * H, H, back);
  memcpy(dh, back, sizeof(double) * (size_t)H);
  free(back);
  free(dv);
}

/* dW[j][k] += d[j] v[k], for n rows j from `first` on. */
static void outer(double *dw, const double *d, const double *v, int first, int n, int k) {
  for (int j = first; j < first + n; j++)
    for (int i = 0; i < k; i++) dw[j * k + i] += d[j] * v[i];
}

/* Takes row b through all of time; adds to the gradients of the weights. */
static void run_row(const problem *p, int b) {
  int H = p->H, rows = gates_of(p->cell) * H, T = p->T, before = p->cell == GRU_BEFORE;
  history s = {zeros(T * rows), zeros(T * H), zeros((T + 1) * H), zeros((T + 1) * H)};
  double *a = zeros(rows), *u = zeros(rows), *da = zeros(rows), *du = zeros(rows), *reset = zeros(H);
  double *dh = p->dh0 + b * H, *dc = p->dc0 + b * H;
  for (int j = 0; j < H; j++) {
    s.h[j] = p->h0[b * H + j];
    s.c[j] = p->c0[b * H + j];
    dh[j] = p->dh ? p->dh[b * H + j] : 0;
    dc[j] = p->dc ? p->dc[b * H + j] : 0;
  }
  for (int i = 0; i < T; i++) {
    int row = (p->reverse ? T - 1 - i : i) * p->B + b;
    affine(p->w_ih, p->b_ih, p->x + row * p->I, 0, rows, p->I, a);
    if (sees_h(p->cell))
      step_forward(p, a, &s, i, u);
    else
      min_step_forward(p, a, &s, i);
    memcpy(p->y + row * H, s.h + (i + 1) * H, sizeof(double) * (size_t)H);
  }
  for (int i = T - 1; i >= 0; i--) {
    int row = (p->reverse ? T - 1 - i : i) * p->B + b;
    for (int j = 0; j < H; j++) {
      if (p->dy) dh[j] += p->dy[row * H + j];
      reset[j] = s.gates[i * rows + j] * s.h[i * H + j];
    }
    if (sees_h(p->cell))
      step_backward(p, &s, i, dh, dc, da, du);
    else
      min_step_backward(p, &s, i, dh, da);
    through(p->w_ih, da, 0, rows, p->I, p->dx + row * p->I);
    outer(p->dw_ih, da, p->x + row * p->I, 0, rows, p->I);
    for (int j = 0; j < rows; j++) p->db_ih[j] += da[j];
    if (!sees_h(p->cell)) continue;
    outer(p->dw_hh, du, s.h + i * H, 0, before ? 2 * H : rows, H);
    if (before) outer(p->dw_hh, du, reset, 2 * H, H, H);
    for (int j = 0; j < rows; j++) p->db_hh[j] += du[j];
  }
  memcpy(p->h_last + b * H, s.h + T * H, sizeof(double) * (size_t)H);
  memcpy(p->c_last + b * H, s.c + T * H, sizeof(double) * (size_t)H);
  double *all[] = {s.gates, s.u_n, s.h, s.c, a, u, da, du, reset};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Computes the outputs, which must be zeros at first. */
static void oracle(const problem *p) {
  for (int b = 0; b < p->B; b++) run_row(p, b);
}
