/* int8.h - packed weights of 8 bits. A lane of 32 bits holds four numbers of k, the first one lowest. Before the
 * numbers of a vector of outputs come lanes with their scales, and for each block of k 128 times the sum of its
 * numbers, negative: some instruction sets multiply with x + 128. A row that is an operand begins with its scale; its
 * numbers follow after FRNN_OPERAND_HEADER bytes, in the form that vdot reads.
 *
 * A sum of integers is exact, so it does not depend on the instruction set. It becomes a float, which goes to the chain
 * with one fused multiply-add: the scale of the row times the scale of the output, times the sum.
 *
 * It must not know: cells, time, threads. */

#define KBLOCK INT64_MAX /* all of k at once: the scales of a row and of a panel stand before all their numbers */

/* The lanes of k numbers of a row. */
#define PACKED(k) ((k) == 0 ? 0 : ((k) - 1) / 4 + 1 + FRNN_INT8_HEADER(k))
#define ALONG(k, a_k) ((k) * (a_k)) /* after all of k: nothing is read there */

/* acc[r][p][g] += sum over k of a[r][k] * b[p][k][g]. */
INLINE void chain(const int R, const int P, const int G, vec *acc, const void *a, ptrdiff_t a_row, ptrdiff_t a_k,
                  const real *panels, ptrdiff_t panel, int64_t k) {
  const int V = P * G;
  const char *row = (const char *)a + FRNN_OPERAND_HEADER;
  const real *lanes = panels + FRNN_INT8_HEADER(k) * G * LANES;
  (void)a_k;
  for (int64_t block = 0; k > 0; block++) {
    ivec sum[ACCUMULATORS];
#pragma GCC unroll 32
    for (int i = 0; i < R * V; i++)
      sum[i] =
          (ivec)(DOT_ADDS_128 ? vload(panels + i % V / G * panel + ((1 + block) * G + i % V % G) * LANES) : (vec){0});
    int64_t fours = ((k < FRNN_INT8_BLOCK ? k : FRNN_INT8_BLOCK) - 1) / 4 + 1;
    k -= FRNN_INT8_BLOCK;
#pragma GCC unroll 1
    for (; fours > 0; fours--, row += DOT_BYTES, lanes += G * LANES) {
      if (R <= V) {
        four x[MAX_ROWS];
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) x[r] = vload_four(row + r * a_row);
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) {
          bytes w = vload_bytes(lanes + (v / G) * panel + (v % G) * LANES);
#pragma GCC unroll 8
          for (int r = 0; r < R; r++) sum[r * V + v] = vdot(sum[r * V + v], x[r], w);
        }
      } else {
        bytes w[ACCUMULATORS];
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) w[v] = vload_bytes(lanes + (v / G) * panel + (v % G) * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
          four x = vload_four(row + r * a_row);
#pragma GCC unroll 16
          for (int v = 0; v < V; v++) sum[r * V + v] = vdot(sum[r * V + v], x, w[v]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      vec scale = vset1(*(const real *)((const char *)a + r * a_row));
#pragma GCC unroll 16
      for (int v = 0; v < V; v++)
        acc[r * V + v] = vfma(scale * vload(panels + v / G * panel + v % G * LANES),
                              __builtin_convertvector(sum[r * V + v], vec), acc[r * V + v]);
    }
  }
}

/* x / scale, rounded to an integer, at most FRNN_INT8_LARGEST in size. */
INLINE integer rounded(real x, real scale) {
  real q = scale > 0 ? x / scale : 0;
  q = q > FRNN_INT8_LARGEST ? FRNN_INT8_LARGEST : q < -FRNN_INT8_LARGEST ? -FRNN_INT8_LARGEST : q;
  return (integer)((q + MAGIC) - MAGIC);
}

/* Packs outputs whose scales are in the panels already; lanes beyond the outputs are zeros. A number that is not finite
 * makes its output NaN: the scale is NaN then. */
