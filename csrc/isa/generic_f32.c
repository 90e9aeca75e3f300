/* Any machine: 16-byte vectors, multiply then add, float32. */
#define FRNN_ISA generic
#define FRNN_BITS 32
#include "../kernels/kernels.h"
