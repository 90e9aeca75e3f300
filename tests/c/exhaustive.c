/* exhaustive.c - exp, sigmoid and tanh as the kernels compute them, on all 2^32 floats and on a sample of doubles, for
 * every instruction set of this machine, against the C library in a wider format.
 *
 *   exhaustive exp|sigmoid|tanh f32|f64 [stride]      every stride-th input; exhaustive.sh runs them all
 *
 * The error is |got - exact| in units in the last place of `exact`, a unit never being smaller than the subnormals'. A
 * result that overflows counts as 2^128 (2^1024), the number that an infinity stands for in rounding. Prints PASS or
 * FAIL with the largest error and where it is; exit status 1 beyond 3 ULP, or if the result for a zero, an infinity or
 * a NaN is not exact. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

enum { BLOCK = 1 << 14, SETS = 4, SAMPLES = 40000000 };
#define ALLOWED 3.0

typedef void function(int dtype, const void *x, void *y, int64_t n);
static const struct {
  const char *name;
  function *run;
} functions[] = {{"exp", frnn_exp}, {"sigmoid", frnn_sigmoid}, {"tanh", frnn_tanh}};

typedef struct {
  double error, x, got;
  long double exact;
  uint64_t inputs, wrong_specials;
} worst;

/* Returns 1 if the result for x must be exact, and that result in `exact`. */
static int special(int f, double x, double *exact) {
  static const double of_zero[] = {1, 0.5, 0}, of_infinity[] = {INFINITY, 1, 1}, of_minus_infinity[] = {0, 0, -1};
  if (!isnan(x) && !isinf(x) && x != 0) return 0;
  *exact = x > 0 ? of_infinity[f] : x < 0 ? of_minus_infinity[f] : x == 0 ? of_zero[f] : NAN;
  if (x == 0 && f == 2) *exact = x;
  return 1;
}

static double narrow_oracle(int f, double x) {
  if (f == 0) return exp(x);
  if (f == 2) return tanh(x);
  double e = exp(-fabs(x));
  return (x < 0 ? e : 1) / (1 + e);
}

static long double wide_oracle(int f, double x) {
  if (f == 0) return expl(x);
  if (f == 2) return tanhl(x);
  long double e = expl(-fabsl((long double)x));
  return (x < 0 ? e : 1) / (1 + e);
}

static void judge_special(worst *w, double got, double exact) {
  int right = isnan(exact) ? isnan(got) : got == exact && !signbit(got) == !signbit(exact);
  if (!right && w->wrong_specials++ < 3) printf("  %s: %a where it must be %a\n", frnn_isa(), got, exact);
}

static void keep(worst *w, double error, double x, double got, long double exact) {
  if (!(error <= w->error)) *w = (worst){error, x, got, exact, w->inputs, w->wrong_specials};
}

/* 2^(23 - exponent of a float's unit), by the bits of a double. */
static double units_per(double exact) {
  int64_t bits;
  memcpy(&bits, &exact, sizeof bits);
  int64_t exponent = (bits >> 52 & 0x7ff) - 1023;
  bits = (23 - (exponent < -126 ? -126 : exponent > 127 ? 127 : exponent) + 1023) << 52;
  memcpy(&exact, &bits, sizeof bits);
  return exact;
}

static void judge_f32(int f, worst *w, const float *x, const double *exact, const float *y) {
  for (int i = 0; i < BLOCK; i++) {
    double place, got = y[i];
    if (special(f, x[i], &place)) {
      judge_special(w, got, place);
      continue;
    }
    double bounded = fmin(exact[i], 0x1p128), error = fabs(fmin(got, 0x1p128) - bounded) * units_per(bounded);
    keep(w, error, x[i], got, exact[i]);
  }
  w->inputs += BLOCK;
}

static void all_floats(int f, uint64_t stride, worst *sets) {
  static float x[BLOCK], y[BLOCK];
  static double exact[BLOCK];
  for (uint64_t from = 0; from < (uint64_t)1 << 32; from += BLOCK * stride) {
    for (int i = 0; i < BLOCK; i++) {
      uint32_t bits = (uint32_t)(from + (uint64_t)i * stride);
      memcpy(&x[i], &bits, sizeof bits);
      exact[i] = isnan(x[i]) ? 0 : narrow_oracle(f, x[i]);
    }
    for (int set = 0; frnn_isa_available(set); set++) {
      frnn_select(frnn_isa_available(set));
      functions[f].run(FRNN_F32, x, y, BLOCK);
      judge_f32(f, &sets[set], x, exact, y);
    }
  }
}

