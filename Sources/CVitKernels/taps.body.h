// Depthwise taps at one level.

#define taps_column_sums FN(taps_column_sums)
#define taps_shared FN(taps_shared)
#define taps_run FN(taps_run)
#define taps_gradient_run FN(taps_gradient_run)

#define TAPS_LOOP(j, channels) \
  for (size_t j = 0, lanes; j < (channels) && (lanes = (channels) - j < LANES ? (channels) - j : LANES); j += LANES)

// Patches side by side whose taps are walked along together, and vectors of channels of each: as many sums as stay in
// registers.
#define TAPS_RUN 4
#if ISA == 2
#define TAPS_BLOCK 2
#else
#define TAPS_BLOCK 1
#endif

// sums ← Σ of the rows of x that are patches.
VK_INLINE void taps_column_sums(const vk_taps_grid *grid, size_t channels, const real *x, real *sums) {
  const size_t patches = grid->rows * grid->columns;
  memset(sums, 0, channels * sizeof(real));
  for (size_t n = 0; n < patches; n++) {
    const real *from = x + (grid->prefix + n) * grid->width;
    TAPS_LOOP(j, channels) v_storen(sums + j, v_loadn(sums + j, lanes) + v_loadn(from + j, lanes), lanes);
  }
}

// What all patches have in common: mean·(mean of the patches) + Σ before[s]·v[s].
VK_INLINE void taps_shared(const vk_taps_grid *grid, size_t channels, const real *v, const real *mean,
                           const real *before, real *shared) {
  if (mean) {
    const vec share = v_all(1 / (real)(grid->rows * grid->columns));
    taps_column_sums(grid, channels, v, shared);
    TAPS_LOOP(j, channels)
      v_storen(shared + j, v_loadn(shared + j, lanes) * share * v_loadn(mean + j, lanes), lanes);
  } else {
    memset(shared, 0, channels * sizeof(real));
  }
  for (size_t s = 0; s < grid->prefix; s++) {
    const real *tap = before + s * grid->width, *from = v + s * grid->width;
    TAPS_LOOP(j, channels)
      v_storen(shared + j, v_madd(v_loadn(tap + j, lanes), v_loadn(from + j, lanes), v_loadn(shared + j, lanes)), lanes);
  }
}

// The results of `run` patches from `to` on, which read the same taps, each one row further than the one before.
VK_INLINE void taps_run(const int run, const vk_tap *list, size_t count, size_t width, size_t channels, const real *v,
                        const real *taps, const real *shared, real *to) {
  size_t j = 0;
  for (; j + TAPS_BLOCK * LANES <= channels; j += TAPS_BLOCK * LANES) {
    vec sum[TAPS_RUN][TAPS_BLOCK];
#pragma clang loop unroll(full)
    for (int p = 0; p < run; p++)
#pragma clang loop unroll(full)
      for (int b = 0; b < TAPS_BLOCK; b++) sum[p][b] = v_load(shared + j + (size_t)b * LANES);
    for (size_t t = 0; t < count; t++) {
      const real *tap = taps + list[t].tap * (ptrdiff_t)width + j, *from = v + list[t].row * (ptrdiff_t)width + j;
#pragma clang loop unroll(full)
      for (int b = 0; b < TAPS_BLOCK; b++) {
        const vec weight = v_load(tap + b * LANES);
#pragma clang loop unroll(full)
        for (int p = 0; p < run; p++)
          sum[p][b] = v_madd(weight, v_load(from + (size_t)p * width + b * LANES), sum[p][b]);
      }
    }
#pragma clang loop unroll(full)
    for (int p = 0; p < run; p++)
#pragma clang loop unroll(full)
      for (int b = 0; b < TAPS_BLOCK; b++) v_store(to + (size_t)p * width + j + (size_t)b * LANES, sum[p][b]);
  }
  for (; j < channels; j += LANES) {
    const size_t lanes = channels - j < LANES ? channels - j : LANES;
    for (size_t p = 0; p < (size_t)run; p++) {
      vec sum = v_loadn(shared + j, lanes);
      for (size_t t = 0; t < count; t++)
        sum = v_madd(v_loadn(taps + list[t].tap * (ptrdiff_t)width + j, lanes),
                     v_loadn(v + (list[t].row + (ptrdiff_t)p) * (ptrdiff_t)width + j, lanes), sum);
      v_storen(to + p * width + j, sum, lanes);
    }
  }
}

