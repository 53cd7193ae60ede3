// Scans at one level.

#define scan_gates FN(scan_gates)
#define lstm_step_product FN(lstm_step_product)
#define lstm_rows FN(lstm_rows)
#define lstm_gradient_rows FN(lstm_gradient_rows)

// σ(x) in *yes and σ(−x) in *no, each to full relative precision.
VK_INLINE void scan_gates(vec x, vec *yes, vec *no) {
  const vec z = v_exp(-v_abs(x)), large = v_all(1) / (v_all(1) + z), small = z * large;
  *yes = v_pick(x < v_all(0), small, large);
  *no = v_pick(x < v_all(0), large, small);
}

static void FN(glr)(size_t steps, size_t channels, const ptrdiff_t *order, ptrdiff_t row, const void *v_,
                    const void *r_, const void *q_, void *h_, void *s_) {
  const real *v = v_, *r = r_, *q = q_;
  real *h = h_, *s = s_;
  for (size_t j = 0; j < channels; j += LANES) {
    const size_t lanes = channels - j < LANES ? channels - j : LANES;
    vec state = v_all(0);
    for (size_t t = 0; t < steps; t++) {
      const ptrdiff_t at = order[t] * row + (ptrdiff_t)j;
      const vec value = v_loadn(v + at, lanes), gate = v_loadn(q + at, lanes);
      vec keep, take;
      scan_gates(v_loadn(r + at, lanes), &keep, &take);
      state = t ? v_madd(keep, state, take * value) : value;
      if (h) v_storen(h + at, state, lanes);
      v_storen(s + at, state * gate * v_sigmoid(gate), lanes);
    }
  }
}

static void FN(glr_gradient)(size_t steps, size_t channels, const ptrdiff_t *order, ptrdiff_t row, const void *v_,
                             const void *r_, const void *q_, const void *h_, const void *ds_, void *dv_, void *dr_,
                             void *dq_) {
  const real *v = v_, *r = r_, *q = q_, *h = h_, *ds = ds_;
  real *dv = dv_, *dr = dr_, *dq = dq_;
  for (size_t j = 0; j < channels; j += LANES) {
    const size_t lanes = channels - j < LANES ? channels - j : LANES;
    vec later = v_all(0);  // what the steps after this one ask of its state
    vec state = steps ? v_loadn(h + order[steps - 1] * row + (ptrdiff_t)j, lanes) : v_all(0);
    for (size_t t = steps; t-- > 0;) {
      const ptrdiff_t at = order[t] * row + (ptrdiff_t)j;
      const vec value = v_loadn(v + at, lanes), gate = v_loadn(q + at, lanes), out = v_loadn(ds + at, lanes);
      vec on, off, keep, take;
      scan_gates(gate, &on, &off);
      v_storen(dq + at, out * state * on * v_madd(gate, off, v_all(1)), lanes);
      later = v_madd(out, gate * on, later);
      if (t == 0) {
        v_storen(dv + at, later, lanes);
        v_storen(dr + at, v_all(0), lanes);
        break;
      }
      scan_gates(v_loadn(r + at, lanes), &keep, &take);
      const vec before = v_loadn(h + order[t - 1] * row + (ptrdiff_t)j, lanes);
      v_storen(dv + at, take * later, lanes);
      v_storen(dr + at, later * (before - value) * keep * take, lanes);
      later = keep * later;
      state = before;
    }
  }
}

// Items that one scan takes: as many as keep four sums each in registers.
#if ISA == 2
#define LSTM_ITEMS 6
#else
#define LSTM_ITEMS 1
#endif
#define LSTM_BLOCKS(width) (((width) + LANES - 1) / LANES)

static size_t FN(lstm_items)(size_t width) { return width ? LSTM_ITEMS : 1; }
static size_t FN(lstm_packed_count)(size_t width) { return LSTM_BLOCKS(width) * LANES * 4 * width; }
// Forward two states and the cells; backward the carries of states and cells, and the gradients of the gates.
static size_t FN(lstm_scratch)(size_t width) { return LSTM_ITEMS * LSTM_BLOCKS(width) * LANES * 6 * sizeof(real); }

// Zeros where the width ends. Block after block of LANES channels, for each k the four gates' weights; transposed, two
// blocks at a time as long as there are two, for each gate and channel k.
static void FN(lstm_pack)(int transposed, size_t width, const void *r_, void *packed_) {
  const real *r = r_;
  real *to = packed_;
  if (transposed) {
    const size_t blocks = LSTM_BLOCKS(width);
    for (size_t block = 0; block < blocks; block += 2) {
      const size_t columns = LANES * (blocks - block < 2 ? 1 : 2);
      for (size_t k = 0; k < 4 * width; k++)
        for (size_t j = block * LANES; j < block * LANES + columns; j++) *to++ = j < width ? r[k * width + j] : 0;
    }
    return;
  }
  for (size_t j = 0; j < width; j += LANES)
    for (size_t k = 0; k < width; k++)
      for (size_t gate = 0; gate < 4; gate++)
        for (size_t lane = j; lane < j + LANES; lane++) *to++ = lane < width ? r[(gate * width + lane) * width + k] : 0;
}

