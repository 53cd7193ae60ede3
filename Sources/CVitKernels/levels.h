// How one body becomes four functions: f32 at each instruction set, f64 at the base level.
//
// A family `name.c` defines BODY as the file that holds its bodies, includes `each_level.h` and dispatches with
// VK_DISPATCH. In the body, `real` is the element type, `vec` its 64-byte vector of LANES lanes, and every function
// is named FN(name). A sum is kept in LANES lanes and folded in one fixed order at the end, at every level; FMA is
// used where the level has it, so avx2 and avx512 agree to the bit and base differs from them by rounding.
#ifndef VK_LEVELS_H
#define VK_LEVELS_H
#include "include/vitk.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#pragma STDC FP_CONTRACT OFF
// Vectors are passed between always-inlined functions only, so their calling convention does not matter.
#pragma clang diagnostic ignored "-Wpsabi"

#define VK_INLINE static inline __attribute__((always_inline, unused))
#define VK_JOIN_(a, b) a##_##b
#define VK_JOIN(a, b) VK_JOIN_(a, b)
#define FN(name) VK_JOIN(name, SUFFIX)
#define VK_LIST(...) __VA_ARGS__

typedef float vk_f32x16 __attribute__((ext_vector_type(16)));
typedef double vk_f64x8 __attribute__((ext_vector_type(8)));
typedef int32_t vk_i32x16 __attribute__((ext_vector_type(16)));
typedef int64_t vk_i64x8 __attribute__((ext_vector_type(8)));

// What functions of the levels above base are compiled for.
#define VK_AVX2_TARGET "avx2,fma,f16c"
#define VK_AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c"

VK_INLINE int vk_variant(vk_real type) { return type == VK_F64 ? 3 : vk_level(); }

#if defined(__x86_64__)
#define VK_TABLE(name) {name##_f32_base, name##_f32_avx2, name##_f32_avx512, name##_f64_base}
#else
#define VK_TABLE(name) {name##_f32_base, name##_f32_base, name##_f32_base, name##_f64_base}
#endif

// Defines vk_<name>(type, parameters…), which calls the variant for the type and the level.
#define VK_DISPATCH(result, name, parameters, arguments)      \
  result vk_##name(vk_real type, VK_LIST parameters) {        \
    static result (*const table[4]) parameters = VK_TABLE(name); \
    return table[vk_variant(type)] arguments;                 \
  }
#endif
