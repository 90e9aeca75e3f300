/* vmath.h - exp, sigmoid and tanh on a vector, within 3 ULP everywhere, exact at 0 and at the infinities.
 *
 * exp:      x = k ln 2 + r, |r| <= ln(2)/2, exp(x) = 2^k (1 + r + r^2 Q(r)); Q is a minimax polynomial
 *           (Remez exchange, weighted so that expm1 keeps its relative accuracy near 0).
 * sigmoid:  e/(1 + e) below 0 and 1/(1 + e) above, with e = exp(-|x|): no overflow, full relative accuracy.
 * tanh:     -m/(m + 2) with m = expm1(-2|x|), and the sign of x.
 * Both are fractions, so two of them can share one division (`divide_pair`): a true division costs as much as
 * half of an exp.
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
#define TANH_LOWEST (-40.0f) /* expm1 is -1 from here down */
#define MAGIC 0x1.8p23f      /* adding it rounds to an integer, which then stands in the low bits */
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
#define TANH_LOWEST (-80.0)
#define MAGIC 0x1.8p52
static const real exp_coefficients[] = {2.511452238262455891e-8, 2.762638174718520811e-7, 2.755722781315017047e-6,
                                        2.480150431337937802e-5, 1.984126990316954536e-4, 1.388888893248318577e-3,
                                        8.333333333314536994e-3, 4.166666666657332704e-2, 1.666666666666666861e-1,
                                        5.000000000000005572e-1};
#endif
#define EXP_TERMS ((int)(sizeof exp_coefficients / sizeof *exp_coefficients))

typedef struct {
  vec over, under;
} fraction;

/* Q(r), by Horner's rule: the tiles interleave many of them, so operations count and latency does not. */
INLINE vec exp_tail(vec r) {
  vec q = vset1(exp_coefficients[0]);
#pragma GCC unroll 16
  for (int i = 1; i < EXP_TERMS; i++) q = vfma(q, r, vset1(exp_coefficients[i]));
  return q;
}

/* 2^k from a sum of k and MAGIC whose low bits hold the biased exponent. */
INLINE vec power_of_two(vec rounded) { return (vec)((ivec)rounded << MANTISSA); }

/* exp(x) given that EXP_GUARD + k stays in the exponent's range: the caller picks the sign of the guard. */
INLINE vec exp_guarded(vec x, vec magic, vec unguard) {
  vec rounded = vfma(x, vset1(LOG2E), magic);
  vec k = rounded - magic;
  vec r = vfma(k, vset1(-LN2_HIGH), x);
  r = vfma(k, vset1(-LN2_LOW), r);
  vec p = vfma(vfma(exp_tail(r), r, vset1(1)), r, vset1(1));
  return p * power_of_two(rounded) * unguard;
}

/* exp(x) for x <= 0 (or NaN). */
INLINE vec vexp_negative(vec x) {
  return exp_guarded(vmax(x, vset1(EXP_LOWEST)), vset1(MAGIC + EXP_BIAS + EXP_GUARD), vset1(EXP_GUARD_DOWN));
}

INLINE vec vexp(vec x) {
  vec bounded = -vmax(-vmax(x, vset1(EXP_LOWEST)), vset1(-EXP_HIGHEST));
  vec magic = vselect_negative(x, vset1(MAGIC + EXP_BIAS + EXP_GUARD), vset1(MAGIC + EXP_BIAS - EXP_GUARD));
  vec unguard = vselect_negative(x, vset1(EXP_GUARD_DOWN), vset1(EXP_GUARD_UP));
  return exp_guarded(bounded, magic, unguard);
}

INLINE fraction sigmoid_fraction(vec x) {
  vec e = vexp_negative(-vabs(x));
  return (fraction){vselect_negative(x, e, vset1(1)), e + vset1(1)};
}

INLINE fraction tanh_fraction(vec x) {
  vec y = vmax(vabs(x) * vset1(-2), vset1(TANH_LOWEST));
  vec magic = vset1(MAGIC + EXP_BIAS);
  vec rounded = vfma(y, vset1(LOG2E), magic);
  vec r = vfma(rounded - magic, vset1(-LN2), y);
  vec scale = power_of_two(rounded);
  vec p = vfma(exp_tail(r), r * r, r);
  vec m = vfma(scale, p, scale - vset1(1));
  return (fraction){vcopysign(m, x), m + vset1(2)};
}

INLINE vec divide(fraction f) { return f.over / f.under; }

/* Both quotients with one division. The denominators lie in [1, 2], so nothing overflows; two roundings more
 * than `divide`. */
INLINE void divide_pair(fraction f, fraction g, vec *first, vec *second) {
  vec q = vset1(1) / (f.under * g.under);
  *first = f.over * (g.under * q);
  *second = g.over * (f.under * q);
}

INLINE vec vsigmoid(vec x) { return divide(sigmoid_fraction(x)); }
INLINE vec vtanh(vec x) { return divide(tanh_fraction(x)); }
