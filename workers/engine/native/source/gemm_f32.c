/* Products in float32. An output is one chain of fused multiply-adds over its inputs in ascending order, whatever the
 * number of rows and tiles that share the loop: so a row has the same bits alone and in a batch. */
#include "native.h"

INLINE void sums_of(const float *weights, int halves, const float *x, size_t stride, int rows, int size, float *results) {
  v16 sums[MAX_ROWS_AT_ONCE][HALVES_AT_ONCE];
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < halves; h++) sums[r][h] = v_set(0);
  for (int k = 0; k < size; k++, weights += TILE) {
    v16 w[HALVES_AT_ONCE];
    for (int h = 0; h < halves; h++) w[h] = v_load(weights + h * LANES);
    for (int r = 0; r < rows; r++) {
      const v16 input = v_set(x[(size_t)r * stride + (size_t)k]);
      for (int h = 0; h < halves; h++) sums[r][h] = v_fma(w[h], input, sums[r][h]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < halves; h++) v_store(results + r * TILE + h * LANES, sums[r][h]);
}

/* A constant for the number of rows, so that the sums are registers. */
#define CASE(r) \
  case r: sums_of(weights, HALVES_AT_ONCE, x, inputs->stride, r, size, results); break

void tile_f32(const uint8_t *tile, const Inputs *inputs, int size, int row, int rows, float *results) {
  const float *x = inputs->x + (size_t)row * inputs->stride;
  for (int half = 0; half < 2; half += HALVES_AT_ONCE, results += LANES) {
    const float *weights = (const float *)(const void *)tile + half * LANES;
    switch (rows) {
      CASE(1); CASE(2); CASE(3); CASE(4);
#if ROWS_AT_ONCE_F32 > 4
      CASE(5); CASE(6); CASE(7); CASE(8);
#endif
      default: __builtin_unreachable();
    }
  }
}
