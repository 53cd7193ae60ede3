// Vectors of `real`: loads, stores, folds and elementary functions. Included once for each level by each_level.h.
//
// The f32 functions are polynomials of our own fit, at most 2 ulp from the truth over their whole range (tanh and
// sigmoid 4), with infinities, NaN and subnormals as in libm. The f64 ones call libm lane by lane.
#include <math.h>
#include <string.h>

#ifndef VK_LANES_NAMES
#define VK_LANES_NAMES
#define v_all FN(v_all)
#define v_load FN(v_load)
#define v_store FN(v_store)
#define v_first FN(v_first)
#define v_loadn FN(v_loadn)
#define v_storen FN(v_storen)
#define v_madd FN(v_madd)
#define v_pick FN(v_pick)
#define v_max FN(v_max)
#define v_min FN(v_min)
#define v_abs FN(v_abs)
#define v_sqrt FN(v_sqrt)
#define v_sum FN(v_sum)
#define v_top FN(v_top)
#define v_exp_parts FN(v_exp_parts)
#define v_exp FN(v_exp)
#define v_expm1 FN(v_expm1)
#define v_log FN(v_log)
#define v_log1p FN(v_log1p)
#define v_tanh FN(v_tanh)
#define v_sigmoid FN(v_sigmoid)
#define v_erf FN(v_erf)
#define v_lookup FN(v_lookup)
#define vec_at FN(vec_at)
#define r_fma FN(r_fma)
// Calls `function` on each lane.
#define VK_LANEWISE(result, x, function) \
  vec result = (x);                      \
  for (int lane_ = 0; lane_ < LANES; lane_++) result[lane_] = (real)function(result[lane_])
#endif

typedef real vec_at __attribute__((ext_vector_type(LANES), aligned(sizeof(real)), may_alias));

VK_INLINE vec v_all(real x) { return (vec)(x); }
VK_INLINE vec v_load(const real *p) { return *(const vec_at *)p; }
VK_INLINE void v_store(real *p, vec x) { *(vec_at *)p = x; }

// Set in the first n lanes.
VK_INLINE ivec v_first(size_t n) {
#if LANES == 16
  return (ivec){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} < (ivec)((int32_t)n);
#else
  return (ivec){0, 1, 2, 3, 4, 5, 6, 7} < (ivec)((int64_t)n);
#endif
}
#if ISA == 1
#define v_half_mask FN(v_half_mask)
// For lanes first … first + 7 of 16, whether they are below n.
VK_INLINE __m256i v_half_mask(size_t n, int first) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n - first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
#endif
// The first n lanes from memory, zero in the others; n is in 0…LANES.
VK_INLINE vec v_loadn(const real *p, size_t n) {
  if (n >= LANES) return v_load(p);
#if ISA == 2
  return (vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
#elif ISA == 1
  const __m256 low = _mm256_maskload_ps(p, v_half_mask(n, 0)), high = _mm256_maskload_ps(p + 8, v_half_mask(n, 8));
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#else
  vec x = v_all(0);
  for (size_t lane = 0; lane < LANES; lane++)
    if (lane < n) x[lane] = p[lane];
  return x;
#endif
}
VK_INLINE void v_storen(real *p, vec x, size_t n) {
  if (n >= LANES) {
    v_store(p, x);
    return;
  }
#if ISA == 2
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)x);
#elif ISA == 1
  _mm256_maskstore_ps(p, v_half_mask(n, 0), __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7));
  _mm256_maskstore_ps(p + 8, v_half_mask(n, 8), __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15));
#else
  for (size_t lane = 0; lane < LANES; lane++)
    if (lane < n) p[lane] = x[lane];
#endif
}

// a·b + c, rounded once where the level has FMA, or the family defines EXACT_MADD.
VK_INLINE vec v_madd(vec a, vec b, vec c) {
#if ISA > 0 || defined(EXACT_MADD)
  return __builtin_elementwise_fma(a, b, c);
#else
  return a * b + c;
#endif
}
VK_INLINE vec v_pick(ivec condition, vec yes, vec no) { return condition ? yes : no; }
// The larger; NaN in `a` is passed on.
VK_INLINE vec v_max(vec a, vec b) { return v_pick(b > a, b, a); }
VK_INLINE vec v_min(vec a, vec b) { return v_pick(b < a, b, a); }
VK_INLINE vec v_abs(vec x) { return __builtin_elementwise_abs(x); }
VK_INLINE vec v_sqrt(vec x) { return __builtin_elementwise_sqrt(x); }

