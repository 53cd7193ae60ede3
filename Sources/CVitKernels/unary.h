// One-operand functions and their slopes on vectors: y = f(x; a, b), dy/dx from x and y. Included after lanes.h.
#ifndef VK_UNARY_KINDS
// name, value of y, slope; in terms of x, y, and the parameters a and b.
#define VK_UNARY_KINDS(KIND)                                                                                        \
  KIND(IDENTITY, x, v_all(1))                                                                                       \
  KIND(EXP, v_exp(x), y)                                                                                            \
  KIND(LOG, v_log(x), v_all(1) / x)                                                                                 \
  KIND(SQRT, v_sqrt(x), v_all((real)0.5) / y)                                                                       \
  KIND(RECIPROCAL, v_all(1) / x, -y * y)                                                                            \
  KIND(NEGATE, -x, v_all(-1))                                                                                       \
  KIND(ABS, v_abs(x), v_sign(x))                                                                                    \
  KIND(SQUARE, x *x, x + x)                                                                                         \
  KIND(ERF, v_erf(x), v_all((real)1.1283791670955126) * v_exp(-x * x))                                              \
  KIND(TANH, v_tanh(x), v_all(1) - y * y)                                                                           \
  KIND(SIGMOID, v_sigmoid(x), y *(v_all(1) - y))                                                                    \
  KIND(SILU, x *v_sigmoid(x), v_swish_slope(x, v_all(1)))                                                           \
  KIND(RELU, v_max(x, v_all(0)), v_pick(x > v_all(0), v_all(1), v_all(0)))                                          \
  KIND(LEAKY_RELU, v_pick(x < v_all(0), a *x, x), v_pick(x < v_all(0), a, v_all(1)))                                \
  KIND(GELU, v_gelu(x), v_gelu_slope(x))                                                                            \
  KIND(GELU_TANH, v_gelu_tanh(x), v_gelu_tanh_slope(x))                                                             \
  KIND(QUICK_GELU, x *v_sigmoid(a *x), v_swish_slope(x, a))                                                         \
  KIND(HARD_SIGMOID, v_clip(v_madd(a, x, b), v_all(0), v_all(1)),                                                   \
       v_pick((v_madd(a, x, b) > v_all(0)) & (v_madd(a, x, b) < v_all(1)), a, v_all(0)))                            \
  KIND(HARD_SWISH, x *v_clip(v_madd(x, v_all((real)(1.0 / 6)), v_all((real)0.5)), v_all(0), v_all(1)),              \
       v_pick(x <= v_all(-3), v_all(0),                                                                             \
              v_pick(x >= v_all(3), v_all(1), v_madd(x, v_all((real)(1.0 / 3)), v_all((real)0.5)))))                \
  KIND(ELU, b *v_pick(x < v_all(0), a *v_expm1(x), x), b *v_pick(x < v_all(0), a *v_exp(x), v_all(1)))              \
  KIND(CELU, v_pick(x < v_all(0), a *v_expm1(x / a), x), v_pick(x < v_all(0), v_exp(x / a), v_all(1)))              \
  KIND(SOFTPLUS, v_softplus(x), v_sigmoid(x))                                                                       \
  KIND(SOFTSIGN, x / (v_all(1) + v_abs(x)), v_all(1) / ((v_all(1) + v_abs(x)) * (v_all(1) + v_abs(x))))             \
  KIND(MISH, x *v_tanh(v_softplus(x)), v_mish_slope(x))                                                             \
  KIND(THRESHOLDED_RELU, v_pick(x > a, x, v_all(0)), v_pick(x > a, v_all(1), v_all(0)))                             \
  KIND(CLIP, v_clip(x, a, b), v_pick((x >= a) & (x <= b), v_all(1), v_all(0)))                                      \
  KIND(AFFINE, v_madd(a, x, b), a)                                                                                  \
  KIND(SIN, v_sin(x), v_cos(x))                                                                                     \
  KIND(COS, v_cos(x), -v_sin(x))                                                                                    \
  KIND(TAN, v_tan(x), v_all(1) + y * y)                                                                             \
  KIND(FLOOR, __builtin_elementwise_floor(x), v_all(0))                                                             \
  KIND(CEIL, __builtin_elementwise_ceil(x), v_all(0))                                                               \
  KIND(ROUND, __builtin_elementwise_roundeven(x), v_all(0))                                                         \
  KIND(SIGN, v_sign(x), v_all(0))

#define v_clip FN(v_clip)
#define v_sign FN(v_sign)
#define v_swish_slope FN(v_swish_slope)
#define v_gelu FN(v_gelu)
#define v_gelu_slope FN(v_gelu_slope)
#define v_gelu_tanh FN(v_gelu_tanh)
#define v_gelu_tanh_slope FN(v_gelu_tanh_slope)
#define v_softplus FN(v_softplus)
#define v_mish_slope FN(v_mish_slope)
#define v_sin FN(v_sin)
#define v_cos FN(v_cos)
#define v_tan FN(v_tan)
#endif

