// Scans over tokens: the gated linear recurrence and the long short-term memory (Mixers.md §2.1, §2.3).
//
// A scan reads the rows of an item in the order that `order` lists: a permutation of the rows, which stay where they
// are. Rows are `row` elements apart, items `steps` rows.
#ifndef VITK_SCAN_H
#define VITK_SCAN_H
#include "vitk.h"

// h ← σ(r)·h + σ(−r)·v from step to step, v at the first; s ← h·silu(q). One item, `channels` columns of its rows. `h`
// may be NULL.
void vk_glr(vk_real type, size_t steps, size_t channels, const ptrdiff_t *order, ptrdiff_t row, const void *v,
            const void *r, const void *q, void *h, void *s);
// The gradients of vk_glr with respect to v, r and q, written over dv, dr and dq, from ds.
void vk_glr_gradient(vk_real type, size_t steps, size_t channels, const ptrdiff_t *order, ptrdiff_t row, const void *v,
                     const void *r, const void *q, const void *h, const void *ds, void *dv, void *dr, void *dq);

// Elements of a recurrence [4·width, width] packed for vk_lstm, or for vk_lstm_gradient where `transposed`.
size_t vk_lstm_packed_count(vk_real type, size_t width);
void vk_lstm_pack(vk_real type, int transposed, size_t width, const void *r, void *packed);

// One head of `items` items. Rows of `gates` have 4·total columns, those of everything else `total`; a head's gates
// (input, forget, cell, output) are `gate` elements apart. All pointers are to the first item and the head's first channel.
typedef struct {
  size_t steps, items, width, total, gate;
  const ptrdiff_t *order;
} vk_lstm_scan;

// The most items that the scans below take, and bytes of scratch, aligned to 64, that they may overwrite.
size_t vk_lstm_items(vk_real type, size_t width);
size_t vk_lstm_scratch(vk_real type, size_t width);
// gates hold the input's share of the pre-activations; h takes the result. Where `c` is not NULL it takes the cells, and
// the gates are overwritten by their activations.
void vk_lstm(vk_real type, const vk_lstm_scan *scan, const void *packed, void *gates, void *c, void *h, void *scratch);
// From what vk_lstm left and the gradient of h: those of the pre-activations, written over dgates, and for each row h at
// the step before, written over `before`.
void vk_lstm_gradient(vk_real type, const vk_lstm_scan *scan, const void *packed, const void *gates, const void *c,
                      const void *h, const void *dh, void *dgates, void *before, void *scratch);
#endif
