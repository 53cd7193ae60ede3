#include <string.h>

#include "include/vitk.h"

vk_walk vk_walk_make(int rank, const ptrdiff_t *shape, const ptrdiff_t *stride0, const ptrdiff_t *stride1,
                     const ptrdiff_t *stride2, const ptrdiff_t *stride3) {
  const ptrdiff_t *strides[VK_OPERANDS] = {stride0, stride1, stride2, stride3};
  vk_walk walk = {.rank = 0};
  for (int axis = 0; axis < rank; axis++) {
    if (shape[axis] == 1) continue;
    const int last = walk.rank - 1;
    int merges = last >= 0;
    for (int operand = 0; operand < VK_OPERANDS && merges; operand++)
      if (strides[operand])
        merges = walk.stride[operand][last] == strides[operand][axis] * shape[axis];
    if (merges)
      walk.shape[last] *= (size_t)shape[axis];
    else
      walk.shape[walk.rank++] = (size_t)shape[axis];
    for (int operand = 0; operand < VK_OPERANDS; operand++)
      walk.stride[operand][walk.rank - 1] = strides[operand] ? strides[operand][axis] : 0;
  }
  if (walk.rank == 0) {
    walk.rank = 1;
    walk.shape[0] = 1;
    for (int operand = 0; operand < VK_OPERANDS; operand++) walk.stride[operand][0] = strides[operand] ? 1 : 0;
  }
  return walk;
}

// The strides of a dense operand in a result of `rank` axes; 0 where it broadcasts.
static void broadcast(int rank, int own_rank, const ptrdiff_t *own, ptrdiff_t *stride) {
  ptrdiff_t step = 1;
  for (int axis = rank - 1; axis >= 0; axis--) {
    const int from = axis - (rank - own_rank);
    stride[axis] = from >= 0 && own[from] != 1 ? step : 0;
    if (from >= 0) step *= own[from];
  }
}

vk_walk vk_walk_broadcast(int rank, const ptrdiff_t *shape, int rank0, const ptrdiff_t *shape0, int rank1,
                          const ptrdiff_t *shape1, int rank2, const ptrdiff_t *shape2) {
  ptrdiff_t stride[VK_OPERANDS][VK_AXES];
  broadcast(rank, rank0, shape0, stride[0]);
  broadcast(rank, rank1, shape1, stride[1]);
  broadcast(rank, rank2, shape2, stride[2]);
  broadcast(rank, rank, shape, stride[3]);
  return vk_walk_make(rank, shape, stride[0], stride[1], stride[2], stride[3]);
}

vk_walk vk_walk_repeated(size_t rows, size_t width) {
  const ptrdiff_t whole[2] = {(ptrdiff_t)rows, (ptrdiff_t)width}, part[1] = {(ptrdiff_t)width};
  return vk_walk_broadcast(2, whole, 2, whole, 2, whole, 1, part);
}

int vk_walk_longest(const vk_walk *walk) {
  int longest = -1;
  for (int axis = 0; axis < walk->rank; axis++)
    if (walk->stride[0][axis] && (longest < 0 || walk->shape[axis] > walk->shape[longest])) longest = axis;
  return longest;
}

size_t vk_walk_extent(const vk_walk *walk, int axis) { return walk->shape[axis]; }

size_t vk_walk_count(const vk_walk *walk) {
  size_t count = 1;
  for (int axis = 0; axis < walk->rank; axis++) count *= walk->shape[axis];
  return count;
}

ptrdiff_t vk_walk_at(const vk_walk *walk, int operand, size_t index) {
  ptrdiff_t offset = 0;
  for (int axis = walk->rank - 1; axis >= 0; axis--) {
    offset += walk->stride[operand][axis] * (ptrdiff_t)(index % walk->shape[axis]);
    index /= walk->shape[axis];
  }
  return offset;
}

