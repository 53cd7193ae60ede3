// The functions of OpenBLAS that the products at the base level call.
#ifndef VK_BLAS_H
#define VK_BLAS_H
#include <cblas.h>

// NULL until vk_blas_load has succeeded.
extern __typeof__(&cblas_sgemm) vk_sgemm;
extern __typeof__(&cblas_dgemm) vk_dgemm;
#endif
