// Softmax attention over strided operands: no transposes, scores in cache.
#ifndef VITK_ATTENTION_H
#define VITK_ATTENTION_H
#include "vitk.h"

// An operand [batch, heads, tokens, width] whose last axis is dense.
typedef struct {
  void *base;
  ptrdiff_t batch, head, token;
} vk_heads;

// o = softmax(scale·q·kᵀ + bias)·v for each batch item and head; query head h reads key head ⌊h·key_heads/heads⌋. The
// bias, whose base may be NULL, is [batch, heads, queries, keys] with a dense last axis; strides of 0 repeat it.
typedef struct {
  size_t heads, key_heads, queries, keys, width, value_width;
  double scale;
  int guarded;  // whether a row whose keys are all masked becomes zeros, else NaN
  vk_heads q, k, v, o, bias;
  void *lse;            // NULL, or log Σ exp of each row: dense [batch, heads, queries]
  // Of the gradient alone; each of the first three may have a NULL base.
  vk_heads dq, dk, dv, d_o;
  void *d_scores;  // NULL, or the gradient of the bias: dense [batch, heads, queries, keys], overwritten
} vk_attention;

// Bytes of scratch for vk_attend and vk_attend_gradient.
size_t vk_attention_scratch(vk_real type, const vk_attention *attention);
// Queries q0..<q1 of one head.
void vk_attend(vk_real type, const vk_attention *attention, size_t batch, size_t head, size_t q0, size_t q1,
               void *scratch);
// Adds to dq, dk, dv for one key head and the query heads that read it, from o and lse of vk_attend.
void vk_attend_gradient(vk_real type, const vk_attention *attention, size_t batch, size_t key_head, void *scratch);
#endif
