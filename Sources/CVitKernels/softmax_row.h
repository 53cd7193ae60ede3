// Softmax of one row; shared by the softmax and attention kernels.
#ifndef VK_SOFTMAX_ROW
#define VK_SOFTMAX_ROW
#define softmax_row FN(softmax_row)
#endif

// Returns the log-sum-exp of scale·x + bias; y may be x.
VK_INLINE real softmax_row(int logarithm, size_t n, real scale, const real *x, const real *bias, real *y) {
  const size_t whole = n / LANES * LANES, rest = n - whole;
  vec top = v_all(-INFINITY), top2 = top;
  const vec factor = v_all(scale);
  size_t i = 0;
  if (bias) {
    for (; i < whole; i += LANES) {
      const vec t = v_madd(factor, v_load(x + i), v_load(bias + i));
      v_store(y + i, t);
      top = v_max(top, t);
    }
  } else {
    for (; i + LANES < whole; i += 2 * LANES) {
      const vec t = factor * v_load(x + i), u = factor * v_load(x + i + LANES);
      v_store(y + i, t);
      v_store(y + i + LANES, u);
      top = v_max(top, t);
      top2 = v_max(top2, u);
    }
    for (; i < whole; i += LANES) {
      const vec t = factor * v_load(x + i);
      v_store(y + i, t);
      top = v_max(top, t);
    }
  }
  real most = v_top(v_max(top, top2));
  for (; i < n; i++) {
    y[i] = bias ? scale * x[i] + bias[i] : scale * x[i];
    if (y[i] > most) most = y[i];
  }
  // A row of NaN alone has no maximum either; exp keeps it NaN.
  const int masked = most == -INFINITY;
  const vec centre = v_all(masked ? 0 : most);
  vec sum = v_all(0), sum2 = sum;
  for (i = 0; i + LANES < whole; i += 2 * LANES) {
    const vec t = v_exp(v_load(y + i) - centre), u = v_exp(v_load(y + i + LANES) - centre);
    if (!logarithm) v_store(y + i, t), v_store(y + i + LANES, u);
    sum += t;
    sum2 += u;
  }
  for (; i < whole; i += LANES) {
    const vec t = v_exp(v_load(y + i) - centre);
    if (!logarithm) v_store(y + i, t);
    sum += t;
  }
  sum += sum2;
  if (rest) {
    vec t = v_exp(v_loadn(y + i, rest) - centre);
    if (!logarithm) v_storen(y + i, t, rest);
    for (size_t lane = 0; lane < LANES; lane++)
      if (lane >= rest) t[lane] = 0;
    sum += t;
  }
  const real total = v_sum(sum);
  const real lse = masked && total == 0 ? -INFINITY : most + (real)log((double)total);
  if (logarithm) {
    const vec offset = v_all(masked ? 0 : lse);
    for (i = 0; i < n; i += LANES) {
      const size_t lanes = n - i < LANES ? n - i : LANES;
      v_storen(y + i, v_loadn(y + i, lanes) - offset, lanes);
    }
  } else if (!masked || total != 0) {
    const vec inverse = v_all(1 / total);
    for (i = 0; i < whole; i += LANES) v_store(y + i, v_load(y + i) * inverse);
    if (rest) v_storen(y + i, v_loadn(y + i, rest) * inverse, rest);
  }
  return lse;
}