static void FN(taps)(const vk_taps_grid *grid, size_t channels, const void *v_, const void *taps_, const void *mean_,
                     const void *before_, void *c_) {
  const real *v = v_, *taps = taps_;
  real *c = c_;
  const size_t width = grid->width;
  real shared[VK_TAPS_CHANNELS];
  vk_tap list[VK_TAPS_TERMS];
  for (size_t s = 0; s < grid->prefix; s++) memset(c + s * width, 0, channels * sizeof(real));
  taps_shared(grid, channels, v, mean_, before_, shared);
  real *to = c + grid->prefix * width;
  for (size_t r = 0; r < grid->rows; r++)
    for (size_t q = 0, run; q < grid->columns; q += run, to += run * width) {
      const size_t count = vk_taps_at(grid, r, q, list);
      run = vk_taps_alike(grid, q, TAPS_RUN) ? TAPS_RUN : 1;
      if (run == TAPS_RUN)
        taps_run(TAPS_RUN, list, count, width, channels, v, taps, shared, to);
      else
        taps_run(1, list, count, width, channels, v, taps, shared, to);
    }
}

// What `run` such patches, with gradients from `slopes` on, add to those of their taps and of what these read.
VK_INLINE void taps_gradient_run(const int run, const vk_tap *list, size_t count, size_t width, size_t channels,
                                 const real *v, const real *taps, const real *slopes, real *dv, real *sums) {
  TAPS_LOOP(j, channels) {
    vec slope[TAPS_RUN];
#pragma clang loop unroll(full)
    for (int p = 0; p < run; p++) slope[p] = v_loadn(slopes + (size_t)p * width + j, lanes);
    for (size_t t = 0; t < count; t++) {
      const ptrdiff_t tap = list[t].tap * (ptrdiff_t)width + (ptrdiff_t)j;
      ptrdiff_t row = list[t].row * (ptrdiff_t)width + (ptrdiff_t)j;
      const vec weight = v_loadn(taps + tap, lanes);
      vec sum = v_loadn(sums + tap, lanes);
#pragma clang loop unroll(full)
      for (int p = 0; p < run; p++, row += (ptrdiff_t)width) {
        sum = v_madd(v_loadn(v + row, lanes), slope[p], sum);
        v_storen(dv + row, v_madd(weight, slope[p], v_loadn(dv + row, lanes)), lanes);
      }
      v_storen(sums + tap, sum, lanes);
    }
  }
}

static void FN(taps_gradient)(const vk_taps_grid *grid, size_t channels, const void *v_, const void *taps_,
                              const void *mean_, const void *before_, const void *dc_, void *dv_, void *sums_) {
  const real *v = v_, *taps = taps_, *mean = mean_, *before = before_, *dc = dc_;
  real *dv = dv_, *sums = sums_;
  const size_t width = grid->width, patches = grid->rows * grid->columns;
  const vec share = v_all(1 / (real)patches);
  real total[VK_TAPS_CHANNELS], other[VK_TAPS_CHANNELS];
  vk_tap list[VK_TAPS_TERMS];

  // What the patches have in common asks the same of each: total = Σ dc.
  taps_column_sums(grid, channels, dc, total);
  real *sum = sums + grid->kernel_rows * grid->kernel_columns * width;
  for (size_t t = 0; t < grid->kernel_rows * grid->kernel_columns; t++)
    memset(sums + t * width, 0, channels * sizeof(real));
  if (mean) {
    taps_column_sums(grid, channels, v, other);
    TAPS_LOOP(j, channels) {
      const vec all = v_loadn(total + j, lanes);
      v_storen(sum + j, all * share * v_loadn(other + j, lanes), lanes);
      v_storen(other + j, all * share * v_loadn(mean + j, lanes), lanes);
    }
    sum += width;
  } else {
    memset(other, 0, channels * sizeof(real));
  }
  for (size_t s = 0; s < grid->prefix; s++, sum += width)
    TAPS_LOOP(j, channels) {
      const vec all = v_loadn(total + j, lanes);
      v_storen(sum + j, all * v_loadn(v + s * width + j, lanes), lanes);
      v_storen(dv + s * width + j, all * v_loadn(before + s * width + j, lanes), lanes);
    }
  for (size_t n = 0; n < patches; n++) memcpy(dv + (grid->prefix + n) * width, other, channels * sizeof(real));

  const real *from = dc + grid->prefix * width;
  for (size_t r = 0; r < grid->rows; r++)
    for (size_t q = 0, run; q < grid->columns; q += run, from += run * width) {
      const size_t count = vk_taps_at(grid, r, q, list);
      run = vk_taps_alike(grid, q, TAPS_RUN) ? TAPS_RUN : 1;
      if (run == TAPS_RUN)
        taps_gradient_run(TAPS_RUN, list, count, width, channels, v, taps, from, dv, sums);
      else
        taps_gradient_run(1, list, count, width, channels, v, taps, from, dv, sums);
    }
}

