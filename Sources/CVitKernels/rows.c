#include "levels.h"

#define BODY "rows.body.h"
#include "each_level.h"

VK_DISPATCH(void, softmax,
            (int logarithm, int guarded, size_t rows, size_t n, double scale, const void *x, ptrdiff_t x_row,
             const void *bias, ptrdiff_t bias_row, void *y, ptrdiff_t y_row, void *lse),
            (logarithm, guarded, rows, n, scale, x, x_row, bias, bias_row, y, y_row, lse))
VK_DISPATCH(void, softmax_gradient,
            (int logarithm, size_t rows, size_t n, double scale, const void *y, const void *dy, void *dx),
            (logarithm, rows, n, scale, y, dy, dx))
VK_DISPATCH(void, normalise,
            (int centred, size_t rows, size_t n, double epsilon, const void *x, const void *gain, const void *bias,
             void *y, void *stats),
            (centred, rows, n, epsilon, x, gain, bias, y, stats))
VK_DISPATCH(void, normalise_gradient,
            (int centred, size_t rows, size_t n, const void *x, const void *gain, const void *stats, const void *dy,
             void *dx),
            (centred, rows, n, x, gain, stats, dy, dx))
VK_DISPATCH(void, normalise_gradient_parameters,
            (size_t rows, size_t n, size_t n0, size_t n1, const void *x, const void *stats, const void *dy, void *dgain,
             void *dbias),
            (rows, n, n0, n1, x, stats, dy, dgain, dbias))
