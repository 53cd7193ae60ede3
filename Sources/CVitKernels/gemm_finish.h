// What is done to C behind a product, for every family of products. Included by their bodies, once for each level.
#include "unary.h"

#define gemm_finish FN(gemm_finish)
#define gemm_finish_row FN(gemm_finish_row)

// One row of the epilogue over n columns.
VK_INLINE void gemm_finish_row(const vk_epilogue *e, real *c, const real *bias, const real *scale,
                               const real *residual, size_t n, const int activation) {
  const vec a = v_all((real)e->a), b = v_all((real)e->b);
  for (size_t j = 0; j < n; j += LANES) {
    const size_t lanes = n - j < LANES ? n - j : LANES;
    vec x = v_loadn(c + j, lanes), y = x;
    if (bias) x += v_loadn(bias + j, lanes);
    switch (activation) {
#define VK_CASE(name, value, slope) \
  case VK_##name: y = value; break;
      VK_UNARY_KINDS(VK_CASE)
#undef VK_CASE
    }
    (void)a, (void)b;
    if (scale) y *= v_loadn(scale + j, lanes);
    if (residual) y += v_loadn(residual + j, lanes);
    v_storen(c + j, y, lanes);
  }
}

// The epilogue on rows m0..<m1, columns n0..<n1 of C.
static void gemm_finish(const vk_epilogue *e, void *c_base, ptrdiff_t c_row, size_t m0, size_t m1, size_t n0, size_t n1) {
  if (!e->bias && !e->scale && !e->residual && e->activation == VK_IDENTITY) return;
  const real *bias = e->bias ? (const real *)e->bias + n0 : NULL;
  const real *scale = e->scale ? (const real *)e->scale + n0 : NULL;
  for (size_t i = m0; i < m1; i++) {
    real *c = (real *)c_base + (ptrdiff_t)i * c_row + n0;
    const real *residual = e->residual ? (const real *)e->residual + (ptrdiff_t)i * e->residual_row + n0 : NULL;
    switch (e->activation) {  // one loop for each kind: the switch inside folds away
#define VK_CASE(name, value, slope) \
  case VK_##name: gemm_finish_row(e, c, bias, scale, residual, n1 - n0, VK_##name); break;
      VK_UNARY_KINDS(VK_CASE)
#undef VK_CASE
    }
  }
}
