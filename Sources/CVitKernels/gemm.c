#include "blas.h"
#include "levels.h"

#define BODY "gemm.body.h"
#include "each_level.h"

VK_DISPATCH(size_t, gemm_packed_count, (size_t k, size_t n), (k, n))
VK_DISPATCH(void, gemm_pack,
            (size_t k, size_t n, const void *b, ptrdiff_t b_row, ptrdiff_t b_column, size_t n0, size_t n1, void *packed),
            (k, n, b, b_row, b_column, n0, n1, packed))
VK_DISPATCH(void, gemm, (const vk_product *p, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch),
            (p, m0, m1, n0, n1, scratch))
