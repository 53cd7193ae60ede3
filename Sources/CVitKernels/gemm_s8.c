#include "narrow.h"

// A packed matrix: panels as in narrow_tile.h, [k/4][16][4]; behind the tiles of a panel what a shift of the left factor by 128
// adds to each column, and the columns' scales.
static size_t s8_panel_bytes(size_t k) { return narrow_padded(k) * NARROW_PANEL + NARROW_PANEL * 8; }

size_t vk_s8_packed_bytes(size_t k, size_t n) { return (n + NARROW_PANEL - 1) / NARROW_PANEL * s8_panel_bytes(k); }

void vk_s8_pack(size_t k, const int8_t *w, const float *scales, size_t n0, size_t n1, void *packed) {
  const size_t padded = narrow_padded(k);
  for (size_t j0 = n0; j0 < n1; j0 += NARROW_PANEL) {
    int8_t *to = (int8_t *)packed + j0 / NARROW_PANEL * s8_panel_bytes(k);
    int32_t *taken = (int32_t *)(to + padded * NARROW_PANEL);
    float *factors = (float *)(taken + NARROW_PANEL);
    memset(to, 0, s8_panel_bytes(k));
    for (size_t j = 0; j < NARROW_PANEL && j0 + j < n1; j++) {
      const int8_t *from = w + (j0 + j - n0) * k;
      int8_t *column = to + j / 16 * 1024 + j % 16 * 4;
      int32_t sum = 0;
      for (size_t p = 0; p < k; p++) {
        const int8_t value = from[p] < -127 ? -127 : from[p];
        column[p / 64 * 2048 + p % 64 / 4 * 64 + p % 4] = value;
        sum += value;
      }
      taken[j] = 128 * sum;
      factors[j] = scales[j0 + j - n0];
    }
  }
}

#define tile_sum VK_VECTOR(i32, TILE_LANES)
#define S8_FLOAT VK_VECTOR(f32, TILE_LANES)
#define TILE_VALUE(sum, row, j)                                                                                     \
  (__builtin_convertvector(S8_SHIFTED ? (sum) - *(const VK_VECTOR_AT(i32, TILE_LANES) *)(scales->taken + (j) * TILE_LANES) \
                                      : (sum),                                                                      \
                           S8_FLOAT) *                                                                              \
   *(const tile_float_at *)(scales->columns + (j) * TILE_LANES) * scales->rows[row])

// Plain C: four columns at a time.
VK_DOT vk_i32x4 s8_dot_base(vk_i32x4 sum, int32_t left, vk_i8x16_at right) {
  for (int p = 0; p < 4; p++) {
    const int32_t value = (int8_t)(left >> 8 * p);
    sum += value * (vk_i32x4){right[p], right[4 + p], right[8 + p], right[12 + p]};
  }
  return sum;
}
#define SUFFIX s8_base
#define ISA 0
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define TILE_LANES 4
#define TILE_STEP 16
#define TILE_DOT s8_dot_base
#define S8_SHIFTED 0
#define tile_vec vk_i8x16_at
#include "lanes.h"
#include "gemm_s8.body.h"
#include "narrow_end.h"

// The same body on arrays in place of tile registers, for tests: any machine runs it.
typedef struct {
  uint8_t rows[16][64];
} s8_tile_array;
static _Thread_local s8_tile_array s8_arrays[8];

static void s8_array_load(int tile, const void *base, size_t stride) {
  for (size_t i = 0; i < 16; i++) memcpy(s8_arrays[tile].rows[i], (const uint8_t *)base + i * stride, 64);
}
static void s8_array_store(int tile, void *base, size_t stride) {
  for (size_t i = 0; i < 16; i++) memcpy((uint8_t *)base + i * stride, s8_arrays[tile].rows[i], 64);
}
static void s8_array_dot(int sums, int a, int b) {
  for (size_t i = 0; i < 16; i++)
    for (size_t j = 0; j < 16; j++) {
      int32_t sum;
      memcpy(&sum, s8_arrays[sums].rows[i] + 4 * j, 4);
      for (size_t k = 0; k < 64; k++)
        sum += (int32_t)(int8_t)s8_arrays[a].rows[i][k] * (int8_t)s8_arrays[b].rows[k / 4][4 * j + k % 4];
      memcpy(s8_arrays[sums].rows[i] + 4 * j, &sum, 4);
    }
}
#define AMX_BEGIN() ((void)0)
#define AMX_END() ((void)0)
#define AMX_ZERO(tile) memset(&s8_arrays[tile], 0, sizeof s8_arrays[tile])
#define AMX_LOAD(tile, base, stride) s8_array_load(tile, base, stride)
#define AMX_STORE(tile, base, stride) s8_array_store(tile, base, stride)
#define AMX_DOT(sums, a, b) s8_array_dot(sums, a, b)
#define SUFFIX s8_arrays
#define ISA 0
#define S8_SHIFTED 0
#include "lanes.h"
#include "gemm_s8_amx.body.h"
#include "narrow_end.h"

