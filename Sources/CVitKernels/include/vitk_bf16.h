// Products of f32 operands, and attention, computed in bfloat16 with sums in f32, where the processor is faster in it than in f32.
//
// Operands are rounded once: halves to even, what is below 2⁻¹²⁶ to zero. The bits are those of `vdpbf16ps`, which machines without
// it have from plain C, slowly.
#ifndef VITK_BF16_H
#define VITK_BF16_H
#include "vitk_attention.h"
#include "vitk_gemm.h"

// Whether this machine is.
int vk_bf16_is_fast(void);

// Queries q0..<q1 of one head of an f32 attention; `lse` is not written. Scratch is aligned to 64.
size_t vk_bf16_attention_scratch(const vk_attention *attention);
void vk_bf16_attend(const vk_attention *attention, size_t batch, size_t head, size_t q0, size_t q1, void *scratch);

// Rows m0..<m1 and columns n0..<n1 of an f32 product; n0 is a multiple of 32. One of A's strides is 1, and one of B's, unless B is
// what vk_bf16_pack made. However the product is cut, an element of C has the same bits. `scratch` is aligned to 64 and has
// VK_BF16_SCRATCH bytes.
enum { VK_BF16_SCRATCH = 1 << 20 };
void vk_bf16_gemm(const vk_product *product, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch);

// Bytes of B packed, and the packing of n columns of it from n0 on, to the first of which b points; n0 is a multiple of 32.
size_t vk_bf16_packed_bytes(size_t k, size_t n);
void vk_bf16_pack(size_t k, size_t n, const float *b, ptrdiff_t b_row, ptrdiff_t b_column, size_t n0, void *packed);

// Makes the calling thread use plain C, and count it as fast, for tests; 0 ends it.
void vk_bf16_force_plain(int plain);
#endif
