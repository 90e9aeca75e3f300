/* AArch64 with dot products of bytes, int8 weights. */
#if defined(__aarch64__)
#define FRNN_ISA neon
#define FRNN_BITS 32
#define FRNN_NARROW
#define FRNN_KIND dotprod
#define FRNN_NEON
#define FRNN_DOTPROD
#if defined(__clang__)
#define FRNN_TARGET "dotprod"
#else
#define FRNN_TARGET "arch=armv8.2-a+dotprod"
#endif
#include "../kernels/narrow_int8.h"
#endif
