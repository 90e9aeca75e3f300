/* dispatch.c - chooses the kernels that this CPU can run, and finds those again that packed some weights. One of the
 * files with preprocessor conditions.
 *
 * It must not know: cells, layouts, time. */
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

#include "../internal/internal.h"

/* The sets of this build: those of the target, or one that CMakeLists.txt names. */
#if !defined(FRNN_ONE_SET)
#define FRNN_WITH_GENERIC
#if defined(__x86_64__)
#define FRNN_WITH_AVX512
#define FRNN_WITH_AVX2
#elif defined(__aarch64__)
#define FRNN_WITH_NEON
#endif
#endif

/* The kernels of a set, float32 and float64. */
#if defined(FRNN_WITHOUT_FLOAT64)
#define KERNELS(set) {&frnn_##set##_f32, NULL}
#else
#define KERNELS(set) {&frnn_##set##_f32, &frnn_##set##_f64}
#endif

#if defined(FRNN_WITH_GENERIC)
extern const frnn_kernels frnn_generic_f32, frnn_generic_f64;
extern const frnn_products frnn_generic_bfloat16_weights, frnn_generic_bfloat16, frnn_generic_int8;
#endif

#if defined(FRNN_WITH_GENERIC) || defined(FRNN_WITH_NEON)
static int always(void) { return 1; }
#endif

/* What this CPU has, by its own account. A compiler's __builtin_cpu_supports needs a table that its run-time library
 * fills: that library is missing where clang-cl links, and zig's leaves the table empty. */
#if defined(FRNN_WITH_AVX512) || defined(FRNN_WITH_AVX2)
enum { KNOWN = 1, AVX2 = 2, AVX512 = 4, AVX_VNNI = 8, AVX512_VNNI = 16, AVX512_BF16 = 32, AMD = 64 };

/* The registers that the system saves: bits 1 and 2 are for AVX, 5 to 7 for AVX-512. Darwin saves those of AVX-512 from
 * their first use on, and sets their bits then. */
enum { SAVES_AVX = 0x06, SAVES_AVX512 = 0xe6 };

static unsigned saved_registers(void) {
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
#if defined(__APPLE__)
  if ((low & SAVES_AVX) == SAVES_AVX) low |= SAVES_AVX512;
#endif
  return low;
}

static unsigned read_features(void) {
  enum { FMA = 1 << 12, OSXSAVE = 1 << 27 }; /* of ecx in leaf 1 */
  enum { HAS_AVX2 = 1 << 5, F = 1 << 16, DQ = 1 << 17, BW = 1 << 30 };
  const unsigned avx512 = F | DQ | BW | 1u << 31; /* VL, of ebx in leaf 7 */
  unsigned eax, ebx, ecx, edx, found = KNOWN, saved;
  if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) && ecx == signature_AMD_ecx) found |= AMD;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & OSXSAVE) || !(ecx & FMA)) return found;
  saved = saved_registers();
  if ((saved & SAVES_AVX) != SAVES_AVX || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return found;
  int has_512 = (saved & SAVES_AVX512) == SAVES_AVX512 && (ebx & avx512) == avx512;
  if (ebx & HAS_AVX2) found |= AVX2;
  if (has_512) found |= AVX512;
  if (has_512 && ecx >> 11 & 1) found |= AVX512_VNNI;
  if (eax < 1 || !__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) return found; /* eax: the last subleaf */
  if (eax >> 4 & 1) found |= AVX_VNNI;
  if (has_512 && eax >> 5 & 1) found |= AVX512_BF16;
  return found;
}

/* Read once, for cpuid takes microseconds in a virtual machine. Several threads may do so at once. */
static int has(unsigned feature) {
  static unsigned features;
  unsigned found = __atomic_load_n(&features, __ATOMIC_RELAXED);
  if (!found) {
    found = read_features();
    __atomic_store_n(&features, found, __ATOMIC_RELAXED);
  }
  return (found & feature) != 0;
}
#endif

#if defined(FRNN_WITH_AVX512)
extern const frnn_kernels frnn_avx512_f32, frnn_avx512_f64;
extern const frnn_products frnn_avx512_bfloat16_weights, frnn_avx512_bfloat16, frnn_avx512_pairs, frnn_avx512_int8,
    frnn_avx512_vnni;

static int has_avx512(void) { return has(AVX512); }
static int has_vnni(void) { return has(AVX512_VNNI); }
/* The instruction for pairs of bfloat16 is slower than two multiply-adds on Intel's CPUs. */
static int has_pairs(void) { return has(AVX512_BF16); }
static int has_fast_pairs(void) { return has(AVX512_BF16) && has(AMD); }
#endif

#if defined(FRNN_WITH_AVX2)
extern const frnn_kernels frnn_avx2_f32, frnn_avx2_f64;
extern const frnn_products frnn_avx2_bfloat16_weights, frnn_avx2_bfloat16, frnn_avx2_int8, frnn_avx2_vnni;

static int has_avx2(void) { return has(AVX2); }
static int has_avx_vnni(void) { return has(AVX_VNNI); }
#endif

