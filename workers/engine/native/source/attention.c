/* Attention over KV blocks with an online softmax (Milakov and Gimelshein 2018): a row looks at its positions in spans
 * of 64, in ascending order, and keeps the largest score, the sum of the shares and the weighted values.
 *
 * Rows that have the same blocks in a span (rows of one chunk, sequences that share a prefix) go through it together, so
 * that its keys and values are read once. What a row computes, and in which order, does not depend on that: a score is
 * four chains over the head's dimensions; the values of a span are added by one chain over its positions, where a
 * position that a row does not see has a share of exactly 0. */
#include "native.h"

#define SPAN_BLOCKS 4
#define SPAN (SPAN_BLOCKS * BLOCK_TOKENS)
#define CHAINS 4
#define MAX_QUERIES 64 /* of a tile: rows times heads of a KV head, at least one row */
#ifdef ASTERISM_AVX512
#define QUERIES_AT_ONCE 4
#else
#define QUERIES_AT_ONCE 2
#endif
#define VECTORS_AT_ONCE 4

static int tile_rows(int group) { return group >= MAX_QUERIES ? 1 : MAX_QUERIES / group; }

size_t attention_scratch(int heads, int kv_heads, int head_dim) {
  const size_t padded = (size_t)(head_dim + LANES - 1) / LANES * LANES;
  /* Of each query: weighted values, shares of a span, sums of shares, the largest score (with room to align). */
  const int group = heads / kv_heads;
  return (size_t)(tile_rows(group) * group) * (padded + SPAN + LANES + LANES);
}

/* What a thread knows of the queries of its tile: query i is head i % group of row i / group. */
typedef struct {
  float *values;  /* [query][padded_dim] */
  float *shares;  /* [query][SPAN] */
  float *sums;    /* [query][LANES] */
  float *largest; /* [query] */
} Queries;

/* Where the row's positions in the span begin and end: from == to if it sees none. */
typedef struct { int from, to; } Range;

static Range range_of(const Attention *a, int row, int span) {
  const int position = a->positions[row];
  const int first = a->window && position + 1 > a->window ? position + 1 - a->window : 0;
  int from = first - span * SPAN, to = position + 1 - span * SPAN;
  from = from < 0 ? 0 : from;
  to = to > SPAN ? SPAN : to;
  return from < to ? (Range){from, to} : (Range){0, 0};
}

static const float *keys_of(const Attention *a, int32_t block, int kv_head) {
  return a->keys + ((size_t)block * (size_t)a->kv_heads + (size_t)kv_head) * (size_t)a->head_dim * BLOCK_TOKENS;
}

static const float *values_of(const Attention *a, int32_t block, int kv_head) {
  return a->values + ((size_t)block * (size_t)a->kv_heads + (size_t)kv_head) * BLOCK_TOKENS * (size_t)a->padded_dim;
}

/* Scores of a block for some queries. `ahead`, which is read next, is fetched meanwhile, line by line: blocks lie apart,
 * so the CPU's own prefetchers begin anew with each. */
INLINE void scores_of(const float *keys, const float *const *queries, int count, int head_dim, float *const *scores,
                      const float *ahead) {
  v16 sums[QUERIES_AT_ONCE][CHAINS];
  for (int i = 0; i < count; i++)
    for (int c = 0; c < CHAINS; c++) sums[i][c] = v_set(0);
  int d = 0;
  for (; d + CHAINS <= head_dim; d += CHAINS) {
    for (int c = 0; c < CHAINS; c++) {
      const v16 key = v_load(keys + (d + c) * LANES);
      __builtin_prefetch(ahead + (d + c) * LANES);
      for (int i = 0; i < count; i++) sums[i][c] = v_fma(key, v_set(queries[i][d + c]), sums[i][c]);
    }
  }
  for (; d < head_dim; d++) {
    const v16 key = v_load(keys + d * LANES);
    for (int i = 0; i < count; i++) sums[i][0] = v_fma(key, v_set(queries[i][d]), sums[i][0]);
  }
  for (int i = 0; i < count; i++)
    v_store(scores[i], v_add(v_add(sums[i][0], sums[i][1]), v_add(sums[i][2], sums[i][3])));
}

/* Adds shares * values of positions from..to-1 of a block, some vectors of the head's dimensions at a time. */
INLINE void add_values(const float *block, const float *const *shares, float *const *totals, int count, int vectors,
                       int from, int to, int padded_dim, const float *ahead) {
  v16 sums[QUERIES_AT_ONCE][VECTORS_AT_ONCE];
  for (int i = 0; i < count; i++)
    for (int v = 0; v < vectors; v++) sums[i][v] = v_load(totals[i] + v * LANES);
  for (int p = from; p < to; p++) {
    v16 values[VECTORS_AT_ONCE];
    for (int v = 0; v < vectors; v++) {
      values[v] = v_load(block + p * padded_dim + v * LANES);
      __builtin_prefetch(ahead + p * padded_dim + v * LANES);
    }
    for (int i = 0; i < count; i++) {
      const v16 share = v_set(shares[i][p]);
      for (int v = 0; v < vectors; v++) sums[i][v] = v_fma(share, values[v], sums[i][v]);
    }
  }
  for (int i = 0; i < count; i++)
    for (int v = 0; v < vectors; v++) v_store(totals[i] + v * LANES, sums[i][v]);
}

