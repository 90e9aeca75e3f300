/* arrays.h - an input or an output in a layout that a caller may have: steps x rows x features with strides, NaN around
 * it and between its elements, so that a test sees if anything was written beside them.
 *
 * It must not know: cells, the meaning of the numbers. */
#include <stdlib.h>
#include <string.h>

#include "fastrnn.h"

enum { BORDER = 64 };
enum layout { DENSE, BATCH_FIRST, SPARSE, LAYOUTS };

typedef struct {
  frnn_sequence q;
  int dtype, steps, rows, features;
  size_t bytes;
  unsigned char *memory;
} array;

static inline int elements_of(const array *a) { return a->steps * a->rows * a->features; }

/* Element i of the array as if it were dense. */
static inline unsigned char *element(const array *a, int i) {
  int f = i % a->features, b = i / a->features % a->rows, t = i / a->features / a->rows;
  return (unsigned char *)a->q.data + t * a->q.step + b * a->q.row + (ptrdiff_t)((size_t)f * size_of(a->dtype));
}

/* An element's value, in [-FLT_MAX, FLT_MAX], or NaN. */
static inline double value_at(const unsigned char *element, int dtype) {
  double wide;
  float narrow;
  if (dtype == FRNN_F64) return memcpy(&wide, element, sizeof wide), wide;
  return memcpy(&narrow, element, sizeof narrow), narrow;
}

static inline double value_of(const array *a, int i) { return value_at(element(a, i), a->dtype); }

static inline void clear_element(array *a, int i) { memset(element(a, i), 0xFF, size_of(a->dtype)); }

/* 1 if all of its memory is NaN as at first, elements that were cleared included. */
static inline int is_clear(const array *a) {
  for (size_t i = 0; i < a->bytes; i++)
    if (a->memory[i] != 0xFF) return 0;
  return 1;
}

/* values: dense, or NULL for an output. Its memory is the caller's to free. */
static inline array make(int dtype, enum layout layout, int steps, int rows, int features, const double *values) {
  ptrdiff_t size = (ptrdiff_t)size_of(dtype), row = features * size, step = rows * row;
  if (layout == BATCH_FIRST) step = row, row = steps * row;
  if (layout == SPARSE) row += 3 * size, step = rows * row + 5 * size;
  array a = {.dtype = dtype, .steps = steps, .rows = rows, .features = features};
  a.bytes = (size_t)(layout == BATCH_FIRST ? rows * row : steps * step) + 2 * BORDER;
  a.memory = malloc(a.bytes);
  if (!a.memory) abort();
  memset(a.memory, 0xFF, a.bytes);
  a.q = (frnn_sequence){a.memory + BORDER, step, row};
  for (int i = 0; values && i < elements_of(&a); i++) {
    float narrow = (float)values[i];
    memcpy(element(&a, i), dtype == FRNN_F32 ? (void *)&narrow : (void *)&values[i], (size_t)size);
  }
  return a;
}
