#include "levels.h"

#include <string.h>

// A tap that reads something: which one, and the row that it reads.
typedef struct {
  ptrdiff_t tap, row;
} vk_tap;

// The taps of the patch at (r, q), in order; returns how many read something.
static size_t vk_taps_at(const vk_taps_grid *grid, size_t r, size_t q, vk_tap *taps) {
  const ptrdiff_t rows = (ptrdiff_t)grid->rows, columns = (ptrdiff_t)grid->columns;
  const ptrdiff_t high = (ptrdiff_t)grid->kernel_rows, wide = (ptrdiff_t)grid->kernel_columns;
  size_t count = 0;
  for (ptrdiff_t i = 0; i < high; i++)
    for (ptrdiff_t k = 0; k < wide; k++) {
      ptrdiff_t y = (ptrdiff_t)r + i - high / 2, x = (ptrdiff_t)q + k - wide / 2;
      if (y < 0 || y >= rows || x < 0 || x >= columns) {
        if (grid->border == VK_TAPS_ZERO) continue;
        if (grid->border == VK_TAPS_EDGE) {
          y = y < 0 ? 0 : y >= rows ? rows - 1 : y;
          x = x < 0 ? 0 : x >= columns ? columns - 1 : x;
        } else {
          y = (ptrdiff_t)r;
          x = (ptrdiff_t)q;
        }
      }
      taps[count++] = (vk_tap){i * wide + k, (ptrdiff_t)grid->prefix + y * columns + x};
    }
  return count;
}

// Whether `run` patches from column q on see no border on their left and right: then their taps are those of the first,
// each one row further.
static int vk_taps_alike(const vk_taps_grid *grid, size_t q, size_t run) {
  const size_t reach = grid->kernel_columns / 2;
  return q >= reach && q + run + reach <= grid->columns;
}

#define BODY "taps.body.h"
#include "each_level.h"

VK_DISPATCH(void, taps,
            (const vk_taps_grid *grid, size_t channels, const void *v, const void *taps, const void *mean,
             const void *before, void *c),
            (grid, channels, v, taps, mean, before, c))
VK_DISPATCH(void, taps_gradient,
            (const vk_taps_grid *grid, size_t channels, const void *v, const void *taps, const void *mean,
             const void *before, const void *dc, void *dv, void *sums),
            (grid, channels, v, taps, mean, before, dc, dv, sums))
VK_DISPATCH(void, taps_moments,
            (const vk_taps_grid *grid, size_t channels, int mean, const void *v, const void *c, void *sums),
            (grid, channels, mean, v, c, sums))
