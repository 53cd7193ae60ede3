// Products of f32 operands in bfloat16: a block of rows of A and of columns of B at a time, both rounded on the way unless B was
// packed before.
#include "gemm_finish.h"

// k in a block: a constant, so that an element's sums are cut alike however the product was; and columns packed together.
#define BF16_DEPTH 1024
#define BF16_COLUMNS 384

static void FN(gemm_bf16)(const vk_product *p, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch) {
  const size_t blocks = (p->k + BF16_DEPTH - 1) / BF16_DEPTH;
  const size_t depth = blocks ? ((p->k + blocks - 1) / blocks + 31) / 32 * 32 : 32;
  const size_t row = narrow_row(2 * depth), whole = narrow_padded(2 * p->k) * NARROW_PANEL;
  float *factors = scratch;
  uint8_t *left = (uint8_t *)scratch + narrow_padded(NARROW_BLOCK * sizeof(float)), *packing = left + NARROW_BLOCK * row;
  for (size_t i = 0; i < NARROW_BLOCK; i++) factors[i] = (float)p->alpha;
  for (size_t j0 = n0; j0 < n1; j0 += BF16_COLUMNS) {
    const size_t columns = n1 - j0 < BF16_COLUMNS ? n1 - j0 : BF16_COLUMNS;
    size_t k0 = 0;
    do {
      const size_t k = p->k - k0 < depth ? p->k - k0 : depth;
      const uint8_t *right = packing;
      size_t panel = narrow_padded(2 * k) * NARROW_PANEL;
      if (p->packed) {
        right = (const uint8_t *)p->packed + j0 / NARROW_PANEL * whole + k0 / 32 * 2048;
        panel = whole;
      } else {
        bf16_pack(k, columns, (const float *)p->b + (ptrdiff_t)k0 * p->b_row + (ptrdiff_t)j0 * p->b_column, p->b_row,
                  p->b_column, packing);
      }
      const narrow_scales scales = {.rows = factors, .old = k0 ? 1 : (float)p->beta};
      for (size_t top = m0; top < m1; top += NARROW_BLOCK) {
        const size_t rows = m1 - top < NARROW_BLOCK ? m1 - top : NARROW_BLOCK;
        const float *a = (const float *)p->a + (ptrdiff_t)top * p->a_row + (ptrdiff_t)k0 * p->a_column;
        if (p->a_column == 1)
          for (size_t i = 0; i < rows; i++) bf16_rows(a + (ptrdiff_t)i * p->a_row, k, left + i * row);
        else
          bf16_columns(a, p->a_column, rows, k, left, row);
        for (size_t j = 0; j < columns; j += NARROW_PANEL)
          tile_panel(rows, (k + 1) / 2, left, row, right + j / NARROW_PANEL * panel, &scales,
                     (float *)p->c + (ptrdiff_t)top * p->c_row + j0 + j, p->c_row,
                     columns - j < NARROW_PANEL ? columns - j : NARROW_PANEL);
        if (k0 + k == p->k) gemm_finish(&p->epilogue, p->c, p->c_row, top, top + rows, j0, j0 + columns);
      }
      k0 += k;
    } while (k0 < p->k);
  }
}
