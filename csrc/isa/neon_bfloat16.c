/* AArch64, all of which has NEON, weights rounded to bfloat16. */
#if defined(__aarch64__)
#define FRNN_ISA neon
#define FRNN_BITS 32
#define FRNN_NARROW
#define FRNN_NEON
#include "../kernels/narrow.h"
#endif
