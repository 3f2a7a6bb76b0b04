/* Large memory for weights and KV blocks, on huge pages where the system gives them. */
#define _GNU_SOURCE
#include "native.h"

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
