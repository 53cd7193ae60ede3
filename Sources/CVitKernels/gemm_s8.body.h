// Products in 8 bits with one kind of instruction.
//
// Left factors are whole numbers, a block of rows in scratch: shifted by 128 into unsigned ones where the instruction wants them
// so (S8_SHIFTED), for which the packed matrix knows what to take away again.
#include "gemm_finish.h"
#include "narrow_tile.h"

#define s8_quantise FN(s8_quantise)

// Brings n elements into 8 bits; returns the scale. The row is filled up with zeros to a multiple of 64.
static float s8_quantise(const float *a, size_t n, uint8_t *to) {
  ivec top = (ivec)(0);
  for (size_t j = 0; j < n; j += LANES) {
    const ivec bits = VK_BITS(v_loadn(a + j, n - j < LANES ? n - j : LANES)) & 0x7fffffff;
    top = __builtin_elementwise_max(bits, top);
  }
  const int32_t most = __builtin_reduce_max(top);
  const size_t padded = narrow_padded(n);
  const float greatest = __builtin_bit_cast(float, most);
  if (most >= 0x7f800000 || greatest < 0x1p-100f) {
    memset(to, S8_SHIFTED ? 128 : 0, padded);
    return most >= 0x7f800000 ? NAN : 0;
  }
  const vec inverse = v_all(127.0f / greatest), magic = v_all(0x1.8p23f);  // adding it rounds to a whole number
  const ivec shift = VK_BITS(magic) - (S8_SHIFTED ? 128 : 0);
  for (size_t j = 0; j < padded; j += LANES) {
    const size_t lanes = j >= n ? 0 : n - j < LANES ? n - j : LANES;
    const ivec whole = VK_BITS(v_loadn(a + j, lanes) * inverse + magic) - shift;
    *(vk_u8x16_at *)(to + j) = __builtin_convertvector(whole, vk_u8x16);
  }
  return greatest / 127.0f;
}

static void FN(s8_gemm)(const vk_s8_product *p, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch) {
  const size_t panel = s8_panel_bytes(p->k), row = narrow_row(p->k);
  float *scales = scratch;
  uint8_t *left = (uint8_t *)scratch + NARROW_BLOCK * sizeof(float) + 32;
  for (size_t top = m0; top < m1; top += NARROW_BLOCK) {
    const size_t rows = m1 - top < NARROW_BLOCK ? m1 - top : NARROW_BLOCK;
    for (size_t i = 0; i < rows; i++)
      scales[i] = s8_quantise(p->a + (ptrdiff_t)(top + i) * p->a_row, p->k, left + i * row);
    for (size_t j0 = n0; j0 < n1; j0 += NARROW_PANEL) {
      const size_t columns = n1 - j0 < NARROW_PANEL ? n1 - j0 : NARROW_PANEL;
      const uint8_t *b = (const uint8_t *)p->packed + j0 / NARROW_PANEL * panel;
      const int32_t *taken = (const int32_t *)(b + narrow_padded(p->k) * NARROW_PANEL);
      const narrow_scales all = {taken, (const float *)(taken + NARROW_PANEL), scales};
      tile_panel(rows, (p->k + 3) / 4, left, row, b, &all, p->c + (ptrdiff_t)top * p->c_row + j0, p->c_row, columns);
      gemm_finish(&p->epilogue, p->c, p->c_row, top, top + rows, j0, j0 + columns);
    }
  }
}
