/* OS threads that help the caller through the phases of a step.
 *
 * A phase is a number of items, taken one by one from one atomic word that holds the phase, the count and the next
 * item. The caller takes items too and waits at the end only for items that are taken: a helper that the kernel has
 * not scheduled, on a busy machine, holds nobody up. (Measured with OpenMP's barriers on 2 busy cores: 121 ms a step
 * with two threads, 2.2 ms with one.) */
#define _GNU_SOURCE
#include "native.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define COUNT_BITS 20 /* arrays.py bounds the rows of a step, so that no phase has more items */
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)
#define SPIN_NS 50000       /* longer than the parts of a step that one thread computes */
#define IDLE_SPIN_NS 5000   /* between steps */
#define SPINS_BEFORE_YIELD 2000

struct Pool {
  _Alignas(64) _Atomic uint64_t ticket; /* phase | count | next */
  _Alignas(64) _Atomic int ended;       /* items of this phase */
  _Alignas(64) _Atomic int is_active;
  _Atomic int sleepers;
  _Atomic int is_closing;
  Item item;
  void *context;
  pthread_mutex_t mutex;
  pthread_cond_t woken;
  int helpers;
  pthread_t *threads;
  _Atomic int next_number;
};

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int has_items(uint64_t ticket) { return (ticket & COUNT_MASK) < ((ticket >> COUNT_BITS) & COUNT_MASK); }

/* Takes items until there are none. A phase cannot end while one of its items runs, so what is read after a successful
 * take is of the item's phase. */
static void take_items(Pool *pool, int thread) {
  while (has_items(atomic_load_explicit(&pool->ticket, memory_order_relaxed))) {
    const uint64_t taken = atomic_fetch_add_explicit(&pool->ticket, 1, memory_order_acq_rel);
    if (!has_items(taken)) return;
    pool->item(pool->context, (int)(taken & COUNT_MASK), thread);
    atomic_fetch_add_explicit(&pool->ended, 1, memory_order_release);
  }
}

static void *help(void *argument) {
  Pool *pool = argument;
  const int thread = atomic_fetch_add(&pool->next_number, 1);
  int64_t since = now_ns();
  for (int spins = 1; !atomic_load_explicit(&pool->is_closing, memory_order_relaxed); spins++) {
    if (has_items(atomic_load_explicit(&pool->ticket, memory_order_relaxed))) {
      take_items(pool, thread);
      spins = 0;
      since = now_ns();
      continue;
    }
    pause_briefly();
    if (spins % 64) continue;
    const int is_active = atomic_load_explicit(&pool->is_active, memory_order_relaxed);
    if (now_ns() - since < (is_active ? SPIN_NS : IDLE_SPIN_NS)) continue;
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (!has_items(atomic_load(&pool->ticket)) && !atomic_load(&pool->is_closing))
      pthread_cond_wait(&pool->woken, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
    since = now_ns();
  }
  return NULL;
}

static void wake(Pool *pool) {
  pthread_mutex_lock(&pool->mutex);
  pthread_cond_broadcast(&pool->woken);
  pthread_mutex_unlock(&pool->mutex);
}

void pool_run(Pool *pool, Item item, void *context, int items) {
  if (items <= 0) return;
  if (items == 1 || pool->helpers == 0) {
    for (int i = 0; i < items; i++) item(context, i, 0);
    return;
  }
  pool->item = item;
  pool->context = context;
  atomic_store_explicit(&pool->ended, 0, memory_order_relaxed);
  const uint64_t phase = (atomic_load_explicit(&pool->ticket, memory_order_relaxed) >> (2 * COUNT_BITS)) + 1;
  /* Sequentially consistent with the sleepers' count: either they see the items or we see them. */
  atomic_store(&pool->ticket, phase << (2 * COUNT_BITS) | (uint64_t)items << COUNT_BITS);
  if (atomic_load(&pool->sleepers)) wake(pool);
  take_items(pool, 0);
  for (int spins = 1; atomic_load_explicit(&pool->ended, memory_order_acquire) < items; spins++) {
    pause_briefly();
    /* The helper that has the last item may wait for this very core. */
    if (spins % SPINS_BEFORE_YIELD == 0) sched_yield();
  }
}

void pool_begin(Pool *pool) { atomic_store(&pool->is_active, 1); }
void pool_end(Pool *pool) { atomic_store(&pool->is_active, 0); }
int pool_threads(const Pool *pool) { return pool->helpers + 1; }

Pool *pool_create(int threads) {
  Pool *pool = aligned_alloc(64, (sizeof(Pool) + 63) / 64 * 64);
  pthread_t *started = calloc((size_t)threads, sizeof *started);
  if (!pool || !started) {
    free(pool);
    free(started);
    return NULL;
  }
  atomic_init(&pool->ticket, 0);
  atomic_init(&pool->ended, 0);
  atomic_init(&pool->is_active, 0);
  atomic_init(&pool->sleepers, 0);
  atomic_init(&pool->is_closing, 0);
  atomic_init(&pool->next_number, 1);
  pool->threads = started;
  pool->helpers = 0;
  pthread_mutex_init(&pool->mutex, NULL);
  pthread_cond_init(&pool->woken, NULL);
  /* Where the system gives fewer threads, the caller computes more. */
  while (pool->helpers < threads - 1 && !pthread_create(&started[pool->helpers], NULL, help, pool)) pool->helpers++;
  return pool;
}

void pool_destroy(Pool *pool) {
  if (!pool) return;
  atomic_store(&pool->is_closing, 1);
  wake(pool);
  for (int i = 0; i < pool->helpers; i++) pthread_join(pool->threads[i], NULL);
  pthread_cond_destroy(&pool->woken);
  pthread_mutex_destroy(&pool->mutex);
  free(pool->threads);
  free(pool);
}
