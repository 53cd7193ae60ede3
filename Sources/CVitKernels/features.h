// What the processor has, of what kernels are chosen by: a set, since instructions come in any combination.
#ifndef VK_FEATURES_H
#define VK_FEATURES_H
#include <stdint.h>

enum {
  VK_HAS_AVX2 = 1 << 0,    // with FMA and F16C
  VK_HAS_AVX512 = 1 << 1,  // F, BW, DQ, VL
  VK_HAS_AVXVNNI = 1 << 2,
  VK_HAS_AVX512VNNI = 1 << 3,
  VK_HAS_AMX_INT8 = 1 << 5,  // and the system lets this process use tile registers
  VK_HAS_FAST_BF16 = 1 << 4,  // AVX512-BF16 at twice the rate of f32, as AMD's have it and Intel's do not
};

// The features of this machine that VITC_ISA allows.
uint32_t vk_features(void);
#endif