INLINE void add_block(const float *block, const float *const *shares, float *const *totals, int count, int from, int to,
                      int padded_dim, const float *ahead) {
  float *parts[QUERIES_AT_ONCE];
  for (int d = 0; d < padded_dim;) {
    for (int i = 0; i < count; i++) parts[i] = totals[i] + d;
    const int wide = padded_dim - d >= VECTORS_AT_ONCE * LANES;
    if (wide)
      add_values(block + d, shares, parts, count, VECTORS_AT_ONCE, from, to, padded_dim, ahead + d);
    else
      add_values(block + d, shares, parts, count, 1, from, to, padded_dim, ahead + d);
    d += wide ? VECTORS_AT_ONCE * LANES : LANES;
  }
}

/* Masks the scores of a query, turns them into shares of its new largest score, and rescales what it has. */
static void soften(const Queries *q, int query, Range range, int padded_dim) {
  float *shares = q->shares + (size_t)query * SPAN, *total = q->values + (size_t)query * (size_t)padded_dim;
  const int first = range.from / BLOCK_TOKENS, last = (range.to + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
  v16 scores[SPAN_BLOCKS], most = v_set(-INFINITY);
  for (int b = first; b < last; b++) {
    const int from = range.from - b * BLOCK_TOKENS, to = range.to - b * BLOCK_TOKENS;
    scores[b] = v_within(v_load(shares + b * LANES), from < 0 ? 0 : from, to > LANES ? LANES : to);
    most = v_max(most, scores[b]);
  }
  const float before = q->largest[query], here = v_largest(most), largest = here > before ? here : before;
  v16 sum = v_load(q->sums + (size_t)query * LANES);
  if (largest != before) {
    const v16 shrunk = v_exp(v_set(before - largest));
    sum = v_mul(sum, shrunk);
    for (int d = 0; d < padded_dim; d += LANES) v_store(total + d, v_mul(v_load(total + d), shrunk));
    q->largest[query] = largest;
  }
  for (int b = first; b < last; b++) {
    const v16 share = v_exp(v_sub(scores[b], v_set(largest)));
    sum = v_add(sum, share);
    v_store(shares + b * LANES, share);
  }
  v_store(q->sums + (size_t)query * LANES, sum);
}

/* Constants for the number of queries, so that the sums are registers. */
#define FOR_COUNT(call)            \
  switch (count) {                 \
    case 1: call(1); break;        \
    case 2: call(2); break;        \
    case 3: call(3); break;        \
    default: call(4); break;       \
  }
#if QUERIES_AT_ONCE < 4
#undef FOR_COUNT
#define FOR_COUNT(call)     \
  switch (count) {          \
    case 1: call(1); break; \
    default: call(2); break;\
  }
#endif

/* One span for the rows first..last-1, which have the same blocks in it. */
static void attend_span(const Attention *a, const Queries *q, int kv_head, int tile_first, int first, int last, int span) {
  const int group = a->heads / a->kv_heads, padded = a->padded_dim;
  int from = SPAN, to = 0;
  for (int row = first; row < last; row++) {
    const Range range = range_of(a, row, span);
    if (range.from == range.to) continue;
    from = range.from < from ? range.from : from;
    to = range.to > to ? range.to : to;
  }
  if (from >= to) return;
  const int32_t *blocks = a->tables[first] + span * SPAN_BLOCKS;
  const int begin = (first - tile_first) * group, end = (last - tile_first) * group;
  const int first_block = from / BLOCK_TOKENS, last_block = (to + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
  for (int query = begin; query < end; query += QUERIES_AT_ONCE) {
    const int count = end - query < QUERIES_AT_ONCE ? end - query : QUERIES_AT_ONCE;
    const float *queries[QUERIES_AT_ONCE];
    float *scores[QUERIES_AT_ONCE];
    for (int i = 0; i < count; i++) {
      const int row = tile_first + (query + i) / group, head = kv_head * group + (query + i) % group;
      queries[i] = a->queries + (size_t)row * a->query_stride + (size_t)head * (size_t)a->head_dim;
    }
    for (int b = first_block; b < last_block; b++) {
      const float *keys = keys_of(a, blocks[b], kv_head);
      const float *ahead = b + 1 < last_block ? keys_of(a, blocks[b + 1], kv_head)
                                              : values_of(a, blocks[first_block], kv_head);
      for (int i = 0; i < count; i++) scores[i] = q->shares + (size_t)(query + i) * SPAN + b * LANES;
#define CALL(n) scores_of(keys, queries, n, a->head_dim, scores, ahead)
      FOR_COUNT(CALL)
#undef CALL
    }
  }
  for (int query = begin; query < end; query++) {
    const Range range = range_of(a, tile_first + query / group, span);
    float *shares = q->shares + (size_t)query * SPAN;
    if (range.from < range.to) soften(q, query, range, padded);
    /* Others of these rows may see blocks that this one does not. */
    for (int b = first_block; b < last_block; b++)
      if ((b + 1) * BLOCK_TOKENS <= range.from || b * BLOCK_TOKENS >= range.to) v_store(shares + b * LANES, v_set(0));
  }
  for (int query = begin; query < end; query += QUERIES_AT_ONCE) {
    const int count = end - query < QUERIES_AT_ONCE ? end - query : QUERIES_AT_ONCE;
    const float *shares[QUERIES_AT_ONCE];
    float *totals[QUERIES_AT_ONCE];
    for (int i = 0; i < count; i++) totals[i] = q->values + (size_t)(query + i) * (size_t)padded;
    for (int b = first_block; b < last_block; b++) {
      const float *values = values_of(a, blocks[b], kv_head), *ahead = values;
      if (b + 1 < last_block)
        ahead = values_of(a, blocks[b + 1], kv_head);
      else if (a->positions[first] >= (span + 1) * SPAN)
        ahead = keys_of(a, blocks[SPAN_BLOCKS], kv_head);
      const int low = from > b * BLOCK_TOKENS ? from - b * BLOCK_TOKENS : 0;
      const int high = to < (b + 1) * BLOCK_TOKENS ? to - b * BLOCK_TOKENS : BLOCK_TOKENS;
      for (int i = 0; i < count; i++) shares[i] = q->shares + (size_t)(query + i) * SPAN + b * LANES;
#define CALL(n) add_block(values, shares, totals, n, low, high, padded, ahead)
      FOR_COUNT(CALL)
#undef CALL
    }
  }
}

static int same_blocks(const Attention *a, int row, int other, int span) {
  if (a->tables[row] == a->tables[other]) return 1;
  /* Sequences share whole blocks, and are looked at together only where they share a whole span. */
  const int end = (span + 1) * SPAN;
  if (a->positions[row] < end || a->positions[other] < end) return 0;
  return !memcmp(a->tables[row] + span * SPAN_BLOCKS, a->tables[other] + span * SPAN_BLOCKS,
                 SPAN_BLOCKS * sizeof(int32_t));
}

static void attend_item(void *context, int item, int thread) {
  const Attention *a = context;
  /* Items of one tile are neighbours: their blocks lie side by side. */
  const int tile = item / a->kv_heads, kv_head = item % a->kv_heads;
  const int first = a->starts[tile], last = a->starts[tile + 1], group = a->heads / a->kv_heads;
  const int padded = a->padded_dim, count = (last - first) * group;
  float *scratch = a->scratch + (size_t)thread * a->scratch_stride;
  const Queries q = {scratch, scratch + (size_t)count * (size_t)padded,
                     scratch + (size_t)count * (size_t)(padded + SPAN),
                     scratch + (size_t)count * (size_t)(padded + SPAN + LANES)};
  memset(q.values, 0, (size_t)count * (size_t)padded * sizeof(float));
  memset(q.sums, 0, (size_t)count * LANES * sizeof(float));
  for (int i = 0; i < count; i++) q.largest[i] = -INFINITY;
  int begin = INT32_MAX, end = 0;
  for (int row = first; row < last; row++) {
    const int position = a->positions[row];
    const int lowest = a->window && position + 1 > a->window ? (position + 1 - a->window) / SPAN : 0;
    begin = lowest < begin ? lowest : begin;
    end = position / SPAN + 1 > end ? position / SPAN + 1 : end;
  }
  for (int span = begin; span < end; span++) {
    for (int row = first; row < last;) {
      int next = row + 1;
      if (a->positions[row] >= span * SPAN) {
        while (next < last && a->positions[next] >= span * SPAN && same_blocks(a, row, next, span)) next++;
        attend_span(a, &q, kv_head, first, row, next, span);
      }
      row = next;
    }
  }
  for (int i = 0; i < count; i++) {
    const int row = first + i / group, head = kv_head * group + i % group;
    float *out = a->out + (size_t)row * a->out_stride + (size_t)head * (size_t)a->head_dim;
    const float *total = q.values + (size_t)i * (size_t)padded;
    const float sum = v_sum(v_load(q.sums + (size_t)i * LANES));
    for (int d = 0; d < a->head_dim; d++) out[d] = total[d] / sum;
  }
}

void attention_tiles(Attention *a, int rows, int32_t *starts) {
  const int most = tile_rows(a->heads / a->kv_heads);
  a->tiles = 0;
  a->starts = starts;
  for (int row = 0; row < rows; row++) {
    const int span = a->window && a->positions[row] >= a->window ? (a->positions[row] + 1 - a->window) / SPAN : 0;
    if (row && row - starts[a->tiles - 1] < most && same_blocks(a, row - 1, row, span)) continue;
    starts[a->tiles++] = row;
  }
  starts[a->tiles] = rows;
}

void attend(Pool *pool, Attention *attention) {
  pool_run(pool, attend_item, attention, attention->tiles * attention->kv_heads);
}
