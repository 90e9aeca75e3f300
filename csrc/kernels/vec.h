/* vec.h - one vector type and its operations, for the instruction set and dtype of the stub that includes it.
 *
 * The stub defines FRNN_BITS (32 or 64), FRNN_TARGET (what the compiler may use), FRNN_NARROW if it has products alone,
 * and at most one of FRNN_AVX2, FRNN_AVX512, FRNN_NEON; none of these means the generic set: 16-byte vectors, multiply
 * then add. Among the kernels only this file has instruction-set names. Every operation is exactly rounded or exact, so
 * results do not depend on the set (the generic one, which has no fused multiply-add, excepted).
 *
 * It must not know: cells, layouts, time. */
#include <stdint.h>
#include <string.h>

/* On AArch64 gcc moves loads ahead before it allots registers, and runs out of them. */
#if defined(FRNN_NEON) && !defined(__clang__)
#pragma GCC optimize("no-schedule-insns")
#endif

#if defined(FRNN_TARGET)
#define TARGET __attribute__((target(FRNN_TARGET)))
#else
#define TARGET
#endif
#if defined(FRNN_NARROW)
#define KERNEL static TARGET __attribute__((unused)) /* such as derivatives */
#else
#define KERNEL static TARGET
#endif
/* gcc would compile such a function again for each constant that it is called with. */
#if defined(__clang__)
#define NOINLINE static TARGET __attribute__((noinline, unused))
#else
#define NOINLINE static TARGET __attribute__((noinline, noclone, unused))
#endif
#define INLINE static inline TARGET __attribute__((always_inline))

#if defined(FRNN_AVX512)
#include <immintrin.h>
#define VEC_BYTES 64
#define FUSED 1
#define REGISTERS 32
#define ACCUMULATORS 24 /* the most registers that a tile holds while weights and inputs pass by */
#define LONG_STEP 12    /* multiply-adds of a step of k, from which on the loop takes one step at a time */
#define UNROLL_PRODUCT _Pragma("GCC unroll 4")
#define UNROLL_PAIRS _Pragma("GCC unroll 2")
#elif defined(FRNN_AVX2)
#include <immintrin.h>
#define VEC_BYTES 32
#define FUSED 1
#define REGISTERS 16
#define ACCUMULATORS 12
#define LONG_STEP 16 /* no tile has as many */
#define UNROLL_PRODUCT _Pragma("GCC unroll 4")
#define UNROLL_PAIRS _Pragma("GCC unroll 2")
#elif defined(FRNN_NEON)
#include <arm_neon.h>
#define VEC_BYTES 16
#define FUSED 1
#define REGISTERS 32
#define ACCUMULATORS 24
#define LONG_STEP 12
#define UNROLL_PRODUCT _Pragma("GCC unroll 1") /* clang would write out a block of 32 steps */
#define UNROLL_PAIRS _Pragma("GCC unroll 1")
#else
#define VEC_BYTES 16
#define FUSED 0 /* multiply, then add */
#define REGISTERS 16
#define ACCUMULATORS 12
#define LONG_STEP 12
#define UNROLL_PRODUCT _Pragma("GCC unroll 1")
#define UNROLL_PAIRS _Pragma("GCC unroll 1")
#endif

#if FRNN_BITS == 32
typedef float real;
typedef int32_t integer;
#else
typedef double real;
typedef int64_t integer;
#endif

#define MAX_ROWS 8 /* of a tile */
#define AT(type, base, bytes) ((type *)((char *)(uintptr_t)(base) + (bytes)))
#define LANES (VEC_BYTES / (int)sizeof(real))
#define SIGN_BIT ((integer)((uint64_t)1 << (FRNN_BITS - 1)))

typedef real vec __attribute__((vector_size(VEC_BYTES)));
typedef integer ivec __attribute__((vector_size(VEC_BYTES)));
typedef real vec_at_any_address __attribute__((vector_size(VEC_BYTES), aligned(sizeof(real)), may_alias));

INLINE vec vload(const real *p) { return *(const vec_at_any_address *)p; }
INLINE void vstore(real *p, vec v) { *(vec_at_any_address *)p = v; }
INLINE vec vset1(real x) { return x - (vec){0}; }
INLINE vec vabs(vec x) { return (vec)((ivec)x & ~SIGN_BIT); }

/* |magnitude| with the sign of `sign`; exact for zeros, infinities and NaN. */
INLINE vec vcopysign(vec magnitude, vec sign) { return (vec)(((ivec)magnitude & ~SIGN_BIT) | ((ivec)sign & SIGN_BIT)); }

