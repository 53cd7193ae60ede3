// Attention at one level: a tile of queries at a time, its scores in cache.
#include "softmax_row.h"

#ifndef ATTENTION_TILE
#define ATTENTION_TILE 28
#define ATTENTION_GRADIENT_TILE 56
#define attention_rows FN(attention_rows)
#define attention_head FN(attention_head)
#define attention_pack FN(attention_pack)
#define attention_dot FN(attention_dot)
#endif
#define ATTENTION_TYPE (REAL_IS_F32 ? VK_F32 : VK_F64)

// The distance of rows of scores: whole vectors, and no multiple of the cache's sets.
VK_INLINE size_t attention_rows(const vk_attention *p) {
  const size_t rows = (p->keys + LANES - 1) / LANES * LANES;
  return rows % 1024 == 0 ? rows + LANES : rows;
}

VK_INLINE size_t attention_pack(const vk_attention *p, size_t width) {
  return (vk_gemm_packed_count(ATTENTION_TYPE, width, p->keys) + 15) & ~(size_t)15;
}

static size_t FN(attention_scratch)(const vk_attention *p) {
  const size_t packed = attention_pack(p, p->width) + attention_pack(p, p->value_width);
  return VK_GEMM_SCRATCH +
         sizeof(real) * (packed + ATTENTION_GRADIENT_TILE * (2 * attention_rows(p) + 1) + 2 * LANES);
}

VK_INLINE real *attention_head(const vk_heads *operand, size_t batch, size_t head, size_t token) {
  return (real *)operand->base + (ptrdiff_t)batch * operand->batch + (ptrdiff_t)head * operand->head +
         (ptrdiff_t)token * operand->token;
}

static void FN(attend)(const vk_attention *p, size_t batch, size_t head, size_t q0, size_t q1, void *scratch) {
  const size_t key_head = head * p->key_heads / p->heads, row = attention_rows(p);
  real *packed = (real *)((char *)scratch + VK_GEMM_SCRATCH), *scores = packed + attention_pack(p, p->width);
  const size_t first = (batch * p->heads + head) * p->queries;
  vk_gemm_pack(ATTENTION_TYPE, p->width, p->keys, attention_head(&p->k, batch, key_head, 0), 1, p->k.token, 0,
               p->keys, packed);
  for (size_t top = q0; top < q1; top += ATTENTION_TILE) {
    const size_t rows = q1 - top < ATTENTION_TILE ? q1 - top : ATTENTION_TILE;
    const vk_product score = {.m = rows, .n = p->keys, .k = p->width, .a = attention_head(&p->q, batch, head, top),
                              .a_row = p->q.token, .a_column = 1, .packed = packed, .c = scores,
                              .c_row = (ptrdiff_t)row, .alpha = 1, .epilogue = {.activation = VK_IDENTITY}};
    vk_gemm(ATTENTION_TYPE, &score, 0, rows, 0, p->keys, scratch);
    for (size_t i = 0; i < rows; i++) {
      const real *bias = p->bias.base ? attention_head(&p->bias, batch, head, top + i) : NULL;
      real *s = scores + i * row;
      const size_t index = first + top + i;
      softmax_row(0, p->guarded, p->keys, (real)p->scale, s, bias, s, p->lse ? (real *)p->lse + index : NULL);
    }
    const vk_product value = {.m = rows, .n = p->value_width, .k = p->keys, .a = scores, .a_row = (ptrdiff_t)row,
                              .a_column = 1, .b = attention_head(&p->v, batch, key_head, 0), .b_row = p->v.token,
                              .b_column = 1, .c = attention_head(&p->o, batch, head, top), .c_row = p->o.token,
                              .alpha = 1, .epilogue = {.activation = VK_IDENTITY}};
    vk_gemm(ATTENTION_TYPE, &value, 0, rows, 0, p->value_width, scratch);
  }
}

static real attention_dot(size_t n, const real *a, const real *b) {
  vec sum = v_all(0);
  for (size_t i = 0; i < n; i += LANES) {
    const size_t lanes = n - i < LANES ? n - i : LANES;
    sum = v_madd(v_loadn(a + i, lanes), v_loadn(b + i, lanes), sum);
  }
  return v_sum(sum);
}

