/* narrow_int8.h - the products of one instruction set with int8 weights: a stub in isa/ sets its target and its macros,
 * then includes this file once. All is static but the frnn_products.
 *
 * It must not know: time, threads, Python. */
#include "../internal/internal.h"

#include "vec.h"

#include "vmath.h"

#include "vdot.h"

#include "int8.h"

#include "products.h"

extern const frnn_products TABLE(FRNN_ISA, FRNN_KIND);
const frnn_products TABLE(FRNN_ISA, FRNN_KIND) = PRODUCTS;