/* x * y + z: fused if the set has a fused multiply-add. */
INLINE vec vfma(vec x, vec y, vec z) {
#if defined(FRNN_AVX512) && FRNN_BITS == 32
  return (vec)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
#elif defined(FRNN_AVX512)
  return (vec)_mm512_fmadd_pd((__m512d)x, (__m512d)y, (__m512d)z);
#elif defined(FRNN_AVX2) && FRNN_BITS == 32
  return (vec)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
#elif defined(FRNN_AVX2)
  return (vec)_mm256_fmadd_pd((__m256d)x, (__m256d)y, (__m256d)z);
#elif defined(FRNN_NEON) && FRNN_BITS == 32
  return (vec)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
#elif defined(FRNN_NEON)
  return (vec)vfmaq_f64((float64x2_t)z, (float64x2_t)x, (float64x2_t)y);
#else
  return x * y + z;
#endif
}

/* 2^k from the sum of k, the exponent's bias and a magic number that puts integers into the low bits. */
INLINE vec vpower_of_two(vec biased) { return (vec)((ivec)biased << (FRNN_BITS == 32 ? 23 : 52)); }

/* x * 2^k, rounded once even if that is subnormal. `biased` is k as vpower_of_two takes it, plus a guard that keeps the
 * power normal; `unguard` is 2 to minus that guard. */
INLINE vec vscale(vec x, vec k, vec biased, vec unguard) {
#if defined(FRNN_AVX512) && FRNN_BITS == 32
  (void)biased, (void)unguard;
  return (vec)_mm512_scalef_ps((__m512)x, (__m512)k);
#elif defined(FRNN_AVX512)
  (void)biased, (void)unguard;
  return (vec)_mm512_scalef_pd((__m512d)x, (__m512d)k);
#else
  (void)k;
  return x * vpower_of_two(biased) * unguard;
#endif
}

#if FRNN_BITS == 32
/* The upper half of each lane of 32 bits, or the lower half in its place; the other half is zero. */
INLINE vec vupper(vec pair) { return (vec)((ivec)pair & (int32_t)0xffff0000); }
INLINE vec vlower(vec pair) { return (vec)((ivec)pair << 16); }

/* Products of pairs of bfloat16, a lane's upper half first: two fused multiply-adds, for which subnormals are zeros.
 * And numbers k to k + LANES of a row that are rounded, as operands: pairs, or floats. */
#if defined(FRNN_BF16)
#define MULTIPLIES_PAIRS 1
INLINE vec vfma_pairs(vec x, vec y, vec z) {
  return (vec)_mm512_dpbf16_ps((__m512)z, (__m512bh)(__m512)x, (__m512bh)(__m512)y);
}
INLINE void vstore_rounded(char *to, int64_t k, vec v) {
  __m512i pairs = _mm512_or_si512((__m512i)v, _mm512_srli_epi64((__m512i)v, 48));
  _mm256_storeu_si256((__m256i *)(to + k * 2), _mm512_cvtepi64_epi32(pairs));
}
#else
#define MULTIPLIES_PAIRS 0
INLINE vec vfma_pairs(vec x, vec y, vec z) { return (void)x, (void)y, z; }
INLINE void vstore_rounded(char *to, int64_t k, vec v) { vstore((real *)(void *)to + k, v); }
#endif

/* The same of lanes in memory. The compiler would take two registers for one of these, or another one for the mask, and
 * move them: then a tile has too few. */
INLINE vec vload_upper(const real *p) {
#if defined(FRNN_AVX512)
  vec v;
  __asm__ volatile("vmovdqu16 %1, %0%{%2%}%{z%}" : "=v"(v) : "m"(*(const vec_at_any_address *)p), "Yk"(0xaaaaaaaau));
  return v;
#elif defined(FRNN_AVX2)
  vec v;
  __asm__ volatile("vpxor %0, %0, %0\n\tvpblendw $0xaa, %1, %0, %0" : "=&x"(v) : "m"(*(const vec_at_any_address *)p));
  return v;
#else
  return vupper(vload(p));
#endif
}
INLINE vec vload_lower(const real *p) {
#if defined(FRNN_AVX512)
  vec v;
  __asm__ volatile("vpslld $16, %1, %0" : "=v"(v) : "m"(*(const vec_at_any_address *)p));
  return v;
#elif defined(FRNN_AVX2)
  vec v;
  __asm__ volatile("vmovups %1, %0\n\tvpslld $16, %0, %0" : "=x"(v) : "m"(*(const vec_at_any_address *)p));
  return v;
#else
  return vlower(vload(p));
#endif
}
#endif

/* The larger of the two; x if x is NaN. */
INLINE vec vmax(vec x, vec floor) {
#if defined(FRNN_AVX512) && FRNN_BITS == 32
  return (vec)_mm512_max_ps((__m512)floor, (__m512)x);
#elif defined(FRNN_AVX512)
  return (vec)_mm512_max_pd((__m512d)floor, (__m512d)x);
#elif defined(FRNN_AVX2) && FRNN_BITS == 32
  return (vec)_mm256_max_ps((__m256)floor, (__m256)x);
#elif defined(FRNN_AVX2)
  return (vec)_mm256_max_pd((__m256d)floor, (__m256d)x);
#else
  ivec below = (ivec)(x < floor);
  return (vec)((below & (ivec)floor) | (~below & (ivec)x));
#endif
}

