/* What the files of the native computer know of each other. Sizes are in elements; rows are tokens of a step. */
#ifndef ASTERISM_NATIVE_H
#define ASTERISM_NATIVE_H

#include <stddef.h>
#include <stdint.h>

#include "vec.h"

#define BLOCK_TOKENS 16 /* step.py has the same */
#define GROUP 32        /* inputs that share a scale in int8 */

#define TILE (2 * LANES) /* outputs of a tile of weights: two registers */

/* Bytes that weights are fetched ahead of their use, where the arithmetic of several rows holds the CPU's own prefetchers
 * up: 8 rows of the 150M model in bfloat16, in turns, 434 tokens/s without and 486 with. */
#define AHEAD 4096

/* Rows and halves of a tile whose sums the registers hold. */
#ifdef ASTERISM_AVX512
#define ROWS_AT_ONCE_F32 8
#define ROWS_AT_ONCE_I8 6
#define HALVES_AT_ONCE 2
#else
#define ROWS_AT_ONCE_F32 4
#define ROWS_AT_ONCE_I8 4
#define HALVES_AT_ONCE 1
#endif
#define MAX_ROWS_AT_ONCE 8

/* What int8 products are made of; see gemm_i8.c. */
#if defined(ASTERISM_AVX512) && defined(__AVX512VNNI__) && !defined(ASTERISM_NO_VNNI)
#define ASTERISM_VNNI 1
typedef int8_t Quantised;
#elif defined(ASTERISM_AVX512) || defined(ASTERISM_AVX2)
#define ASTERISM_MADD 1
typedef int16_t Quantised;
#else
typedef int8_t Quantised;
#endif

/* pool.c: OS threads that help the caller. */
typedef struct Pool Pool;
typedef void (*Item)(void *context, int item, int thread);
Pool *pool_create(int threads);
void pool_destroy(Pool *pool);
int pool_threads(const Pool *pool);
void pool_begin(Pool *pool); /* helpers spin from here on for a while, */
void pool_end(Pool *pool);   /* and rest soon after here */
/* Runs item(context, 0 .. items-1, thread) on the caller and the helpers; all have ended when it returns. */
void pool_run(Pool *pool, Item item, void *context, int items);

/* memory.c */
void *memory_create(size_t bytes); /* zeros, aligned to 64 bytes; NULL where there is none */
void memory_destroy(void *memory, size_t bytes);
/* Has the system give all of it now, and not a page at a time to whoever comes first; 0 where it cannot. */
int memory_populate(void *memory, size_t bytes);

/* product.c: y = x W^T in tiles of 32 outputs. A matrix is read from its first byte to its last: the prefetchers of the
 * CPU then keep up (measured at one row on an EPYC 9004: 32 GB/s; with a stream of its own for each 16 outputs 22). */
typedef enum { FLOAT32, BFLOAT16, INT8 } Held; /* what weights are held in; library.py has the same */
typedef struct {
  Held held;
  int outputs, inputs;
  int tiles;
  int groups;        /* of GROUP inputs; 0 but in int8 */
  size_t tile_bytes; /* a tile in float32: [inputs][32]; in bfloat16: [inputs][16][2], outputs i and i + 16 side by side;
                        in int8: [groups] of scales [32] bfloat16 and [GROUP / 4][32][4] of weight + 128 */
  uint8_t *data;     /* [tiles] of tile_bytes, aligned to 64 */
  float *bias;       /* [tiles * 32] or NULL */
} Matrix;

/* Inputs of a product: float32 [rows][stride], or int8 with a scale a group. */
typedef struct {
  float *x;
  size_t stride;
  int groups;       /* 0 but in int8 */
  Quantised *q;     /* [rows][groups * GROUP] */
  float *scales;    /* [rows][groups] */
  int32_t *offsets; /* [rows][groups]: -128 * sum of the group, for weights are stored with 128 added */
} Inputs;

/* STORE: y = product + bias. ADD: y += product + bias. GATE: half a tile is gate, half up, and y = silu(gate) * up has
 * half as many outputs. y holds whole tiles. */
