/* Products in float32, of weights in float32 or in bfloat16, which are widened in registers: what bfloat16 holds, float32
 * holds, so the results are the same bits. An output is one chain of fused multiply-adds over its inputs in ascending
 * order, whatever the number of rows and tiles that share the loop: so a row has the same bits alone and in a batch. */
#include "native.h"

/* LANES of the 32 weights of an input. */
INLINE v16 weights_of(const uint8_t *tile, Held held, int half, int input) {
  if (held == FLOAT32) return v_load((const float *)(const void *)tile + (size_t)input * TILE + half * LANES);
  const uint16_t *pairs = (const uint16_t *)(const void *)tile + (size_t)input * TILE;
  return half ? v_load_second(pairs) : v_load_first(pairs);
}

static const size_t BYTES[] = {[FLOAT32] = TILE * sizeof(float), [BFLOAT16] = TILE * sizeof(uint16_t)}; /* an input */

INLINE void sums_of(const uint8_t *tile, Held held, int half, const float *x, size_t stride, int rows, int size,
                    float *results) {
  v16 sums[MAX_ROWS_AT_ONCE][HALVES_AT_ONCE];
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < HALVES_AT_ONCE; h++) sums[r][h] = v_set(0);
  for (int k = 0; k < size; k++) {
    v16 w[HALVES_AT_ONCE];
    if (rows > 1) __builtin_prefetch(tile + (size_t)k * BYTES[held] + AHEAD);
    for (int h = 0; h < HALVES_AT_ONCE; h++) w[h] = weights_of(tile, held, half + h, k);
    for (int r = 0; r < rows; r++) {
      const v16 input = v_set(x[(size_t)r * stride + (size_t)k]);
      for (int h = 0; h < HALVES_AT_ONCE; h++) sums[r][h] = v_fma(w[h], input, sums[r][h]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < HALVES_AT_ONCE; h++) v_store(results + r * TILE + (half + h) * LANES, sums[r][h]);
}

/* Constants for the number of rows, so that the sums are registers, and for what is asked in the inner loop. */
#define CASE(r) \
  case r: sums_of(tile, held, half, x, stride, r, size, results); break

INLINE void halves_of(const uint8_t *tile, Held held, int half, const float *x, size_t stride, int rows, int size,
                      float *results) {
  switch (rows) {
    CASE(1); CASE(2); CASE(3); CASE(4);
#if ROWS_AT_ONCE_F32 > 4
    CASE(5); CASE(6); CASE(7); CASE(8);
#endif
    default: __builtin_unreachable();
  }
}

INLINE void all_of(const uint8_t *tile, Held held, const float *x, size_t stride, int rows, int size, float *results) {
  halves_of(tile, held, 0, x, stride, rows, size, results);
  if (HALVES_AT_ONCE == 1) halves_of(tile, held, 1, x, stride, rows, size, results);
}

void tile_f32(const uint8_t *tile, Held held, const Inputs *inputs, int size, int row, int rows, float *results) {
  const float *x = inputs->x + (size_t)row * inputs->stride;
  if (held == BFLOAT16)
    all_of(tile, BFLOAT16, x, inputs->stride, rows, size, results);
  else
    all_of(tile, FLOAT32, x, inputs->stride, rows, size, results);
}
