// Elementwise kernels.
#ifndef VITK_ELEMENTWISE_H
#define VITK_ELEMENTWISE_H
#include "vitk.h"

// One-operand functions; a and b are their parameters.
enum {
  VK_IDENTITY, VK_EXP, VK_LOG, VK_SQRT, VK_RECIPROCAL, VK_NEGATE, VK_ABS, VK_SQUARE, VK_ERF, VK_TANH, VK_SIGMOID,
  VK_SILU, VK_RELU, VK_LEAKY_RELU, VK_GELU, VK_GELU_TANH, VK_QUICK_GELU, VK_HARD_SIGMOID, VK_HARD_SWISH, VK_ELU,
  VK_CELU, VK_SOFTPLUS, VK_SOFTSIGN, VK_MISH, VK_THRESHOLDED_RELU, VK_CLIP, VK_AFFINE, VK_SIN, VK_COS, VK_TAN,
  VK_FLOOR, VK_CEIL, VK_ROUND, VK_SIGN
};

// y ← f(x); y may be x. An unknown kind does nothing.
void vk_unary(vk_real type, int kind, double a, double b, size_t n, const void *x, void *y);
// dx ← dx + dy·f′(x), given y = f(x).
void vk_unary_gradient(vk_real type, int kind, double a, double b, size_t n, const void *x, const void *y,
                       const void *dy, void *dx);
// y ← y + scale·x.
void vk_accumulate(vk_real type, size_t n, double scale, const void *x, void *y);
#endif
