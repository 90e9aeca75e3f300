/* x86-64 with AVX-512 F, BW, DQ and VL, int8 weights. */
#if defined(__x86_64__)
#define FRNN_ISA avx512
#define FRNN_BITS 32
#define FRNN_NARROW
#define FRNN_KIND int8
#define FRNN_AVX512
#define FRNN_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#include "../kernels/narrow_int8.h"
#endif
