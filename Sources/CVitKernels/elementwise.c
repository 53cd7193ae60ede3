#include "levels.h"

#define BODY "elementwise.body.h"
#include "each_level.h"

VK_DISPATCH(void, unary, (int kind, double a, double b, size_t n, const void *x, void *y), (kind, a, b, n, x, y))
VK_DISPATCH(void, unary_gradient,
            (int kind, double a, double b, size_t n, const void *x, const void *y, const void *dy, void *dx),
            (kind, a, b, n, x, y, dy, dx))
VK_DISPATCH(void, accumulate, (size_t n, double scale, const void *x, void *y), (n, scale, x, y))
