// f32 brought into bfloat16: rows of left factors, and packed matrices.
#define bf16_bits FN(bf16_bits)
#define bf16_rows FN(bf16_rows)
#define bf16_pair FN(bf16_pair)
#define bf16_columns FN(bf16_columns)
#define bf16_pack FN(bf16_pack)
#define bf16_turn FN(bf16_turn)

// A row in bfloat16, filled up with zeros to whole groups of 64 bytes.
static void bf16_rows(const float *from, size_t n, uint8_t *to) {
  for (size_t j = 0; 2 * j < narrow_padded(2 * n); j += LANES) {
    const size_t lanes = j >= n ? 0 : n - j < LANES ? n - j : LANES;
    *(vk_u16x16_at *)(to + 2 * j) = __builtin_convertvector(bf16_bits(v_loadn(from + j, lanes)), vk_u16x16);
  }
}

// Two rows of `lanes` numbers side by side, the first below the second, as one four-byte group for each; `there` of the rows are.
VK_INLINE ivec bf16_pair(const float *from, ptrdiff_t row, size_t there, size_t lanes) {
  ivec pair = bf16_bits(v_loadn(from, lanes));
  if (there > 1) pair |= bf16_bits(v_loadn(from + row, lanes)) << (ivec)(16);
  return pair;
}

// Exchanges rows and columns of 16 rows of 16 groups, by halves, quarters and so on.
VK_INLINE void bf16_turn(ivec r[16]) {
#define VK_HALVES(step, low, high)                                \
  _Pragma("clang loop unroll(full)") for (int i = 0; i < 16; i++) \
    if (!(i & step)) {                                            \
      const ivec a = r[i], b = r[i + step];                       \
      r[i] = __builtin_shufflevector(a, b, VK_LIST low);          \
      r[i + step] = __builtin_shufflevector(a, b, VK_LIST high);  \
    }
  VK_HALVES(8, (0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
            (8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
  VK_HALVES(4, (0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
            (4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
  VK_HALVES(2, (0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
            (2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
  VK_HALVES(1, (0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
            (1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
#undef VK_HALVES
}

// The rows of a left factor whose columns are contiguous: k numbers of `rows` rows, `to_row` bytes apart.
static void bf16_columns(const float *from, ptrdiff_t from_column, size_t rows, size_t k, uint8_t *to, size_t to_row) {
  for (size_t i = 0; i < rows; i += LANES) {
    const size_t lanes = rows - i < LANES ? rows - i : LANES;
    for (size_t p = 0; p < k; p += 32) {
      ivec block[16];
      for (size_t g = 0; g < 16; g++) {
        const size_t first = p + 2 * g;
        block[g] = first < k ? bf16_pair(from + (ptrdiff_t)first * from_column + i, from_column, k - first, lanes) : (ivec)(0);
      }
      bf16_turn(block);
      for (size_t lane = 0; lane < lanes; lane++) memcpy(to + (i + lane) * to_row + 2 * p, &block[lane], 64);
    }
  }
}

// Packs the matrix [k, n], of which element (p, j) is at p·b_row + j·b_column and one of both is 1.
static void bf16_pack(size_t k, size_t n, const float *b, ptrdiff_t b_row, ptrdiff_t b_column, uint8_t *packed) {
  const size_t padded = narrow_padded(2 * k);
  for (size_t j = 0; j < n; j += LANES) {
    const size_t columns = n - j < LANES ? n - j : LANES;
    uint8_t *to = packed + j / NARROW_PANEL * (padded * NARROW_PANEL) + j % NARROW_PANEL / 16 * 1024;
    const float *from = b + (ptrdiff_t)j * b_column;
    for (size_t p = 0; p < k; p += 32, to += 2048) {
      const size_t rows = k - p < 32 ? k - p : 32;
      ivec block[16];
      if (b_row == 1) {
        for (size_t c = 0; c < 16; c++) {
          block[c] = (ivec)(0);
          if (c < columns) bf16_rows(from + (ptrdiff_t)c * b_column + p, rows, (uint8_t *)&block[c]);
        }
        bf16_turn(block);
      } else {
        for (size_t g = 0; g < 16; g++)
          block[g] = 2 * g < rows ? bf16_pair(from + (ptrdiff_t)(p + 2 * g) * b_row, b_row, rows - 2 * g, columns) : (ivec)(0);
      }
      memcpy(to, block, sizeof block);
    }
  }
}
