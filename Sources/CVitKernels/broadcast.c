#include "levels.h"

#define BODY "broadcast.body.h"
#include "each_level.h"

VK_DISPATCH(void, binary, (int kind, int adding, const vk_walk *walk, void *y, const void *a, const void *b),
            (kind, adding, walk, y, a, b))
VK_DISPATCH(void, binary_gradient,
            (int kind, int side, const vk_walk *walk, void *dx, const void *a, const void *b, const void *dy),
            (kind, side, walk, dx, a, b, dy))
VK_DISPATCH(void, reduce, (int kind, int adding, const vk_walk *walk, void *y, const void *x),
            (kind, adding, walk, y, x))