// sum[i][g] += Σ_k left[i·left_row + k]·right[(k·sums + g)·LANES…], in two interleaved sums where there is one item, so
// that additions need not wait for each other.
#define LSTM_PRODUCT(items, sums, sum, left, left_row, right, count)                                                \
  do {                                                                                                              \
    const int two = ISA == 2 && (items) == 1;                                                                       \
    vec other[sums];                                                                                                \
    for (int g = 0; g < (sums); g++) other[g] = v_all(0);                                                           \
    size_t k = 0;                                                                                                   \
    const real *from = (right);                                                                                     \
    if (two) {                                                                                                      \
      for (; k + 2 <= (count); k += 2, from += 2 * (sums) * LANES)                                                  \
        for (int g = 0; g < (sums); g++) {                                                                          \
          sum[0][g] = v_madd(v_all((left)[k]), v_load(from + g * LANES), sum[0][g]);                                \
          other[g] = v_madd(v_all((left)[k + 1]), v_load(from + ((sums) + g) * LANES), other[g]);             \
        }                                                                                                           \
    }                                                                                                               \
    for (; k < (count); k++, from += (sums) * LANES) {                                                              \
      vec weight[sums];                                                                                             \
      for (int g = 0; g < (sums); g++) weight[g] = v_load(from + g * LANES);                                        \
      for (int i = 0; i < (items); i++) {                                                                           \
        const vec value = v_all((left)[(size_t)i * (left_row) + k]);                                                \
        for (int g = 0; g < (sums); g++) sum[i][g] = v_madd(value, weight[g], sum[i][g]);                           \
      }                                                                                                             \
    }                                                                                                               \
    if (two)                                                                                                        \
      for (int g = 0; g < (sums); g++) sum[0][g] += other[g];                                                    \
  } while (0)

VK_INLINE void lstm_rows(const int items, const vk_lstm_scan *scan, const real *packed, real *gates, real *c, real *h,
                         real *scratch) {
  const size_t width = scan->width, blocks = LSTM_BLOCKS(width), padded = blocks * LANES;
  const ptrdiff_t total = (ptrdiff_t)scan->total, gate = (ptrdiff_t)scan->gate, item = (ptrdiff_t)scan->steps * total;
  real *last = scratch, *next = last + (size_t)items * padded, *cells = next + (size_t)items * padded;
  memset(scratch, 0, 3 * (size_t)items * padded * sizeof(real));
  for (size_t t = 0; t < scan->steps; t++) {
    const ptrdiff_t row = scan->order[t];
    for (size_t block = 0; block < blocks; block++) {
      const size_t j = block * LANES, lanes = width - j < LANES ? width - j : LANES;
      vec sum[LSTM_ITEMS][4];
#pragma clang loop unroll(full)
      for (int i = 0; i < items; i++)
#pragma clang loop unroll(full)
        for (int g = 0; g < 4; g++) sum[i][g] = v_loadn(gates + 4 * (i * item + row * total) + g * gate + j, lanes);
      if (t) LSTM_PRODUCT(items, 4, sum, last, padded, packed + block * width * 4 * LANES, width);
#pragma clang loop unroll(full)
      for (int i = 0; i < items; i++) {
        const vec in = v_sigmoid(sum[i][0]), forget = v_sigmoid(sum[i][1]), cell = v_tanh(sum[i][2]),
                  out = v_sigmoid(sum[i][3]);
        const vec state = v_madd(forget, v_load(cells + (size_t)i * padded + j), in * cell);
        const vec result = out * v_tanh(state);
        v_store(cells + (size_t)i * padded + j, state);
        v_store(next + (size_t)i * padded + j, result);
        v_storen(h + i * item + row * total + j, result, lanes);
        if (c) {
          real *to = gates + 4 * (i * item + row * total) + j;
          v_storen(to, in, lanes);
          v_storen(to + gate, forget, lanes);
          v_storen(to + 2 * gate, cell, lanes);
          v_storen(to + 3 * gate, out, lanes);
          v_storen(c + i * item + row * total + j, state, lanes);
        }
      }
    }
    real *swap = last;
    last = next;
    next = swap;
  }
}