/* `negative` in lanes where the sign bit of `sign` is set, `positive` in the others. */
INLINE vec vselect_negative(vec sign, vec negative, vec positive) {
#if defined(FRNN_AVX512) && FRNN_BITS == 32
  return (vec)_mm512_mask_mov_ps((__m512)positive, _mm512_movepi32_mask((__m512i)sign), (__m512)negative);
#elif defined(FRNN_AVX512)
  return (vec)_mm512_mask_mov_pd((__m512d)positive, _mm512_movepi64_mask((__m512i)sign), (__m512d)negative);
#elif defined(FRNN_AVX2) && FRNN_BITS == 32
  return (vec)_mm256_blendv_ps((__m256)positive, (__m256)negative, (__m256)sign);
#elif defined(FRNN_AVX2)
  return (vec)_mm256_blendv_pd((__m256d)positive, (__m256d)negative, (__m256d)sign);
#else
  ivec mask = (ivec)sign < (ivec){0};
  return (vec)((mask & (ivec)negative) | (~mask & (ivec)positive));
#endif
}

#if defined(FRNN_AVX2) && FRNN_BITS == 32
/* Less than four floats. A load of the same parts as the stores before it needs not wait until they are in the cache.
 */
INLINE __m128 load_few(const float *p, int64_t n) {
  __m128 v = _mm_setzero_ps();
  if (n & 2) v = _mm_loadl_pi(v, (const __m64 *)p);
  if (n & 1) v = n & 2 ? _mm_movelh_ps(v, _mm_load_ss(p + 2)) : _mm_load_ss(p);
  return v;
}

INLINE void store_few(float *p, __m128 v, int64_t n) {
  if (n & 2) {
    _mm_storel_pi((__m64 *)p, v);
    v = _mm_movehl_ps(v, v);
    p += 2;
  }
  if (n & 1) _mm_store_ss(p, v);
}
#endif

/* The first n lanes, 0 < n <= LANES; the others are zero (load) or left alone (store). Memory past n elements
 * is never touched, so rows need no padding. */
INLINE vec vload_part(const real *p, int64_t n) {
  if (n >= LANES) return vload(p);
#if defined(FRNN_AVX512) && FRNN_BITS == 32
  return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif defined(FRNN_AVX512)
  return (vec)_mm512_maskz_loadu_pd((__mmask8)((1u << n) - 1), p);
#elif defined(FRNN_AVX2) && FRNN_BITS == 32
  __m256 low = _mm256_zextps128_ps256(n & 4 ? _mm_loadu_ps(p) : load_few(p, n));
  return (vec)(n > 4 ? _mm256_insertf128_ps(low, load_few(p + 4, n), 1) : low);
#else
  real lanes[LANES] = {0};
  for (int i = 0; i < LANES; i++)
    if (i < n) lanes[i] = p[i];
  return vload(lanes);
#endif
}

INLINE void vstore_part(real *p, vec v, int64_t n) {
  if (n >= LANES) {
    vstore(p, v);
    return;
  }
#if defined(FRNN_AVX512) && FRNN_BITS == 32
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
#elif defined(FRNN_AVX512)
  _mm512_mask_storeu_pd(p, (__mmask8)((1u << n) - 1), (__m512d)v);
#elif defined(FRNN_AVX2) && FRNN_BITS == 32
  __m128 rest = _mm256_castps256_ps128((__m256)v);
  if (n & 4) {
    _mm_storeu_ps(p, rest);
    rest = _mm256_extractf128_ps((__m256)v, 1);
    p += 4;
  }
  store_few(p, rest, n);
#else
  real lanes[LANES];
  vstore(lanes, v);
  for (int i = 0; i < LANES; i++)
    if (i < n) p[i] = lanes[i];
#endif
}

/* Interleave the lower or the upper halves of a and b: a0 b0 a1 b1 ... */
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif
#if VEC_BYTES * 8 / FRNN_BITS == 16
#define INTERLEAVE_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define INTERLEAVE_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VEC_BYTES * 8 / FRNN_BITS == 8
#define INTERLEAVE_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define INTERLEAVE_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif VEC_BYTES * 8 / FRNN_BITS == 4
#define INTERLEAVE_LOW 0, 4, 1, 5
#define INTERLEAVE_HIGH 2, 6, 3, 7
#else
#define INTERLEAVE_LOW 0, 2
#define INTERLEAVE_HIGH 1, 3
#endif

/* Transpose a square of LANES vectors in registers: log2(LANES) perfect shuffles. */
INLINE void vtranspose(vec v[LANES]) {
  vec next[LANES];
#pragma GCC unroll 4
  for (int half = 1; half < LANES; half *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < LANES / 2; i++) {
      next[2 * i] = SHUFFLE(v[i], v[i + LANES / 2], INTERLEAVE_LOW);
      next[2 * i + 1] = SHUFFLE(v[i], v[i + LANES / 2], INTERLEAVE_HIGH);
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) v[i] = next[i];
  }
}
