// State space duality (Mixers.md §2.4): linear attention whose state decays from step to step, in chunks of steps.
//
// Rows of an item are read in the order that `order` lists, as in vitk_scan.h. Every operand has rows of its own distance.
#ifndef VITK_SSD_H
#define VITK_SSD_H
#include "vitk.h"

// Rows of an item: the first of the columns in question, and the distance of rows.
typedef struct {
  void *base;
  ptrdiff_t row;
} vk_rows;

// `heads` heads that lie side by side and read the same keys and queries. With a head's rate r, its decay e^g and strength
// β are g = log σ(r)/16, β = 1, or where `delta`, β = log(1 + eʳ), g = −β·e^a:
//
//   S ← e^g·S + k·(β·v)ᵀ    o = scale·Sᵀ·q + skip·v    from step to step, from S = 0
//
// k and q have `state` columns, a head's v and o `width`, r one for each head; `a` and `skip` one element for each head,
// where they are there.
typedef struct {
  size_t steps, chunk, heads, state, width;
  int delta;
  double scale;
  const ptrdiff_t *order;
  vk_rows v, k, q, r, o;
  const void *a, *skip;
  // Of the gradient alone: that of o, and those that are written; the last two, one column for each head, are what each
  // row adds to the gradients of a and skip.
  vk_rows d_o, dv, dk, dq, dr, da, dskip;
} vk_ssd;

// Bytes of scratch, aligned to 64, for vk_ssd and vk_ssd_gradient.
size_t vk_ssd_scratch(vk_real type, const vk_ssd *ssd);
size_t vk_ssd_gradient_scratch(vk_real type, const vk_ssd *ssd);
void vk_ssd_forward(vk_real type, const vk_ssd *ssd, void *scratch);
void vk_ssd_gradient(vk_real type, const vk_ssd *ssd, void *scratch);

// The most taps and, for each call, channels of the convolution below.
#define VK_CAUSAL_TAPS 16
#define VK_CAUSAL_CHANNELS 64
// y ← f(bias + Σ w[k]·u[t − (taps − 1) + k]) for each channel along the order, with zeros before the start; f is
// x·σ(x) where `silu`, else nothing. Rows of w have `taps` columns. Without taps, y ← f(u).
typedef struct {
  size_t steps, channels, taps;
  int silu;
  const ptrdiff_t *order;
  vk_rows u;
  const void *w, *bias;
} vk_causal;
void vk_causal_forward(vk_real type, const vk_causal *conv, vk_rows y);
// Writes the gradient of u, and adds to those of w and bias, from that of y, which is overwritten.
void vk_causal_gradient(vk_real type, const vk_causal *conv, vk_rows dy, vk_rows du, void *dw, void *dbias);

// s ← gain·norm(o)·silu(z), or gain·norm(o·silu(z)) where `joint`, for `rows` rows of `blocks` blocks of `width` columns;
// norm divides a block by the root of its mean square plus epsilon. Without `gain` there is no norm, without z no factor.
typedef struct {
  size_t rows, blocks, width;
  int joint;
  double epsilon;
  vk_rows o, z;
  const void *gain;
} vk_gate;
void vk_gate_forward(vk_real type, const vk_gate *gate, vk_rows s);
// Writes the gradients of o and, where there is a z, of z, from that of s, which is overwritten with what each row adds to
// the gradient of the gain, where there is one.
void vk_gate_gradient(vk_real type, const vk_gate *gate, vk_rows ds, vk_rows d_o, vk_rows dz);
#endif
