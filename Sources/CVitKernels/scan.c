#include "levels.h"

#define BODY "scan.body.h"
#include "each_level.h"

VK_DISPATCH(void, glr,
            (size_t steps, size_t channels, const ptrdiff_t *order, ptrdiff_t row, const void *v, const void *r,
             const void *q, void *h, void *s),
            (steps, channels, order, row, v, r, q, h, s))
VK_DISPATCH(void, glr_gradient,
            (size_t steps, size_t channels, const ptrdiff_t *order, ptrdiff_t row, const void *v, const void *r,
             const void *q, const void *h, const void *ds, void *dv, void *dr, void *dq),
            (steps, channels, order, row, v, r, q, h, ds, dv, dr, dq))
VK_DISPATCH(size_t, lstm_packed_count, (size_t width), (width))
VK_DISPATCH(void, lstm_pack, (int transposed, size_t width, const void *r, void *packed),
            (transposed, width, r, packed))
VK_DISPATCH(size_t, lstm_items, (size_t width), (width))
VK_DISPATCH(size_t, lstm_scratch, (size_t width), (width))
VK_DISPATCH(void, lstm,
            (const vk_lstm_scan *scan, const void *packed, void *gates, void *c, void *h, void *scratch),
            (scan, packed, gates, c, h, scratch))
VK_DISPATCH(void, lstm_gradient,
            (const vk_lstm_scan *scan, const void *packed, const void *gates, const void *c, const void *h,
             const void *dh, void *dgates, void *before, void *scratch),
            (scan, packed, gates, c, h, dh, dgates, before, scratch))
