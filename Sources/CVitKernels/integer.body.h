// Byte kernels at one level.
#define bytes_row FN(bytes_row)
#define bytes_load FN(bytes_load)
#define bytes_value FN(bytes_value)

#ifndef BYTES_COLUMNS
#define BYTES_COLUMNS 32
typedef int32_t vk_i32x32 __attribute__((ext_vector_type(32)));
typedef uint8_t vk_u8x32 __attribute__((ext_vector_type(32), aligned(1), may_alias));
typedef int8_t vk_i8x32 __attribute__((ext_vector_type(32), aligned(1), may_alias));
#endif

VK_INLINE int32_t bytes_value(const void *base, int is_signed, size_t at) {
  return is_signed ? ((const int8_t *)base)[at] : ((const uint8_t *)base)[at];
}
// BYTES_COLUMNS bytes, zeros from `count` on.
VK_INLINE vk_i32x32 bytes_load(const void *base, int is_signed, size_t count) {
  uint8_t padded[BYTES_COLUMNS] = {0};
  if (count < BYTES_COLUMNS) {
    for (size_t i = 0; i < count; i++) padded[i] = ((const uint8_t *)base)[i];
    base = padded;
  }
  return is_signed ? __builtin_convertvector(*(const vk_i8x32 *)base, vk_i32x32)
                   : __builtin_convertvector(*(const vk_u8x32 *)base, vk_i32x32);
}

// `rows` rows and up to BYTES_COLUMNS columns of c.
VK_INLINE void bytes_row(const int rows, size_t n, size_t k, size_t i, size_t j, size_t count, const vk_bytes *a,
                         const vk_bytes *b, int32_t *c) {
  vk_i32x32 sum[2], right_zero = 0;
  int32_t left_zero[2] = {0};
  if (b->zero)
    right_zero = b->zero_step ? bytes_load((const uint8_t *)b->zero + j, b->is_signed, count)
                              : (vk_i32x32)(bytes_value(b->zero, b->is_signed, 0));
  for (int row = 0; row < rows; row++) {
    sum[row] = 0;
    if (a->zero) left_zero[row] = bytes_value(a->zero, a->is_signed, (i + (size_t)row) * a->zero_step);
  }
  for (size_t p = 0; p < k; p++) {
    const vk_i32x32 right = bytes_load((const uint8_t *)b->base + p * n + j, b->is_signed, count) - right_zero;
    for (int row = 0; row < rows; row++)
      sum[row] += right * (bytes_value(a->base, a->is_signed, (i + (size_t)row) * k + p) - left_zero[row]);
  }
  for (int row = 0; row < rows; row++)
    for (size_t lane = 0; lane < count; lane++) c[(i + (size_t)row) * n + j + lane] = sum[row][lane];
}

static void FN(gemm_bytes)(size_t m, size_t n, size_t k, const vk_bytes *a, const vk_bytes *b, int32_t *c) {
  for (size_t j = 0; j < n; j += BYTES_COLUMNS) {
    const size_t count = n - j < BYTES_COLUMNS ? n - j : BYTES_COLUMNS;
    size_t i = 0;
    for (; i + 2 <= m; i += 2) bytes_row(2, n, k, i, j, count, a, b, c);
    for (; i < m; i++) bytes_row(1, n, k, i, j, count, a, b, c);
  }
}

static void FN(quantise)(size_t n, const void *x, double scale, int zero, int is_signed, void *y) {
  const vec divisor = v_all((real)scale), offset = v_all((real)zero);
  const vec low = v_all(is_signed ? -128 : 0), high = v_all(is_signed ? 127 : 255);
  for (size_t i = 0; i < n; i += LANES) {
    const size_t lanes = n - i < LANES ? n - i : LANES;
    vec value = __builtin_elementwise_roundeven(v_loadn((const real *)x + i, lanes) / divisor) + offset;
    value = v_pick(value == value, value, offset);  // NaN has no nearest number; its byte is that of 0
    value = v_min(v_max(value, low), high);
    for (size_t lane = 0; lane < lanes; lane++) ((uint8_t *)y)[i + lane] = (uint8_t)(int)value[lane];
  }
}

static void FN(dequantise)(size_t n, const void *x, int is_signed, double scale, int zero, void *y) {
  for (size_t i = 0; i < n; i++)
    ((real *)y)[i] = (real)(bytes_value(x, is_signed, i) - zero) * (real)scale;
}
