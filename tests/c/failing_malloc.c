/* failing_malloc.c - a library to preload, with which a program can make one of its allocations fail.
 *
 * It must not know: the program. */
#define _GNU_SOURCE /* for MAP_ANONYMOUS, syscall */
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The C library's own functions, under names that remain if others replace them. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

/* For each thread: allocations until one fails, 0 for none, and the number that failed. They are in the static part of
 * a thread's memory, for elsewhere their first use would allocate. */
#define OF_THREAD static __thread __attribute__((tls_model("initial-exec")))
OF_THREAD long until_failure, failures;

/* The n-th allocation of the calling thread from now on fails, and no other; 0: none. */
void failing_arm(long n) {
  failures = 0;
  until_failure = n;
}

/* Returns 1 if the allocation has failed; none fails from now on. */
long failing_disarm(void) {
  until_failure = 0;
  return failures;
}

static int fails(void) {
  if (until_failure == 0 || --until_failure > 0) return 0;
  failures++;
  errno = ENOMEM;
  return 1;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return fails() ? NULL : __libc_calloc(count, size); }
void *realloc(void *memory, size_t size) { return fails() ? NULL : __libc_realloc(memory, size); }
void *aligned_alloc(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
  void *made = fails() ? NULL : __libc_memalign(alignment, size);
  if (made == NULL) return ENOMEM;
  *memory = made;
  return 0;
}

/* Python's own allocator gets its arenas by mmap. */
void *mmap(void *address, size_t size, int protection, int flags, int file, off_t offset) {
  if ((flags & MAP_ANONYMOUS) && fails()) return MAP_FAILED;
  return (void *)syscall(SYS_mmap, address, size, protection, flags, file, offset);
}
