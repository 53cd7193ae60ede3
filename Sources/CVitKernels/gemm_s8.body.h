// Products in 8 bits with one kind of instruction: TILE_ROWS rows of A against TILE_COLUMNS columns of W at a time.
//
// Left factors are whole numbers beside a row of scratch: shifted by 128 into unsigned ones where the instruction wants them
// so (S8_SHIFTED), for which the packed matrix knows what to take away again.
#include "gemm_finish.h"

#define s8_tile FN(s8_tile)
#define s8_tiles FN(s8_tiles)
#define s8_quantise FN(s8_quantise)
#define s8_tile_function FN(s8_tile_function)

// Brings n elements into 8 bits; returns the scale. The row is filled up with zeros to a multiple of 64.
static float s8_quantise(const float *a, size_t n, uint8_t *to) {
  ivec top = (ivec)(0);
  for (size_t j = 0; j < n; j += LANES) {
    const ivec bits = VK_BITS(v_loadn(a + j, n - j < LANES ? n - j : LANES)) & 0x7fffffff;
    top = bits > top ? bits : top;
  }
  int32_t most = 0;
  for (int lane = 0; lane < LANES; lane++) most = top[lane] > most ? top[lane] : most;
  const size_t padded = (n + 63) & ~(size_t)63;
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
    *(s8_bytes_at *)(to + j) = __builtin_convertvector(whole, s8_bytes);
  }
  return greatest / 127.0f;
}

// Sums of `rows` rows of A with TILE_COLUMNS columns of a panel, from `b` on in each of its blocks, scaled into C.
VK_INLINE void s8_tile(const int rows, size_t k, const uint8_t *a, size_t a_row, const int8_t *b, const int32_t *taken,
                       const float *column_scales, const float *row_scales, float *c, ptrdiff_t c_row, size_t columns) {
  s8_sum sum[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int j = 0; j < TILE_VECTORS; j++) sum[i][j] = (s8_sum)(0);
  for (size_t block = 0; block < k; block += 64, b += 2048 - 1024) {
    const size_t quads = k - block < 64 ? (k - block + 3) / 4 : 16;
    const uint8_t *from = a + block, *from5 = from + 5 * a_row, *from10 = from + 10 * a_row;
    for (size_t quad = 0; quad < quads; quad++, b += 64, from += 4, from5 += 4, from10 += 4) {
      s8_vec right[TILE_VECTORS];
#pragma clang loop unroll(full)
      for (int j = 0; j < TILE_VECTORS; j++) right[j] = *(const s8_vec *)(b + j * TILE_STEP);
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) {
        const uint8_t *at = i < 5 ? from + i * a_row : i < 10 ? from5 + (i - 5) * a_row : from10 + (i - 10) * a_row;
        int32_t left;
        memcpy(&left, at, 4);
#pragma clang loop unroll(full)
        for (int j = 0; j < TILE_VECTORS; j++) sum[i][j] = S8_DOT(sum[i][j], left, right[j]);
      }
    }
    b += (16 - quads) * 64;
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
    float *to = c + i * c_row;
    float line[TILE_COLUMNS];
#pragma clang loop unroll(full)
    for (int j = 0; j < TILE_VECTORS; j++) {
      const s8_sum whole = S8_SHIFTED ? sum[i][j] - *(const s8_sum_at *)(taken + j * S8_LANES) : sum[i][j];
      const s8_float value = __builtin_convertvector(whole, s8_float) *
                             *(const s8_float_at *)(column_scales + j * S8_LANES) * row_scales[i];
      *(s8_float_at *)((columns >= TILE_COLUMNS ? to : line) + j * S8_LANES) = value;
    }
    if (columns < TILE_COLUMNS) memcpy(to, line, columns * sizeof(float));
  }
}

typedef void s8_tile_function(size_t, const uint8_t *, size_t, const int8_t *, const int32_t *, const float *,
                              const float *, float *, ptrdiff_t, size_t);
#define VK_TILE(rows)                                                                                                  \
  static void FN(s8_tile_##rows)(size_t k, const uint8_t *a, size_t ar, const int8_t *b, const int32_t *taken,         \
                                 const float *cs, const float *rs, float *c, ptrdiff_t cr, size_t columns) {           \
    s8_tile(rows, k, a, ar, b, taken, cs, rs, c, cr, columns);                                                         \
  }
VK_TILE(1) VK_TILE(2) VK_TILE(3) VK_TILE(4)
#if TILE_ROWS > 4
VK_TILE(5) VK_TILE(6)
#endif
#if TILE_ROWS > 6
VK_TILE(7) VK_TILE(8) VK_TILE(9) VK_TILE(10) VK_TILE(11) VK_TILE(12) VK_TILE(13) VK_TILE(14)
#endif
#undef VK_TILE

static s8_tile_function *const s8_tiles[TILE_ROWS] = {
    FN(s8_tile_1), FN(s8_tile_2), FN(s8_tile_3), FN(s8_tile_4),
#if TILE_ROWS > 4
    FN(s8_tile_5), FN(s8_tile_6),
#endif
#if TILE_ROWS > 6
    FN(s8_tile_7), FN(s8_tile_8), FN(s8_tile_9), FN(s8_tile_10), FN(s8_tile_11), FN(s8_tile_12), FN(s8_tile_13),
    FN(s8_tile_14),
#endif
};

static void FN(s8_gemm)(const vk_s8_product *p, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch) {
  const size_t padded = (p->k + 63) & ~(size_t)63, panel = s8_panel_bytes(p->k);
  const size_t row = padded % 1024 ? padded : padded + 64;  // no multiple of the cache's sets
  float *scales = scratch;
  uint8_t *left = (uint8_t *)scratch + S8_BLOCK * sizeof(float) + 32;
  for (size_t top = m0; top < m1; top += S8_BLOCK) {
    const size_t rows = m1 - top < S8_BLOCK ? m1 - top : S8_BLOCK, tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (size_t i = 0; i < rows; i++)
      scales[i] = s8_quantise(p->a + (ptrdiff_t)(top + i) * p->a_row, p->k, left + i * row);
    for (size_t j0 = n0; j0 < n1; j0 += S8_PANEL) {
      const size_t columns = n1 - j0 < S8_PANEL ? n1 - j0 : S8_PANEL;
      const int8_t *b = (const int8_t *)p->packed + j0 / S8_PANEL * panel;
      const int32_t *taken = (const int32_t *)(b + padded * S8_PANEL);
      const float *column_scales = (const float *)(taken + S8_PANEL);
      for (size_t tile = 0; tile < tiles; tile++) {
        const size_t low = rows * tile / tiles, high = rows * (tile + 1) / tiles;
        float *c = p->c + (ptrdiff_t)(top + low) * p->c_row + j0;
        for (size_t j = 0; j < columns; j += TILE_COLUMNS)
          s8_tiles[high - low - 1](p->k, left + low * row, row, b + j / 16 * 1024 + j % 16 * 4, taken + j, column_scales + j,
                                   scales + low, c + j, p->c_row, columns - j);
        gemm_finish(&p->epilogue, p->c, p->c_row, top + low, top + high, j0, j0 + columns);
      }
    }
  }
}
#undef TILE_ROWS
#undef TILE_VECTORS
#undef TILE_COLUMNS
#undef TILE_STEP
#undef S8_SHIFTED
#undef S8_DOT
#undef S8_LANES
