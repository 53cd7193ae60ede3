// What stands around a scan at one level: the causal convolution before it, gate and norm behind it.
#ifndef VK_GATE_NAMES
#define VK_GATE_NAMES
#define rows_at FN(rows_at)
#define causal_sum FN(causal_sum)
#define causal_taps FN(causal_taps)
#define silu_slope FN(silu_slope)
#define block_scale FN(block_scale)
#endif

VK_INLINE real *rows_at(vk_rows rows, ptrdiff_t row) { return (real *)rows.base + row * rows.row; }

// d(x·σ(x))/dx.
VK_INLINE vec silu_slope(vec x) {
  const vec on = v_sigmoid(x);
  return on * v_madd(x, v_all(1) - on, v_all(1));
}

// The taps of up to VK_CAUSAL_CHANNELS channels, tap by tap.
static void causal_taps(const vk_causal *p, real *taps) {
  for (size_t k = 0; k < p->taps; k++)
    for (size_t j = 0; j < VK_CAUSAL_CHANNELS; j++)
      taps[k * VK_CAUSAL_CHANNELS + j] = j < p->channels ? ((const real *)p->w)[j * p->taps + k] : 0;
}

// The sum before f of `lanes` channels from `j` at step t.
VK_INLINE vec causal_sum(const vk_causal *p, const real *taps, size_t t, size_t j, size_t lanes) {
  if (!p->taps) return v_loadn(rows_at(p->u, p->order[t]) + j, lanes);
  vec sum = v_loadn((const real *)p->bias + j, lanes);
  for (size_t k = t + 1 < p->taps ? p->taps - 1 - t : 0; k < p->taps; k++)
    sum = v_madd(v_load(taps + k * VK_CAUSAL_CHANNELS + j),
                 v_loadn(rows_at(p->u, p->order[t + k + 1 - p->taps]) + j, lanes), sum);
  return sum;
}

static void FN(causal_forward)(const vk_causal *p, vk_rows y) {
  real taps[VK_CAUSAL_TAPS * VK_CAUSAL_CHANNELS];
  causal_taps(p, taps);
  for (size_t t = 0; t < p->steps; t++)
    for (size_t j = 0; j < p->channels; j += LANES) {
      const size_t lanes = p->channels - j < LANES ? p->channels - j : LANES;
      vec x = causal_sum(p, taps, t, j, lanes);
      if (p->silu) x *= v_sigmoid(x);
      v_storen(rows_at(y, p->order[t]) + j, x, lanes);
    }
}

static void FN(causal_gradient)(const vk_causal *p, vk_rows dy, vk_rows du, void *dw, void *dbias) {
  real taps[VK_CAUSAL_TAPS * VK_CAUSAL_CHANNELS], sums[(VK_CAUSAL_TAPS + 1) * VK_CAUSAL_CHANNELS];
  causal_taps(p, taps);
  if (p->silu)
    for (size_t t = 0; t < p->steps; t++)
      for (size_t j = 0; j < p->channels; j += LANES) {
        const size_t lanes = p->channels - j < LANES ? p->channels - j : LANES;
        real *slope = rows_at(dy, p->order[t]) + j;
        v_storen(slope, v_loadn(slope, lanes) * silu_slope(causal_sum(p, taps, t, j, lanes)), lanes);
      }
  memset(sums, 0, sizeof sums);
  for (size_t t = 0; t < p->steps; t++)
    for (size_t j = 0; j < p->channels; j += LANES) {
      const size_t lanes = p->channels - j < LANES ? p->channels - j : LANES;
      const vec own = v_loadn(rows_at(dy, p->order[t]) + j, lanes);
      if (!p->taps) {
        v_storen(rows_at(du, p->order[t]) + j, own, lanes);
        continue;
      }
      // The input of step t is read by the steps up to t + taps − 1.
      vec back = v_all(0);
      for (size_t k = p->taps; k-- > 0 && t + p->taps - 1 - k < p->steps;)
        back = v_madd(v_load(taps + k * VK_CAUSAL_CHANNELS + j),
                      v_loadn(rows_at(dy, p->order[t + p->taps - 1 - k]) + j, lanes), back);
      v_storen(rows_at(du, p->order[t]) + j, back, lanes);
      for (size_t k = t + 1 < p->taps ? p->taps - 1 - t : 0; k < p->taps; k++) {
        real *sum = sums + k * VK_CAUSAL_CHANNELS + j;
        v_store(sum, v_madd(own, v_loadn(rows_at(p->u, p->order[t + k + 1 - p->taps]) + j, lanes), v_load(sum)));
      }
      real *sum = sums + p->taps * VK_CAUSAL_CHANNELS + j;
      v_store(sum, v_load(sum) + own);
    }
  for (size_t j = 0; j < p->channels; j++) {
    for (size_t k = 0; dw && k < p->taps; k++) ((real *)dw)[j * p->taps + k] += sums[k * VK_CAUSAL_CHANNELS + j];
    if (dbias) ((real *)dbias)[j] += sums[p->taps * VK_CAUSAL_CHANNELS + j];
  }
}

