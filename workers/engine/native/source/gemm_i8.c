/* Products of int8 weights and int8 inputs, in groups of 32 inputs that have a scale each for the weights of an output
 * and for the inputs of a row: the grouping of llama.cpp's Q8_0.
 *
 * The sums of a group are whole numbers and exact, in any order. Groups are added in ascending order by one chain of
 * fused multiply-adds, so a row has the same bits alone and in a batch, and with every instruction set that has them.
 *
 * A weight's scale is chosen among those near max / 127.5 that bfloat16 has, as the one with the least squared error;
 * rounding errors of 32 weights vary that much that the best of some candidates has about a quarter less than Q8_0's.
 * Inputs have no such choice: it would be made at every step. */
#include "native.h"

#if defined(ASTERISM_VNNI)
typedef __m512i Sums;
INLINE Sums sums_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE v16 sums_float(Sums x) { return _mm512_cvtepi32_ps(x); }
typedef __m512i Weights;
INLINE Weights weights_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE Sums sums_add(Sums sums, Weights w, const Quantised *q) {
  int32_t four;
  memcpy(&four, q, sizeof four);
  return _mm512_dpbusd_epi32(sums, w, _mm512_set1_epi32(four));
}
#elif defined(ASTERISM_MADD)
/* Products of 8 bits saturate in 16 (vpmaddubsw), so both sides are widened: even and odd inputs of each four. */
typedef struct { __m256i a, b; } Sums;
typedef struct { __m256i even_a, odd_a, even_b, odd_b; } Weights;
INLINE Sums sums_set(int32_t x) { return (Sums){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
INLINE v16 sums_float(Sums x) {
#ifdef ASTERISM_AVX512
  return _mm512_cvtepi32_ps(_mm512_inserti64x4(_mm512_castsi256_si512(x.a), x.b, 1));
#else
  return (v16){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
#endif
}
INLINE Weights weights_load(const uint8_t *p) {
  const __m256i low = _mm256_set1_epi16(0xFF);
  const __m256i a = _mm256_loadu_si256((const __m256i *)p), b = _mm256_loadu_si256((const __m256i *)(p + 32));
  return (Weights){_mm256_and_si256(a, low), _mm256_srli_epi16(a, 8), _mm256_and_si256(b, low),
                   _mm256_srli_epi16(b, 8)};
}
INLINE Sums sums_add(Sums sums, Weights w, const Quantised *q) {
  int32_t pairs[2];
  memcpy(pairs, q, sizeof pairs);
  const __m256i even = _mm256_set1_epi32(pairs[0]), odd = _mm256_set1_epi32(pairs[1]);
  const __m256i a = _mm256_add_epi32(_mm256_madd_epi16(w.even_a, even), _mm256_madd_epi16(w.odd_a, odd));
  const __m256i b = _mm256_add_epi32(_mm256_madd_epi16(w.even_b, even), _mm256_madd_epi16(w.odd_b, odd));
  return (Sums){_mm256_add_epi32(sums.a, a), _mm256_add_epi32(sums.b, b)};
}
#else
typedef struct { int32_t x[LANES]; } Sums;
typedef const uint8_t *Weights;
INLINE Sums sums_set(int32_t x) {
  Sums r;
  for (int i = 0; i < LANES; i++) r.x[i] = x;
  return r;
}
INLINE v16 sums_float(Sums x) {
  v16 r;
  for (int i = 0; i < LANES; i++) r.x[i] = (float)x.x[i];
  return r;
}
INLINE Weights weights_load(const uint8_t *p) { return p; }
INLINE Sums sums_add(Sums sums, Weights w, const Quantised *q) {
  for (int i = 0; i < LANES; i++)
    sums.x[i] += w[4 * i] * q[0] + w[4 * i + 1] * q[1] + w[4 * i + 2] * q[2] + w[4 * i + 3] * q[3];
  return sums;
}
#endif

#define SCALES_BYTES (TILE * 2)
#define GROUP_BYTES (SCALES_BYTES + GROUP * TILE)

INLINE void sums_of(const uint8_t *tile, int half, int halves, const Inputs *inputs, int row, int rows, float *results) {
  const int groups = inputs->groups;
  const Quantised *q = inputs->q + (size_t)row * (size_t)groups * GROUP;
  const float *scales = inputs->scales + (size_t)row * (size_t)groups;
  const int32_t *offsets = inputs->offsets + (size_t)row * (size_t)groups;
  v16 totals[MAX_ROWS_AT_ONCE][HALVES_AT_ONCE];
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < halves; h++) totals[r][h] = v_set(0);
  for (int g = 0; g < groups; g++, tile += GROUP_BYTES) {
    const uint8_t *weights = tile + SCALES_BYTES + half * LANES * 4;
    Sums sums[MAX_ROWS_AT_ONCE][HALVES_AT_ONCE];
    for (int r = 0; r < rows; r++)
      for (int h = 0; h < halves; h++) sums[r][h] = sums_set(offsets[r * groups + g]);
    for (int k = 0; k < GROUP; k += 4) {
      Weights w[HALVES_AT_ONCE];
      for (int h = 0; h < halves; h++) w[h] = weights_load(weights + k * TILE + h * LANES * 4);
      for (int r = 0; r < rows; r++)
        for (int h = 0; h < halves; h++)
          sums[r][h] = sums_add(sums[r][h], w[h], q + ((size_t)r * (size_t)groups + (size_t)g) * GROUP + k);
    }
    for (int h = 0; h < halves; h++) {
      const v16 scale = v_load_bf16((const uint16_t *)(const void *)tile + (half + h) * LANES);
      for (int r = 0; r < rows; r++)
        totals[r][h] = v_fma(v_mul(sums_float(sums[r][h]), scale), v_set(scales[r * groups + g]), totals[r][h]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int h = 0; h < halves; h++) v_store(results + r * TILE + (half + h) * LANES, totals[r][h]);
}

/* A constant for the number of rows, so that the sums are registers. */
#define CASE(r) \
  case r: sums_of(tile, half, HALVES_AT_ONCE, inputs, row, r, results); break

void tile_i8(const uint8_t *tile, const Inputs *inputs, int row, int rows, float *results) {
  for (int half = 0; half < 2; half += HALVES_AT_ONCE) {
    switch (rows) {
      CASE(1); CASE(2); CASE(3); CASE(4);
#if ROWS_AT_ONCE_I8 > 4
      CASE(5); CASE(6);
#endif
      default: __builtin_unreachable();
    }
  }
}

static float one_bfloat16(uint16_t bits) {
  const uint32_t wide = (uint32_t)bits << 16;
  float result;
  memcpy(&result, &wide, sizeof result);
  return result;
}

/* Quantises `size` <= GROUP weights with a scale; returns the squared error. */
static float weights_by(float scale, const float *weight, int8_t *q) {
  const float inverse = 1.0f / scale;
  float squares[LANES] = {0};
  for (int i = 0; i < GROUP; i++) {
    float whole = __builtin_rintf(weight[i] * inverse);
    whole = whole > 127.0f ? 127.0f : whole < -128.0f ? -128.0f : whole;
    const float error = weight[i] - whole * scale;
    q[i] = (int8_t)whole;
    squares[i % LANES] += error * error;
  }
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += squares[i];
  return sum;
}

#define CANDIDATES 16 /* of bfloat16's scales from max / 129 on: steps of 0.4 to 0.8 % */

void pack_row_i8(uint8_t *tile, int groups, int lane, const float *weight, int inputs) {
  for (int g = 0; g < groups; g++, tile += GROUP_BYTES) {
    uint16_t *scales = (uint16_t *)(void *)tile;
    uint8_t *data = tile + SCALES_BYTES;
    float part[GROUP] = {0}, largest = 0;
    int8_t q[GROUP] = {0}, tried[GROUP];
    const int size = inputs - g * GROUP < GROUP ? inputs - g * GROUP : GROUP;
    for (int i = 0; i < size; i++) {
      part[i] = weight[g * GROUP + i];
      largest = fabsf(part[i]) > largest ? fabsf(part[i]) : largest;
    }
    uint16_t best = 0;
    /* Below this the inverse of the scale may overflow, and the weights are nothing to float32 beside any others. */
    if (largest > 1e-30f) {
      const float least = largest / 129.0f;
      uint32_t bits;
      memcpy(&bits, &least, sizeof bits);
      float least_error = INFINITY;
      for (int c = 0; c < CANDIDATES; c++) {
        const uint16_t scale = (uint16_t)((bits >> 16) + (uint32_t)c);
        const float error = weights_by(one_bfloat16(scale), part, tried);
        if (error < least_error) {
          least_error = error;
          best = scale;
          memcpy(q, tried, sizeof q);
        }
      }
    }
    scales[lane] = best;
    for (int i = 0; i < GROUP; i++) data[(i / 4 * TILE + lane) * 4 + i % 4] = (uint8_t)(q[i] + 128);
  }
}

void quantise_row(const Inputs *inputs, int row, const float *x, int size) {
  const int groups = inputs->groups;
  for (int g = 0; g < groups; g++) {
    float part[GROUP] = {0};
    const int here = size - g * GROUP < GROUP ? size - g * GROUP : GROUP;
    memcpy(part, x + g * GROUP, (size_t)here * sizeof *part);
    float most[LANES];
    for (int i = 0; i < LANES; i++) {
      const float a = fabsf(part[i]), b = fabsf(part[i + LANES]);
      most[i] = a > b ? a : b;
    }
    for (int width = LANES / 2; width; width /= 2)
      for (int i = 0; i < width; i++) most[i] = most[i] > most[i + width] ? most[i] : most[i + width];
    /* Below this the inverse may overflow. */
    const float scale = most[0] > 1e-30f ? most[0] / 127.0f : 0, inverse = scale > 0 ? 1.0f / scale : 0;
    int32_t whole[GROUP], sum = 0;
    for (int i = 0; i < GROUP; i++) whole[i] = (int32_t)__builtin_rintf(part[i] * inverse);
    for (int i = 0; i < GROUP; i++) sum += whole[i];
    Quantised *q = inputs->q + ((size_t)row * (size_t)groups + (size_t)g) * GROUP;
#ifdef ASTERISM_MADD
    for (int i = 0; i < GROUP; i += 4) {
      q[i] = (Quantised)whole[i];
      q[i + 1] = (Quantised)whole[i + 2];
      q[i + 2] = (Quantised)whole[i + 1];
      q[i + 3] = (Quantised)whole[i + 3];
    }
#else
    for (int i = 0; i < GROUP; i++) q[i] = (Quantised)whole[i];
#endif
    inputs->scales[(size_t)row * (size_t)groups + (size_t)g] = scale;
    inputs->offsets[(size_t)row * (size_t)groups + (size_t)g] = -128 * sum;
  }
}
