#include "levels.h"

#define BODY "gate.body.h"
#include "each_level.h"

VK_DISPATCH(void, causal_forward, (const vk_causal *p, vk_rows y), (p, y))
VK_DISPATCH(void, causal_gradient, (const vk_causal *p, vk_rows dy, vk_rows du, void *dw, void *dbias),
            (p, dy, du, dw, dbias))
VK_DISPATCH(void, gate_forward, (const vk_gate *p, vk_rows s), (p, s))
VK_DISPATCH(void, gate_gradient, (const vk_gate *p, vk_rows ds, vk_rows d_o, vk_rows dz), (p, ds, d_o, dz))
