#include <stdlib.h>
#include <string.h>

#include "features.h"
#include "levels.h"

// A packed matrix: panels of 32 columns. A panel has for each 64 of k two tiles of 16 columns, [k/4][16][4]; behind them what
// a shift of the left factor by 128 adds to each column, and the columns' scales. It is what AMX tiles and dot products of
// four bytes read in place.
#define S8_PANEL 32
// Rows that are brought into 8 bits together: a block and a panel stay in the first-level cache.
#define S8_BLOCK 56

static size_t s8_panel_bytes(size_t k) { return ((k + 63) & ~(size_t)63) * S8_PANEL + S8_PANEL * 8; }

size_t vk_s8_packed_bytes(size_t k, size_t n) { return (n + S8_PANEL - 1) / S8_PANEL * s8_panel_bytes(k); }

void vk_s8_pack(size_t k, const int8_t *w, const float *scales, size_t n0, size_t n1, void *packed) {
  const size_t padded = (k + 63) & ~(size_t)63;
  for (size_t j0 = n0; j0 < n1; j0 += S8_PANEL) {
    int8_t *to = (int8_t *)packed + j0 / S8_PANEL * s8_panel_bytes(k);
    int32_t *taken = (int32_t *)(to + padded * S8_PANEL);
    float *factors = (float *)(taken + S8_PANEL);
    memset(to, 0, s8_panel_bytes(k));
    for (size_t j = 0; j < S8_PANEL && j0 + j < n1; j++) {
      const int8_t *from = w + (j0 + j - n0) * k;
      int8_t *column = to + j / 16 * 1024 + j % 16 * 4;
      int32_t sum = 0;
      for (size_t p = 0; p < k; p++) {
        column[p / 64 * 2048 + p % 64 / 4 * 64 + p % 4] = from[p];
        sum += from[p];
      }
      taken[j] = 128 * sum;
      factors[j] = scales[j0 + j - n0];
    }
  }
}

// The functions of an epilogue round where those of the other levels do: to the bit the same on every machine.
#define EXACT_MADD 1
#define real float
#define ireal int32_t
#define vec vk_f32x16
#define ivec vk_i32x16
#define LANES 16
#define REAL_IS_F32 1

typedef uint8_t s8_bytes __attribute__((ext_vector_type(16)));
typedef uint8_t s8_bytes_at __attribute__((ext_vector_type(16), aligned(1), may_alias));

// Vectors of a tile whose sums have `lanes` lanes.
#define S8_TYPES(lanes)                                                                            \
  typedef int32_t VK_JOIN(s8_sum, lanes) __attribute__((ext_vector_type(lanes)));                  \
  typedef int32_t VK_JOIN(s8_sum_at, lanes)                                                        \
      __attribute__((ext_vector_type(lanes), aligned(4), may_alias));                              \
  typedef float VK_JOIN(s8_float, lanes) __attribute__((ext_vector_type(lanes)));                  \
  typedef float VK_JOIN(s8_float_at, lanes) __attribute__((ext_vector_type(lanes), aligned(4), may_alias));
S8_TYPES(4)
S8_TYPES(8)
S8_TYPES(16)
#undef S8_TYPES
#define s8_sum VK_JOIN(s8_sum, S8_LANES)
#define s8_sum_at VK_JOIN(s8_sum_at, S8_LANES)
#define s8_float VK_JOIN(s8_float, S8_LANES)
#define s8_float_at VK_JOIN(s8_float_at, S8_LANES)

// Plain C: four columns at a time.
typedef int8_t s8_vec_base __attribute__((ext_vector_type(16), aligned(1), may_alias));
static inline __attribute__((always_inline)) s8_sum_4 s8_dot_base(s8_sum_4 sum, int32_t left, s8_vec_base right) {
  for (int p = 0; p < 4; p++) {
    const int32_t value = (int8_t)(left >> 8 * p);
    sum += value * (s8_sum_4){right[p], right[4 + p], right[8 + p], right[12 + p]};
  }
  return sum;
}
#define SUFFIX s8_base
#define ISA 0
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define TILE_COLUMNS 8
#define TILE_STEP 16
#define S8_LANES 4
#define S8_SHIFTED 0
#define S8_DOT s8_dot_base
#define s8_vec s8_vec_base
#include "lanes.h"
#include "gemm_s8.body.h"
#undef s8_vec
#undef ISA
#undef SUFFIX