typedef enum { STORE, ADD, GATE } After;

void matrix_shape(Matrix *matrix, int outputs, int inputs, Held held); /* all but data and bias */
size_t matrix_bytes(const Matrix *matrix);
/* Packs weight [rows][inputs] as outputs first, first + 1, ...; with a stride of 2 every second half tile is left out.
 * In bfloat16 the weights must be such numbers. */
void matrix_pack(Matrix *matrix, Pool *pool, const float *weight, int rows, int first, int stride);
void matrix_pack_bias(Matrix *matrix, const float *bias, int rows, int first, int stride);
void product(Pool *pool, const Matrix *matrix, const Inputs *inputs, int rows, float *y, size_t y_stride, After after);

/* gemm_f32.c, gemm_i8.c: a tile for `rows` rows from `row` on, at most ROWS_AT_ONCE, into results [rows][32]. */
void tile_f32(const uint8_t *tile, Held held, const Inputs *inputs, int size, int row, int rows, float *results);
void tile_i8(const uint8_t *tile, const Inputs *inputs, int row, int rows, float *results);
void pack_row_i8(uint8_t *tile, int groups, int lane, const float *weight, int inputs);
/* Writes x [size] as row `row` of q, scales and offsets. */
void quantise_row(const Inputs *inputs, int row, const float *x, int size);

/* rows.c: what is done row by row. */
void widen(const uint16_t *bfloat16, size_t size, float *out);
void rms_norm(const float *x, const float *weight, float eps, int size, float *out);
void rotate_head(float *x, const float *cos, const float *sin, int head_dim);

/* attention.c */
typedef struct {
  int heads, kv_heads, head_dim, padded_dim; /* padded_dim: head_dim up to a multiple of 16 */
  int window;                                /* 0: all that is before */
  const float *keys;                         /* [block][kv_head][head_dim][16] of this layer */
  const float *values;                       /* [block][kv_head][16][padded_dim] */
  const float *queries; /* [rows][query_stride]: heads side by side, turned and scaled */
  size_t query_stride;
  float *out; /* [rows][out_stride]: heads side by side */
  size_t out_stride;
  const int32_t *positions;     /* [rows] */
  const int32_t *const *tables; /* [rows]: the blocks of the row's sequence; rows of one chunk have the same pointer */
  const int32_t *starts;        /* [tiles + 1]: rows that are attended together */
  int tiles;
  float *scratch; /* a part for each thread */
  size_t scratch_stride;
} Attention;
size_t attention_scratch(int heads, int kv_heads, int head_dim); /* floats a thread */
/* Fills starts [rows + 1] and tiles from positions and tables. */
void attention_tiles(Attention *attention, int rows, int32_t *starts);
void attend(Pool *pool, Attention *attention);

/* model.c: the weights, the KV memory, and room for the rows of a step. */
typedef struct {
  int32_t vocab, hidden, intermediate, layers, heads, kv_heads, head_dim, positions, window, blocks, threads;
  float eps;
} Config;

typedef struct {
  Matrix qkv, output, gate_up, down;
  float *input_norm, *post_norm;
  float *query_norm, *key_norm; /* [head_dim] or NULL */
} Layer;

typedef struct {
  Config config;
  Pool *pool;
  Layer *layers;
  Matrix head;
  float *final_norm, *cos, *sin; /* cos, sin: [positions][head_dim / 2] */
  Held embedding_held;           /* float32 or bfloat16 */
  const void *embedding;         /* [vocab][hidden], the caller's */
  int padded_dim;
  uint8_t *weights;
  size_t weights_bytes;
  float *keys, *values;           /* [layer][block]..., as in Attention */
  size_t layer_keys, layer_values; /* floats of a layer */
  /* Room for `capacity` rows. */
  int capacity;
  float *x, *normed, *qkv, *attended, *gated, *scratch;
  size_t hidden_stride, qkv_stride, attended_stride, gated_stride, scratch_stride;
  Inputs quantised;
  const int32_t **tables;
  int32_t *starts;
} Model;

int model_reserve(Model *model, int rows); /* 0, or 1: no memory */

#endif
