// Walks over tensors of several operands: broadcasting, strided copies, reductions.
#ifndef VITK_WALK_H
#define VITK_WALK_H
#include "vitk.h"

#define VK_AXES 16

#define VK_OPERANDS 4

// A shape and the strides of up to four operands in it. Operand 0 is the result.
typedef struct {
  int32_t rank;
  size_t shape[VK_AXES];
  ptrdiff_t stride[VK_OPERANDS][VK_AXES];
} vk_walk;

// Where a part of a walk begins, in elements of each operand.
typedef struct {
  vk_walk walk;
  ptrdiff_t offset[VK_OPERANDS];
} vk_walk_part;

// The walk with axes of extent 1 left out and neighbours merged where every operand allows it; rank is at least 1.
// Unused operands have NULL strides. rank is at most VK_AXES.
vk_walk vk_walk_make(int rank, const ptrdiff_t *shape, const ptrdiff_t *stride0, const ptrdiff_t *stride1,
                     const ptrdiff_t *stride2, const ptrdiff_t *stride3);
// The walk over a shape of dense operands 0 to 2 that broadcast to it (last axes align), and of a dense operand 3 of
// just that shape.
vk_walk vk_walk_broadcast(int rank, const ptrdiff_t *shape, int rank0, const ptrdiff_t *shape0, int rank1,
                          const ptrdiff_t *shape1, int rank2, const ptrdiff_t *shape2);
// The walk over dense operands 0 and 1 of [rows, width] and a dense operand 2 of `width`, repeated.
vk_walk vk_walk_repeated(size_t rows, size_t width);
// The longest axis along which operand 0 moves, the outermost of equals; −1 if there is none.
int vk_walk_longest(const vk_walk *walk);
// The part begin..<begin + count along an axis.
vk_walk_part vk_walk_cut(const vk_walk *walk, int axis, size_t begin, size_t count);
size_t vk_walk_extent(const vk_walk *walk, int axis);
// The positions of the walk, and where an operand is at one of them, in elements.
size_t vk_walk_count(const vk_walk *walk);
ptrdiff_t vk_walk_at(const vk_walk *walk, int operand, size_t index);

// to ← from, operands 0 and 1; elements of 1, 2, 4 or 8 bytes.
void vk_copy(size_t size, const vk_walk *walk, void *to, const void *from);

enum { VK_ADD, VK_SUBTRACT, VK_MULTIPLY, VK_DIVIDE, VK_POWER, VK_MAXIMUM, VK_MINIMUM };
// y ← f(a, b), or y ← y + f(a, b); operands y, a, b, whose innermost strides are 0 or 1, and y's 1.
void vk_binary(vk_real type, int kind, int adding, const vk_walk *walk, void *y, const void *a, const void *b);
// dx ← dx + Σ dy·∂f/∂x where x is operand a (side 0) or b (side 1); operands dx, a, b, dy.
void vk_binary_gradient(vk_real type, int kind, int side, const vk_walk *walk, void *dx, const void *a, const void *b,
                        const void *dy);

enum { VK_SUM, VK_MEAN, VK_MAX, VK_MIN, VK_PRODUCT, VK_SUM_SQUARES, VK_L1, VK_L2, VK_LOG_SUM_EXP };
// y ← the reduction of x over the axes where operand 0, y, does not move, or y + it; operands y, x. The innermost axis
// of x is dense. Sums are sums of blocks of 64, each block in order.
void vk_reduce(vk_real type, int kind, int adding, const vk_walk *walk, void *y, const void *x);
#endif
