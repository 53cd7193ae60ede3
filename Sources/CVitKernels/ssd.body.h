// The chunked scan at one level: products within a chunk, a state between chunks.
//
// In a chunk of c steps M[i][j] is the decay from step j to step i, 0 for j > i. It is built row by row, as
// M[i] = e^{g[i]}·M[i − 1] and then M[i][i] = 1: c exponentials in place of c², and no differences of sums.
#ifndef VK_SSD_NAMES
#define VK_SSD_NAMES
#define ssd_rows FN(ssd_rows)
#define ssd_sizes FN(ssd_sizes)
#define ssd_measure FN(ssd_measure)
#define ssd_rates FN(ssd_rates)
#define ssd_gather FN(ssd_gather)
#define ssd_multiply FN(ssd_multiply)
#define ssd_scores FN(ssd_scores)
#define ssd_scale_rows FN(ssd_scale_rows)
#define ssd_decays FN(ssd_decays)
#define ssd_dot FN(ssd_dot)
#define ssd_take FN(ssd_take)
#define ssd_head_gradient FN(ssd_head_gradient)
#define ssd_store_gradient FN(ssd_store_gradient)
#define ssd_backward FN(ssd_backward)
// Rows of scores that are computed together: what lies right of their last step is left out.
#define SSD_BLOCK 32
// Rows that are fetched ahead.
#define SSD_AHEAD 8
// log σ(r) is divided by this: decays start slow, and a step of r moves them little.
#define SSD_NORMALISER 16
#endif
#define SSD_TYPE (REAL_IS_F32 ? VK_F32 : VK_F64)

VK_INLINE real *ssd_rows(vk_rows rows, ptrdiff_t row) { return (real *)rows.base + row * rows.row; }

// Distances of rows in scratch, whole vectors: of a key, of a value, of a row of scores; and packed transposes.
typedef struct {
  size_t state, width, chunk, steps, packed;
} ssd_sizes;

VK_INLINE ssd_sizes ssd_measure(const vk_ssd *p) {
#define SSD_WHOLE(n) (((n) + LANES - 1) / LANES * LANES)
  ssd_sizes size = {SSD_WHOLE(p->state), SSD_WHOLE(p->width), SSD_WHOLE(p->chunk), SSD_WHOLE(p->steps), 0};
  const size_t packs[3] = {vk_gemm_packed_count(SSD_TYPE, p->state, p->chunk), vk_gemm_packed_count(SSD_TYPE, p->width, p->chunk),
                           vk_gemm_packed_count(SSD_TYPE, p->width, p->state)};
  for (int i = 0; i < 3; i++)
    if (packs[i] > size.packed) size.packed = SSD_WHOLE(packs[i]);
  return size;
#undef SSD_WHOLE
}

static size_t FN(ssd_scratch)(const vk_ssd *p) {
  const ssd_sizes s = ssd_measure(p);
  return VK_GEMM_SCRATCH +
         sizeof(real) * (3 * s.steps + s.packed + 2 * s.chunk * s.state + s.chunk * (s.state + s.chunk) +
                         (p->state + p->chunk) * s.width + s.chunk * s.width + 2 * s.chunk);
}

static size_t FN(ssd_gradient_scratch)(const vk_ssd *p) {
  const ssd_sizes s = ssd_measure(p);
  const size_t chunks = p->chunk ? (p->steps + p->chunk - 1) / p->chunk : 0;
  return VK_GEMM_SCRATCH + sizeof(real) * (3 * s.steps + s.packed + 4 * s.chunk * s.state + 3 * s.chunk * s.width +
                                           2 * s.chunk * s.chunk + (chunks + 1) * p->state * s.width + 3 * s.chunk);
}

// Takes `count` elements of scratch.
VK_INLINE real *ssd_take(real **scratch, size_t count) {
  real *taken = *scratch;
  *scratch += count;
  return taken;
}

// For head h of all steps, in the order of the steps: r, e^g and β.
static void ssd_rates(const vk_ssd *p, size_t head, real *rate, real *decay, real *strength) {
  const vec speed = v_all(p->a ? ((const real *)p->a)[head] : 0);
  for (size_t t = 0; t < p->steps; t++) rate[t] = ssd_rows(p->r, p->order[t])[head];
  for (size_t t = 0; t < p->steps; t += LANES) {
    const size_t lanes = p->steps - t < LANES ? p->steps - t : LANES;
    const vec r = v_loadn(rate + t, lanes), low = v_log1p(v_exp(-v_abs(r)));
    if (p->delta) {
      const vec beta = v_max(r, v_all(0)) + low;
      v_storen(strength + t, beta, lanes);
      v_storen(decay + t, v_exp(-(beta * v_exp(speed))), lanes);
    } else {
      v_storen(decay + t, v_exp((v_min(r, v_all(0)) - low) / v_all(SSD_NORMALISER)), lanes);
    }
  }
}