// The sum of the lanes: halves are added until one is left.
VK_INLINE real v_sum(vec x) {
#if LANES == 16
  vk_f32x16 a = x + __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
  a += __builtin_shufflevector(a, a, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
  a += __builtin_shufflevector(a, a, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3);
  return a[0] + a[1];
#else
  vec a = x + __builtin_shufflevector(x, x, 4, 5, 6, 7, 4, 5, 6, 7);
  a += __builtin_shufflevector(a, a, 2, 3, 2, 3, 2, 3, 2, 3);
  return a[0] + a[1];
#endif
}
// The largest lane; NaN if there is one in the lanes that win a comparison is not promised.
VK_INLINE real v_top(vec x) {
#if LANES == 16
  vec a = v_max(x, __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15));
  a = v_max(a, __builtin_shufflevector(a, a, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7));
  a = v_max(a, __builtin_shufflevector(a, a, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3));
#else
  vec a = v_max(x, __builtin_shufflevector(x, x, 4, 5, 6, 7, 4, 5, 6, 7));
  a = v_max(a, __builtin_shufflevector(a, a, 2, 3, 2, 3, 2, 3, 2, 3));
#endif
  return a[1] > a[0] ? a[1] : a[0];
}

#if REAL_IS_F32
#define VK_BITS(x) __builtin_bit_cast(ivec, (x))
#define VK_FLOATS(x) __builtin_bit_cast(vec, (x))

// The entries of a table of 16 that the lanes of `index`, in 0…15, name.
VK_INLINE vec v_lookup(const float *table, ivec index) {
#if ISA == 2
  return (vec)_mm512_permutexvar_ps((__m512i)index, _mm512_loadu_ps(table));
#elif ISA == 1
  const __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8);
  vec result;
  for (int half = 0; half < 2; half++) {
    const __m256i part = half ? (__m256i)__builtin_shufflevector(index, index, 8, 9, 10, 11, 12, 13, 14, 15)
                              : (__m256i)__builtin_shufflevector(index, index, 0, 1, 2, 3, 4, 5, 6, 7);
    const __m256 found = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, part), _mm256_permutevar8x32_ps(high, part),
                                          _mm256_castsi256_ps(_mm256_slli_epi32(part, 28)));
    const vec wide = __builtin_shufflevector(found, found, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
    result = half ? __builtin_shufflevector(result, wide, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) : wide;
  }
  return result;
#else
  vec result;
  for (int lane = 0; lane < LANES; lane++) result[lane] = table[index[lane]];
  return result;
#endif
}

// x = n·ln 2 + r with |r| ≤ ln 2 / 2, n whole; returns r, and n as floats. x is clamped to where exp is finite or 0.
VK_INLINE vec v_exp_parts(vec x, vec *n) {
  x = v_min(x, v_all(89.0f));
  x = v_max(x, v_all(-105.0f));
  const vec magic = v_all(0x1.8p23f);  // adding it rounds to a whole number
  vec k = v_madd(x, v_all(0x1.715476p+0f), magic) - magic;
  *n = k;
  vec r = v_madd(k, v_all(-0x1.62e4p-1f), x);
  return v_madd(k, v_all(-1.42860677e-6f), r);
}
// (eʳ − 1 − r) / r² for |r| ≤ ln 2 / 2.
#define VK_EXP_TAIL(r)                                                                                      \
  v_madd(v_madd(v_madd(v_madd(v_all(0.00139517174f), r, v_all(0.00836959854f)), r, v_all(0.0416661873f)), r, \
                v_all(0.166665122f)),                                                                       \
         r, v_all(0.5f))

