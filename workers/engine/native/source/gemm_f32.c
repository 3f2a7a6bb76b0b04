/* Products in float32. An output is one chain of fused multiply-adds over its inputs in ascending order, whatever the
 * number of rows and tiles that share the loop: so a row has the same bits alone and in a batch. */
#include "native.h"

INLINE void tiles_of(const float *const *weights, int tiles, const float *x, size_t stride, int rows, int inputs,
                     float *results) {
  v16 sums[TILES_AT_ONCE][ROWS_AT_ONCE];
  for (int t = 0; t < tiles; t++)
    for (int r = 0; r < rows; r++) sums[t][r] = v_set(0);
  for (int k = 0; k < inputs; k++) {
    v16 w[TILES_AT_ONCE];
    for (int t = 0; t < tiles; t++) w[t] = v_load(weights[t] + (size_t)k * LANES);
    for (int r = 0; r < rows; r++) {
      const v16 input = v_set(x[(size_t)r * stride + (size_t)k]);
      for (int t = 0; t < tiles; t++) sums[t][r] = v_fma(w[t], input, sums[t][r]);
    }
  }
  for (int t = 0; t < tiles; t++)
    for (int r = 0; r < rows; r++) v_store(results + (t * rows + r) * LANES, sums[t][r]);
}

/* Constants for the numbers of tiles and rows, so that the sums are registers. */
#define CASE(t, r)                                             \
  case (t)*16 + (r):                                           \
    tiles_of(weights, (t), x, inputs->stride, (r), matrix->inputs, results); \
    break
#define ROWS_1_TO_4(t) CASE(t, 1); CASE(t, 2); CASE(t, 3); CASE(t, 4)
#define ROWS_5_TO_8(t) CASE(t, 5); CASE(t, 6); CASE(t, 7); CASE(t, 8)

void tiles_f32(const Matrix *matrix, int tile, int tiles, const Inputs *inputs, int row, int rows, float *results) {
  const float *x = inputs->x + (size_t)row * inputs->stride;
#ifdef ASTERISM_AVX512
  const int at_once = rows <= 2 ? 4 : 2;
#else
  const int at_once = rows == 1 ? 4 : rows == 2 ? 2 : 1;
#endif
  for (int done = 0; done < tiles;) {
    const int now = tiles - done >= at_once ? at_once : tiles - done >= 2 && at_once >= 2 ? 2 : 1;
    const float *weights[TILES_AT_ONCE];
    for (int t = 0; t < now; t++)
      weights[t] = (const float *)(matrix->data + (size_t)(tile + done + t) * matrix->tile_bytes);
    switch (now * 16 + rows) {
      ROWS_1_TO_4(1);
      CASE(2, 1); CASE(2, 2); CASE(4, 1);
#ifdef ASTERISM_AVX512
      ROWS_5_TO_8(1);
      CASE(2, 3); CASE(2, 4);
      ROWS_5_TO_8(2);
      CASE(4, 2);
#endif
      default: __builtin_unreachable();
    }
    done += now;
    results += now * rows * LANES;
  }
}
