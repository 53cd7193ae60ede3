// f32 brought into bfloat16: rows of left factors, and packed matrices.
#define bf16_bits FN(bf16_bits)
#define bf16_rows FN(bf16_rows)
#define bf16_pair FN(bf16_pair)
#define bf16_columns FN(bf16_columns)
#define bf16_pack FN(bf16_pack)

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

// The rows of a left factor whose columns are contiguous: k numbers of `rows` rows, `to_row` bytes apart.
static void bf16_columns(const float *from, ptrdiff_t from_column, size_t rows, size_t k, uint8_t *to, size_t to_row) {
  for (size_t i = 0; i < rows; i += LANES) {
    const size_t lanes = rows - i < LANES ? rows - i : LANES;
    for (size_t p = 0; 2 * p < narrow_padded(2 * k); p += 2) {
      int32_t groups[LANES] = {0};
      if (p < k) {
        const ivec pair = bf16_pair(from + (ptrdiff_t)p * from_column + i, from_column, k - p, lanes);
        memcpy(groups, &pair, sizeof groups);
      }
      for (size_t lane = 0; lane < lanes; lane++) memcpy(to + (i + lane) * to_row + 2 * p, &groups[lane], 4);
    }
  }
}

// Packs the matrix [k, n], of which element (p, j) is at p·b_row + j·b_column and one of both is 1; `row` is room for a column of k.
static void bf16_pack(size_t k, size_t n, const float *b, ptrdiff_t b_row, ptrdiff_t b_column, uint8_t *row, uint8_t *packed) {
  const size_t padded = narrow_padded(2 * k);
  if (b_row == 1) {
    for (size_t j = 0; j < n; j++) {
      uint8_t *column = packed + j / NARROW_PANEL * (padded * NARROW_PANEL) + j % NARROW_PANEL / 16 * 1024 + j % 16 * 4;
      bf16_rows(b + (ptrdiff_t)j * b_column, k, row);
      for (size_t i = 0; i < padded; i += 4) memcpy(column + i / 64 * 2048 + i % 64 / 4 * 64, row + i, 4);
    }
    return;
  }
  for (size_t j = 0; j < n; j += LANES) {
    const size_t lanes = n - j < LANES ? n - j : LANES;
    uint8_t *column = packed + j / NARROW_PANEL * (padded * NARROW_PANEL) + j % NARROW_PANEL / 16 * 1024;
    for (size_t p = 0; 2 * p < padded; p += 2) {
      const ivec pair = p < k ? bf16_pair(b + (ptrdiff_t)p * b_row + j, b_row, k - p, lanes) : (ivec)(0);
      memcpy(column + p / 32 * 2048 + p % 32 / 2 * 64, &pair, 64);
    }
  }
}
