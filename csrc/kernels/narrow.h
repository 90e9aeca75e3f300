/* narrow.h - the products of one instruction set with weights, and maybe rows, rounded to bfloat16: a stub in isa/ sets
 * its target and its macros, then includes this file once. All is static but the frnn_products.
 *
 * It must not know: time, threads, Python. */
#include "../internal/internal.h"

#include "vec.h"

#include "vmath.h"

#include "bfloat16.h"

#include "transpose.h"

#include "products.h"

/* Products that read rows as they are. */
#define WIDEN widen
#define CONVERT NULL
extern const frnn_products TABLE(FRNN_ISA, bfloat16_weights);
const frnn_products TABLE(FRNN_ISA, bfloat16_weights) = PRODUCTS;
#undef WIDEN
#undef CONVERT

/* Products that read rows rounded to bfloat16. */
#define WIDEN NULL
#define CONVERT round_rows
extern const frnn_products TABLE(FRNN_ISA, bfloat16);
const frnn_products TABLE(FRNN_ISA, bfloat16) = PRODUCTS;