// Rows t0 … t0 + count of the order, times their strength where that is not NULL.
static void ssd_gather(const vk_ssd *p, vk_rows from, size_t first, size_t columns, size_t t0, size_t count,
                       const real *strength, real *to, size_t row) {
  for (size_t t = 0; t < count; t++) {
    const real *source = ssd_rows(from, p->order[t0 + t]) + first;
    real *target = to + t * row;
    // The hardware does not guess where the order goes next.
    const real *later = t + SSD_AHEAD < count ? ssd_rows(from, p->order[t0 + t + SSD_AHEAD]) + first : source;
    const vec factor = v_all(strength ? strength[t0 + t] : 1);
    for (size_t j = 0; j < columns; j += LANES) {
      __builtin_prefetch(later + j);
      const size_t lanes = columns - j < LANES ? columns - j : LANES;
      const vec x = v_loadn(source + j, lanes);
      v_storen(target + j, strength ? x * factor : x, lanes);
    }
  }
}

// C ← alpha·A·B + beta·C; B is `packed` or rows of `b_row` elements.
VK_INLINE void ssd_multiply(size_t m, size_t n, size_t k, real alpha, const real *a, size_t a_row, size_t a_column,
                            const real *b, size_t b_row, const real *packed, size_t packed_n, real beta, real *c,
                            size_t c_row, void *scratch) {
  const vk_product product = {.m = m, .n = packed ? packed_n : n, .k = k, .a = a, .a_row = (ptrdiff_t)a_row,
                              .a_column = (ptrdiff_t)a_column, .b = b, .b_row = (ptrdiff_t)b_row, .b_column = 1,
                              .packed = packed, .c = c, .c_row = (ptrdiff_t)c_row, .alpha = alpha, .beta = beta,
                              .epilogue = {.activation = VK_IDENTITY}};
  vk_gemm(SSD_TYPE, &product, 0, m, 0, n, scratch);
}

// scores[i][j] ← left[i]·right[j] of `width` columns for j ≤ i, and some beyond; in blocks of rows.
static void ssd_scores(size_t count, size_t width, const real *left, const real *right, size_t row, real *packed,
                       real *scores, size_t scores_row, void *scratch) {
  vk_gemm_pack(SSD_TYPE, width, count, right, 1, (ptrdiff_t)row, 0, count, packed);
  for (size_t top = 0; top < count; top += SSD_BLOCK) {
    const size_t rows = count - top < SSD_BLOCK ? count - top : SSD_BLOCK;
    const size_t reach = (top + rows + 31) / 32 * 32;  // packed columns come in panels of 32
    ssd_multiply(rows, reach < count ? reach : count, width, 1, left + top * row, row, 1, NULL, 0, packed, count, 0,
                 scores + top * scores_row, scores_row, scratch);
  }
}

// Multiplies scores, and slopes where there are any, by M. `last` ends as the last row of M, `first` as the decay from
// before the chunk to each step. Rows of scores have `columns` elements.
static void ssd_decays(size_t count, const real *decay, real *scores, size_t row, size_t columns, real *slopes,
                       real *first, real *last) {
  real before = 1;
  for (size_t j = 0; j < count; j += LANES) v_store(last + j, v_all(0));
  for (size_t i = 0; i < count; i++) {
    const size_t end = i / LANES * LANES + LANES, block = (i / SSD_BLOCK + 1) * SSD_BLOCK;
    const size_t filled = block < columns ? block : columns;  // what products with this row may read
    const vec keep = v_all(decay[i]);
    before *= decay[i];
    first[i] = before;
    for (size_t j = 0; j < end; j += LANES) v_store(last + j, v_load(last + j) * keep);
    last[i] = 1;
    if (!scores) continue;
    real *s = scores + i * row, *d = slopes ? slopes + i * row : NULL;
    for (size_t j = 0; j < end; j += LANES) {
      const vec m = v_load(last + j);
      const ivec seen = v_first(i + 1 - j);
      v_store(s + j, v_pick(seen, v_load(s + j) * m, v_all(0)));
      if (d) v_store(d + j, v_pick(seen, v_load(d + j) * m, v_all(0)));
    }
    for (size_t j = end; j < filled; j += LANES) {
      v_store(s + j, v_all(0));
      if (d) v_store(d + j, v_all(0));
    }
  }
}