VK_INLINE vec v_clip(vec x, vec low, vec high) { return v_min(v_max(x, low), high); }
VK_INLINE vec v_sign(vec x) {
  return v_pick(x > v_all(0), v_all(1), v_pick(x < v_all(0), v_all(-1), x));  // zero and NaN stay
}
// The slope of x·σ(a·x).
VK_INLINE vec v_swish_slope(vec x, vec a) {
  vec s = v_sigmoid(a * x);
  return s * v_madd(a * x, v_all(1) - s, v_all(1));
}
#if REAL_IS_F32
#ifndef VK_GELU_TABLE
#define VK_GELU_TABLE
// x·Φ(x) = max(x, 0) + h(|x|), and h is nothing beyond 5.5: least squares at Chebyshev's points of 16 pieces, a polynomial of
// degree four in each, from the constant up. Within 3·10⁻⁷ of the truth, and within 1.2·10⁻⁶·|x|.
static const float vk_gelu_table[5][16] = {
    {0, -1.2848467e-01f, -1.69621e-01f, -1.5247177e-01f, -1.0997257e-01f, -6.682461e-02f, -3.4907106e-02f, -1.5830904e-02f,
     -6.266687e-03f, -2.1720298e-03f, -6.604231e-04f, -1.7637706e-04f, -4.1407646e-05f, -8.550289e-06f, -1.5535081e-06f, -2.4842845e-07f},
    {-1.7799355e-01f, -8.103411e-02f, -6.3374247e-03f, 3.492462e-02f, 4.5881283e-02f, 3.8490824e-02f, 2.5176404e-02f, 1.3605254e-02f,
     6.2263566e-03f, 2.4441392e-03f, 8.291102e-04f, 2.4419266e-04f, 6.2640436e-05f, 1.4026168e-05f, 2.7458998e-06f, 4.7056096e-07f},
    {5.0557557e-02f, 4.4445414e-02f, 2.929298e-02f, 1.2283572e-02f, -2.5300265e-04f, -6.0574026e-03f, -6.6175954e-03f, -4.7709304e-03f,
     -2.6770977e-03f, -1.233118e-03f, -4.7772605e-04f, -1.5774413e-04f, -4.475595e-05f, -1.0969745e-05f, -2.3313783e-06f, -4.3080473e-07f},
    {-6.77972e-06f, -3.849177e-03f, -5.748338e-03f, -5.154696e-03f, -3.057199e-03f, -9.257273e-04f, 3.5330513e-04f, 7.3267147e-04f,
     6.0694694e-04f, 3.5651322e-04f, 1.6545068e-04f, 6.322836e-05f, 2.0314948e-05f, 5.5542578e-06f, 1.3022883e-06f, 2.6324878e-07f},
    {-1.052634e-03f, -7.793418e-04f, -1.4807087e-04f, 3.9997627e-04f, 5.848323e-04f, 4.444667e-04f, 1.9525185e-04f, 1.2355997e-05f,
     -5.927327e-05f, -5.8857873e-05f, -3.594227e-05f, -1.6586315e-05f, -6.1650076e-06f, -1.9003388e-06f, -4.9371295e-07f, -1.0920642e-07f},
};
#endif
VK_INLINE vec v_gelu(vec x) {
  const vec t = v_abs(x), magic = v_all(0x1.8p23f);  // adding it rounds to a whole number
  const vec place = v_min(t, v_all(5.5f)) * v_all(15.45f / 5.5f), shifted = place + magic;
  const ivec piece = VK_BITS(shifted) & 15;
  const vec d = place - (shifted - magic);
  vec h = v_lookup(vk_gelu_table[4], piece);
#pragma clang loop unroll(full)
  for (int power = 3; power >= 0; power--) h = v_madd(h, d, v_lookup(vk_gelu_table[power], piece));
  return v_max(x, v_all(0)) + v_pick(t < v_all(5.5f), h, v_all(0));
}
#else
VK_INLINE vec v_gelu(vec x) {
  vec half = v_all((real)0.5) * x;
  return v_madd(half, v_erf(x * v_all((real)0.70710678118654752)), half);
}
#endif
VK_INLINE vec v_gelu_slope(vec x) {
  vec distribution = v_madd(v_all((real)0.5), v_erf(x * v_all((real)0.70710678118654752)), v_all((real)0.5));
  vec density = v_all((real)0.39894228040143268) * v_exp(v_all((real)-0.5) * x * x);
  return v_madd(x, density, distribution);
}
VK_INLINE vec v_gelu_tanh(vec x) {
  vec inner = x * v_madd(x * x, v_all((real)0.035677408136300125), v_all((real)0.7978845608028654));
  return x * v_sigmoid(inner + inner);  // ½(1 + tanh z) = σ(2z)
}
VK_INLINE vec v_gelu_tanh_slope(vec x) {
  vec square = x * x;
  vec inner = x * v_madd(square, v_all((real)0.035677408136300125), v_all((real)0.7978845608028654));
  vec slope = v_madd(square, v_all((real)0.10703222440890037), v_all((real)0.7978845608028654));
  vec s = v_sigmoid(inner + inner);
  return v_madd(v_all(2) * x * slope, s * (v_all(1) - s), s);
}
// log(1 + eˣ), and x itself beyond 20.
VK_INLINE vec v_softplus(vec x) {
  vec y = v_max(x, v_all(0)) + v_log1p(v_exp(-v_abs(x)));
  return v_pick(x > v_all(20), x, y);
}
VK_INLINE vec v_mish_slope(vec x) {
  vec t = v_tanh(v_softplus(x));
  return v_madd(x * v_sigmoid(x), v_all(1) - t * t, t);
}
#if REAL_IS_F32
VK_INLINE vec v_sin(vec x) { VK_LANEWISE(y, x, sinf); return y; }
VK_INLINE vec v_cos(vec x) { VK_LANEWISE(y, x, cosf); return y; }
VK_INLINE vec v_tan(vec x) { VK_LANEWISE(y, x, tanf); return y; }
#else
VK_INLINE vec v_sin(vec x) { VK_LANEWISE(y, x, sin); return y; }
VK_INLINE vec v_cos(vec x) { VK_LANEWISE(y, x, cos); return y; }
VK_INLINE vec v_tan(vec x) { VK_LANEWISE(y, x, tan); return y; }
#endif
