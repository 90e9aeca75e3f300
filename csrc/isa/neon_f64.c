/* AArch64, all of which has NEON, float64. */
#if defined(__aarch64__)
#define FRNN_ISA neon
#define FRNN_BITS 64
#define FRNN_NEON
#include "../kernels/kernels.h"
#endif
