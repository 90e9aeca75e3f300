/* scales.c - the scales of rows of int8 weights: computed by least squares, written to panels and read from them.
 *
 * It uses plain double arithmetic in one order, so every machine computes the same scales.
 *
 * It must not know: cells, instruction sets, time. */
#include <float.h>
#include <math.h>

#include "packed.h"

enum { ITERATIONS = 2, BEGINNINGS = 3 };

/* w in units of a scale, rounded to an integer, at most FRNN_INT8_LARGEST in size. */
static double in_units(double w, double scale) {
  double q = w / scale, to_integer = 0x1.8p52;
  q = q > FRNN_INT8_LARGEST ? FRNN_INT8_LARGEST : q < -FRNN_INT8_LARGEST ? -FRNN_INT8_LARGEST : q;
  return (q + to_integer) - to_integer;
}

/* The scale that is best for the integers that another scale gives. */
static double better_scale(const float *w, int64_t k, double scale) {
  double product = 0, square = 0;
  for (int64_t i = 0; i < k; i++) {
    double q = in_units(w[i], scale);
    product += w[i] * q;
    square += q * q;
  }
  return square > 0 ? product / square : scale;
}

static double squared_error(const float *w, int64_t k, double scale) {
  double sum = 0;
  for (int64_t i = 0; i < k; i++) {
    double error = w[i] - scale * in_units(w[i], scale);
    sum += error * error;
  }
  return sum;
}

/* The scale of a row of weights: of some that begin with its largest number, or let that be cut, the one with the least
 * squared error. 0 if it would be subnormal, NaN if a weight is not finite. */
static float scale_of(const float *w, int64_t k) {
  double largest = 0, best = 0, least_error = DBL_MAX;
  for (int64_t i = 0; i < k; i++) {
    double size = fabs((double)w[i]);
    if (!(size <= FLT_MAX)) return NAN;
    largest = size > largest ? size : largest;
  }
  if (largest / FRNN_INT8_LARGEST < FLT_MIN) return 0;
  for (int i = 0; i < BEGINNINGS; i++) {
    double scale = largest / FRNN_INT8_LARGEST * (1 - 0.125 * i);
    for (int j = 0; j < ITERATIONS; j++) scale = better_scale(w, k, scale);
    double error = squared_error(w, k, scale);
    if (error >= least_error) continue;
    least_error = error;
    best = scale;
  }
  return (float)best;
}

/* The place of an output's scale in its panel. */
static void *place_of(const frnn_transpose *t, int64_t lanes, int64_t n) {
  return at(t->dst, n / lanes * t->dst_vector + n % lanes * (ptrdiff_t)sizeof(float));
}

void frnn_write_scales(const frnn_transpose *t, int64_t lanes, const float *scales) {
  int64_t padded_outputs = (t->outputs + lanes - 1) / lanes * lanes;
  for (int64_t n = 0; n < padded_outputs; n++) {
    float scale = 0;
    if (n < t->outputs) scale = scales ? scales[n] : scale_of(at(t->src, n * t->src_row), t->k);
    memcpy(place_of(t, lanes, n), &scale, sizeof scale);
  }
}

void frnn_read_scales(const frnn_transpose *t, int64_t lanes, float *scales) {
  for (int64_t n = 0; n < t->outputs; n++) {
    scales[n] = 0;
    if (t->k > 0) memcpy(&scales[n], place_of(t, lanes, n), sizeof(float)); /* else there is no panel */
  }
}
