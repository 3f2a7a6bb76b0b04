/* Matrices in tiles of 16 outputs, and products shared among the pool's threads by tiles. */
#include "native.h"

#include <stdlib.h>

void matrix_shape(Matrix *matrix, int outputs, int inputs, int is_int8) {
  matrix->outputs = outputs;
  matrix->inputs = inputs;
  matrix->tiles = (outputs + LANES - 1) / LANES;
  matrix->groups = is_int8 ? (inputs + GROUP - 1) / GROUP : 0;
  const size_t bytes = is_int8 ? (size_t)matrix->groups * LANES * (GROUP + 2) : (size_t)inputs * LANES * sizeof(float);
  matrix->tile_bytes = (bytes + 63) / 64 * 64;
}

size_t matrix_bytes(const Matrix *matrix) { return (size_t)matrix->tiles * matrix->tile_bytes; }

typedef struct {
  const Matrix *matrix;
  const float *weight;
  int rows, first, tile_stride;
} Packing;

static int packed_output(int row, int first, int tile_stride) {
  return tile_stride == 1 ? first + row : first + row / LANES * tile_stride * LANES + row % LANES;
}

static void pack_rows(void *context, int item, int thread) {
  (void)thread;
  const Packing *packing = context;
  const Matrix *matrix = packing->matrix;
  /* Lanes of a tile share cache lines but no bytes. */
  for (int row = item * LANES; row < packing->rows && row < (item + 1) * LANES; row++) {
    const int output = packed_output(row, packing->first, packing->tile_stride), lane = output % LANES;
    const float *weight = packing->weight + (size_t)row * (size_t)matrix->inputs;
    uint8_t *tile = matrix->data + (size_t)(output / LANES) * matrix->tile_bytes;
    if (matrix->groups) {
      pack_row_i8(tile, matrix->groups, lane, weight, matrix->inputs);
    } else {
      float *data = (float *)(void *)tile;
      for (int k = 0; k < matrix->inputs; k++) data[(size_t)k * LANES + (size_t)lane] = weight[k];
    }
  }
}

void matrix_pack(Matrix *matrix, Pool *pool, const float *weight, int rows, int first, int tile_stride) {
  Packing packing = {matrix, weight, rows, first, tile_stride};
  pool_run(pool, pack_rows, &packing, (rows + LANES - 1) / LANES);
}

void matrix_pack_bias(Matrix *matrix, const float *bias, int rows, int first, int tile_stride) {
  for (int row = 0; row < rows; row++) matrix->bias[packed_output(row, first, tile_stride)] = bias[row];
}

typedef struct {
  const Matrix *matrix;
  const Inputs *inputs;
  float *y;
  size_t y_stride;
  int rows, tiles_an_item;
  After after;
} Product;

/* silu(gate) * up. */
static v16 gated(v16 gate, v16 up) {
  const v16 denominator = v_add(v_set(1), v_exp(v_sub(v_set(0), gate)));
  return v_mul(v_div(gate, denominator), up);
}

static void finish(const Product *product, int tile, int tiles, int row, int rows, float *results) {
  const float *bias = product->matrix->bias;
  for (int t = 0; t < tiles; t++) {
    if (!bias) break;
    const v16 added = v_load(bias + (size_t)(tile + t) * LANES);
    for (int r = 0; r < rows; r++) {
      float *result = results + (t * rows + r) * LANES;
      v_store(result, v_add(v_load(result), added));
    }
  }
  for (int t = 0; t < tiles; t++) {
    for (int r = 0; r < rows; r++) {
      const v16 result = v_load(results + (t * rows + r) * LANES);
      float *y = product->y + (size_t)(row + r) * product->y_stride;
      switch (product->after) {
        case STORE: v_store(y + (size_t)(tile + t) * LANES, result); break;
        case ADD:
          y += (size_t)(tile + t) * LANES;
          v_store(y, v_add(v_load(y), result));
          break;
        case GATE:
          if (t % 2) break;
          v_store(y + (size_t)(tile + t) / 2 * LANES, gated(result, v_load(results + ((t + 1) * rows + r) * LANES)));
          break;
      }
    }
  }
}

static void product_item(void *context, int item, int thread) {
  (void)thread;
  const Product *product = context;
  const Matrix *matrix = product->matrix;
  const int first = item * product->tiles_an_item;
  const int last = first + product->tiles_an_item < matrix->tiles ? first + product->tiles_an_item : matrix->tiles;
  const int parts = (product->rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  float results[TILES_AT_ONCE * ROWS_AT_ONCE * LANES] __attribute__((aligned(64)));
  for (int tile = first; tile < last; tile += TILES_AT_ONCE) {
    const int tiles = last - tile < TILES_AT_ONCE ? last - tile : TILES_AT_ONCE;
    for (int part = 0, row = 0; part < parts; part++) {
      /* Parts of about the same size: 5 and 4 rows rather than 8 and 1. */
      const int rows = (product->rows - row + parts - part - 1) / (parts - part);
      if (matrix->groups)
        tiles_i8(matrix, tile, tiles, product->inputs, row, rows, results);
      else
        tiles_f32(matrix, tile, tiles, product->inputs, row, rows, results);
      finish(product, tile, tiles, row, rows, results);
      row += rows;
    }
  }
}

void product(Pool *pool, const Matrix *matrix, const Inputs *inputs, int rows, float *y, size_t y_stride, After after) {
  if (!rows) return;
  /* Items of about 6 a thread, in whole TILES_AT_ONCE. */
  const int wanted = matrix->tiles / (6 * pool_threads(pool));
  const int tiles = wanted < TILES_AT_ONCE ? TILES_AT_ONCE : wanted / TILES_AT_ONCE * TILES_AT_ONCE;
  Product work = {matrix, inputs, y, y_stride, rows, tiles, after};
  pool_run(pool, product_item, &work, (matrix->tiles + tiles - 1) / tiles);
}
