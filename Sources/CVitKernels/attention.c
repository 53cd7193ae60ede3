#include "levels.h"

#define BODY "attention.body.h"
#include "each_level.h"

VK_DISPATCH(size_t, attention_scratch, (const vk_attention *p), (p))
VK_DISPATCH(void, attend, (const vk_attention *p, size_t batch, size_t head, size_t q0, size_t q1, void *scratch),
            (p, batch, head, q0, q1, scratch))
VK_DISPATCH(void, attend_gradient, (const vk_attention *p, size_t batch, size_t key_head, void *scratch),
            (p, batch, key_head, scratch))