#if defined(FRNN_WITH_NEON)
extern const frnn_kernels frnn_neon_f32, frnn_neon_f64;
extern const frnn_products frnn_neon_bfloat16_weights, frnn_neon_bfloat16, frnn_neon_int8, frnn_neon_dotprod;

static int has_dotprod(void) {
#if defined(__ARM_FEATURE_DOTPROD)
  return 1;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#elif defined(_WIN32)
  enum { PF_ARM_V82_DP = 43 }; /* older headers have no name for it */
  return IsProcessorFeaturePresent(PF_ARM_V82_DP) != 0;
#else
  return 0;
#endif
}
#endif

/* Instructions that not every CPU of a set has, for the products of one precision. */
typedef struct {
  const char *name;
  const frnn_products *products;
  int (*has)(void), (*is_fast)(void);
} extension;

/* Best first. */
static const struct {
  const frnn_kernels *kernels[FRNN_DTYPES];
  const frnn_products *products[FRNN_PRECISIONS]; /* none at full precision: those are in the kernels */
  int (*runs)(void);
  extension extension[FRNN_PRECISIONS];
} sets[] = {
#if defined(FRNN_WITH_AVX512)
    {KERNELS(avx512),
     {[FRNN_BFLOAT16_WEIGHTS] = &frnn_avx512_bfloat16_weights,
      [FRNN_INT8] = &frnn_avx512_int8,
      [FRNN_BFLOAT16] = &frnn_avx512_bfloat16},
     has_avx512,
     {[FRNN_INT8] = {"avx512_vnni", &frnn_avx512_vnni, has_vnni, has_vnni},
      [FRNN_BFLOAT16] = {"avx512_bf16", &frnn_avx512_pairs, has_pairs, has_fast_pairs}}},
#endif
#if defined(FRNN_WITH_AVX2)
    {KERNELS(avx2),
     {[FRNN_BFLOAT16_WEIGHTS] = &frnn_avx2_bfloat16_weights,
      [FRNN_INT8] = &frnn_avx2_int8,
      [FRNN_BFLOAT16] = &frnn_avx2_bfloat16},
     has_avx2,
     {[FRNN_INT8] = {"avx_vnni", &frnn_avx2_vnni, has_avx_vnni, has_avx_vnni}}},
#endif
#if defined(FRNN_WITH_NEON)
    {KERNELS(neon),
     {[FRNN_BFLOAT16_WEIGHTS] = &frnn_neon_bfloat16_weights,
      [FRNN_INT8] = &frnn_neon_int8,
      [FRNN_BFLOAT16] = &frnn_neon_bfloat16},
     always,
     {[FRNN_INT8] = {"asimddp", &frnn_neon_dotprod, has_dotprod, has_dotprod}}},
#endif
#if defined(FRNN_WITH_GENERIC)
    {KERNELS(generic),
     {[FRNN_BFLOAT16_WEIGHTS] = &frnn_generic_bfloat16_weights,
      [FRNN_INT8] = &frnn_generic_int8,
      [FRNN_BFLOAT16] = &frnn_generic_bfloat16},
     always,
     {{NULL, NULL, NULL, NULL}}},
#endif
};
enum { SETS = sizeof sets / sizeof *sets };

static int chosen = -1, extensions = FRNN_FAST_EXTENSIONS;

int frnn_use_extensions(int which) { return __atomic_exchange_n(&extensions, which, __ATOMIC_RELAXED); }

/* SETS if this CPU runs none. Several threads may run this at once: all find the same set. */
static int current(void) {
  int set = __atomic_load_n(&chosen, __ATOMIC_RELAXED);
  if (set >= 0) return set;
  for (set = 0; set < SETS && !sets[set].runs();) set++;
  __atomic_store_n(&chosen, set, __ATOMIC_RELAXED);
  return set;
}

const frnn_kernels *frnn_kernels_for(int dtype) {
  int set = current();
  return set < SETS ? sets[set].kernels[dtype] : NULL;
}

const frnn_kernels *frnn_kernels_for_units(int dtype, int64_t units) {
  int set = current(), next = set + 1;
  const frnn_kernels *kernels = sets[set].kernels[dtype];
  if (2 * units > kernels->lanes || next >= SETS || !sets[next].runs()) return kernels;
  return sets[next].kernels[dtype]->fused == kernels->fused ? sets[next].kernels[dtype] : kernels;
}

/* Whether products of a set and precision use the extension that there is for them. */
static int extends(int set, int precision) {
  const extension *more = &sets[set].extension[precision];
  int which = __atomic_load_n(&extensions, __ATOMIC_RELAXED);
  return more->products && which != FRNN_NO_EXTENSIONS && (which == FRNN_ALL_EXTENSIONS ? more->has : more->is_fast)();
}

const frnn_products *frnn_products_for(const frnn_kernels *kernels, int precision) {
  int set = 0;
  if (precision == FRNN_FULL) return &kernels->products;
  while (sets[set].kernels[FRNN_F32] != kernels) set++;
  return extends(set, precision) ? sets[set].extension[precision].products : sets[set].products[precision];
}

static const char MARK[8] = "fastrnn";

