/* x86-64 with AVX2, FMA and AVX-VNNI, int8 weights. */
#if defined(__x86_64__)
#define FRNN_ISA avx2
#define FRNN_BITS 32
#define FRNN_NARROW
#define FRNN_KIND vnni
#define FRNN_AVX2
#define FRNN_VNNI
#define FRNN_TARGET "avx2,fma,avxvnni"
#include "../kernels/narrow_int8.h"
#endif
