#include "levels.h"

#define BODY "ssd.body.h"
#include "each_level.h"

VK_DISPATCH(size_t, ssd_scratch, (const vk_ssd *p), (p))
VK_DISPATCH(size_t, ssd_gradient_scratch, (const vk_ssd *p), (p))
VK_DISPATCH(void, ssd_forward, (const vk_ssd *p, void *scratch), (p, scratch))
VK_DISPATCH(void, ssd_gradient, (const vk_ssd *p, void *scratch), (p, scratch))