static void FN(taps_moments)(const vk_taps_grid *grid, size_t channels, int mean, const void *v_, const void *c_,
                             void *sums_) {
  const real *v = v_, *c = c_;
  real *sums = sums_;
  const size_t width = grid->width, patches = grid->rows * grid->columns;
  const size_t taps = grid->kernel_rows * grid->kernel_columns, terms = taps + (mean ? 1 : 0) + grid->prefix;
  real average[VK_TAPS_CHANNELS], nothing[VK_TAPS_CHANNELS];
  // Some patches at a time, so that a sum is loaded once for all of them.
  const real *from[TAPS_RUN][VK_TAPS_TERMS], *wanted[TAPS_RUN];
  vec term[TAPS_RUN][VK_TAPS_TERMS];
  vk_tap list[VK_TAPS_TERMS];
  memset(nothing, 0, channels * sizeof(real));
  memset(sums, 0, (terms * (terms + 1) / 2 + terms) * channels * sizeof(real));
  if (mean) {
    taps_column_sums(grid, channels, v, average);
    TAPS_LOOP(j, channels) v_storen(average + j, v_loadn(average + j, lanes) * v_all(1 / (real)patches), lanes);
  }
  for (size_t first = 0; first < patches; first += TAPS_RUN) {
    for (size_t p = 0; p < TAPS_RUN; p++) {
      const size_t n = first + p;
      for (size_t t = 0; t < terms; t++) from[p][t] = nothing;
      wanted[p] = nothing;
      if (n >= patches) continue;
      const size_t count = vk_taps_at(grid, n / grid->columns, n % grid->columns, list);
      for (size_t t = 0; t < count; t++) from[p][list[t].tap] = v + list[t].row * (ptrdiff_t)width;
      if (mean) from[p][taps] = average;
      for (size_t s = 0; s < grid->prefix; s++) from[p][terms - grid->prefix + s] = v + s * width;
      wanted[p] = c + (grid->prefix + n) * width;
    }
    TAPS_LOOP(j, channels) {
      real *sum = sums + j;
      for (size_t a = 0; a < terms; a++) {
        vec own[TAPS_RUN];
        for (int p = 0; p < TAPS_RUN; p++) own[p] = term[p][a] = v_loadn(from[p][a] + j, lanes);
        for (size_t b = 0; b <= a; b++, sum += channels) {
          vec total = v_loadn(sum, lanes);
          for (int p = 0; p < TAPS_RUN; p++) total = v_madd(own[p], term[p][b], total);
          v_storen(sum, total, lanes);
        }
      }
      vec target[TAPS_RUN];
      for (int p = 0; p < TAPS_RUN; p++) target[p] = v_loadn(wanted[p] + j, lanes);
      for (size_t a = 0; a < terms; a++, sum += channels) {
        vec total = v_loadn(sum, lanes);
        for (int p = 0; p < TAPS_RUN; p++) total = v_madd(term[p][a], target[p], total);
        v_storen(sum, total, lanes);
      }
    }
  }
}
#undef TAPS_LOOP
#undef TAPS_RUN
#undef TAPS_BLOCK