vk_walk_part vk_walk_cut(const vk_walk *walk, int axis, size_t begin, size_t count) {
  vk_walk_part part = {.walk = *walk};
  part.walk.shape[axis] = count;
  for (int operand = 0; operand < VK_OPERANDS; operand++) part.offset[operand] = walk->stride[operand][axis] * (ptrdiff_t)begin;
  return part;
}

// A tile of a transpose: `rows` rows of `to`, `columns` columns, where `from` is dense along rows of `to`'s columns.
#define COPY_TILE(type)                                                                                        \
  for (size_t i = 0; i < rows; i++)                                                                            \
    for (size_t j = 0; j < columns; j++)                                                                       \
      ((type *)to)[(ptrdiff_t)i * to_row + (ptrdiff_t)j * to_column] =                                         \
          ((const type *)from)[(ptrdiff_t)i * from_row + (ptrdiff_t)j * from_column];

static void copy_tile(size_t size, size_t rows, size_t columns, void *to, ptrdiff_t to_row, ptrdiff_t to_column,
                      const void *from, ptrdiff_t from_row, ptrdiff_t from_column) {
  if (to_column == 1 && from_column == 1) {
    const size_t bytes = columns * size;
    for (size_t i = 0; i < rows; i++)
      memcpy((char *)to + (ptrdiff_t)i * to_row * (ptrdiff_t)size,
             (const char *)from + (ptrdiff_t)i * from_row * (ptrdiff_t)size, bytes);
    return;
  }
  switch (size) {
    case 1: COPY_TILE(uint8_t) break;
    case 2: COPY_TILE(uint16_t) break;
    case 4: COPY_TILE(uint32_t) break;
    case 8: COPY_TILE(uint64_t) break;
  }
}

void vk_copy(size_t size, const vk_walk *walk, void *to_, const void *from_) {
  char *to = to_;
  const char *from = from_;
  const int last = walk->rank - 1;
  // The second axis of the tiles: where the source is dense if the last axis is not, else the one before the last.
  int across = last - 1;
  if (walk->stride[1][last] != 1)
    for (int axis = 0; axis < last; axis++)
      if (walk->stride[1][axis] == 1) across = axis;
  const size_t columns = walk->shape[last], rows = across >= 0 ? walk->shape[across] : 1;
  const ptrdiff_t to_row = across >= 0 ? walk->stride[0][across] : 0, to_column = walk->stride[0][last];
  const ptrdiff_t from_row = across >= 0 ? walk->stride[1][across] : 0, from_column = walk->stride[1][last];
  const size_t tile = to_column == 1 && from_column == 1 ? SIZE_MAX / 2 : 32;
  size_t outer = 1;
  for (int axis = 0; axis < last; axis++)
    if (axis != across) outer *= walk->shape[axis];
  for (size_t index = 0; index < outer; index++) {
    size_t rest = index;
    ptrdiff_t to_offset = 0, from_offset = 0;
    for (int axis = last - 1; axis >= 0; axis--) {
      if (axis == across) continue;
      const ptrdiff_t at = (ptrdiff_t)(rest % walk->shape[axis]);
      rest /= walk->shape[axis];
      to_offset += at * walk->stride[0][axis];
      from_offset += at * walk->stride[1][axis];
    }
    for (size_t i = 0; i < rows; i += tile) {
      const size_t height = rows - i < tile ? rows - i : tile;
      for (size_t j = 0; j < columns; j += tile) {
        const size_t width = columns - j < tile ? columns - j : tile;
        const ptrdiff_t to_at = to_offset + (ptrdiff_t)i * to_row + (ptrdiff_t)j * to_column;
        const ptrdiff_t from_at = from_offset + (ptrdiff_t)i * from_row + (ptrdiff_t)j * from_column;
        copy_tile(size, height, width, to + to_at * (ptrdiff_t)size, to_row, to_column,
                  from + from_at * (ptrdiff_t)size, from_row, from_column);
      }
    }
  }
}