KERNEL void pack(const frnn_transpose *p) {
  int64_t header = FRNN_INT8_HEADER(p->k);
  for (int64_t n = 0; n < p->outputs; n += LANES) {
    char *panel = AT(char, p->dst, n / LANES * p->dst_vector);
    for (int64_t lane = 0; lane < LANES; lane++) {
      int64_t there = n + lane < p->outputs ? p->k : 0;
      const real *from = AT(const real, p->src, (n + lane) * p->src_row * (there > 0));
      real scale = *AT(real, panel, lane * 4);
      integer sum = 0;
      for (int64_t k = 0; k < p->k; k += 4) {
        signed char q[4] = {0};
        for (int i = 0; i < 4 && k + i < there; i++) {
          q[i] = (signed char)rounded(from[k + i], scale);
          sum -= 128 * q[i];
        }
        memcpy(AT(char, panel, (header + k / 4) * p->dst_k + lane * 4), q, 4);
        if (k % FRNN_INT8_BLOCK + 4 >= FRNN_INT8_BLOCK || k + 4 >= p->k) {
          memcpy(AT(char, panel, (1 + k / FRNN_INT8_BLOCK) * p->dst_k + lane * 4), &sum, 4);
          sum = 0;
        }
      }
    }
  }
}

KERNEL void unpack(const frnn_transpose *p) {
  int64_t header = FRNN_INT8_HEADER(p->k);
  for (int64_t n = 0; n < p->outputs; n++) {
    const char *panel = AT(const char, p->dst, n / LANES * p->dst_vector + n % LANES * 4);
    real scale = *AT(const real, panel, 0);
    for (int64_t k = 0; k < p->k; k++) AT(real, p->src, n * p->src_row)
    [k] = scale * (real)*AT(const signed char, panel, (header + k / 4) * p->dst_k + k % 4);
  }
}

/* Column k of a panel of one gate; `all` columns are there. */
KERNEL void column(const void *panel, int64_t k, int64_t all, void *lanes) {
  for (int lane = 0; lane < LANES; lane++) {
    const signed char *q = AT(const signed char, panel, ((FRNN_INT8_HEADER(all) + k / 4) * LANES + lane) * 4 + k % 4);
    ((real *)lanes)[lane] = ((const real *)panel)[lane] * (real)*q;
  }
}

/* The largest number of a row in size; NaN if one is not finite. */
INLINE real largest_of(const real *x, int64_t k) {
  vec largest = {0}, finite = {0};
  for (int64_t i = 0; i < k; i += LANES) {
    vec v = vload_part(x + i, k - i);
    largest = vmax(vabs(v), largest);
    finite += v - v;
  }
  real most = 0;
  for (int i = 0; i < LANES; i++) {
    if (finite[i] != 0) return __builtin_nanf("");
    most = largest[i] > most ? largest[i] : most;
  }
  return most;
}

/* Numbers of rows in units of a scale for each row, FRNN_INT8_LARGEST at most. A row is zeros if its scale would be
 * subnormal, or if it is NaN: then all products are NaN whatever the numbers are, and no sum of them must overflow. */
KERNEL void convert(const frnn_operands *o) {
  for (int64_t m = 0; m < o->m; m++) {
    const real *x = AT(const real, o->rows, m * o->row);
    char *to = AT(char, o->operands, m * o->operand_row);
    real most = largest_of(x, o->k);
    if (o->bounded && most <= 1) most = 1;
    real scale = most / FRNN_INT8_LARGEST, inverse = FRNN_INT8_LARGEST / most;
    if (scale < 0x1p-126f) scale = inverse = 0;
    *(real *)to = scale;
    for (int64_t k = 0; k < o->k; k += LANES) {
      vec q = most == most ? vload_part(x + k, o->k - k) * vset1(inverse) : (vec){0};
      vstore_numbers(to + FRNN_OPERAND_HEADER, k, (ivec)(q + vset1(MAGIC)) - (ivec)vset1(MAGIC));
    }
  }
}

#define WIDEN NULL
#define CONVERT convert

#define COMPACT 1
