/* Any machine: 16-byte vectors, multiply then add, float64. */
#define FRNN_ISA generic
#define FRNN_BITS 64
#include "../kernels/kernels.h"
