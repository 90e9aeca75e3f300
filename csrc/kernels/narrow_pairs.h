/* narrow_pairs.h - the products of an instruction set that multiplies pairs of bfloat16: a stub in isa/ sets its target
 * and its macros, then includes this file once. All is static but the frnn_products.
 *
 * It must not know: time, threads, Python. */
#include "../internal/internal.h"

#include "vec.h"

#include "vmath.h"

#include "bfloat16.h"

#include "transpose.h"

#include "products.h"

#define WIDEN NULL
#define CONVERT round_rows
extern const frnn_products TABLE(FRNN_ISA, pairs);
const frnn_products TABLE(FRNN_ISA, pairs) = PRODUCTS;
