#include <math.h>

#include "narrow.h"

// Queries whose scores are in cache together.
#define ATTEND_BLOCK 28

size_t vk_bf16_packed_bytes(size_t k, size_t n) {
  return (n + NARROW_PANEL - 1) / NARROW_PANEL * NARROW_PANEL * narrow_padded(2 * k);
}

#define tile_sum VK_VECTOR(f32, TILE_LANES)
#define TILE_VALUE(sum, row, j) ((sum) * scales->rows[row])
#define TILE_ADDS 1

// Numbers as bfloat16 in the lower half: nearest, halves to even; subnormal ones are zero, and what is no number stays none.
static inline __attribute__((always_inline)) vk_i32x16 bf16_bits_plain(vk_f32x16 x) {
  const vk_i32x16 bits = __builtin_bit_cast(vk_i32x16, x), size = bits & 0x7fffffff;
  const vk_i32x16 rounded = bits + 0x7fff + (bits >> 16 & 1);
  const vk_i32x16 kept = size > 0x7f800000 ? bits | 0x400000 : size < 0x800000 ? bits & (int32_t)0x80000000 : rounded;
  return kept >> 16 & 0xffff;
}

// Plain C, in the order of vdpbf16ps: the second of a pair first, each rounded once; subnormal numbers count as zero.
VK_DOT float bf16_step(float a, float b, float c) {
  const float sum = fmaf(a, b, c);
  return fabsf(sum) < 0x1p-126f ? copysignf(0, sum) : sum;
}
VK_DOT vk_f32x4 bf16_dot_base(vk_f32x4 sum, int32_t left, vk_i32x4 right) {
  for (int lane = 0; lane < 4; lane++) {
    const float a0 = __builtin_bit_cast(float, left << 16), a1 = __builtin_bit_cast(float, left & (int32_t)0xffff0000);
    const float b0 = __builtin_bit_cast(float, right[lane] << 16);
    const float b1 = __builtin_bit_cast(float, right[lane] & (int32_t)0xffff0000);
    sum[lane] = bf16_step(a0, b0, bf16_step(a1, b1, sum[lane]));
  }
  return sum;
}
#define SUFFIX bf16_base
#define ISA 0
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define TILE_LANES 4
#define TILE_STEP 16
#define TILE_DOT bf16_dot_base
#define tile_vec vk_i32x4
#include "lanes.h"
static inline vk_i32x16 bf16_bits_bf16_base(vk_f32x16 x) { return bf16_bits_plain(x); }
#include "narrow_tile.h"
#include "bf16_rows.body.h"
#include "attention_bf16.body.h"
#include "gemm_bf16.body.h"
#include "narrow_end.h"

#if defined(__x86_64__)
#define SUFFIX bf16_avx512
#define ISA 2
#pragma clang attribute push(__attribute__((target(VK_AVX512_TARGET ",avx512bf16"))), apply_to = function)
VK_DOT vk_f32x16 bf16_dot_avx512(vk_f32x16 sum, int32_t left, __m512i right) {
  return (vk_f32x16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(left), (__m512bh)right);
}
#define TILE_ROWS 14
#define TILE_VECTORS 2
#define TILE_LANES 16
#define TILE_STEP 1024
#define TILE_DOT bf16_dot_avx512
#define tile_vec __m512i
#include "lanes.h"
VK_INLINE vk_i32x16 bf16_bits_bf16_avx512(vk_f32x16 x) {
  return (vk_i32x16)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)x));
}
#include "narrow_tile.h"
#include "bf16_rows.body.h"
#include "attention_bf16.body.h"
#include "gemm_bf16.body.h"
#include "narrow_end.h"
#pragma clang attribute pop
#endif

static _Thread_local int is_plain = 0;

void vk_bf16_force_plain(int plain) { is_plain = plain; }

int vk_bf16_is_fast(void) { return is_plain || (vk_features() & VK_HAS_FAST_BF16) != 0; }

size_t vk_bf16_attention_scratch(const vk_attention *p) {
  const size_t row = sizeof(float) * (narrow_padded(2 * p->keys) / 2 + 16) + narrow_row(2 * p->width) + narrow_row(2 * p->keys);
  return vk_bf16_packed_bytes(p->width, p->keys) + vk_bf16_packed_bytes(p->keys, p->value_width) + ATTEND_BLOCK * row +
         sizeof(float) * 32;
}

#if defined(__x86_64__)
#define BF16_CALL(name, arguments)                      \
  do {                                                  \
    if (!is_plain && vk_bf16_is_fast())                 \
      name##_bf16_avx512 arguments;                     \
    else                                                \
      name##_bf16_base arguments;                       \
  } while (0)
#else
#define BF16_CALL(name, arguments) name##_bf16_base arguments
#endif

void vk_bf16_attend(const vk_attention *attention, size_t batch, size_t head, size_t q0, size_t q1, void *scratch) {
  BF16_CALL(attend_bf16, (attention, batch, head, q0, q1, scratch));
}

void vk_bf16_gemm(const vk_product *product, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch) {
  if (m1 > m0 && n1 > n0) BF16_CALL(gemm_bf16, (product, m0, m1, n0, n1, scratch));
}

void vk_bf16_pack(size_t k, size_t n, const float *b, ptrdiff_t b_row, ptrdiff_t b_column, size_t n0, void *packed) {
  uint8_t *to = (uint8_t *)packed + n0 / NARROW_PANEL * (narrow_padded(2 * k) * NARROW_PANEL);
  BF16_CALL(bf16_pack, (k, n, b, b_row, b_column, to));
}
