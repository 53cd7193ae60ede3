// Products at one level: OpenBLAS at base, our own tiles from avx2 up.
#include "gemm_finish.h"

#if ISA == 0
static size_t FN(gemm_packed_count)(size_t k, size_t n) { return k * n; }

// [k, n], row-major.
static void FN(gemm_pack)(size_t k, size_t n, const void *b, ptrdiff_t b_row, ptrdiff_t b_column, size_t n0, size_t n1,
                          void *packed) {
  const real *from = b;
  real *to = (real *)packed + n0;
  for (size_t p = 0; p < k; p++)
    for (size_t j = 0; j < n1 - n0; j++) to[p * n + j] = from[(ptrdiff_t)p * b_row + (ptrdiff_t)j * b_column];
}

static void FN(gemm)(const vk_product *p, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch) {
  (void)scratch;
  if (m1 <= m0 || n1 <= n0) return;
  if (p->m == 1 && p->n == 1) {  // OpenBLAS need not be there for a sum
    const real *x = p->a, *y = p->packed ? p->packed : p->b;
    const ptrdiff_t row = p->packed ? 1 : p->b_row;
    real *to = p->c, sum = 0;
    for (size_t i = 0; i < p->k; i++) sum += x[(ptrdiff_t)i * p->a_column] * y[(ptrdiff_t)i * row];
    *to = (real)p->alpha * sum + (p->beta == 0 ? 0 : (real)p->beta * *to);
    return gemm_finish(&p->epilogue, p->c, p->c_row, 0, 1, 0, 1);
  }
  const real *a = (const real *)p->a + (ptrdiff_t)m0 * p->a_row, *b;
  real *c = (real *)p->c + (ptrdiff_t)m0 * p->c_row + n0;
  ptrdiff_t b_row = p->b_row, b_column = p->b_column;
  if (p->packed) {
    b = (const real *)p->packed + n0;
    b_row = (ptrdiff_t)p->n, b_column = 1;
  } else {
    b = (const real *)p->b + (ptrdiff_t)n0 * b_column;
  }
  // A stride that no element is reached with may have any value; BLAS wants one that fits the matrix.
  const int m = (int)(m1 - m0), n = (int)(n1 - n0), k = (int)p->k;
  const int a_plain = p->a_column == 1, b_plain = b_column == 1;
  int lda = (int)(a_plain ? p->a_row : p->a_column), ldb = (int)(b_plain ? b_row : b_column);
  const int lda_least = a_plain ? k : m, ldb_least = b_plain ? n : k, ldc = (int)p->c_row;
  if (lda < lda_least) lda = lda_least;
  if (ldb < ldb_least) ldb = ldb_least;
  if (lda < 1) lda = 1;
  if (ldb < 1) ldb = 1;
  const enum CBLAS_TRANSPOSE ta = a_plain ? CblasNoTrans : CblasTrans, tb = b_plain ? CblasNoTrans : CblasTrans;
  if (p->beta == 0)  // OpenBLAS multiplies by 0 in some of its kernels, which keeps NaN
    for (int i = 0; i < m; i++) memset(c + (ptrdiff_t)i * p->c_row, 0, (size_t)n * sizeof(real));
#if REAL_IS_F32
  vk_sgemm(CblasRowMajor, ta, tb, m, n, k, (float)p->alpha, a, lda, b, ldb, (float)p->beta, c, ldc < n ? n : ldc);
#else
  vk_dgemm(CblasRowMajor, ta, tb, m, n, k, p->alpha, a, lda, b, ldb, p->beta, c, ldc < n ? n : ldc);
#endif
  gemm_finish(&p->epilogue, p->c, p->c_row, m0, m1, n0, n1);
}
#else

// Packed B: panels of 32 columns, the last of 16 if that is enough; in a panel row after row of k, zeros where n ends.
#define GEMM_PANEL 32
// Rows of B in a block, and columns of B packed at a time: a block stays in the second-level cache.
#define GEMM_DEPTH 384
#define GEMM_COLUMNS 384
// A row of a copied tile of A: no multiple of the cache's sets.
#define GEMM_LEFT_ROW (GEMM_DEPTH + 16)
#define GEMM_FEW_ROWS 84

#define gemm_vec FN(gemm_vec)
#define gemm_vec_at FN(gemm_vec_at)
#define gemm_tile FN(gemm_tile)
#define gemm_tiles FN(gemm_tiles)
#define gemm_f8 FN(gemm_f8)
#define gemm_transpose8 FN(gemm_transpose8)
#define gemm_pack_panel FN(gemm_pack_panel)
#define gemm_rows FN(gemm_rows)

