// Attention whose products are computed in bfloat16, where the processor is faster in it than in f32.
#ifndef VITK_ATTENTION_BF16_H
#define VITK_ATTENTION_BF16_H
#include "vitk_attention.h"

// Whether this machine is.
int vk_bf16_is_fast(void);

// Queries q0..<q1 of one head of an f32 attention, its operands rounded to bfloat16 (halves to even, what is below 2⁻¹²⁶ to zero),
// with sums in f32; `lse` is not written. The bits are those of `vdpbf16ps`, which machines without it have from plain C, slowly.
// Scratch is aligned to 64.
size_t vk_bf16_attention_scratch(const vk_attention *attention);
void vk_bf16_attend(const vk_attention *attention, size_t batch, size_t head, size_t q0, size_t q1, void *scratch);

// Makes the calling thread use plain C, and count it as fast, for tests; 0 ends it.
void vk_bf16_force_plain(int plain);
#endif
