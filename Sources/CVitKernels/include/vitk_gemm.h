// Matrix products: C ← α·A·B + β·C, then an epilogue on C while it is in cache.
#ifndef VITK_GEMM_H
#define VITK_GEMM_H
#include "vitk.h"

// What is done to C after the product: C ← f(C + bias)·scale + residual. NULL leaves a part out; `activation` is a
// vk_unary kind with parameters `a` and `b`. Bias and scale have one element for each column.
typedef struct {
  const void *bias;
  int32_t activation;
  double a, b;
  const void *scale;
  const void *residual;
  ptrdiff_t residual_row;
} vk_epilogue;

// A product of [m, k] by [k, n]. Element (i, p) of A is at a[i·a_row + p·a_column]; B likewise, where b_row or
// b_column is 1, unless `packed` is set: then B is what vk_gemm_pack made, and b is not read. A β of 0 does not read C.
typedef struct {
  size_t m, n, k;
  const void *a;
  ptrdiff_t a_row, a_column;
  const void *b;
  ptrdiff_t b_row, b_column;
  const void *packed;
  void *c;
  ptrdiff_t c_row;
  double alpha, beta;
  vk_epilogue epilogue;
} vk_product;

// Bytes of scratch, aligned to 64, that vk_gemm may overwrite.
#define VK_GEMM_SCRATCH ((size_t)1 << 20)

// Elements of B packed for the level of this thread, and the packing of columns n0..<n1, to the first of which b points; n0
// is a multiple of 32. Only products at that level can use it.
size_t vk_gemm_packed_count(vk_real type, size_t k, size_t n);
void vk_gemm_pack(vk_real type, size_t k, size_t n, const void *b, ptrdiff_t b_row, ptrdiff_t b_column, size_t n0,
                  size_t n1, void *packed);

// Rows m0..<m1 and columns n0..<n1 of the product; n0 is a multiple of 32. At avx2 and avx512 an element of C is one
// sum over k in order, so its bits do not depend on how the product was cut.
void vk_gemm(vk_real type, const vk_product *product, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch);
#endif
