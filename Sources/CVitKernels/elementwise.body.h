// Elementwise kernels at one level.
#include "unary.h"

static void FN(unary)(int kind, double a_, double b_, size_t n, const void *x_, void *y_) {
  const vec a = v_all((real)a_), b = v_all((real)b_);
  const real *from = x_;
  real *to = y_;
  switch (kind) {
#define VK_CASE(name, value, slope)                                  \
  case VK_##name:                                                    \
    for (size_t i = 0; i < n; i += LANES) {                          \
      const size_t lanes = n - i < LANES ? n - i : LANES;            \
      const vec x = v_loadn(from + i, lanes);                        \
      v_storen(to + i, value, lanes);                                \
    }                                                                \
    break;
    VK_UNARY_KINDS(VK_CASE)
#undef VK_CASE
  }
  (void)a, (void)b;
}

static void FN(unary_gradient)(int kind, double a_, double b_, size_t n, const void *x_, const void *y_,
                               const void *dy_, void *dx_) {
  const vec a = v_all((real)a_), b = v_all((real)b_);
  const real *from = x_, *result = y_, *dy = dy_;
  real *dx = dx_;
  switch (kind) {
#define VK_CASE(name, value, slope)                                                               \
  case VK_##name:                                                                                 \
    for (size_t i = 0; i < n; i += LANES) {                                                       \
      const size_t lanes = n - i < LANES ? n - i : LANES;                                         \
      const vec x = v_loadn(from + i, lanes), y = v_loadn(result + i, lanes);                     \
      v_storen(dx + i, v_madd(v_loadn(dy + i, lanes), slope, v_loadn(dx + i, lanes)), lanes);     \
      (void)x, (void)y;                                                                           \
    }                                                                                             \
    break;
    VK_UNARY_KINDS(VK_CASE)
#undef VK_CASE
  }
  (void)a, (void)b;
}

static void FN(accumulate)(size_t n, double scale, const void *x, void *y) {
  const vec factor = v_all((real)scale);
  for (size_t i = 0; i < n; i += LANES) {
    const size_t lanes = n - i < LANES ? n - i : LANES;
    v_storen((real *)y + i, v_madd(factor, v_loadn((const real *)x + i, lanes), v_loadn((real *)y + i, lanes)), lanes);
  }
}
