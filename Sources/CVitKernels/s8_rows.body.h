// Rows brought into 8 bits: whole numbers, or, where S8_SHIFTED, those plus 128.
#define s8_quantise FN(s8_quantise)

// Brings n elements into 8 bits; returns the scale. The row is filled up with zeros to a multiple of 64.
static float s8_quantise(const float *a, size_t n, uint8_t *to) {
  ivec top = (ivec)(0);
  for (size_t j = 0; j < n; j += LANES) {
    const ivec bits = VK_BITS(v_loadn(a + j, n - j < LANES ? n - j : LANES)) & 0x7fffffff;
    top = __builtin_elementwise_max(bits, top);
  }
  const int32_t most = __builtin_reduce_max(top);
  const size_t padded = narrow_padded(n);
  const float greatest = __builtin_bit_cast(float, most);
  if (most >= 0x7f800000 || greatest < 0x1p-100f) {
    memset(to, S8_SHIFTED ? 128 : 0, padded);
    return most >= 0x7f800000 ? NAN : 0;
  }
  const vec inverse = v_all(127.0f / greatest), magic = v_all(0x1.8p23f);  // adding it rounds to a whole number
  const ivec shift = VK_BITS(magic) - (S8_SHIFTED ? 128 : 0);
  for (size_t j = 0; j < padded; j += LANES) {
    const size_t lanes = j >= n ? 0 : n - j < LANES ? n - j : LANES;
    const ivec whole = VK_BITS(v_loadn(a + j, lanes) * inverse + magic) - shift;
    *(vk_u8x16_at *)(to + j) = __builtin_convertvector(whole, vk_u8x16);
  }
  return greatest / 127.0f;
}
