// Products of f32 rows with a matrix of 8-bit whole numbers: C ← f(s·Q·Wᵀ) + …, where each row of A is brought into 8 bits
// with a scale of its own on the way (dynamic quantisation per token), and each row of W has one.
#ifndef VITK_GEMM_S8_H
#define VITK_GEMM_S8_H
#include "vitk_gemm.h"

// A product of [m, k] by the transpose of [n, k]: A row-major, W as vk_s8_pack made it. Row i of A becomes
// q = round(a·127/max|a|), halves to even, its scale max|a|/127; C ← (Σ q·w)·(scale of the column)·(scale of the row), each
// product rounded, then the epilogue. The sum is exact: every kernel gives the same bits, the epilogue included. A row that
// holds an infinity or no number is NaN in C; a row whose largest magnitude is below 2⁻¹⁰⁰ counts as zero.
typedef struct {
  size_t m, n, k;
  const float *a;
  ptrdiff_t a_row;
  const void *packed;
  float *c;
  ptrdiff_t c_row;
  vk_epilogue epilogue;
} vk_s8_product;

// The largest k, with which sums stay in 32 bits; the bytes of scratch that a product takes, for a block of rows.
enum { VK_S8_DEPTH = 1 << 15, VK_S8_SCRATCH = 56 * (VK_S8_DEPTH + 128) };

// Bytes of W packed for all kernels alike, and the packing of rows n0..<n1 of W, to the first of which `w` points, with their
// scales; n0 is a multiple of 32. Elements are in −127…127, and −128 counts as −127; k is at most VK_S8_DEPTH.
size_t vk_s8_packed_bytes(size_t k, size_t n);
void vk_s8_pack(size_t k, const int8_t *w, const float *scales, size_t n0, size_t n1, void *packed);

// Rows m0..<m1 and columns n0..<n1 of the product; n0 is a multiple of 32. `scratch` is aligned to 64 and has
// VK_S8_SCRATCH bytes.
void vk_s8_gemm(const vk_s8_product *product, size_t m0, size_t m1, size_t n0, size_t n1, void *scratch);

// How many kernels there are, from the plainest to the fastest, behind one for tests: that of AMX on arrays; the name of one, and whether this machine runs it.
size_t vk_s8_kernel_count(void);
const char *vk_s8_kernel_name(size_t index);
int vk_s8_kernel_runs(size_t index);
// The kernel that products use on this thread: the last that the machine runs and VITC_ISA allows.
size_t vk_s8_kernel(void);
// Makes the calling thread use a kernel that the machine runs, for tests that compare them; a negative one ends it.
void vk_s8_force_kernel(int index);
#endif
