// Kernels over the rows of a matrix: softmax and normalisation.
#ifndef VITK_ROWS_H
#define VITK_ROWS_H
#include "vitk.h"

// y ← softmax(scale·x + bias) of each row; y may be x, bias may be NULL or have row stride 0. A row of −∞ becomes
// zeros where `guarded`, else NaN. `lse`, which may be NULL, takes log Σ exp of each row. With `logarithm` set, y is
// the logarithm instead, and a guarded row of −∞ stays one.
void vk_softmax(vk_real type, int logarithm, int guarded, size_t rows, size_t n, double scale, const void *x,
                ptrdiff_t x_row, const void *bias, ptrdiff_t bias_row, void *y, ptrdiff_t y_row, void *lse);
// dx ← dx + the gradient of vk_softmax with respect to x, from its result y; rows are contiguous.
void vk_softmax_gradient(vk_real type, int logarithm, size_t rows, size_t n, double scale, const void *y,
                         const void *dy, void *dx);

// y ← (x − mean)·r·gain + bias of each row, where r = 1/√(mean square of what is left + epsilon); where `centred` is 0
// the mean is taken as 0. gain, bias may be NULL. `stats`, which may be NULL, takes mean and r of each row.
void vk_normalise(vk_real type, int centred, size_t rows, size_t n, double epsilon, const void *x, const void *gain,
                  const void *bias, void *y, void *stats);
// dx ← dx + the gradient of vk_normalise with respect to x.
void vk_normalise_gradient(vk_real type, int centred, size_t rows, size_t n, const void *x, const void *gain,
                           const void *stats, const void *dy, void *dx);
// dgain ← dgain + Σ dy·x̂ and dbias ← dbias + Σ dy over the rows, for columns n0..<n1 of n; either may be NULL.
void vk_normalise_gradient_parameters(vk_real type, size_t rows, size_t n, size_t n0, size_t n1, const void *x,
                                      const void *stats, const void *dy, void *dgain, void *dbias);
#endif
