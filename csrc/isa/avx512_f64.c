/* x86-64 with AVX-512 F, BW, DQ and VL, float64. */
#if defined(__x86_64__)
#define FRNN_ISA avx512
#define FRNN_BITS 64
#define FRNN_AVX512
#define FRNN_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#include "../kernels/kernels.h"
#endif
