/* Vectors of 16 floats in one register (AVX-512), two (AVX2 with FMA), or an array that the compiler vectorises.
 *
 * Everything that rounds goes through these functions, and files are compiled without contraction, so a reduction has
 * one order of operations whatever the compiler makes of the loops around it. */
#ifndef ASTERISM_VEC_H
#define ASTERISM_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if !defined(ASTERISM_PORTABLE) && (defined(__AVX512F__) || defined(__AVX2__))
#include <immintrin.h>
#endif

#define LANES 16
#define INLINE static inline __attribute__((always_inline))

#if !defined(ASTERISM_PORTABLE) && !defined(ASTERISM_NO_AVX512) && defined(__AVX512F__) && defined(__AVX512BW__)
#define ASTERISM_AVX512 1
typedef __m512 v16;
INLINE v16 v_set(float x) { return _mm512_set1_ps(x); }
INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, v16 x) { _mm512_storeu_ps(p, x); }
INLINE v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
INLINE v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
INLINE v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
INLINE v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
INLINE v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE v16 v_round(v16 a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* `a` where `x` is at least `least`, 0 elsewhere. */
INLINE v16 v_keep(v16 a, v16 x, float least) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, v_set(least), _CMP_GE_OQ), a);
}
/* 2^n for whole n in [-126, 127]. */
INLINE v16 v_exp2(v16 n) {
  __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}
/* Lanes from..to-1 of `a`, minus infinity elsewhere; 0 <= from < to <= 16. */
INLINE v16 v_within(v16 a, int from, int to) {
  __mmask16 inside = (__mmask16)((0xFFFFu << from) & (0xFFFFu >> (LANES - to)));
  return _mm512_mask_mov_ps(v_set(-INFINITY), inside, a);
}
INLINE v16 v_load_bf16(const uint16_t *p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
/* The first, or the second, of 16 pairs of bfloat16. */
INLINE v16 v_load_first(const uint16_t *p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
INLINE v16 v_load_second(const uint16_t *p) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(-65536)));
}

