// Depthwise taps on tokens that lie on a grid: each channel of a patch is a weighted sum of that channel of the patches
// around it, of their mean, and of the tokens before the patches (Mixers.md §2.7).
//
// Rows of an item are first the `prefix` tokens, then the patches of the grid row by row; one channel of a row is next to
// the other. Every function takes one item and `channels` of its channels, at most VK_TAPS_CHANNELS; pointers are to the
// first of them, rows of everything are `width` elements apart.
#ifndef VITK_TAPS_H
#define VITK_TAPS_H
#include "vitk.h"

// What a tap reads beyond the border: nothing, the nearest patch, the patch in whose place the result is.
enum { VK_TAPS_ZERO = 0, VK_TAPS_EDGE = 1, VK_TAPS_CENTRE = 2 };

#define VK_TAPS_CHANNELS 256
// The most numbers that a patch's result is a sum of: kernel_rows·kernel_columns taps, mean and prefix.
#define VK_TAPS_TERMS 256

typedef struct {
  size_t rows, columns, prefix;
  size_t kernel_rows, kernel_columns;  // odd
  int32_t border;
  size_t width;
} vk_taps_grid;

// c ← taps·v of the patches, plus mean·(mean of the patches), plus Σ before[s]·v[s]; zero in the rows before the patches.
// `taps` has a row for each tap, row by row of the kernel; `mean` is a row or NULL; `before` has `prefix` rows.
void vk_taps(vk_real type, const vk_taps_grid *grid, size_t channels, const void *v, const void *taps, const void *mean,
             const void *before, void *c);
// The gradients of vk_taps from dc, written: of v over dv, and of taps, mean (if there is one) and before over the rows of
// `sums`.
void vk_taps_gradient(vk_real type, const vk_taps_grid *grid, size_t channels, const void *v, const void *taps,
                      const void *mean, const void *before, const void *dc, void *dv, void *sums);
// The moments of the terms f of a patch's result, in that order, mean among them where `mean` is not 0: over the patches
// Σ f[a]·f[b] for each a and b ≤ a, then Σ f[a]·c for each a. Each is a row of `channels` elements of `sums`.
void vk_taps_moments(vk_real type, const vk_taps_grid *grid, size_t channels, int mean, const void *v, const void *c,
                     void *sums);
#endif