// Multiplies each row by its factor and by `scale`.
static void ssd_scale_rows(size_t count, size_t columns, const real *factors, real scale, real *x, size_t row) {
  for (size_t i = 0; i < count; i++) {
    const vec factor = v_all(factors[i] * scale);
    for (size_t j = 0; j < columns; j += LANES) {
      const size_t lanes = columns - j < LANES ? columns - j : LANES;
      v_storen(x + i * row + j, v_loadn(x + i * row + j, lanes) * factor, lanes);
    }
  }
}

VK_INLINE real ssd_dot(size_t n, const real *a, const real *b) {
  vec sum = v_all(0);
  for (size_t j = 0; j < n; j += LANES) {
    const size_t lanes = n - j < LANES ? n - j : LANES;
    sum = v_madd(v_loadn(a + j, lanes), v_loadn(b + j, lanes), sum);
  }
  return v_sum(sum);
}

static void FN(ssd_forward)(const vk_ssd *p, void *scratch) {
  const ssd_sizes size = ssd_measure(p);
  const size_t state = p->state, width = p->width, row = size.state + size.chunk;
  real *memory = (real *)((char *)scratch + VK_GEMM_SCRATCH);
  real *rate = ssd_take(&memory, size.steps), *decay = ssd_take(&memory, size.steps);
  real *strength = ssd_take(&memory, size.steps);
  real *packed = ssd_take(&memory, size.packed);
  real *q = ssd_take(&memory, size.chunk * size.state), *k = ssd_take(&memory, size.chunk * size.state);
  real *left = ssd_take(&memory, size.chunk * row);  // [first ⊙ Q, QKᵀ ⊙ M]
  real *right = ssd_take(&memory, (state + p->chunk) * size.width);  // [S; β ⊙ V]
  real *o = ssd_take(&memory, size.chunk * size.width);
  real *first = ssd_take(&memory, size.chunk), *last = ssd_take(&memory, size.chunk);
  real *v = right + state * size.width, *scores = left + size.state;
  for (size_t head = 0; head < p->heads; head++) {
    const real skip = p->skip ? ((const real *)p->skip)[head] : 0;
    ssd_rates(p, head, rate, decay, strength);
    for (size_t t0 = 0; t0 < p->steps; t0 += p->chunk) {
      const size_t count = p->steps - t0 < p->chunk ? p->steps - t0 : p->chunk;
      ssd_gather(p, p->q, 0, state, t0, count, NULL, q, size.state);
      ssd_gather(p, p->k, 0, state, t0, count, NULL, k, size.state);
      ssd_gather(p, p->v, head * width, width, t0, count, p->delta ? strength : NULL, v, size.width);
      ssd_scores(count, state, q, k, size.state, packed, scores, row, scratch);
      ssd_decays(count, decay + t0, scores, row, size.chunk, NULL, first, last);
      const size_t before = t0 ? state : 0;  // the state before the first chunk is zero
      for (size_t i = 0; before && i < count; i++) {
        const vec factor = v_all(first[i]);
        real *to = scores + i * row - state;
        for (size_t j = 0; j < state; j += LANES) {
          const size_t lanes = state - j < LANES ? state - j : LANES;
          v_storen(to + j, v_loadn(q + i * size.state + j, lanes) * factor, lanes);
        }
      }
      for (size_t top = 0; top < count; top += SSD_BLOCK) {
        const size_t rows = count - top < SSD_BLOCK ? count - top : SSD_BLOCK;
        ssd_multiply(rows, width, before + top + rows, (real)p->scale, scores + top * row - before, row, 1,
                     v - before * size.width, size.width, NULL, 0, 0, o + top * size.width, size.width, scratch);
      }
      for (size_t t = 0; t < count; t++) {
        const real *value = ssd_rows(p->v, p->order[t0 + t]) + head * width;
        real *to = ssd_rows(p->o, p->order[t0 + t]) + head * width;
        for (size_t j = 0; j < width; j += LANES) {
          const size_t lanes = width - j < LANES ? width - j : LANES;
          vec x = v_loadn(o + t * size.width + j, lanes);
          if (p->skip) x = v_madd(v_all(skip), v_loadn(value + j, lanes), x);
          v_storen(to + j, x, lanes);
        }
      }
      if (t0 + count == p->steps) break;
      ssd_scale_rows(count, state, last, 1, k, size.state);
      ssd_multiply(state, width, count, 1, k, 1, size.state, v, size.width, NULL, 0, before ? first[count - 1] : 0,
                   right, size.width, scratch);
    }
  }
}