#elif !defined(ASTERISM_PORTABLE) && defined(__AVX2__) && defined(__FMA__)
#define ASTERISM_AVX2 1
typedef struct { __m256 a, b; } v16;
INLINE v16 v_set(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE v16 v_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void v_store(float *p, v16 x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
INLINE v16 v_add(v16 x, v16 y) { return (v16){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
INLINE v16 v_sub(v16 x, v16 y) { return (v16){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
INLINE v16 v_mul(v16 x, v16 y) { return (v16){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
INLINE v16 v_div(v16 x, v16 y) { return (v16){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
INLINE v16 v_max(v16 x, v16 y) { return (v16){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
INLINE v16 v_min(v16 x, v16 y) { return (v16){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
INLINE v16 v_fma(v16 x, v16 y, v16 z) {
  return (v16){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
INLINE v16 v_round(v16 x) {
  const int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return (v16){_mm256_round_ps(x.a, nearest), _mm256_round_ps(x.b, nearest)};
}
INLINE v16 v_keep(v16 a, v16 x, float least) {
  const __m256 limit = _mm256_set1_ps(least);
  return (v16){_mm256_and_ps(a.a, _mm256_cmp_ps(x.a, limit, _CMP_GE_OQ)),
               _mm256_and_ps(a.b, _mm256_cmp_ps(x.b, limit, _CMP_GE_OQ))};
}
INLINE __m256 half_exp2(__m256 n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
INLINE v16 v_exp2(v16 n) { return (v16){half_exp2(n.a), half_exp2(n.b)}; }
INLINE __m256 half_within(__m256 x, int from, int to, int first) {
  const __m256i lane = _mm256_add_epi32(_mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0), _mm256_set1_epi32(first));
  const __m256i inside = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(from), lane),
                                             _mm256_cmpgt_epi32(_mm256_set1_epi32(to), lane));
  return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), x, _mm256_castsi256_ps(inside));
}
INLINE v16 v_within(v16 x, int from, int to) {
  return (v16){half_within(x.a, from, to, 0), half_within(x.b, from, to, 8)};
}
INLINE __m256 half_load_bf16(const uint16_t *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
INLINE v16 v_load_bf16(const uint16_t *p) { return (v16){half_load_bf16(p), half_load_bf16(p + 8)}; }
INLINE __m256 half_load_first(const uint16_t *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256((const __m256i *)p), 16));
}
INLINE __m256 half_load_second(const uint16_t *p) {
  return _mm256_castsi256_ps(_mm256_and_si256(_mm256_loadu_si256((const __m256i *)p), _mm256_set1_epi32(-65536)));
}
INLINE v16 v_load_first(const uint16_t *p) { return (v16){half_load_first(p), half_load_first(p + LANES)}; }
INLINE v16 v_load_second(const uint16_t *p) { return (v16){half_load_second(p), half_load_second(p + LANES)}; }

#else
typedef struct { float x[LANES]; } v16;
#define EACH(expression) do { for (int i = 0; i < LANES; i++) r.x[i] = (expression); } while (0)
INLINE v16 v_set(float x) { v16 r; EACH(x); return r; }
INLINE v16 v_load(const float *p) { v16 r; memcpy(r.x, p, sizeof r.x); return r; }
INLINE void v_store(float *p, v16 x) { memcpy(p, x.x, sizeof x.x); }
INLINE v16 v_add(v16 a, v16 b) { v16 r; EACH(a.x[i] + b.x[i]); return r; }
INLINE v16 v_sub(v16 a, v16 b) { v16 r; EACH(a.x[i] - b.x[i]); return r; }
INLINE v16 v_mul(v16 a, v16 b) { v16 r; EACH(a.x[i] * b.x[i]); return r; }
INLINE v16 v_div(v16 a, v16 b) { v16 r; EACH(a.x[i] / b.x[i]); return r; }
INLINE v16 v_max(v16 a, v16 b) { v16 r; EACH(a.x[i] > b.x[i] ? a.x[i] : b.x[i]); return r; }
INLINE v16 v_min(v16 a, v16 b) { v16 r; EACH(a.x[i] < b.x[i] ? a.x[i] : b.x[i]); return r; }
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
INLINE v16 v_fma(v16 a, v16 b, v16 c) { v16 r; EACH(__builtin_fmaf(a.x[i], b.x[i], c.x[i])); return r; }
#else
/* Without the instruction fmaf is a call; rounding twice is as fixed an order as rounding once. */
INLINE v16 v_fma(v16 a, v16 b, v16 c) { v16 r; EACH(a.x[i] * b.x[i] + c.x[i]); return r; }
#endif
INLINE v16 v_round(v16 a) { v16 r; EACH(__builtin_rintf(a.x[i])); return r; }
INLINE v16 v_keep(v16 a, v16 x, float least) { v16 r; EACH(x.x[i] >= least ? a.x[i] : 0.0f); return r; }
INLINE float one_exp2(float n) {
  const uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}
INLINE v16 v_exp2(v16 n) { v16 r; EACH(one_exp2(n.x[i])); return r; }
INLINE v16 v_within(v16 a, int from, int to) { v16 r; EACH(i >= from && i < to ? a.x[i] : -INFINITY); return r; }
INLINE float one_bf16(uint16_t h) {
  const uint32_t bits = (uint32_t)h << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}
INLINE v16 v_load_bf16(const uint16_t *p) { v16 r; EACH(one_bf16(p[i])); return r; }
INLINE v16 v_load_first(const uint16_t *p) { v16 r; EACH(one_bf16(p[2 * i])); return r; }
INLINE v16 v_load_second(const uint16_t *p) { v16 r; EACH(one_bf16(p[2 * i + 1])); return r; }
#undef EACH
#endif

INLINE float v_sum(v16 a) {
  float x[LANES];
  v_store(x, a);
  for (int width = LANES / 2; width; width /= 2)
    for (int i = 0; i < width; i++) x[i] += x[i + width];
  return x[0];
}

INLINE float v_largest(v16 a) {
  float x[LANES];
  v_store(x, a);
  for (int width = LANES / 2; width; width /= 2)
    for (int i = 0; i < width; i++) x[i] = x[i + width] > x[i] ? x[i + width] : x[i];
  return x[0];
}

/* e^x, 0 below -87.3 (where results would be subnormal), e^88 above 88; exactly 1 at 0. Range reduction by Cody and Waite's
 * split of ln 2, then the Taylor polynomial of degree 7 on [-ln 2 / 2, ln 2 / 2]: relative error below 2e-7. */
INLINE v16 v_exp(v16 x) {
  const v16 clamped = v_min(v_max(x, v_set(-87.3f)), v_set(88.0f));
  const v16 n = v_round(v_mul(clamped, v_set(1.44269504f)));
  v16 r = v_fma(n, v_set(-0.693359375f), clamped);
  r = v_fma(n, v_set(2.12194440e-4f), r);
  v16 p = v_set(1.0f / 5040);
  p = v_fma(p, r, v_set(1.0f / 720));
  p = v_fma(p, r, v_set(1.0f / 120));
  p = v_fma(p, r, v_set(1.0f / 24));
  p = v_fma(p, r, v_set(1.0f / 6));
  p = v_fma(p, r, v_set(0.5f));
  p = v_fma(p, r, v_set(1.0f));
  p = v_fma(p, r, v_set(1.0f));
  return v_keep(v_mul(p, v_exp2(n)), x, -87.3f);
}

#endif
