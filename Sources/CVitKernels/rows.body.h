// Softmax and normalisation at one level.
#include "softmax_row.h"

#define VK_ROW_LOOP(n) for (size_t i = 0, lanes; i < (n) && (lanes = (n) - i < LANES ? (n) - i : LANES); i += LANES)

static void FN(softmax)(int logarithm, int guarded, size_t rows, size_t n, double scale, const void *x_,
                        ptrdiff_t x_row, const void *bias_, ptrdiff_t bias_row, void *y_, ptrdiff_t y_row,
                        void *lse_) {
  for (size_t row = 0; row < rows; row++) {
    const real *x = (const real *)x_ + (ptrdiff_t)row * x_row;
    const real *bias = bias_ ? (const real *)bias_ + (ptrdiff_t)row * bias_row : NULL;
    real *y = (real *)y_ + (ptrdiff_t)row * y_row;
    softmax_row(logarithm, guarded, n, (real)scale, x, bias, y, lse_ ? (real *)lse_ + row : NULL);
  }
}

static void FN(softmax_gradient)(int logarithm, size_t rows, size_t n, double scale, const void *y_, const void *dy_,
                                 void *dx_) {
  for (size_t row = 0; row < rows; row++) {
    const real *y = (const real *)y_ + row * n, *dy = (const real *)dy_ + row * n;
    real *dx = (real *)dx_ + row * n;
    vec sum = v_all(0);
    if (logarithm) {
      VK_ROW_LOOP(n) sum += v_loadn(dy + i, lanes);
      const vec total = v_all(v_sum(sum));
      VK_ROW_LOOP(n) {
        const vec slope = v_loadn(dy + i, lanes) - v_exp(v_loadn(y + i, lanes)) * total;
        v_storen(dx + i, v_madd(v_all((real)scale), slope, v_loadn(dx + i, lanes)), lanes);
      }
    } else {
      VK_ROW_LOOP(n) sum = v_madd(v_loadn(y + i, lanes), v_loadn(dy + i, lanes), sum);
      const vec total = v_all(v_sum(sum));
      VK_ROW_LOOP(n) {
        const vec slope = v_loadn(y + i, lanes) * (v_loadn(dy + i, lanes) - total);
        v_storen(dx + i, v_madd(v_all((real)scale), slope, v_loadn(dx + i, lanes)), lanes);
      }
    }
  }
}

static void FN(normalise)(int centred, size_t rows, size_t n, double epsilon, const void *x_, const void *gain_,
                          const void *bias_, void *y_, void *stats_) {
  const real *gain = gain_, *bias = bias_;
  for (size_t row = 0; row < rows; row++) {
    const real *x = (const real *)x_ + row * n;
    real *y = (real *)y_ + row * n;
    real centre = 0;
    vec sum = v_all(0);
    if (centred) {
      VK_ROW_LOOP(n) sum += v_loadn(x + i, lanes);
      centre = v_sum(sum) / (real)n;
    }
    const vec mean = v_all(centre);
    sum = v_all(0);
    VK_ROW_LOOP(n) {
      const vec d = v_pick(v_first(lanes), v_loadn(x + i, lanes) - mean, v_all(0));
      sum = v_madd(d, d, sum);
    }
    const real inverse = 1 / (real)sqrt((double)(v_sum(sum) / (real)n + (real)epsilon));
    const vec r = v_all(inverse);
    VK_ROW_LOOP(n) {
      vec value = (v_loadn(x + i, lanes) - mean) * r;
      if (gain) value *= v_loadn(gain + i, lanes);
      if (bias) value += v_loadn(bias + i, lanes);
      v_storen(y + i, value, lanes);
    }
    if (stats_) {
      ((real *)stats_)[2 * row] = centre;
      ((real *)stats_)[2 * row + 1] = inverse;
    }
  }
}

static void FN(normalise_gradient)(int centred, size_t rows, size_t n, const void *x_, const void *gain_,
                                   const void *stats_, const void *dy_, void *dx_) {
  const real *gain = gain_;
  for (size_t row = 0; row < rows; row++) {
    const real *x = (const real *)x_ + row * n, *dy = (const real *)dy_ + row * n;
    real *dx = (real *)dx_ + row * n;
    const vec mean = v_all(((const real *)stats_)[2 * row]), r = v_all(((const real *)stats_)[2 * row + 1]);
    vec sum = v_all(0), product = v_all(0);
    VK_ROW_LOOP(n) {
      vec g = v_loadn(dy + i, lanes);
      if (gain) g *= v_loadn(gain + i, lanes);
      sum += g;
      product = v_madd(g, (v_loadn(x + i, lanes) - mean) * r, product);
    }
    const vec offset = v_all(centred ? v_sum(sum) / (real)n : 0), slope = v_all(v_sum(product) / (real)n);
    VK_ROW_LOOP(n) {
      vec g = v_loadn(dy + i, lanes);
      if (gain) g *= v_loadn(gain + i, lanes);
      const vec normal = (v_loadn(x + i, lanes) - mean) * r;
      v_storen(dx + i, v_madd(r, g - offset - normal * slope, v_loadn(dx + i, lanes)), lanes);
    }
  }
}

static void FN(normalise_gradient_parameters)(size_t rows, size_t n, size_t n0, size_t n1, const void *x_,
                                              const void *stats_, const void *dy_, void *dgain_, void *dbias_) {
  const real *x = x_, *stats = stats_, *dy = dy_;
  real *dgain = dgain_, *dbias = dbias_;
  for (size_t j = n0; j < n1; j += LANES) {
    const size_t lanes = n1 - j < LANES ? n1 - j : LANES;
    vec gain = v_all(0), bias = v_all(0);
    for (size_t first = 0; first < rows; first += 64) {  // sums of sums: the error grows with the blocks, not the rows
      vec g = v_all(0), b = v_all(0);
      for (size_t row = first; row < rows && row < first + 64; row++) {
        const vec d = v_loadn(dy + row * n + j, lanes);
        b += d;
        g = v_madd(d, (v_loadn(x + row * n + j, lanes) - v_all(stats[2 * row])) * v_all(stats[2 * row + 1]), g);
      }
      gain += g;
      bias += b;
    }
    if (dgain) v_storen(dgain + j, v_loadn(dgain + j, lanes) + gain, lanes);
    if (dbias) v_storen(dbias + j, v_loadn(dbias + j, lanes) + bias, lanes);
  }
}
