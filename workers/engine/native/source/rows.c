/* What is done to one row at a time. Sums over a row are in one order, whatever else is in the step. */
#include "native.h"

void widen(const uint16_t *bfloat16, size_t size, float *out) {
  for (size_t i = 0; i < size; i++) {
    const uint32_t bits = (uint32_t)bfloat16[i] << 16;
    memcpy(&out[i], &bits, sizeof bits);
  }
}

/* x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich 2019). `out` may be `x`. */
void rms_norm(const float *x, const float *weight, float eps, int size, float *out) {
  v16 sums[4] = {v_set(0), v_set(0), v_set(0), v_set(0)};
  int i = 0;
  for (; i + 4 * LANES <= size; i += 4 * LANES) {
    for (int part = 0; part < 4; part++) {
      const v16 values = v_load(x + i + part * LANES);
      sums[part] = v_fma(values, values, sums[part]);
    }
  }
  float rest = 0;
  for (; i < size; i++) rest += x[i] * x[i];
  const float sum = v_sum(v_add(v_add(sums[0], sums[1]), v_add(sums[2], sums[3]))) + rest;
  const float inverse = 1.0f / sqrtf(sum / (float)size + eps);
  for (i = 0; i < size; i++) out[i] = x[i] * inverse * weight[i];
}

/* Turns dimensions i and i + head_dim / 2 together, in place; cos and sin are [head_dim / 2] of the position. */
void rotate_head(float *x, const float *cos, const float *sin, int head_dim) {
  const int half = head_dim / 2;
  for (int i = 0; i < half; i++) {
    const float first = x[i], second = x[i + half];
    x[i] = first * cos[i] - second * sin[i];
    x[i + half] = second * cos[i] + first * sin[i];
  }
}
