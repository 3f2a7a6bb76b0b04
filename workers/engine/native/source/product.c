/* Matrices in tiles of 32 outputs, and products shared among the pool's threads by tiles. */
#include "native.h"

#include <stdlib.h>

void matrix_shape(Matrix *matrix, int outputs, int inputs, Held held) {
  const size_t numbers = (size_t)inputs * TILE;
  matrix->held = held;
  matrix->outputs = outputs;
  matrix->inputs = inputs;
  matrix->tiles = (outputs + TILE - 1) / TILE;
  matrix->groups = held == INT8 ? (inputs + GROUP - 1) / GROUP : 0;
  switch (held) {
    case FLOAT32: matrix->tile_bytes = numbers * sizeof(float); break;
    case BFLOAT16: matrix->tile_bytes = numbers * sizeof(uint16_t); break;
    case INT8: matrix->tile_bytes = (size_t)matrix->groups * TILE * (GROUP + 2); break;
  }
}

size_t matrix_bytes(const Matrix *matrix) { return (size_t)matrix->tiles * matrix->tile_bytes; }

typedef struct {
  const Matrix *matrix;
  const float *weight;
  int rows, first, stride;
} Packing;

static int packed_output(int row, int first, int stride) {
  return stride == 1 ? first + row : first + row / LANES * stride * LANES + row % LANES;
}

static void pack_row_bf16(uint16_t *tile, int lane, const float *weight, int inputs) {
  const int place = lane % LANES * 2 + lane / LANES;
  for (int k = 0; k < inputs; k++) {
    uint32_t bits;
    memcpy(&bits, &weight[k], sizeof bits);
    tile[(size_t)k * TILE + (size_t)place] = (uint16_t)(bits >> 16);
  }
}

static void pack_rows(void *context, int item, int thread) {
  (void)thread;
  const Packing *packing = context;
  const Matrix *matrix = packing->matrix;
  /* Lanes of a tile share cache lines but no bytes. */
  for (int row = item * LANES; row < packing->rows && row < (item + 1) * LANES; row++) {
    const int output = packed_output(row, packing->first, packing->stride), lane = output % TILE;
    const float *weight = packing->weight + (size_t)row * (size_t)matrix->inputs;
    uint8_t *tile = matrix->data + (size_t)(output / TILE) * matrix->tile_bytes;
    switch (matrix->held) {
      case FLOAT32:
        for (int k = 0; k < matrix->inputs; k++) memcpy(tile + 4 * (k * TILE + lane), &weight[k], sizeof(float));
        break;
      case BFLOAT16: pack_row_bf16((uint16_t *)(void *)tile, lane, weight, matrix->inputs); break;
      case INT8: pack_row_i8(tile, matrix->groups, lane, weight, matrix->inputs); break;
    }
  }
}

void matrix_pack(Matrix *matrix, Pool *pool, const float *weight, int rows, int first, int stride) {
  Packing packing = {matrix, weight, rows, first, stride};
  pool_run(pool, pack_rows, &packing, (rows + LANES - 1) / LANES);
}

void matrix_pack_bias(Matrix *matrix, const float *bias, int rows, int first, int stride) {
  for (int row = 0; row < rows; row++) matrix->bias[packed_output(row, first, stride)] = bias[row];
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

static void finish(const Product *product, int tile, int row, int rows, const float *results) {
  const float *bias = product->matrix->bias ? product->matrix->bias + (size_t)tile * TILE : NULL;
  for (int r = 0; r < rows; r++, results += TILE) {
    v16 first = v_load(results), second = v_load(results + LANES);
    if (bias) {
      first = v_add(first, v_load(bias));
      second = v_add(second, v_load(bias + LANES));
    }
    float *y = product->y + (size_t)(row + r) * product->y_stride;
    if (product->after == GATE) {
      v_store(y + (size_t)tile * LANES, gated(first, second));
      continue;
    }
    y += (size_t)tile * TILE;
    if (product->after == ADD) {
      first = v_add(v_load(y), first);
      second = v_add(v_load(y + LANES), second);
    }
    v_store(y, first);
    v_store(y + LANES, second);
  }
}

static void product_item(void *context, int item, int thread) {
  (void)thread;
  const Product *product = context;
  const Matrix *matrix = product->matrix;
  const int first = item * product->tiles_an_item;
  const int last = first + product->tiles_an_item < matrix->tiles ? first + product->tiles_an_item : matrix->tiles;
  const int at_once = matrix->held == INT8 ? ROWS_AT_ONCE_I8 : ROWS_AT_ONCE_F32;
  const int parts = (product->rows + at_once - 1) / at_once;
  float results[MAX_ROWS_AT_ONCE * TILE] __attribute__((aligned(64)));
  for (int tile = first; tile < last; tile++) {
    const uint8_t *data = matrix->data + (size_t)tile * matrix->tile_bytes;
    for (int part = 0, row = 0; part < parts; part++) {
      /* Parts of about the same size: 5 and 4 rows rather than 8 and 1. */
      const int rows = (product->rows - row + parts - part - 1) / (parts - part);
      if (matrix->held == INT8)
        tile_i8(data, product->inputs, row, rows, results);
      else
        tile_f32(data, matrix->held, product->inputs, matrix->inputs, row, rows, results);
      finish(product, tile, row, rows, results);
      row += rows;
    }
  }
}

#define ITEMS_A_THREAD 16 /* so that a helper that comes late still finds some, and nobody waits long for the last */

void product(Pool *pool, const Matrix *matrix, const Inputs *inputs, int rows, float *y, size_t y_stride, After after) {
  if (!rows) return;
  const int most = ITEMS_A_THREAD * pool_threads(pool), tiles = (matrix->tiles + most - 1) / most;
  Product work = {matrix, inputs, y, y_stride, rows, tiles, after};
  pool_run(pool, product_item, &work, (matrix->tiles + tiles - 1) / tiles);
}
