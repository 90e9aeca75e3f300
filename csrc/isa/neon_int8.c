/* AArch64, all of which has NEON, int8 weights. */
#if defined(__aarch64__)
#define FRNN_ISA neon
#define FRNN_BITS 32
#define FRNN_NARROW
#define FRNN_KIND int8
#define FRNN_NEON
#include "../kernels/narrow_int8.h"
#endif
