/* common.h - helpers of this folder's programs: names, memory, and numbers that are the same everywhere. */
#include <stdlib.h>
#include <string.h>

#if defined(_WIN32) /* whose free() takes no aligned memory: here all memory is aligned */
#include <malloc.h>
#define aligned_alloc(alignment, bytes) _aligned_malloc(bytes, alignment)
#define malloc(bytes) _aligned_malloc(bytes, 16)
#define free _aligned_free
static inline void *calloc_aligned(size_t count, size_t bytes) {
  void *p = malloc(count * bytes);
  return p ? memset(p, 0, count * bytes) : NULL;
}
#define calloc calloc_aligned
#endif

#include "fastrnn.h"

enum { CELLS_MOST = 64 }; /* room for the cells that frnn_cell_at lists */

static inline const char *name_of(int cell) { return frnn_facts_of(frnn_cell_at(cell))->name; }

static const char *const dtype_names[FRNN_DTYPES] = {"f32", "f64"};

/* The name for a set's results: all sets that fuse multiply and add have the same. */
static inline const char *bits_of(const char *isa) { return frnn_isa_fused(isa) ? "fused" : isa; }

/* The sets that run, from 0: those of this CPU, or if a program's second argument is "fused", of these alone that fuse
 * multiply and add. NULL after the last one. */
static int fused_alone;

static inline void read_arguments(int argc, char **argv) { fused_alone = argc > 2 && strcmp(argv[2], "fused") == 0; }

static inline const char *set_at(int set) {
  const char *isa = frnn_isa_available(set); /* the best first: sets that do not fuse are the last ones */
  return isa && fused_alone && !frnn_isa_fused(isa) ? NULL : isa;
}

static size_t size_of(int dtype) { return dtype == FRNN_F32 ? 4 : 8; }

static uint64_t seed = 1;

/* The next number of the recurrence, in [-1, 1), of 24 bits. */
static double number(void) {
  seed = seed * 6364136223846793005u + 1442695040888963407u;
  return ((double)(seed >> 40) - 0x1p23) * 0x1p-23;
}

/* Memory that is aligned, and NaN in either dtype. */
static void *work_memory(size_t bytes) {
  void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!p || bytes == 0) abort();
  memset(p, 0xFF, bytes);
  return p;
}

static inline uint64_t hash_bytes(uint64_t hash, const void *p, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const unsigned char *)p)[i]) * 0x100000001b3u;
  return hash;
}
