/* Any machine: 16-byte vectors, multiply then add, weights rounded to bfloat16. */
#define FRNN_ISA generic
#define FRNN_BITS 32
#define FRNN_NARROW
#include "../kernels/narrow.h"
