// Attention of f32 operands whose products are computed in bfloat16 with sums in f32: a block of queries at a time.
//
// Queries, keys and values are rounded once. What softmax makes of a row of scores is rounded before it is divided by the sum, which
// is that of the rounded numbers.
#define attend_weights FN(attend_weights)
#define attend_at FN(attend_at)

static const float *attend_at(const vk_heads *operand, size_t batch, size_t head, size_t token) {
  return (const float *)operand->base + (ptrdiff_t)batch * operand->batch + (ptrdiff_t)head * operand->head +
         (ptrdiff_t)token * operand->token;
}

// The weights of a row of scores, times the sum that is to be divided by, into a row of bfloat16. Returns what they are to be
// multiplied with.
//
// Powers of two of a polynomial's precision, 3·10⁻⁶, are more than bfloat16 holds.
static float attend_weights(const vk_attention *p, float *s, const float *bias, uint8_t *to) {
  const float log2e = 0x1.715476p+0f;
  const size_t padded = narrow_padded(2 * p->keys) / 2;
  const vec factor = v_all((float)p->scale * log2e), least = v_all(-INFINITY), magic = v_all(0x1.8p23f);
  vec top = least;
  ivec good = (ivec)(-1);
  for (size_t j = 0; j < p->keys; j += LANES) {
    const size_t lanes = p->keys - j < LANES ? p->keys - j : LANES;
    vec t = factor * v_load(s + j);
    if (bias) t = v_madd(v_loadn(bias + j, lanes), v_all(log2e), t);
    if (lanes < LANES) t = v_pick(v_first(lanes), t, least);
    v_store(s + j, t);
    good &= t < v_all(INFINITY);
    top = v_max(top, t);
  }
  if (!__builtin_reduce_and(good)) {  // infinity, or no number
    memset(to, 0, 2 * padded);
    return NAN;
  }
  const float most = v_top(top);
  const vec centre = v_all(most == -INFINITY ? 0 : most), none = v_all(0);
  vec sum = none;
  for (size_t j = 0; j < padded; j += LANES) {
    ivec rounded = (ivec)(0);
    if (j < p->keys) {
      const vec t = v_load(s + j) - centre, y = v_max(t, v_all(-100)), shifted = y + magic, f = y - (shifted - magic);
      vec power = v_madd(v_all(9.672171e-03f), f, v_all(5.5922035e-02f));
      power = v_madd(power, f, v_all(2.4022228e-01f));
      power = v_madd(power, f, v_all(6.93121e-01f));
      power = v_madd(power, f, v_all(1));
      power = v_pick(t < v_all(-100), none, VK_FLOATS(VK_BITS(power) + (VK_BITS(shifted) << 23)));
      rounded = bf16_bits(power);
      sum += VK_FLOATS(rounded << 16);
    }
    *(vk_u16x16_at *)(to + 2 * j) = __builtin_convertvector(rounded, vk_u16x16);
  }
  const float total = v_sum(sum);
  return total > 0 ? 1 / total : p->guarded ? 0 : NAN;
}

static void FN(attend_bf16)(const vk_attention *p, size_t batch, size_t head, size_t q0, size_t q1, void *scratch) {
  const size_t key_head = head * p->key_heads / p->heads;
  const size_t deep = narrow_padded(2 * p->width), wide = narrow_padded(2 * p->keys);
  const size_t score_row = wide / 2 + 16, left_row = narrow_row(2 * p->width), weight_row = narrow_row(2 * p->keys);
  uint8_t *keys = scratch, *values = keys + vk_bf16_packed_bytes(p->width, p->keys);
  float *scores = (float *)(values + vk_bf16_packed_bytes(p->keys, p->value_width));
  float *factors = scores + ATTEND_BLOCK * score_row;
  uint8_t *left = (uint8_t *)(factors + 32), *weights = left + ATTEND_BLOCK * left_row;
  const narrow_scales scales = {.rows = factors};
  // A column for each key; and one for each channel of the values, two keys in a group.
  bf16_pack(p->width, p->keys, attend_at(&p->k, batch, key_head, 0), 1, p->k.token, keys);
  bf16_pack(p->keys, p->value_width, attend_at(&p->v, batch, key_head, 0), p->v.token, 1, values);
  for (size_t top = q0; top < q1; top += ATTEND_BLOCK) {
    const size_t rows = q1 - top < ATTEND_BLOCK ? q1 - top : ATTEND_BLOCK;
    for (size_t i = 0; i < rows; i++)
      bf16_rows(attend_at(&p->q, batch, head, top + i), p->width, left + i * left_row);
    for (size_t i = 0; i < ATTEND_BLOCK; i++) factors[i] = 1;
    for (size_t j = 0; j < p->keys; j += NARROW_PANEL)
      tile_panel(rows, (p->width + 1) / 2, left, left_row, keys + j * deep, &scales, scores + j, (ptrdiff_t)score_row,
                 p->keys - j < NARROW_PANEL ? p->keys - j : NARROW_PANEL);
    for (size_t i = 0; i < rows; i++) {
      const float *bias = p->bias.base ? attend_at(&p->bias, batch, head, top + i) : NULL;
      factors[i] = attend_weights(p, scores + i * score_row, bias, weights + i * weight_row);
    }
    for (size_t c = 0; c < p->value_width; c += NARROW_PANEL)
      tile_panel(rows, (p->keys + 1) / 2, weights, weight_row, values + c * wide, &scales,
                 (float *)attend_at(&p->o, batch, head, top) + c, p->o.token,
                 p->value_width - c < NARROW_PANEL ? p->value_width - c : NARROW_PANEL);
  }
}