#if ISA == 2
#define GEMM_ROWS 14
#define GEMM_LANES 16
#else
#define GEMM_ROWS 6
#define GEMM_LANES 8
#endif
#define GEMM_STRIP (2 * GEMM_LANES)

typedef float gemm_vec __attribute__((ext_vector_type(GEMM_LANES)));
typedef float gemm_vec_at __attribute__((ext_vector_type(GEMM_LANES), aligned(4), may_alias));
typedef float gemm_f8 __attribute__((ext_vector_type(8), aligned(4), may_alias));

// C[rows, columns] ← alpha·A·B + beta·C with the sums in registers. `wide` vectors cover the columns.
VK_INLINE void gemm_tile(const int rows, const int wide, size_t k, const float *a, ptrdiff_t a_row, ptrdiff_t a_column,
                         const float *b, ptrdiff_t b_row, float *c, ptrdiff_t c_row, size_t columns, float alpha,
                         float beta) {
  gemm_vec sum[GEMM_ROWS][2];
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
    for (int j = 0; j < wide; j++) sum[i][j] = (gemm_vec)(0.0f);
  const float *a5 = a + 5 * a_row, *a10 = a + 10 * a_row;
  for (; k > 0; k--) {
    gemm_vec right[2];
#pragma clang loop unroll(full)
    for (int j = 0; j < wide; j++) right[j] = *(const gemm_vec_at *)(b + j * GEMM_LANES);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
      const float *from = i < 5 ? a + i * a_row : i < 10 ? a5 + (i - 5) * a_row : a10 + (i - 10) * a_row;
      const gemm_vec left = (gemm_vec)(*from);
#pragma clang loop unroll(full)
      for (int j = 0; j < wide; j++) sum[i][j] = __builtin_elementwise_fma(left, right[j], sum[i][j]);
    }
    a += a_column, a5 += a_column, a10 += a_column;
    b += b_row;
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < rows; i++) {
    float *to = c + i * c_row;
#pragma clang loop unroll(full)
    for (int j = 0; j < wide; j++) {
      gemm_vec value = sum[i][j] * alpha;
      const size_t left = columns - (size_t)(j * GEMM_LANES);
      if (left >= GEMM_LANES) {
        if (beta != 0) value += beta * *(const gemm_vec_at *)(to + j * GEMM_LANES);
        *(gemm_vec_at *)(to + j * GEMM_LANES) = value;
      } else {
#if ISA == 2
        const __mmask16 mask = (__mmask16)((1u << left) - 1);
        if (beta != 0) value += beta * (gemm_vec)_mm512_maskz_loadu_ps(mask, to + j * GEMM_LANES);
        _mm512_mask_storeu_ps(to + j * GEMM_LANES, mask, (__m512)value);
#else
        for (size_t lane = 0; lane < GEMM_LANES; lane++)
          if (lane < left) {
            const float old = beta != 0 ? beta * to[(size_t)j * GEMM_LANES + lane] : 0;
            to[(size_t)j * GEMM_LANES + lane] = value[lane] + old;
          }
#endif
      }
    }
  }
}

#define VK_TILE(rows)                                                                                                 \
  static void FN(gemm_tile_##rows##_1)(size_t k, const float *a, ptrdiff_t ar, ptrdiff_t ac, const float *b,          \
                                       ptrdiff_t br, float *c, ptrdiff_t cr, size_t columns, float alpha,             \
                                       float beta) {                                                                  \
    gemm_tile(rows, 1, k, a, ar, ac, b, br, c, cr, columns, alpha, beta);                                             \
  }                                                                                                                   \
  static void FN(gemm_tile_##rows##_2)(size_t k, const float *a, ptrdiff_t ar, ptrdiff_t ac, const float *b,          \
                                       ptrdiff_t br, float *c, ptrdiff_t cr, size_t columns, float alpha,             \
                                       float beta) {                                                                  \
    gemm_tile(rows, 2, k, a, ar, ac, b, br, c, cr, columns, alpha, beta);                                             \
  }
#define VK_TILE_ENTRY(rows) {FN(gemm_tile_##rows##_1), FN(gemm_tile_##rows##_2)}
VK_TILE(1) VK_TILE(2) VK_TILE(3) VK_TILE(4) VK_TILE(5) VK_TILE(6)
#if ISA == 2
VK_TILE(7) VK_TILE(8) VK_TILE(9) VK_TILE(10) VK_TILE(11) VK_TILE(12) VK_TILE(13) VK_TILE(14)
#endif