static void FN(attend_gradient)(const vk_attention *p, size_t batch, size_t key_head, void *scratch) {
  const size_t row = attention_rows(p), group = p->heads / p->key_heads;
  real *keys = (real *)((char *)scratch + VK_GEMM_SCRATCH), *values = keys + attention_pack(p, p->width);
  real *weights = values + attention_pack(p, p->value_width), *slopes = weights + ATTENTION_GRADIENT_TILE * row;
  const real *k = attention_head(&p->k, batch, key_head, 0), *v = attention_head(&p->v, batch, key_head, 0);
  vk_gemm_pack(ATTENTION_TYPE, p->width, p->keys, k, 1, p->k.token, 0, p->keys, keys);
  vk_gemm_pack(ATTENTION_TYPE, p->value_width, p->keys, v, 1, p->v.token, 0, p->keys, values);
  for (size_t head = key_head * group; head < (key_head + 1) * group; head++) {
    for (size_t top = 0; top < p->queries; top += ATTENTION_GRADIENT_TILE) {
      const size_t rows = p->queries - top < ATTENTION_GRADIENT_TILE ? p->queries - top : ATTENTION_GRADIENT_TILE;
      const real *q = attention_head(&p->q, batch, head, top), *d_o = attention_head(&p->d_o, batch, head, top);
      vk_product product = {.m = rows, .n = p->keys, .k = p->width, .a = q, .a_row = p->q.token, .a_column = 1,
                            .packed = keys, .c = weights, .c_row = (ptrdiff_t)row, .alpha = 1,
                            .epilogue = {.activation = VK_IDENTITY}};
      vk_gemm(ATTENTION_TYPE, &product, 0, rows, 0, p->keys, scratch);
      product.k = p->value_width, product.a = d_o, product.a_row = p->d_o.token;
      product.packed = values, product.c = slopes;
      vk_gemm(ATTENTION_TYPE, &product, 0, rows, 0, p->keys, scratch);
      for (size_t i = 0; i < rows; i++) {
        const real *bias = p->bias.base ? attention_head(&p->bias, batch, head, top + i) : NULL;
        const size_t index = (batch * p->heads + head) * p->queries + top + i;
        const real lse = ((const real *)p->lse)[index];
        const vec scale = v_all((real)p->scale), offset = v_all(lse);
        const vec delta = v_all(attention_dot(p->value_width, d_o + (ptrdiff_t)i * p->d_o.token,
                                              attention_head(&p->o, batch, head, top + i)));
        real *w = weights + i * row, *s = slopes + i * row;
        for (size_t j = 0; j < p->keys; j += LANES) {
          const size_t lanes = p->keys - j < LANES ? p->keys - j : LANES;
          vec logit = scale * v_loadn(w + j, lanes);
          if (bias) logit += v_loadn(bias + j, lanes);
          const vec probability = lse == -INFINITY ? v_all(0) : v_exp(logit - offset);
          v_storen(w + j, probability, lanes);
          v_storen(s + j, probability * (v_loadn(s + j, lanes) - delta), lanes);
        }
        if (p->d_scores) memcpy((real *)p->d_scores + index * p->keys, s, p->keys * sizeof(real));
      }
      if (p->dv.base) {  // += Pᵀ·dO
        const vk_product d = {.m = p->keys, .n = p->value_width, .k = rows, .a = weights, .a_row = 1,
                              .a_column = (ptrdiff_t)row, .b = d_o, .b_row = p->d_o.token, .b_column = 1,
                              .c = attention_head(&p->dv, batch, key_head, 0), .c_row = p->dv.token, .alpha = 1,
                              .beta = 1, .epilogue = {.activation = VK_IDENTITY}};
        vk_gemm(ATTENTION_TYPE, &d, 0, p->keys, 0, p->value_width, scratch);
      }
      if (p->dq.base) {  // += scale·dS·K
        const vk_product d = {.m = rows, .n = p->width, .k = p->keys, .a = slopes, .a_row = (ptrdiff_t)row,
                              .a_column = 1, .b = k, .b_row = p->k.token, .b_column = 1,
                              .c = attention_head(&p->dq, batch, head, top), .c_row = p->dq.token,
                              .alpha = p->scale, .beta = 1, .epilogue = {.activation = VK_IDENTITY}};
        vk_gemm(ATTENTION_TYPE, &d, 0, rows, 0, p->width, scratch);
      }
      if (p->dk.base) {  // += scale·dSᵀ·Q
        const vk_product d = {.m = p->keys, .n = p->width, .k = rows, .a = slopes, .a_row = 1,
                              .a_column = (ptrdiff_t)row, .b = q, .b_row = p->q.token, .b_column = 1,
                              .c = attention_head(&p->dk, batch, key_head, 0), .c_row = p->dk.token,
                              .alpha = p->scale, .beta = 1, .epilogue = {.activation = VK_IDENTITY}};
        vk_gemm(ATTENTION_TYPE, &d, 0, p->keys, 0, p->width, scratch);
      }
    }
  }
}
