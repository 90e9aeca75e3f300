/* x86-64 with AVX-512 F, BW, DQ and VL and BF16, rows and weights rounded to bfloat16. */
#if defined(__x86_64__)
#define FRNN_ISA avx512
#define FRNN_BITS 32
#define FRNN_NARROW
#define FRNN_AVX512
#define FRNN_BF16
#define FRNN_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"
#include "../kernels/narrow_pairs.h"
#endif
