/* Any machine: 16-byte vectors, multiply then add, int8 weights. */
#define FRNN_ISA generic
#define FRNN_BITS 32
#define FRNN_NARROW
#define FRNN_KIND int8
#include "../kernels/narrow_int8.h"
