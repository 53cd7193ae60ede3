// Products and conversions of bytes with zero points.
#ifndef VITK_INTEGER_H
#define VITK_INTEGER_H
#include "vitk.h"

// A dense matrix of bytes: signed or not, with one zero point (`zero_step` 0) or one for each row of a left, each
// column of a right factor (1). `zero` has the type of the bytes; NULL is 0.
typedef struct {
  const void *base;
  int is_signed;
  const void *zero;
  size_t zero_step;
} vk_bytes;

// c[m, n] ← Σ (a − its zero)·(b − its zero) in 32 bits, which wrap; a is [m, k], b [k, n].
void vk_gemm_bytes(size_t m, size_t n, size_t k, const vk_bytes *a, const vk_bytes *b, int32_t *c);

// y ← the whole number nearest to x/scale (halves to even) + zero, cut to what a byte holds.
void vk_quantise(vk_real type, size_t n, const void *x, double scale, int zero, int is_signed, void *y);
// y ← (x − zero)·scale.
void vk_dequantise(vk_real type, size_t n, const void *x, int is_signed, double scale, int zero, void *y);
#endif
