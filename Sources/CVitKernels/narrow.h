// What the families of products of narrow numbers share: 8-bit whole numbers and bfloat16.
#ifndef VK_NARROW_H
#define VK_NARROW_H
#include <stdlib.h>
#include <string.h>

#include "features.h"
#include "levels.h"

// Columns of a panel of a packed matrix; see narrow_tile.h.
#define NARROW_PANEL 32
// Rows that are made narrow together: a block and a panel stay in the first-level cache.
#define NARROW_BLOCK 56

// Bytes of a column of so many, and of a row of a block of them in scratch: no multiple of the cache's sets.
static inline size_t narrow_padded(size_t bytes) { return (bytes + 63) & ~(size_t)63; }
static inline size_t narrow_row(size_t bytes) {
  const size_t padded = narrow_padded(bytes);
  return padded % 1024 ? padded : padded + 64;
}

// The functions of these families round alike on every machine, those of epilogues among them.
#define EXACT_MADD 1
#define real float
#define ireal int32_t
#define vec vk_f32x16
#define ivec vk_i32x16
#define LANES 16
#define REAL_IS_F32 1

typedef uint8_t vk_u8x16 __attribute__((ext_vector_type(16)));
typedef uint8_t vk_u8x16_at __attribute__((ext_vector_type(16), aligned(1), may_alias));
typedef uint16_t vk_u16x16 __attribute__((ext_vector_type(16)));
typedef uint16_t vk_u16x16_at __attribute__((ext_vector_type(16), aligned(1), may_alias));
typedef int8_t vk_i8x16_at __attribute__((ext_vector_type(16), aligned(1), may_alias));
typedef int32_t vk_i32x4 __attribute__((ext_vector_type(4)));
typedef int32_t vk_i32x8 __attribute__((ext_vector_type(8)));
typedef int32_t vk_i32x4_at __attribute__((ext_vector_type(4), aligned(4), may_alias));
typedef int32_t vk_i32x8_at __attribute__((ext_vector_type(8), aligned(4), may_alias));
typedef int32_t vk_i32x16_at __attribute__((ext_vector_type(16), aligned(4), may_alias));
typedef float vk_f32x4 __attribute__((ext_vector_type(4)));
typedef float vk_f32x8 __attribute__((ext_vector_type(8)));
typedef float vk_f32x4_at __attribute__((ext_vector_type(4), aligned(4), may_alias));
typedef float vk_f32x8_at __attribute__((ext_vector_type(8), aligned(4), may_alias));
typedef float vk_f32x16_at __attribute__((ext_vector_type(16), aligned(4), may_alias));
#define VK_VECTOR_(type, lanes) vk_##type##x##lanes
#define VK_VECTOR(type, lanes) VK_VECTOR_(type, lanes)
#define VK_VECTOR_AT_(type, lanes) vk_##type##x##lanes##_at
#define VK_VECTOR_AT(type, lanes) VK_VECTOR_AT_(type, lanes)
#define tile_float_at VK_VECTOR_AT(f32, TILE_LANES)

#define VK_DOT static inline __attribute__((always_inline))
#endif