VK_INLINE void lstm_gradient_rows(const int items, const vk_lstm_scan *scan, const real *packed, const real *gates,
                                  const real *c, const real *h, const real *dh, real *dgates, real *before,
                                  real *scratch) {
  const size_t width = scan->width, blocks = LSTM_BLOCKS(width), padded = blocks * LANES;
  const ptrdiff_t total = (ptrdiff_t)scan->total, gate = (ptrdiff_t)scan->gate, item = (ptrdiff_t)scan->steps * total;
  // What later steps ask of the states and of the cells, and the gradients of this step's pre-activations.
  real *dstates = scratch, *dcells = dstates + (size_t)items * padded, *here = dcells + (size_t)items * padded;
  memset(scratch, 0, 2 * (size_t)items * padded * sizeof(real));
  for (size_t t = scan->steps; t-- > 0;) {
    const ptrdiff_t row = scan->order[t], previous = t ? scan->order[t - 1] : 0;
    for (int i = 0; i < items; i++) {
      const ptrdiff_t at = i * item + row * total, then = i * item + previous * total;
      for (size_t j = 0; j < width; j += LANES) {
        const size_t lanes = width - j < LANES ? width - j : LANES;
        const real *from = gates + 4 * at + j;
        const vec in = v_loadn(from, lanes), forget = v_loadn(from + gate, lanes),
                  cell = v_loadn(from + 2 * gate, lanes), out = v_loadn(from + 3 * gate, lanes), one = v_all(1);
        const vec squashed = v_tanh(v_loadn(c + at + j, lanes));
        const vec earlier = t ? v_loadn(c + then + j, lanes) : v_all(0);
        v_storen(before + at + j, t ? v_loadn(h + then + j, lanes) : v_all(0), lanes);
        const vec dstate = v_loadn(dh + at + j, lanes) + v_load(dstates + (size_t)i * padded + j);
        const vec dcell =
            v_load(dcells + (size_t)i * padded + j) + dstate * out * (one - squashed * squashed);
        const vec slopes[4] = {dcell * cell * in * (one - in), dcell * earlier * forget * (one - forget),
                               dcell * in * (one - cell * cell), dstate * squashed * out * (one - out)};
        for (int g = 0; g < 4; g++) {
          v_storen(dgates + 4 * at + g * gate + j, slopes[g], lanes);
          v_storen(here + (size_t)i * 4 * padded + (size_t)g * width + j, slopes[g], lanes);
        }
        v_store(dcells + (size_t)i * padded + j, dcell * forget);
      }
    }
    if (!t) break;
    size_t block = 0;
    for (; block + 2 <= blocks; block += 2) {
      vec sum[LSTM_ITEMS][2];
#pragma clang loop unroll(full)
      for (int i = 0; i < items; i++) sum[i][0] = sum[i][1] = v_all(0);
      LSTM_PRODUCT(items, 2, sum, here, 4 * padded, packed + block * 4 * width * LANES, 4 * width);
#pragma clang loop unroll(full)
      for (int i = 0; i < items; i++) {
        v_store(dstates + (size_t)i * padded + block * LANES, sum[i][0]);
        v_store(dstates + (size_t)i * padded + (block + 1) * LANES, sum[i][1]);
      }
    }
    if (block < blocks) {
      vec sum[LSTM_ITEMS][1];
#pragma clang loop unroll(full)
      for (int i = 0; i < items; i++) sum[i][0] = v_all(0);
      LSTM_PRODUCT(items, 1, sum, here, 4 * padded, packed + block * 4 * width * LANES, 4 * width);
#pragma clang loop unroll(full)
      for (int i = 0; i < items; i++) v_store(dstates + (size_t)i * padded + block * LANES, sum[i][0]);
    }
  }
}

// One function for each number of items, so that sums stay in registers.
#define LSTM_CASE(n)                                                                                       \
  case n:                                                                                                  \
    lstm_rows(n, scan, packed, gates, c, h, scratch);                                                      \
    break;
#define LSTM_GRADIENT_CASE(n)                                                                              \
  case n:                                                                                                  \
    lstm_gradient_rows(n, scan, packed, gates, c, h, dh, dgates, before, scratch);                         \
    break;

static void FN(lstm)(const vk_lstm_scan *scan, const void *packed, void *gates, void *c, void *h, void *scratch) {
  switch (scan->items) {
    LSTM_CASE(1)
#if LSTM_ITEMS > 1
    LSTM_CASE(2) LSTM_CASE(3) LSTM_CASE(4) LSTM_CASE(5) LSTM_CASE(6)
#endif
  }
}

static void FN(lstm_gradient)(const vk_lstm_scan *scan, const void *packed, const void *gates, const void *c,
                              const void *h, const void *dh, void *dgates, void *before, void *scratch) {
  switch (scan->items) {
    LSTM_GRADIENT_CASE(1)
#if LSTM_ITEMS > 1
    LSTM_GRADIENT_CASE(2) LSTM_GRADIENT_CASE(3) LSTM_GRADIENT_CASE(4) LSTM_GRADIENT_CASE(5) LSTM_GRADIENT_CASE(6)
#endif
  }
}
#undef LSTM_ITEMS
#undef LSTM_BLOCKS
#undef LSTM_PRODUCT
#undef LSTM_CASE
#undef LSTM_GRADIENT_CASE
