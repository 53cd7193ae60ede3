// Softmax of one row; shared by the softmax and attention kernels.
#ifndef VK_SOFTMAX_ROW
#define VK_SOFTMAX_ROW
#define softmax_row FN(softmax_row)
#endif

// y ← softmax(scale·x + bias), or its logarithm; `lse`, unless NULL, takes the log-sum-exp. y may be x. A row of −∞
// becomes zeros where `guarded`, else NaN.
VK_INLINE void softmax_row(int logarithm, int guarded, size_t n, real scale, const real *x, const real *bias, real *y, real *lse) {
  const size_t whole = n / LANES * LANES, rest = n - whole;
  const vec factor = v_all(scale), least = v_all(-INFINITY);
  vec top = least, top2 = least;
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
  vec last = least;  // what is beyond the whole vectors stays in a register
  if (rest) {
    const vec t = v_loadn(x + i, rest);
    last = v_pick(v_first(rest), bias ? v_madd(factor, t, v_loadn(bias + i, rest)) : factor * t, least);
    top = v_max(top, last);
  }
  const real most = v_top(v_max(top, top2));
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
  if (rest) {
    const vec t = v_exp(last - centre);
    sum += t;
    if (!logarithm) last = t;
  }
  const real total = v_sum(sum + sum2);
  const int empty = masked && total == 0;
  vec factor2 = v_all(empty ? 1 : 1 / total), offset = v_all(0);
  if (lse || logarithm) {
    const real value = empty ? -INFINITY : most + (real)log((double)total);
    if (lse) *lse = value;
    if (logarithm) factor2 = v_all(1), offset = v_all(empty ? 0 : value);
  }
  if (empty && !guarded) factor2 = v_all(NAN);
  for (i = 0; i < whole; i += LANES) v_store(y + i, v_load(y + i) * factor2 - offset);
  if (rest) v_storen(y + i, last * factor2 - offset, rest);
}
