/* x86-64 with AVX-512 F, BW, DQ, VL and BF16, whose vdpbf16ps multiplies pairs of bfloat16: rows and weights rounded.
 */
#if defined(__x86_64__)
#define FRNN_ISA avx512
#define FRNN_BITS 32
#define FRNN_NARROW
#define FRNN_AVX512
#define FRNN_BF16
#define FRNN_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"
#include "../kernels/narrow_pairs.h"
#endif