#if defined(__x86_64__)
typedef __m256i s8_vec_ymm __attribute__((aligned(32)));
typedef __m512i s8_vec_zmm __attribute__((aligned(64)));

// The sign of the left factor goes to the right one: |q|·|w| ≤ 127² twice fits 16 bits, so nothing saturates.
#define SUFFIX s8_avx2
#define ISA 1
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
static inline __attribute__((always_inline)) s8_sum_8 s8_dot_avx2(s8_sum_8 sum, int32_t left, __m256i right) {
  const __m256i signs = _mm256_set1_epi32(left), pairs = _mm256_maddubs_epi16(
                            _mm256_abs_epi8(signs), _mm256_sign_epi8(right, signs));
  return sum + (s8_sum_8)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define TILE_COLUMNS 16
#define TILE_STEP 32
#define S8_LANES 8
#define S8_SHIFTED 0
#define S8_DOT s8_dot_avx2
#define s8_vec s8_vec_ymm
#include "lanes.h"
#include "gemm_s8.body.h"
#undef s8_vec
#pragma clang attribute pop
#undef ISA
#undef SUFFIX

#define SUFFIX s8_avxvnni
#define ISA 1
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avxvnni"))), apply_to = function)
static inline __attribute__((always_inline)) s8_sum_8 s8_dot_avxvnni(s8_sum_8 sum, int32_t left, __m256i right) {
  return (s8_sum_8)_mm256_dpbusd_avx_epi32((__m256i)sum, _mm256_set1_epi32(left), right);
}
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define TILE_COLUMNS 16
#define TILE_STEP 32
#define S8_LANES 8
#define S8_SHIFTED 1
#define S8_DOT s8_dot_avxvnni
#define s8_vec s8_vec_ymm
#include "lanes.h"
#include "gemm_s8.body.h"
#undef s8_vec
#pragma clang attribute pop
#undef ISA
#undef SUFFIX

#define SUFFIX s8_avx512vnni
#define ISA 2
#pragma clang attribute push(                                                                                          \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma,f16c"))), apply_to = function)
static inline __attribute__((always_inline)) s8_sum_16 s8_dot_avx512vnni(s8_sum_16 sum, int32_t left, __m512i right) {
  return (s8_sum_16)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(left), right);
}
#define TILE_ROWS 14
#define TILE_VECTORS 2
#define TILE_COLUMNS 32
#define TILE_STEP 1024
#define S8_LANES 16
#define S8_SHIFTED 1
#define S8_DOT s8_dot_avx512vnni
#define s8_vec s8_vec_zmm
#include "lanes.h"
#include "gemm_s8.body.h"
#undef s8_vec
#pragma clang attribute pop
#undef ISA
#undef SUFFIX
#endif

// A kernel: its name, the features that it needs, and what it runs. From the plainest to the fastest.
typedef struct {
  const char *name;
  uint32_t needs;
  void (*gemm)(const vk_s8_product *, size_t, size_t, size_t, size_t, void *);
} s8_kernel;

static const s8_kernel kernels[] = {
    {"base", 0, s8_gemm_s8_base},
#if defined(__x86_64__)
    {"avx2", VK_HAS_AVX2, s8_gemm_s8_avx2},
    {"avxvnni", VK_HAS_AVX2 | VK_HAS_AVXVNNI, s8_gemm_s8_avxvnni},
    {"avx512vnni", VK_HAS_AVX512 | VK_HAS_AVX512VNNI, s8_gemm_s8_avx512vnni},
#endif
};

static _Thread_local int forced = -1;

size_t vk_s8_kernel_count(void) { return sizeof kernels / sizeof kernels[0]; }
const char *vk_s8_kernel_name(size_t index) { return kernels[index].name; }
int vk_s8_kernel_runs(size_t index) { return (kernels[index].needs & ~vk_features()) == 0; }
void vk_s8_force_kernel(int index) { forced = index; }

size_t vk_s8_kernel(void) {
  if (forced >= 0) return (size_t)forced;
  size_t index = vk_s8_kernel_count() - 1;
  while (index > 0 && !vk_s8_kernel_runs(index)) index--;
  return index;
}

void vk_s8_gemm(const vk_s8_product *product, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch) {
  if (m1 <= m0 || n1 <= n0) return;
  kernels[vk_s8_kernel()].gemm(product, m0, m1, n0, n1, scratch);
}
