/* Large memory for weights and KV blocks, on huge pages where the system gives them. */
#define _GNU_SOURCE
#include "native.h"

#if defined(__SANITIZE_ADDRESS__)
/* From the heap, where the sanitizer sees its bounds. */
#include <stdlib.h>

void *memory_create(size_t bytes) {
  const size_t whole = (bytes / 64 + 1) * 64;
  void *memory = aligned_alloc(64, whole);
  return memory ? memset(memory, 0, whole) : NULL;
}

void memory_destroy(void *memory, size_t bytes) {
  (void)bytes;
  free(memory);
}

int memory_populate(void *memory, size_t bytes) { return memory && bytes; } /* All of it was written. */
#else
#include <sys/mman.h>

void *memory_create(size_t bytes) {
  void *memory = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
  madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return memory;
}

void memory_destroy(void *memory, size_t bytes) {
  if (memory) munmap(memory, bytes ? bytes : 1);
}

int memory_populate(void *memory, size_t bytes) {
#ifdef MADV_POPULATE_WRITE
  return madvise(memory, bytes, MADV_POPULATE_WRITE) == 0;
#else
  (void)memory;
  (void)bytes;
  return 0;
#endif
}
#endif
