// A tile of a product of narrow numbers, four bytes of each row of A and each column of B at a time: four whole numbers of 8 bits,
// or two bfloat16. Included by the body of a family, once for each kind of instruction.
//
// B is packed in panels of 32 columns: for each 64 bytes of a column two tiles of 16 columns, [group][16][4 bytes], which is what
// AMX and dot products of four bytes read in place. Before this: TILE_ROWS, TILE_VECTORS of B at a time, which have TILE_LANES
// columns each and lie TILE_STEP bytes apart; `tile_vec` and `tile_sum`, the types of such a vector and of its sums;
// TILE_DOT(sum, left, right), and TILE_VALUE(sum, row, j), what of column vector j is written to C.
#define tile_run FN(tile_run)
#define tiles FN(tiles)
#define tile_function FN(tile_function)
#ifndef TILE_COLUMNS
#define TILE_COLUMNS (TILE_VECTORS * TILE_LANES)
#endif

// What sums are multiplied with, and what is taken from them before, where TILE_VALUE reads it.
#ifndef NARROW_SCALES
#define NARROW_SCALES
typedef struct {
  const int32_t *taken;
  const float *columns, *rows;
  float old;  // what C is multiplied with before it is added, where TILE_ADDS; 0 does not read it
} narrow_scales;
#endif

// `rows` rows of A with TILE_COLUMNS columns of a panel, from `b` on in each of its blocks, of which C takes `columns`.
VK_INLINE void tile_run(const int rows, size_t groups, const uint8_t *a, size_t a_row, const uint8_t *b,
                        const narrow_scales *scales, float *c, ptrdiff_t c_row, size_t columns) {
  tile_sum sum[TILE_ROWS][TILE_VECTORS];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int j = 0; j < TILE_VECTORS; j++) sum[i][j] = (tile_sum)(0);
  for (size_t block = 0; block < groups; block += 16) {
    const size_t here = groups - block < 16 ? groups - block : 16;
    const uint8_t *from = a + 4 * block, *from5 = from + 5 * a_row, *from10 = from + 10 * a_row;
    for (size_t group = 0; group < here; group++, b += 64, from += 4, from5 += 4, from10 += 4) {
      tile_vec right[TILE_VECTORS];
#pragma clang loop unroll(full)
      for (int j = 0; j < TILE_VECTORS; j++) right[j] = *(const tile_vec *)(b + j * TILE_STEP);
#pragma clang loop unroll(full)
      for (int i = 0; i < rows; i++) {
        const uint8_t *at = i < 5 ? from + i * a_row : i < 10 ? from5 + (i - 5) * a_row : from10 + (i - 10) * a_row;
        int32_t left;
        memcpy(&left, at, 4);
#pragma clang loop unroll(full)
        for (int j = 0; j < TILE_VECTORS; j++) sum[i][j] = TILE_DOT(sum[i][j], left, right[j]);
      }
    }
    b += 2048 - 64 * here;
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
    float *to = c + i * c_row;
    float line[TILE_COLUMNS];
#ifdef TILE_ADDS
    if (scales->old != 0 && columns < TILE_COLUMNS) {
      memset(line, 0, sizeof line);
      memcpy(line, to, columns * sizeof(float));
    }
#endif
#pragma clang loop unroll(full)
    for (int j = 0; j < TILE_VECTORS; j++) {
      tile_float_at *at = (tile_float_at *)((columns >= TILE_COLUMNS ? to : line) + j * TILE_LANES);
#ifdef TILE_ADDS
      if (scales->old != 0) {
        *at = TILE_VALUE(sum[i][j], i, j) + scales->old * *at;
        continue;
      }
#endif
      *at = TILE_VALUE(sum[i][j], i, j);
    }
    if (columns < TILE_COLUMNS) memcpy(to, line, columns * sizeof(float));
  }
}

typedef void tile_function(size_t, const uint8_t *, size_t, const uint8_t *, const narrow_scales *, float *, ptrdiff_t, size_t);
#define VK_TILE(rows)                                                                                              \
  static void FN(tile_##rows)(size_t groups, const uint8_t *a, size_t a_row, const uint8_t *b,                     \
                              const narrow_scales *scales, float *c, ptrdiff_t c_row, size_t columns) {            \
    tile_run(rows, groups, a, a_row, b, scales, c, c_row, columns);                                                \
  }
VK_TILE(1) VK_TILE(2) VK_TILE(3) VK_TILE(4)
#if TILE_ROWS > 4
VK_TILE(5) VK_TILE(6)
#endif
#if TILE_ROWS > 6
VK_TILE(7) VK_TILE(8) VK_TILE(9) VK_TILE(10) VK_TILE(11) VK_TILE(12) VK_TILE(13) VK_TILE(14)
#endif
#undef VK_TILE

static tile_function *const tiles[TILE_ROWS] = {
    FN(tile_1), FN(tile_2), FN(tile_3), FN(tile_4),
#if TILE_ROWS > 4
    FN(tile_5), FN(tile_6),
#endif
#if TILE_ROWS > 6
    FN(tile_7), FN(tile_8), FN(tile_9), FN(tile_10), FN(tile_11), FN(tile_12), FN(tile_13), FN(tile_14),
#endif
};

#define tile_panel FN(tile_panel)
// `rows` rows of A with `columns` columns of a panel, 32 at most. `from` are the scales of the first of both.
static void tile_panel(size_t rows, size_t groups, const uint8_t *a, size_t a_row, const uint8_t *panel,
                       const narrow_scales *from, float *c, ptrdiff_t c_row, size_t columns) {
  const size_t count = (rows + TILE_ROWS - 1) / TILE_ROWS;
  for (size_t tile = 0; tile < count; tile++) {
    const size_t low = rows * tile / count, high = rows * (tile + 1) / count;
    for (size_t j = 0; j < columns; j += TILE_COLUMNS) {
      const narrow_scales scales = {from->taken ? from->taken + j : NULL, from->columns ? from->columns + j : NULL,
                                    from->rows ? from->rows + low : NULL, from->old};
      tiles[high - low - 1](groups, a + low * a_row, a_row, panel + j / 16 * 1024 + j % 16 * 4, &scales,
                            c + (ptrdiff_t)low * c_row + j, c_row, columns - j);
    }
  }
}
