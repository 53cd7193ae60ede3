// OpenBLAS, which computes the products in f64 and those at the base level. Its kernels are those of our own level, unless
// the environment names others in OPENBLAS_CORETYPE, so that results depend on the level and not on what it guesses.
#ifndef VITK_BLAS_H
#define VITK_BLAS_H
#include "vitk.h"

// Loads it; NULL, or why it cannot be. One thread at a time.
const char *vk_blas_load(void);
// Sees to it that this many threads can be inside products at once; 0 where the address space does not suffice. Called once
// it is loaded, by one thread at a time.
int vk_blas_reserve(int callers);
// The name of the kernels that it is, or will be, asked for.
const char *vk_blas_core(void);
#endif