static void (*const gemm_tiles[GEMM_ROWS][2])(size_t, const float *, ptrdiff_t, ptrdiff_t, const float *, ptrdiff_t,
                                              float *, ptrdiff_t, size_t, float, float) = {
    VK_TILE_ENTRY(1), VK_TILE_ENTRY(2),  VK_TILE_ENTRY(3),  VK_TILE_ENTRY(4),  VK_TILE_ENTRY(5),  VK_TILE_ENTRY(6),
#if ISA == 2
    VK_TILE_ENTRY(7), VK_TILE_ENTRY(8),  VK_TILE_ENTRY(9),  VK_TILE_ENTRY(10), VK_TILE_ENTRY(11), VK_TILE_ENTRY(12),
    VK_TILE_ENTRY(13), VK_TILE_ENTRY(14),
#endif
};
#undef VK_TILE
#undef VK_TILE_ENTRY

#define VK_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define VK_HIGH(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define VK_LOW2(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define VK_HIGH2(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define VK_LOW4(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define VK_HIGH4(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
// to[p·to_row + j] = from[j·from_row + p] for an 8×8 block of which `rows` rows are there, the others zero.
VK_INLINE void gemm_transpose8(size_t rows, const float *from, ptrdiff_t from_row, float *to, ptrdiff_t to_row) {
  gemm_f8 r[8], s[8];
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i++) r[i] = (size_t)i < rows ? *(const gemm_f8 *)(from + i * from_row) : (gemm_f8)(0.0f);
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i += 2) s[i] = VK_LOW(r[i], r[i + 1]), s[i + 1] = VK_HIGH(r[i], r[i + 1]);
#pragma clang loop unroll(full)
  for (int i = 0; i < 8; i += 4) {
    r[i] = VK_LOW2(s[i], s[i + 2]), r[i + 1] = VK_HIGH2(s[i], s[i + 2]);
    r[i + 2] = VK_LOW2(s[i + 1], s[i + 3]), r[i + 3] = VK_HIGH2(s[i + 1], s[i + 3]);
  }
#pragma clang loop unroll(full)
  for (int i = 0; i < 4; i++) {
    *(gemm_f8 *)(to + i * to_row) = VK_LOW4(r[i], r[i + 4]);
    *(gemm_f8 *)(to + (i + 4) * to_row) = VK_HIGH4(r[i], r[i + 4]);
  }
}
#undef VK_LOW
#undef VK_HIGH
#undef VK_LOW2
#undef VK_HIGH2
#undef VK_LOW4
#undef VK_HIGH4

// Packs k rows and `columns` columns of B into a panel of `width`.
static void gemm_pack_panel(size_t k, size_t columns, size_t width, const float *b, ptrdiff_t b_row,
                            ptrdiff_t b_column, float *to) {
  if (b_column == 1) {
    for (size_t p = 0; p < k; p++, to += width) {
      const float *from = b + (ptrdiff_t)p * b_row;
      if (columns == width) {
        for (size_t j = 0; j < width; j += 16) v_store(to + j, v_load(from + j));
      } else {
        for (size_t j = 0; j < width; j += 16)
          v_store(to + j, j < columns ? v_loadn(from + j, columns - j) : v_all(0));
      }
    }
    return;
  }
  const size_t k8 = b_row == 1 ? k & ~(size_t)7 : 0;
  for (size_t j = 0; j < width; j += 8) {
    size_t p = 0;
    const float *from = b + (ptrdiff_t)j * b_column;
    if (j + 8 <= columns)
      for (; p < k8; p += 8) gemm_transpose8(8, from + p, b_column, to + p * width + j, (ptrdiff_t)width);
    else if (j < columns)
      for (; p < k8; p += 8) gemm_transpose8(columns - j, from + p, b_column, to + p * width + j, (ptrdiff_t)width);
    for (; p < k; p++)
      for (size_t lane = j; lane < j + 8; lane++)
        to[p * width + lane] = lane < columns ? b[(ptrdiff_t)p * b_row + (ptrdiff_t)lane * b_column] : 0;
  }
}

static size_t FN(gemm_packed_count)(size_t k, size_t n) { return k * ((n + 15) & ~(size_t)15); }

static void FN(gemm_pack)(size_t k, size_t n, const void *b, ptrdiff_t b_row, ptrdiff_t b_column, size_t n0, size_t n1,
                          void *packed) {
  (void)n;
  for (size_t j = n0; j < n1; j += GEMM_PANEL) {
    const size_t columns = n1 - j < GEMM_PANEL ? n1 - j : GEMM_PANEL;
    gemm_pack_panel(k, columns, columns <= 16 ? 16 : GEMM_PANEL, (const float *)b + (ptrdiff_t)(j - n0) * b_column, b_row,
                    b_column, (float *)packed + j * k);
  }
}