static double between(uint64_t random, double low, double high) {
  return low + (high - low) * (double)(random >> 11) * 0x1p-53;
}

/* Samples in turn: any bits; the range of exp; the range of tanh; all magnitudes equally often; near multiples of
 * ln(2)/2. */
static double sample(uint64_t n) {
  static uint64_t seed = 7;
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  uint64_t random = seed ^ seed >> 29, turn = n / 5;
  double x;
  memcpy(&x, &random, sizeof x);
  switch (n % 5) {
    case 0: return x;
    case 1: return between(random, -750, 712);
    case 2: return between(random, -45, 45);
    case 3: return ldexp(between(random, -2, 2), (int)(turn % 1085) - 1074);
    default: return ((double)(turn % 4200) - 2150) * 0.34657359027997264 * (1 + between(random, -0x1p-40, 0x1p-40));
  }
}

static void judge_f64(int f, worst *w, const double *x, const long double *exact, const double *y) {
  for (int i = 0; i < BLOCK; i++) {
    double place;
    if (special(f, x[i], &place)) {
      judge_special(w, y[i], place);
      continue;
    }
    long double bounded = fminl(exact[i], 0x1p1024L), got = fminl(y[i], 0x1p1024L);
    int exponent = bounded == 0 ? -1022 : ilogbl(bounded);
    exponent = exponent < -1022 ? -1022 : exponent > 1023 ? 1023 : exponent;
    keep(w, (double)ldexpl(fabsl(got - bounded), 52 - exponent), x[i], y[i], exact[i]);
  }
  w->inputs += BLOCK;
}

static void many_doubles(int f, uint64_t stride, worst *sets) {
  static const double edges[] = {0.0,
                                 -0.0,
                                 INFINITY,
                                 -INFINITY,
                                 NAN,
                                 0x1p-1074,
                                 -0x1p-1074,
                                 709.782712893384,
                                 709.7827128933841,
                                 -745.1332191019411,
                                 -745.1332191019412,
                                 -708.3964185322641};
  static double x[BLOCK], y[BLOCK];
  static long double exact[BLOCK];
  for (uint64_t from = 0; from < SAMPLES / stride; from += BLOCK) {
    for (int i = 0; i < BLOCK; i++) {
      size_t edge = from + (uint64_t)i;
      x[i] = edge < sizeof edges / sizeof *edges ? edges[edge] : sample(edge);
      exact[i] = isnan(x[i]) ? 0 : wide_oracle(f, x[i]);
    }
    for (int set = 0; frnn_isa_available(set); set++) {
      frnn_select(frnn_isa_available(set));
      functions[f].run(FRNN_F64, x, y, BLOCK);
      judge_f64(f, &sets[set], x, exact, y);
    }
  }
}

int main(int argc, char **argv) {
  worst sets[SETS] = {{0}};
  int f = 0, failed = 0;
  while (argc > 2 && f < 3 && strcmp(argv[1], functions[f].name) != 0) f++;
  if (argc < 3 || f == 3) return fprintf(stderr, "usage: exhaustive exp|sigmoid|tanh f32|f64 [stride]\n"), 2;
  uint64_t stride = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
  (strcmp(argv[2], "f32") == 0 ? all_floats : many_doubles)(f, stride, sets);
  for (int set = 0; frnn_isa_available(set); set++) {
    worst *w = &sets[set];
    int ok = w->error <= ALLOWED && w->wrong_specials == 0;
    printf("%s %s %s %s: %llu inputs, largest error %.4f ULP at x = %a (%.9g): %a, exactly %La; %llu wrong specials\n",
           ok ? "PASS" : "FAIL", frnn_isa_available(set), argv[2], argv[1], (unsigned long long)w->inputs, w->error,
           w->x, w->x, w->got, w->exact, (unsigned long long)w->wrong_specials);
    failed += !ok;
  }
  return failed > 0;
}
