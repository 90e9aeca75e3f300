/* vmath.h - exp, sigmoid and tanh on a vector, within 3 ULP everywhere, exact at 0 and at the infinities.
 *
 * exp:      x = k ln 2 + r, |r| <= ln(2)/2, exp(x) = 2^k (1 + r + r^2 Q(r)); Q is a minimax polynomial
 *           (Remez exchange, weighted so that expm1 keeps its relative accuracy near 0).
 * sigmoid:  e/(1 + e) below 0 and 1/(1 + e) above, with e = exp(-|x|): no overflow, full relative accuracy.
 * tanh:     -m/(m + 2) with m = expm1(-2|x|), and the sign of x.
 * Every function has its own division. One division for several functions, by multiplying with the other
 * denominators, was slower: the divider works beside the multipliers, which limit the speed.
 *
 * It must not know: cells, layouts, time. */

#if FRNN_BITS == 32
#define LOG2E 0x1.715476p+0f
#define LN2_HIGH 0x1.62e4p-1f /* 15 bits: k * LN2_HIGH is exact */
#define LN2_LOW 0x1.7f7d1cp-20f
#define LN2 0x1.62e43p-1f
#define MANTISSA 23
#define EXP_BIAS 127
#define EXP_GUARD 64         /* 2^k is applied as 2^(k+64) * 2^-64: the last product alone rounds a subnormal */
#define EXP_GUARD_UP 0x1p64f /* and its powers */
#define EXP_GUARD_DOWN 0x1p-64f
#define EXP_LOWEST (-104.0f) /* exp is 0 from here down */
#define EXP_HIGHEST 89.0f    /* and infinite from here up */
#define TANH_LOWEST (-20.0f) /* expm1 is -1 from here down */
#define MAGIC 0x1.8p23f      /* adding it rounds to an integer, which is then in the low bits */
static const real exp_coefficients[] = {0.00139464968258535467f, 0.008366610597746524636f, 0.04166628140533794731f,
                                        0.1666654279393175623f, 0.5000000062081817253f};
#else
#define LOG2E 0x1.71547652b82fep+0
#define LN2_HIGH 0x1.62e42fefa38p-1
#define LN2_LOW 0x1.ef35793c7673p-45
#define LN2 0x1.62e42fefa39efp-1
#define MANTISSA 52
#define EXP_BIAS 1023
#define EXP_GUARD 512
#define EXP_GUARD_UP 0x1p512
#define EXP_GUARD_DOWN 0x1p-512
#define EXP_LOWEST (-746.0)
#define EXP_HIGHEST 710.0
#define TANH_LOWEST (-40.0)
#define MAGIC 0x1.8p52
static const real exp_coefficients[] = {2.511452238262455891e-8, 2.762638174718520811e-7, 2.755722781315017047e-6,
                                        2.480150431337937802e-5, 1.984126990316954536e-4, 1.388888893248318577e-3,
                                        8.333333333314536994e-3, 4.166666666657332704e-2, 1.666666666666666861e-1,
                                        5.000000000000005572e-1};
#endif
#define N_MOST 4   /* vectors a function below takes at once */
#define TOGETHER 2 /* units that an epilogue takes at once: an LSTM pass is 3 to 9% faster with two than with one */
#define EXP_TERMS ((int)(sizeof exp_coefficients / sizeof *exp_coefficients))

/* Every function takes N vectors at once and does each operation to all of them before the next: N chains of
 * dependent operations side by side, written out, for the reorder window is too short to find them. */
#define EACH _Pragma("GCC unroll 16") for (int n = 0; n < N; n++)

/* scale * Q(scale * r) by Horner's rule, scale a power of two. */
INLINE void exp_tails(const int N, const int scale, const vec *r, vec *q) {
  EACH q[n] = vset1(exp_coefficients[0] * (1 << (scale / 2 * EXP_TERMS)));
#pragma GCC unroll 16
  for (int i = 1; i < EXP_TERMS; i++)
    EACH q[n] = vfma(q[n], r[n], vset1(exp_coefficients[i] * (1 << (scale / 2 * (EXP_TERMS - i)))));
}

/* exp(x) if k plus the guard stays in the exponent's range: the caller picks the sign of the guard. */
INLINE void exps_guarded(const int N, vec *x, const vec *magic, const vec *unguard) {
  vec rounded[N_MOST], k[N_MOST], q[N_MOST];
  EACH rounded[n] = vfma(x[n], vset1(LOG2E), magic[n]);
  EACH k[n] = rounded[n] - magic[n];
  EACH x[n] = vfma(k[n], vset1(-LN2_HIGH), x[n]);
  EACH x[n] = vfma(k[n], vset1(-LN2_LOW), x[n]);
  exp_tails(N, 1, x, q);
  EACH q[n] = vfma(q[n], x[n], vset1(1));
  EACH q[n] = vfma(q[n], x[n], vset1(1));
  EACH x[n] = vscale(q[n], k[n], rounded[n], unguard[n]);
}

INLINE void sigmoids(const int N, vec *x) {
  vec e[N_MOST], magic[N_MOST], unguard[N_MOST];
  EACH magic[n] = vset1(MAGIC + EXP_BIAS + EXP_GUARD);
  EACH unguard[n] = vset1(EXP_GUARD_DOWN);
  EACH e[n] = vmax((vec)((ivec)x[n] | SIGN_BIT), vset1(EXP_LOWEST));
  exps_guarded(N, e, magic, unguard);
  EACH x[n] = vselect_negative(x[n], e[n], vset1(1)) / (e[n] + vset1(1));
}

/* With u = -|x| - k ln(2)/2, half of the reduced argument, so that nothing is doubled on the way. */
INLINE void tanhs(const int N, vec *x) {
  vec twice[N_MOST], u[N_MOST], m[N_MOST];
  EACH u[n] = vmax((vec)((ivec)x[n] | SIGN_BIT), vset1(TANH_LOWEST));
  EACH twice[n] = vfma(u[n], vset1(2 * LOG2E), vset1(MAGIC + EXP_BIAS + 1));
  EACH u[n] = vfma(twice[n] - vset1(MAGIC + EXP_BIAS + 1), vset1(-LN2 / 2), u[n]);
  exp_tails(N, 2, u, m);
  EACH m[n] = vfma(m[n], u[n] * u[n], u[n]);
  EACH twice[n] = vpower_of_two(twice[n]);
  EACH m[n] = vfma(twice[n], m[n], vfma(twice[n], vset1((real)0.5), vset1(-1)));
  EACH x[n] = vcopysign(m[n], x[n]) / (m[n] + vset1(2));
}

INLINE vec vsigmoid(vec x) {
  sigmoids(1, &x);
  return x;
}

INLINE vec vtanh(vec x) {
  tanhs(1, &x);
  return x;
}

INLINE vec vexp(vec x) {
  vec magic = vselect_negative(x, vset1(MAGIC + EXP_BIAS + EXP_GUARD), vset1(MAGIC + EXP_BIAS - EXP_GUARD));
  vec unguard = vselect_negative(x, vset1(EXP_GUARD_DOWN), vset1(EXP_GUARD_UP));
  x = -vmax(-vmax(x, vset1(EXP_LOWEST)), vset1(-EXP_HIGHEST));
  exps_guarded(1, &x, &magic, &unguard);
  return x;
}
