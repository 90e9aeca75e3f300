/* probe.h - measures what this machine can do: multiply-adds in registers, reads of a buffer. The bench draws its
 * limits from them.
 *
 * It must not know: anything else. */

KERNEL double probe_fma(int64_t rounds) {
  enum { CHAINS = ACCUMULATORS / 12 * 10 };
  vec acc[CHAINS], x = vset1((real)0.999), y = vset1((real)0.001);
#pragma GCC unroll 24
  for (int i = 0; i < CHAINS; i++) acc[i] = vset1((real)i);
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 24
    for (int i = 0; i < CHAINS; i++) acc[i] = vfma(acc[i], x, y);
  }
  vec sum = acc[0];
#pragma GCC unroll 24
  for (int i = 1; i < CHAINS; i++) sum += acc[i];
  volatile real checkpoints = sum[0];
  (void)checkpoints;
  return 2.0 * LANES * CHAINS * (double)rounds;
}

/* n: bytes, a multiple of 1024. Bitwise, so that the value of the bytes cannot change the speed. */
KERNEL double probe_read(const void *p, size_t n, int64_t rounds) {
  ivec mix[8] = {{0}};
  for (int64_t r = 0; r < rounds; r++) {
    for (size_t at = 0; at < n; at += 8 * VEC_BYTES) {
#pragma GCC unroll 8
      for (size_t i = 0; i < 8; i++) mix[i] |= (ivec)vload(AT(const real, p, at + i * VEC_BYTES));
    }
    __asm__ volatile("" ::: "memory");
  }
#pragma GCC unroll 8
  for (int i = 1; i < 8; i++) mix[0] |= mix[i];
  return (double)mix[0][0];
}