/* Copies a text, with zeros behind it: the bytes of packed weights follow from the weights alone. */
static void copy_text(char *to, size_t size, const char *from) {
  memset(to, 0, size);
  memcpy(to, from, strlen(from) < size ? strlen(from) : size - 1);
}

frnn_packer frnn_packer_of(const frnn_kernels *kernels, const frnn_products *products, int precision) {
  frnn_packer by = {.dtype = kernels->size == sizeof(float) ? FRNN_F32 : FRNN_F64, .precision = precision};
  while (sets[by.set++].kernels[by.dtype] != kernels) continue;
  by.extended = precision != FRNN_FULL && products == sets[by.set - 1].extension[precision].products;
  memcpy(by.mark, MARK, sizeof by.mark);
  copy_text(by.version, sizeof by.version, FRNN_VERSION);
  copy_text(by.isa, sizeof by.isa, kernels->isa);
  return by;
}

const frnn_kernels *frnn_kernels_of(const frnn_packer *by) {
  if ((uint32_t)by->set - 1 >= SETS || (uint32_t)by->dtype >= FRNN_DTYPES) return NULL;
  return sets[by->set - 1].kernels[by->dtype];
}

const frnn_products *frnn_products_of(const frnn_packer *by) {
  int set = by->set - 1;
  if (by->precision == FRNN_FULL) return &sets[set].kernels[by->dtype]->products;
  return by->extended ? sets[set].extension[by->precision].products : sets[set].products[by->precision];
}

int frnn_is_packer(const frnn_packer *by) {
  return memcmp(by->mark, MARK, sizeof MARK) == 0 && by->version[sizeof by->version - 1] == 0 &&
         by->isa[sizeof by->isa - 1] == 0;
}

int frnn_packer_status(const frnn_packer *by) {
  if (!frnn_is_packer(by) || strncmp(by->version, FRNN_VERSION, sizeof by->version - 1) != 0) return FRNN_INVALID;
  if ((uint32_t)by->precision >= FRNN_PRECISIONS || (uint32_t)by->dtype >= FRNN_DTYPES) return FRNN_INVALID;
  if (by->precision != FRNN_FULL && by->dtype != FRNN_F32) return FRNN_INVALID;
  const frnn_kernels *kernels = frnn_kernels_of(by);
  if (!kernels || strcmp(kernels->isa, by->isa) != 0 || !sets[by->set - 1].runs()) return FRNN_MISSING;
  const extension *more = &sets[by->set - 1].extension[by->precision];
  return by->extended && !(more->products && more->has()) ? FRNN_MISSING : 0;
}

const char *frnn_extension(int i) {
  int set = current();
  for (int precision = 0; set < SETS && precision < FRNN_PRECISIONS; precision++)
    if (extends(set, precision) && i-- == 0) return sets[set].extension[precision].name;
  return NULL;
}

const char *frnn_extension_compiled(int i) {
  for (int set = 0; set < SETS; set++)
    for (int precision = 0; precision < FRNN_PRECISIONS; precision++)
      if (sets[set].extension[precision].name && i-- == 0) return sets[set].extension[precision].name;
  return NULL;
}

const char *frnn_isa(void) {
  const frnn_kernels *kernels = frnn_kernels_for(FRNN_F32);
  return kernels ? kernels->isa : NULL;
}

const char *frnn_isa_compiled(int i) { return i >= 0 && i < SETS ? sets[i].kernels[0]->isa : NULL; }

const char *frnn_isa_available(int i) {
  for (int set = 0; set < SETS; set++)
    if (sets[set].runs() && i-- == 0) return sets[set].kernels[0]->isa;
  return NULL;
}

int frnn_select(const char *isa) {
  for (int set = 0; set < SETS && isa; set++) {
    if (strcmp(isa, sets[set].kernels[0]->isa) == 0 && sets[set].runs()) {
      __atomic_store_n(&chosen, set, __ATOMIC_RELAXED);
      return 0;
    }
  }
  return -1;
}

int frnn_isa_fused(const char *isa) {
  for (int set = 0; set < SETS && isa; set++)
    if (strcmp(isa, sets[set].kernels[0]->isa) == 0) return sets[set].kernels[0]->fused;
  return 0;
}

const char *frnn_version(void) { return FRNN_VERSION; }
int frnn_abi(void) { return FRNN_ABI; }

const char *frnn_compiler(void) {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

void frnn_exp(int dtype, const void *x, void *y, int64_t n) { frnn_kernels_for(dtype)->exp(x, y, n); }
void frnn_sigmoid(int dtype, const void *x, void *y, int64_t n) { frnn_kernels_for(dtype)->sigmoid(x, y, n); }
void frnn_tanh(int dtype, const void *x, void *y, int64_t n) { frnn_kernels_for(dtype)->tanh(x, y, n); }

double frnn_probe_fma(int dtype, int64_t rounds) { return frnn_kernels_for(dtype)->probe_fma(rounds); }
double frnn_probe_read(int dtype, const void *p, size_t n, int64_t rounds) {
  return frnn_kernels_for(dtype)->probe_read(p, n, rounds);
}