VK_INLINE vec v_exp(vec x) {
  vec n;
  vec r = v_exp_parts(x, &n);
  vec p = v_madd(r * r, VK_EXP_TAIL(r), r) + v_all(1.0f);
#if ISA == 2
  return (vec)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  // 2ⁿ in two factors, so that subnormal results are rounded once and overflow is infinity.
  ivec k = VK_BITS(n + v_all(0x1.8p23f)) - VK_BITS(v_all(0x1.8p23f));
  ivec half = k >> 1;
  return p * VK_FLOATS((half + 127) << 23) * VK_FLOATS((k - half + 127) << 23);
#endif
}
VK_INLINE vec v_expm1(vec x) {
  vec n;
  vec r = v_exp_parts(x, &n);
  vec small = v_madd(r * r, VK_EXP_TAIL(r), r);
  return v_pick(v_abs(x) < v_all(0.34f), small, v_exp(x) - v_all(1.0f));
}
VK_INLINE vec v_log(vec x) {
  ivec tiny = x < v_all(0x1p-126f);
  vec y = v_pick(tiny, x * v_all(0x1p23f), x);
  // y = 2ᵉ·m with m in [√½, √2).
  ivec bits = VK_BITS(y) - 0x3f3504f3;
  ivec exponent = bits >> 23;
  vec f = VK_FLOATS((bits & 0x007fffff) + 0x3f3504f3) - v_all(1.0f);
  vec e = __builtin_convertvector(exponent, vec) - v_pick(tiny, v_all(23.0f), v_all(0.0f));
  vec p = v_all(0.0674660131f);
  p = v_madd(p, f, v_all(-0.116756409f));
  p = v_madd(p, f, v_all(0.118881747f));
  p = v_madd(p, f, v_all(-0.124055915f));
  p = v_madd(p, f, v_all(0.142195508f));
  p = v_madd(p, f, v_all(-0.166679963f));
  p = v_madd(p, f, v_all(0.200021192f));
  p = v_madd(p, f, v_all(-0.250000089f));
  p = v_madd(p, f, v_all(0.333333135f));
  vec square = f * f;
  vec low = v_madd(e, v_all(1.42860677e-6f), p * square * f);
  vec result = v_madd(e, v_all(0x1.62e4p-1f), f + v_madd(square, v_all(-0.5f), low));
  result = v_pick(x > v_all(0.0f), result, v_all(-INFINITY));
  result = v_pick(x < v_all(0.0f), v_all(NAN), result);
  return v_pick(x < v_all(INFINITY), result, x);  // +∞ and NaN are their own logarithms
}
VK_INLINE vec v_tanh(vec x) {
  vec t = v_abs(x), s = x * x;
  vec p = v_all(-0.00570950052f);
  p = v_madd(p, s, v_all(0.0206441395f));
  p = v_madd(p, s, v_all(-0.0537416227f));
  p = v_madd(p, s, v_all(0.133314699f));
  p = v_madd(p, s, v_all(-0.333332837f));
  vec small = v_madd(p * s, x, x);
  vec large = v_all(1.0f) - v_all(2.0f) / (v_exp(t + t) + v_all(1.0f));
  large = v_pick(x < v_all(0.0f), -large, large);
  return v_pick(t >= v_all(0.625f), large, small);
}
VK_INLINE vec v_erf(vec x) {
  vec t = v_abs(x), s = x * x;
  vec p = v_all(-0.000595386955f);
  p = v_madd(p, s, v_all(0.00498597138f));
  p = v_madd(p, s, v_all(-0.026761746f));
  p = v_madd(p, s, v_all(0.112816833f));
  p = v_madd(p, s, v_all(-0.376124799f));
  p = v_madd(p, s, v_all(0.128379151f));
  vec small = v_madd(p, x, x);
  // 1 − e^−(t + t·q(t)) beyond 0.92, and 1 beyond 3.95.
  vec u = v_min(t, v_all(3.95f));
  vec q = v_all(1.12314701e-05f);
  q = v_madd(q, u, v_all(-0.000322805427f));
  q = v_madd(q, u, v_all(0.00364246522f));
  q = v_madd(q, u, v_all(-0.0237620752f));
  q = v_madd(q, u, v_all(0.10623689f));
  q = v_madd(q, u, v_all(0.635151327f));
  q = v_madd(q, u, v_all(0.12864849f));
  vec large = v_all(1.0f) - v_exp(-v_madd(q, u, u));
  large = v_pick(x < v_all(0.0f), -large, large);
  return v_pick(t > v_all(0.925f), large, small);
}
#else
VK_INLINE vec v_exp(vec x) { VK_LANEWISE(y, x, exp); return y; }
VK_INLINE vec v_expm1(vec x) { VK_LANEWISE(y, x, expm1); return y; }
VK_INLINE vec v_log(vec x) { VK_LANEWISE(y, x, log); return y; }
VK_INLINE vec v_tanh(vec x) { VK_LANEWISE(y, x, tanh); return y; }
VK_INLINE vec v_erf(vec x) { VK_LANEWISE(y, x, erf); return y; }
#endif

// log(1 + x) for 0 ≤ x ≤ 1.
VK_INLINE vec v_log1p(vec x) {
  vec y = v_all(1) + x;
  return v_log(y) + (x - (y - v_all(1))) / y;
}
VK_INLINE vec v_sigmoid(vec x) { return v_all(1) / (v_all(1) + v_exp(-x)); }