#if defined(__x86_64__)
// The sign of the left factor goes to the right one: |q|·|w| ≤ 127² twice fits 16 bits, so nothing saturates.
#define SUFFIX s8_avx2
#define ISA 1
#pragma clang attribute push(__attribute__((target(VK_AVX2_TARGET))), apply_to = function)
VK_DOT vk_i32x8 s8_dot_avx2(vk_i32x8 sum, int32_t left, __m256i right) {
  const __m256i signs = _mm256_set1_epi32(left);
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(signs), _mm256_sign_epi8(right, signs));
  return sum + (vk_i32x8)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#define TILE_ROWS 4
#define TILE_VECTORS 2
#define TILE_LANES 8
#define TILE_STEP 32
#define TILE_DOT s8_dot_avx2
#define S8_SHIFTED 0
#define tile_vec __m256i
#include "lanes.h"
#include "gemm_s8.body.h"
#include "narrow_end.h"
#pragma clang attribute pop

#define SUFFIX s8_avxvnni
#define ISA 1
#pragma clang attribute push(__attribute__((target(VK_AVX2_TARGET ",avxvnni"))), apply_to = function)
VK_DOT vk_i32x8 s8_dot_avxvnni(vk_i32x8 sum, int32_t left, __m256i right) {
  return (vk_i32x8)_mm256_dpbusd_avx_epi32((__m256i)sum, _mm256_set1_epi32(left), right);
}
#define TILE_ROWS 6
#define TILE_VECTORS 2
#define TILE_LANES 8
#define TILE_STEP 32
#define TILE_DOT s8_dot_avxvnni
#define S8_SHIFTED 1
#define tile_vec __m256i
#include "lanes.h"
#include "gemm_s8.body.h"
#include "narrow_end.h"
#pragma clang attribute pop

#define SUFFIX s8_avx512vnni
#define ISA 2
#pragma clang attribute push(__attribute__((target(VK_AVX512_TARGET ",avx512vnni"))), apply_to = function)
VK_DOT vk_i32x16 s8_dot_avx512vnni(vk_i32x16 sum, int32_t left, __m512i right) {
  return (vk_i32x16)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32(left), right);
}
#define TILE_ROWS 14
#define TILE_VECTORS 2
#define TILE_LANES 16
#define TILE_STEP 1024
#define TILE_DOT s8_dot_avx512vnni
#define S8_SHIFTED 1
#define tile_vec __m512i
#include "lanes.h"
#include "gemm_s8.body.h"
#include "narrow_end.h"
#pragma clang attribute pop

// What is loaded into the tile configuration: eight tiles of 16 rows of 64 bytes.
typedef struct {
  uint8_t palette, start, reserved[14];
  uint16_t columns[16];
  uint8_t rows[16];
} s8_tile_configuration;
static const s8_tile_configuration s8_all_tiles __attribute__((aligned(64))) = {
    1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
#define AMX_BEGIN() _tile_loadconfig(&s8_all_tiles)
#define AMX_END() _tile_release()
#define AMX_ZERO(tile) _tile_zero(tile)
#define AMX_LOAD(tile, base, stride) _tile_loadd(tile, base, stride)
#define AMX_STORE(tile, base, stride) _tile_stored(tile, base, stride)
#define AMX_DOT(sums, a, b) _tile_dpbssd(sums, a, b)
#define SUFFIX s8_amx
#define ISA 2
#define S8_SHIFTED 0
#pragma clang attribute push(__attribute__((target(VK_AVX512_TARGET ",amx-tile,amx-int8"))), apply_to = function)
#include "lanes.h"
#include "gemm_s8_amx.body.h"
#include "narrow_end.h"
#pragma clang attribute pop
#endif

// A kernel: its name, the features that it needs, and what it runs. From the plainest to the fastest.
typedef struct {
  const char *name;
  uint32_t needs;
  void (*gemm)(const vk_s8_product *, size_t, size_t, size_t, size_t, void *);
} s8_kernel;

static const s8_kernel kernels[] = {
    {"tile arrays", 0, s8_gemm_s8_arrays},
    {"base", 0, s8_gemm_s8_base},
#if defined(__x86_64__)
    {"avx2", VK_HAS_AVX2, s8_gemm_s8_avx2},
    {"avxvnni", VK_HAS_AVX2 | VK_HAS_AVXVNNI, s8_gemm_s8_avxvnni},
    {"avx512vnni", VK_HAS_AVX512 | VK_HAS_AVX512VNNI, s8_gemm_s8_avx512vnni},
    {"amx", VK_HAS_AVX512 | VK_HAS_AMX_INT8, s8_gemm_s8_amx},
#endif
};

static _Thread_local int forced = -1;

size_t vk_s8_kernel_count(void) { return sizeof kernels / sizeof kernels[0]; }
const char *vk_s8_kernel_name(size_t index) { return kernels[index].name; }
int vk_s8_kernel_runs(size_t index) { return (kernels[index].needs & ~vk_features()) == 0; }
void vk_s8_force_kernel(int index) { forced = index; }

size_t vk_s8_kernel(void) {
  if (forced >= 0) return (size_t)forced;
  size_t index = vk_s8_kernel_count() - 1;  // the first is for tests, the second runs everywhere
  while (index > 1 && !vk_s8_kernel_runs(index)) index--;
  return index;
}

void vk_s8_gemm(const vk_s8_product *product, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch) {
  if (m1 <= m0 || n1 <= n0) return;
  kernels[vk_s8_kernel()].gemm(product, m0, m1, n0, n1, scratch);
}