// What the gradient of one head needs of scratch.
typedef struct {
  ssd_sizes size;
  real *rate, *decay, *strength, *packed, *q, *k, *dq, *dk, *v, *d_o, *dv, *scores, *slopes, *states, *d_state, *first, *last;
  void *scratch;
} ssd_backward;

// Writes the gradients of a chunk's rows, or adds to those of k and q where `adding`. `sum` is Σ q·q̄ − k·k̄ of all later
// steps: the gradient of g at a step is the sum from there on.
static double ssd_store_gradient(const vk_ssd *p, const ssd_backward *b, size_t head, int adding, size_t t0,
                                 size_t count, double sum) {
  const real skip = p->skip ? ((const real *)p->skip)[head] : 0;
  const real speed = p->delta && p->a ? v_exp(v_all(((const real *)p->a)[head]))[0] : 1;
  const size_t state = p->state, width = p->width;
  for (size_t t = count; t-- > 0;) {
    const ptrdiff_t source = p->order[t0 + t];
    const real *dq = b->dq + t * b->size.state, *dk = b->dk + t * b->size.state, *dv = b->dv + t * b->size.width;
    const real *q = ssd_rows(p->q, source), *k = ssd_rows(p->k, source), *d_o = b->d_o + t * b->size.width;
    const real *v = ssd_rows(p->v, source) + head * width;
    sum += (double)ssd_dot(state, q, dq) - (double)ssd_dot(state, k, dk);
    real *to_q = ssd_rows(p->dq, source), *to_k = ssd_rows(p->dk, source);
    for (size_t j = 0; j < state; j += LANES) {
      const size_t lanes = state - j < LANES ? state - j : LANES;
      vec x = v_loadn(dq + j, lanes), y = v_loadn(dk + j, lanes);
      if (adding) x += v_loadn(to_q + j, lanes), y += v_loadn(to_k + j, lanes);
      v_storen(to_q + j, x, lanes);
      v_storen(to_k + j, y, lanes);
    }
    const real beta = p->delta ? b->strength[t0 + t] : 1;
    real *to_v = ssd_rows(p->dv, source) + head * width;
    for (size_t j = 0; j < width; j += LANES) {
      const size_t lanes = width - j < LANES ? width - j : LANES;
      vec x = v_all(beta) * v_loadn(dv + j, lanes);
      if (p->skip) x = v_madd(v_all(skip), v_loadn(d_o + j, lanes), x);
      v_storen(to_v + j, x, lanes);
    }
    const real r = b->rate[t0 + t], slope = (real)sum;
    real *dr = ssd_rows(p->dr, source) + head;
    if (p->delta) {
      *dr = (ssd_dot(width, dv, v) - speed * slope) * v_sigmoid(v_all(r))[0];
      if (p->da.base) ssd_rows(p->da, source)[head] = -beta * speed * slope;
    } else {
      *dr = slope / SSD_NORMALISER * v_sigmoid(v_all(-r))[0];
    }
    if (p->dskip.base) ssd_rows(p->dskip, source)[head] = ssd_dot(width, d_o, v);
  }
  return sum;
}

