// Includes BODY for each element type and level; see levels.h. No include guard: once for each family.
#define real float
#define ireal int32_t
#define vec vk_f32x16
#define ivec vk_i32x16
#define LANES 16
#define REAL_IS_F32 1

#define SUFFIX f32_base
#define ISA 0
#include "lanes.h"
#include BODY
#undef ISA
#undef SUFFIX

#if defined(__x86_64__)
#define SUFFIX f32_avx2
#define ISA 1
#pragma clang attribute push(__attribute__((target(VK_AVX2_TARGET))), apply_to = function)
#include "lanes.h"
#include BODY
#pragma clang attribute pop
#undef ISA
#undef SUFFIX

#define SUFFIX f32_avx512
#define ISA 2
#pragma clang attribute push(                                                             \
    __attribute__((target(VK_AVX512_TARGET))), apply_to = function)
#include "lanes.h"
#include BODY
#pragma clang attribute pop
#undef ISA
#undef SUFFIX
#endif

#undef real
#undef ireal
#undef vec
#undef ivec
#undef LANES
#undef REAL_IS_F32

#define real double
#define ireal int64_t
#define vec vk_f64x8
#define ivec vk_i64x8
#define LANES 8
#define REAL_IS_F32 0
#define SUFFIX f64_base
#define ISA 0
#include "lanes.h"
#include BODY
#undef ISA
#undef SUFFIX
#undef real
#undef ireal
#undef vec
#undef ivec
#undef LANES
#undef REAL_IS_F32
#undef BODY
