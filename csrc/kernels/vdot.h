/* vdot.h - products of four bytes of a row with four bytes of each lane, added up as integers of 32 bits, for the
 * instruction set of the stub that includes it. Besides vec.h and vmath.h the only file of the kernels with
 * instruction-set names.
 *
 * four: four numbers of a row as vdot takes them, for every lane; DOT_BYTES of an operand hold them. bytes: the same of
 * the weights, from a vector of lanes. DOT_ADDS_128: vdot multiplies with x + 128, which the operand holds.
 *
 * It must not know: cells, layouts, time. */

/* Without dot products a number takes two registers, or four, so tiles have fewer rows. */
#if !defined(FRNN_VNNI) && !defined(FRNN_DOTPROD)
#undef ACCUMULATORS
#if defined(FRNN_AVX512) || defined(FRNN_AVX2)
#define ACCUMULATORS 8
#else
#define ACCUMULATORS 4
#endif
#endif

#if defined(FRNN_VNNI)
#define DOT_ADDS_128 1
#define DOT_BYTES 4
typedef ivec four;
typedef ivec bytes;

INLINE four vload_four(const char *p) {
  int32_t x;
  memcpy(&x, p, 4);
  return (ivec){0} + x;
}
INLINE bytes vload_bytes(const real *lanes) { return (ivec)vload(lanes); }
#if defined(FRNN_AVX512)
INLINE ivec vdot(ivec sum, four x, bytes w) { return (ivec)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w); }
INLINE void vstore_numbers(char *to, int64_t k, ivec q) {
  _mm_storeu_si128((__m128i *)(to + k), _mm512_cvtepi32_epi8((__m512i)(q + 128)));
}
#else
INLINE ivec vdot(ivec sum, four x, bytes w) {
  return (ivec)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)w);
}
INLINE void vstore_numbers(char *to, int64_t k, ivec q) {
  for (int i = 0; i < LANES; i++) to[k + i] = (char)(q[i] + 128);
}
#endif

#elif defined(FRNN_DOTPROD)
#define DOT_ADDS_128 0
#define DOT_BYTES 4
typedef int8x16_t four;
typedef int8x16_t bytes;

INLINE four vload_four(const char *p) {
  int32_t x;
  memcpy(&x, p, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(x));
}
INLINE bytes vload_bytes(const real *lanes) { return (bytes)vload(lanes); }
/* Not by vdotq_s32: clang before 16 has it only if all of a file is compiled for CPUs with dot products. */
INLINE ivec vdot(ivec sum, four x, bytes w) {
  __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(x), "w"(w));
  return sum;
}
INLINE void vstore_numbers(char *to, int64_t k, ivec q) {
  for (int i = 0; i < LANES; i++) to[k + i] = (char)q[i];
}

#elif defined(FRNN_AVX512) || defined(FRNN_AVX2)
/* Bytes become integers of 16 bits, numbers 0 and 2 of each four, and numbers 1 and 3: products of pairs are summed. */
#define DOT_ADDS_128 0
#define DOT_BYTES 8
typedef struct {
  ivec even, odd;
} four;
typedef four bytes;

INLINE four vload_four(const char *p) {
  int32_t x[2];
  memcpy(x, p, 8);
  return (four){(ivec){0} + x[0], (ivec){0} + x[1]};
}
#if defined(FRNN_AVX512)
INLINE bytes vload_bytes(const real *lanes) {
  __m512i w = (__m512i)vload(lanes);
  return (bytes){(ivec)_mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8), (ivec)_mm512_srai_epi16(w, 8)};
}
INLINE ivec vdot(ivec sum, four x, bytes w) {
  return sum + (ivec)_mm512_madd_epi16((__m512i)x.even, (__m512i)w.even) +
         (ivec)_mm512_madd_epi16((__m512i)x.odd, (__m512i)w.odd);
}
#else
INLINE bytes vload_bytes(const real *lanes) {
  __m256i w = (__m256i)vload(lanes);
  return (bytes){(ivec)_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), (ivec)_mm256_srai_epi16(w, 8)};
}
INLINE ivec vdot(ivec sum, four x, bytes w) {
  return sum + (ivec)_mm256_madd_epi16((__m256i)x.even, (__m256i)w.even) +
         (ivec)_mm256_madd_epi16((__m256i)x.odd, (__m256i)w.odd);
}
#endif
INLINE void vstore_numbers(char *to, int64_t k, ivec q) {
  int16_t numbers[LANES];
  for (int i = 0; i < LANES; i++) numbers[i / 4 * 4 + i % 4 / 2 + i % 2 * 2] = (int16_t)q[i];
  memcpy(to + 2 * k, numbers, sizeof numbers);
}

#else
#define DOT_ADDS_128 0
#define DOT_BYTES 16
typedef struct {
  ivec of[4];
} four;
typedef four bytes;

INLINE four vload_four(const char *p) {
  int32_t x[4];
  memcpy(x, p, 16);
  return (four){{(ivec){0} + x[0], (ivec){0} + x[1], (ivec){0} + x[2], (ivec){0} + x[3]}};
}
INLINE bytes vload_bytes(const real *lanes) {
  ivec w = (ivec)vload(lanes);
  return (bytes){{w << 24 >> 24, w << 16 >> 24, w << 8 >> 24, w >> 24}};
}
INLINE ivec vdot(ivec sum, four x, bytes w) {
  return sum + x.of[0] * w.of[0] + x.of[1] * w.of[1] + x.of[2] * w.of[2] + x.of[3] * w.of[3];
}
INLINE void vstore_numbers(char *to, int64_t k, ivec q) { memcpy(to + 4 * k, &q, sizeof q); }
#endif