static void ssd_head_gradient(const vk_ssd *p, ssd_backward *b, size_t head) {
  const size_t state = p->state, width = p->width, chunk = p->chunk;
  const size_t k_row = b->size.state, v_row = b->size.width, row = b->size.chunk, cell = state * v_row;
  const real scale = (real)p->scale;
  real *const strength = p->delta ? b->strength : NULL;
  ssd_rates(p, head, b->rate, b->decay, b->strength);
  // The states before each chunk but the first.
  size_t t0 = 0, index = 0;
  for (; t0 + chunk < p->steps; t0 += chunk, index++) {
    ssd_gather(p, p->k, 0, state, t0, chunk, NULL, b->k, k_row);
    ssd_gather(p, p->v, head * width, width, t0, chunk, strength, b->v, v_row);
    ssd_decays(chunk, b->decay + t0, NULL, 0, 0, NULL, b->first, b->last);
    ssd_scale_rows(chunk, state, b->last, 1, b->k, k_row);
    real *before = b->states + index * cell, *after = before + cell;
    if (index) memcpy(after, before, cell * sizeof(real));
    ssd_multiply(state, width, chunk, 1, b->k, 1, k_row, b->v, v_row, NULL, 0, index ? b->first[chunk - 1] : 0, after,
                 v_row, b->scratch);
  }
  double sum = 0;
  for (int later = 0;; later = 1, t0 -= chunk, index--) {
    const size_t count = p->steps - t0 < chunk ? p->steps - t0 : chunk;
    const real *before = b->states + index * cell;
    ssd_gather(p, p->q, 0, state, t0, count, NULL, b->q, k_row);
    ssd_gather(p, p->k, 0, state, t0, count, NULL, b->k, k_row);
    ssd_gather(p, p->v, head * width, width, t0, count, strength, b->v, v_row);
    ssd_gather(p, p->d_o, head * width, width, t0, count, NULL, b->d_o, v_row);
    ssd_scores(count, state, b->q, b->k, k_row, b->packed, b->scores, row, b->scratch);
    ssd_scores(count, width, b->d_o, b->v, v_row, b->packed, b->slopes, row, b->scratch);
    ssd_decays(count, b->decay + t0, b->scores, row, row, b->slopes, b->first, b->last);
    // Through the states, where there is one before or after the chunk.
    if (t0) {
      vk_gemm_pack(SSD_TYPE, width, state, before, 1, (ptrdiff_t)v_row, 0, state, b->packed);
      ssd_multiply(count, state, width, 1, b->d_o, v_row, 1, NULL, 0, b->packed, state, 0, b->dq, k_row, b->scratch);
      ssd_scale_rows(count, state, b->first, scale, b->dq, k_row);
    }
    if (later) {
      ssd_multiply(count, width, state, 1, b->k, k_row, 1, b->d_state, v_row, NULL, 0, 0, b->dv, v_row, b->scratch);
      ssd_scale_rows(count, width, b->last, 1, b->dv, v_row);
      vk_gemm_pack(SSD_TYPE, width, state, b->d_state, 1, (ptrdiff_t)v_row, 0, state, b->packed);
      ssd_multiply(count, state, width, 1, b->v, v_row, 1, NULL, 0, b->packed, state, 0, b->dk, k_row, b->scratch);
      ssd_scale_rows(count, state, b->last, 1, b->dk, k_row);
    }
    // Within the chunk: rows of the lower triangle, and its columns.
    for (size_t top = 0; top < count; top += SSD_BLOCK) {
      const size_t rows = count - top < SSD_BLOCK ? count - top : SSD_BLOCK;
      ssd_multiply(rows, state, top + rows, scale, b->slopes + top * row, row, 1, b->k, k_row, NULL, 0, t0 ? 1 : 0,
                   b->dq + top * k_row, k_row, b->scratch);
      ssd_multiply(rows, state, count - top, scale, b->slopes + top * row + top, 1, row, b->q + top * k_row, k_row, NULL,
                   0, later ? 1 : 0, b->dk + top * k_row, k_row, b->scratch);
      ssd_multiply(rows, width, count - top, scale, b->scores + top * row + top, 1, row, b->d_o + top * v_row, v_row,
                   NULL, 0, later ? 1 : 0, b->dv + top * v_row, v_row, b->scratch);
    }
    sum = ssd_store_gradient(p, b, head, head > 0, t0, count, sum);
    if (!t0) return;
    ssd_scale_rows(count, state, b->first, 1, b->q, k_row);
    ssd_multiply(state, width, count, scale, b->q, 1, k_row, b->d_o, v_row, NULL, 0, later ? b->first[count - 1] : 0,
                 b->d_state, v_row, b->scratch);
  }
}

static void FN(ssd_gradient)(const vk_ssd *p, void *scratch) {
  if (!p->steps) return;
  ssd_backward b = {.size = ssd_measure(p), .scratch = scratch};
  const size_t keys = b.size.chunk * b.size.state, values = b.size.chunk * b.size.width;
  const size_t square = b.size.chunk * b.size.chunk, cell = p->state * b.size.width;
  real *memory = (real *)((char *)scratch + VK_GEMM_SCRATCH);
  b.rate = ssd_take(&memory, b.size.steps), b.decay = ssd_take(&memory, b.size.steps);
  b.strength = ssd_take(&memory, b.size.steps), b.packed = ssd_take(&memory, b.size.packed);
  b.q = ssd_take(&memory, keys), b.k = ssd_take(&memory, keys);
  b.dq = ssd_take(&memory, keys), b.dk = ssd_take(&memory, keys);
  b.v = ssd_take(&memory, values), b.d_o = ssd_take(&memory, values), b.dv = ssd_take(&memory, values);
  b.scores = ssd_take(&memory, square), b.slopes = ssd_take(&memory, square);
  b.d_state = ssd_take(&memory, cell);
  b.first = ssd_take(&memory, b.size.chunk), b.last = ssd_take(&memory, b.size.chunk);
  b.states = memory;
  for (size_t head = 0; head < p->heads; head++) ssd_head_gradient(p, &b, head);
}