// One over the root of the mean square of a block, of o·silu(z) where `z` is not NULL.
VK_INLINE real block_scale(const vk_gate *p, const real *o, const real *z) {
  vec sum = v_all(0);
  for (size_t j = 0; j < p->width; j += LANES) {
    const size_t lanes = p->width - j < LANES ? p->width - j : LANES;
    vec x = v_loadn(o + j, lanes);
    if (z) {
      const vec gate = v_loadn(z + j, lanes);
      x *= gate * v_sigmoid(gate);
    }
    sum = v_madd(x, x, sum);
  }
  const real square = v_sum(sum) / (real)p->width + (real)p->epsilon;
  return 1 / v_sqrt(v_all(square))[0];
}

static void FN(gate_forward)(const vk_gate *p, vk_rows s) {
  for (size_t i = 0; i < p->rows; i++)
    for (size_t block = 0; block < p->blocks; block++) {
      const size_t start = block * p->width;
      const real *o = rows_at(p->o, (ptrdiff_t)i) + start, *gain = p->gain ? (const real *)p->gain + start : NULL;
      const real *z = p->z.base ? rows_at(p->z, (ptrdiff_t)i) + start : NULL;
      real *to = rows_at(s, (ptrdiff_t)i) + start;
      const vec scale = v_all(gain ? block_scale(p, o, p->joint ? z : NULL) : 1);
      for (size_t j = 0; j < p->width; j += LANES) {
        const size_t lanes = p->width - j < LANES ? p->width - j : LANES;
        vec x = v_loadn(o + j, lanes);
        if (gain) x *= scale * v_loadn(gain + j, lanes);
        if (z) {
          const vec gate = v_loadn(z + j, lanes);
          x *= gate * v_sigmoid(gate);
        }
        v_storen(to + j, x, lanes);
      }
    }
}

static void FN(gate_gradient)(const vk_gate *p, vk_rows ds, vk_rows d_o, vk_rows dz) {
  for (size_t i = 0; i < p->rows; i++)
    for (size_t block = 0; block < p->blocks; block++) {
      const size_t start = block * p->width;
      const ptrdiff_t row = (ptrdiff_t)i;
      const real *o = rows_at(p->o, row) + start, *gain = p->gain ? (const real *)p->gain + start : NULL;
      const real *z = p->z.base ? rows_at(p->z, row) + start : NULL;
      real *slope = rows_at(ds, row) + start, *to = rows_at(d_o, row) + start;
      real *gate_slope = z ? rows_at(dz, row) + start : NULL;
      const vec scale = v_all(gain ? block_scale(p, o, p->joint ? z : NULL) : 1);
      // With n what is normed, n̂ = n/ρ and t the gradient of n̂, that of n is (t − n̂·mean(t·n̂))/ρ.
      vec mean = v_all(0);
      if (gain) {
        for (size_t j = 0; j < p->width; j += LANES) {
          const size_t lanes = p->width - j < LANES ? p->width - j : LANES;
          vec product = v_loadn(slope + j, lanes) * v_loadn(gain + j, lanes) * v_loadn(o + j, lanes);
          if (z) {
            const vec gate = v_loadn(z + j, lanes);
            product *= gate * v_sigmoid(gate);
          }
          mean += product;
        }
        mean = v_all(v_sum(mean) / (real)p->width) * scale;
      }
      for (size_t j = 0; j < p->width; j += LANES) {
        const size_t lanes = p->width - j < LANES ? p->width - j : LANES;
        const vec x = v_loadn(o + j, lanes), upstream = v_loadn(slope + j, lanes);
        const vec gate = z ? v_loadn(z + j, lanes) : v_all(0), open = z ? gate * v_sigmoid(gate) : v_all(1);
        if (!gain) {
          v_storen(to + j, upstream * open, lanes);
          if (z) v_storen(gate_slope + j, upstream * x * silu_slope(gate), lanes);
          continue;
        }
        const vec factor = v_loadn(gain + j, lanes);
        const vec normed = x * scale * (p->joint ? open : v_all(1));
        const vec t = upstream * factor * (p->joint ? v_all(1) : open);
        const vec inner = (t - normed * mean) * scale;
        v_storen(to + j, p->joint ? inner * open : inner, lanes);
        if (z) {
          const vec through = p->joint ? inner * x : upstream * factor * normed;
          v_storen(gate_slope + j, through * silu_slope(gate), lanes);
        }
        v_storen(slope + j, upstream * normed * (p->joint ? v_all(1) : open), lanes);
      }
    }
}
