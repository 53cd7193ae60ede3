#include "levels.h"

#define BODY "integer.body.h"
#include "each_level.h"

void vk_gemm_bytes(size_t m, size_t n, size_t k, const vk_bytes *a, const vk_bytes *b, int32_t *c) {
  static void (*const table[4])(size_t, size_t, size_t, const vk_bytes *, const vk_bytes *, int32_t *) =
      VK_TABLE(gemm_bytes);
  table[vk_variant(VK_F32)](m, n, k, a, b, c);
}
VK_DISPATCH(void, quantise, (size_t n, const void *x, double scale, int zero, int is_signed, void *y),
            (n, x, scale, zero, is_signed, y))
VK_DISPATCH(void, dequantise, (size_t n, const void *x, int is_signed, double scale, int zero, void *y),
            (n, x, is_signed, scale, zero, y))
