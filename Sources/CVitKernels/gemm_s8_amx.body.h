// Products in 8 bits on tile registers: 32 rows of A against the 32 columns of a panel, in four tiles of sums.
//
// Written in five operations, so that plain C over arrays is another kind of the same body: AMX_BEGIN and AMX_END around a task,
// AMX_ZERO(tile), AMX_LOAD(tile, base, stride), AMX_STORE(tile, base, stride) and AMX_DOT(sums, a, b), whose tiles are numbers.
#include "gemm_finish.h"
#include "s8_rows.body.h"

// Rows in a block: what lies behind the last row is read, and what comes of it left.
#define AMX_BLOCK 32

static void FN(s8_gemm)(const vk_s8_product *p, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch) {
  const size_t padded = narrow_padded(p->k), panel = s8_panel_bytes(p->k), row = narrow_row(p->k);
  int32_t *sums = scratch;  // [32][32]
  float *scales = (float *)(sums + 32 * 32);
  uint8_t *left = (uint8_t *)(scales + AMX_BLOCK);
  AMX_BEGIN();
  for (size_t top = m0; top < m1; top += AMX_BLOCK) {
    const size_t rows = m1 - top < AMX_BLOCK ? m1 - top : AMX_BLOCK;
    for (size_t i = 0; i < rows; i++)
      scales[i] = s8_quantise(p->a + (ptrdiff_t)(top + i) * p->a_row, p->k, left + i * row);
    for (size_t j0 = n0; j0 < n1; j0 += NARROW_PANEL) {
      const size_t columns = n1 - j0 < NARROW_PANEL ? n1 - j0 : NARROW_PANEL;
      const uint8_t *b = (const uint8_t *)p->packed + j0 / NARROW_PANEL * panel;
      const float *column_scales = (const float *)(b + padded * NARROW_PANEL + 4 * NARROW_PANEL);
      AMX_ZERO(0);
      AMX_ZERO(1);
      AMX_ZERO(2);
      AMX_ZERO(3);
      for (size_t k = 0; k < padded; k += 64, b += 2048) {
        AMX_LOAD(4, left + k, row);
        AMX_LOAD(6, b, 64);
        AMX_LOAD(7, b + 1024, 64);
        AMX_DOT(0, 4, 6);
        AMX_DOT(1, 4, 7);
        if (rows > 16) {
          AMX_LOAD(5, left + 16 * row + k, row);
          AMX_DOT(2, 5, 6);
          AMX_DOT(3, 5, 7);
        }
      }
      AMX_STORE(0, sums, 128);
      AMX_STORE(1, sums + 16, 128);
      AMX_STORE(2, sums + 16 * 32, 128);
      AMX_STORE(3, sums + 16 * 32 + 16, 128);
      for (size_t i = 0; i < rows; i++) {
        float *c = p->c + (ptrdiff_t)(top + i) * p->c_row + j0;
        for (size_t j = 0; j < columns; j += LANES) {
          const size_t lanes = columns - j < LANES ? columns - j : LANES;
          const ivec whole = *(const vk_i32x16_at *)(sums + 32 * i + j);
          v_storen(c + j, __builtin_convertvector(whole, vec) * v_load(column_scales + j) * v_all(scales[i]), lanes);
        }
      }
      gemm_finish(&p->epilogue, p->c, p->c_row, top, top + rows, j0, j0 + columns);
    }
  }
  AMX_END();
}
