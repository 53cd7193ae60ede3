// Products in 8 bits with one kind of instruction.
//
// Left factors are whole numbers, a block of rows in scratch: shifted by 128 into unsigned ones where the instruction wants them
// so (S8_SHIFTED), for which the packed matrix knows what to take away again.
#include "gemm_finish.h"
#include "narrow_tile.h"
#include "s8_rows.body.h"

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
      const narrow_scales all = {.taken = taken, .columns = (const float *)(taken + NARROW_PANEL), .rows = scales};
      tile_panel(rows, (p->k + 3) / 4, left, row, b, &all, p->c + (ptrdiff_t)top * p->c_row + j0, p->c_row, columns);
      gemm_finish(&p->epilogue, p->c, p->c_row, top, top + rows, j0, j0 + columns);
    }
  }
}