// B, or a block of it: panels from row k0 of `panel_k`, or B in place where `direct` is set and columns fill vectors.
#define gemm_right FN(gemm_right)
typedef struct {
  const float *panels;
  size_t panel_k, k0;
  const float *direct;
  ptrdiff_t direct_row;
} gemm_right;

// `columns` columns of `rows` rows of C, to which A and C point, over a block of depth k.
static void gemm_rows(size_t rows, size_t columns, size_t k, const float *a, ptrdiff_t a_row, ptrdiff_t a_column,
                      const gemm_right *right, float *c, ptrdiff_t c_row, float alpha, float beta) {
  for (size_t j = 0; j < columns; j += GEMM_STRIP) {
    const size_t left = columns - j < GEMM_STRIP ? columns - j : GEMM_STRIP;
    const float *b;
    ptrdiff_t b_row;
    if (right->direct && left % GEMM_LANES == 0) {
      b = right->direct + j;
      b_row = right->direct_row;
    } else {
      const size_t first = j / GEMM_PANEL * GEMM_PANEL;
      const size_t width = columns - first <= 16 ? 16 : GEMM_PANEL;
      b = right->panels + (right->direct ? 0 : first * right->panel_k) + right->k0 * width + (j - first);
      b_row = (ptrdiff_t)width;
    }
    gemm_tiles[rows - 1][left > GEMM_LANES](k, a, a_row, a_column, b, b_row, c + j, c_row, left, alpha, beta);
  }
}

static void FN(gemm)(const vk_product *p, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch) {
  if (m1 <= m0 || n1 <= n0) return;
  const size_t m = m1 - m0;
  const size_t tiles = (m + GEMM_ROWS - 1) / GEMM_ROWS;
  const size_t blocks = (p->k + GEMM_DEPTH - 1) / GEMM_DEPTH;
  const size_t depth = blocks ? (p->k + blocks - 1) / blocks : 0;
  float *left = scratch;                               // a tile of A, where its rows would fight for cache sets
  float *packing = left + GEMM_ROWS * GEMM_LEFT_ROW;  // panels of B
  const int copy_a = p->a_column == 1 && p->a_row % 1024 == 0 && m > 4 && n1 - n0 > GEMM_STRIP;
  // B is read in place where packing would cost more than it saves: rows contiguous, and few rows of A to share it.
  const int in_place = !p->packed && p->b_column == 1 && (m <= GEMM_FEW_ROWS || p->b_row <= 128);
  const size_t group = GEMM_COLUMNS;
  for (size_t j0 = n0; j0 < n1; j0 += group) {
    const size_t columns = n1 - j0 < group ? n1 - j0 : group;
    size_t k0 = 0;
    do {
      const size_t k = p->k - k0 < depth ? p->k - k0 : depth;
      gemm_right right = {packing, k, 0, NULL, p->b_row};
      if (p->packed) {
        right = (gemm_right){(const float *)p->packed + j0 * p->k, p->k, k0, NULL, 0};
      } else {
        const float *b = (const float *)p->b + (ptrdiff_t)k0 * p->b_row + (ptrdiff_t)j0 * p->b_column;
        if (in_place) {
          const size_t first = columns / GEMM_PANEL * GEMM_PANEL, rest = columns - first;
          right.direct = b;
          if (rest % GEMM_LANES)
            gemm_pack_panel(k, rest, rest <= 16 ? 16 : GEMM_PANEL, b + first, p->b_row, 1, packing);
        } else {
          FN(gemm_pack)(k, columns, b, p->b_row, p->b_column, 0, columns, packing);
        }
      }
      for (size_t tile = 0; tile < tiles; tile++) {
        const size_t top = m0 + m * tile / tiles, bottom = m0 + m * (tile + 1) / tiles;
        const float *a = (const float *)p->a + (ptrdiff_t)top * p->a_row + (ptrdiff_t)k0 * p->a_column;
        ptrdiff_t a_row = p->a_row;
        if (copy_a) {
          for (size_t i = 0; i < bottom - top; i++)
            memcpy(left + i * GEMM_LEFT_ROW, a + (ptrdiff_t)i * a_row, k * sizeof(float));
          a = left;
          a_row = GEMM_LEFT_ROW;
        }
        gemm_rows(bottom - top, columns, k, a, a_row, p->a_column, &right, (float *)p->c + (ptrdiff_t)top * p->c_row + j0,
                  p->c_row, (float)p->alpha, k0 ? 1 : (float)p->beta);
        if (k0 + k == p->k) gemm_finish(&p->epilogue, p->c, p->c_row, top, bottom, j0, j0 + columns);
      }
      k0 += k;
    } while (k0 < p->k);
  }
}
#undef GEMM_ROWS
#undef GEMM_LANES
#undef GEMM_STRIP
#endif
