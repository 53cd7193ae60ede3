// Two-operand functions with broadcasting, their gradients, and reductions, at one level.
#define v_pow FN(v_pow)
#define v_power_slope FN(v_power_slope)
#define v_power_log FN(v_power_log)
#define binary_row FN(binary_row)
#define binary_slope_row FN(binary_slope_row)

#if REAL_IS_F32
#define VK_POW powf
#else
#define VK_POW pow
#endif
VK_INLINE vec v_pow(vec a, vec b) {
  vec y = a;
  for (int lane = 0; lane < LANES; lane++) y[lane] = b[lane] == 2 ? a[lane] * a[lane] : (real)VK_POW(a[lane], b[lane]);
  return y;
}
#undef VK_POW
VK_INLINE vec v_power_slope(vec a, vec b) {
  return v_pick(b == v_all(0), v_all(0), b * v_pow(a, b - v_all(1)));
}
// aᵇ·log a, and 0 where a is 0 and b is not negative.
VK_INLINE vec v_power_log(vec a, vec b) {
  return v_pick((a == v_all(0)) & (b >= v_all(0)), v_all(0), v_pow(a, b) * v_log(a));
}

// Kind, value, slopes along a and b.
#define VK_BINARY_KINDS(KIND)                                                                                     \
  KIND(ADD, a + b, v_all(1), v_all(1))                                                                            \
  KIND(SUBTRACT, a - b, v_all(1), v_all(-1))                                                                      \
  KIND(MULTIPLY, a *b, b, a)                                                                                      \
  KIND(DIVIDE, a / b, v_all(1) / b, -a / (b * b))                                                                 \
  KIND(POWER, v_pow(a, b), v_power_slope(a, b), v_power_log(a, b))                                                \
  KIND(MAXIMUM, v_pick(a != a, a, v_pick(b > a, b, v_pick(b != b, b, a))),                                        \
       v_pick(a > b, v_all(1), v_pick(a < b, v_all(0), v_all((real)0.5))),                                        \
       v_pick(b > a, v_all(1), v_pick(b < a, v_all(0), v_all((real)0.5))))                                        \
  KIND(MINIMUM, v_pick(a != a, a, v_pick(b < a, b, v_pick(b != b, b, a))),                                        \
       v_pick(a < b, v_all(1), v_pick(a > b, v_all(0), v_all((real)0.5))),                                        \
       v_pick(b < a, v_all(1), v_pick(b > a, v_all(0), v_all((real)0.5))))

#define VK_BINARY_ROW(value)                                                                                      \
  for (size_t i = 0; i < n; i += LANES) {                                                                         \
    const size_t lanes = n - i < LANES ? n - i : LANES;                                                           \
    const vec a = a_step ? v_loadn(pa + i, lanes) : v_all(*pa), b = b_step ? v_loadn(pb + i, lanes) : v_all(*pb); \
    const vec result = value;                                                                                     \
    v_storen(y + i, adding ? v_loadn(y + i, lanes) + result : result, lanes);                                     \
  }

static void binary_row(int kind, int adding, size_t n, real *y, const real *pa, ptrdiff_t a_step, const real *pb,
                       ptrdiff_t b_step) {
  switch (kind) {
#define VK_CASE(name, value, slope_a, slope_b) \
  case VK_##name: VK_BINARY_ROW(value) break;
    VK_BINARY_KINDS(VK_CASE)
#undef VK_CASE
  }
}

static void FN(binary)(int kind, int adding, const vk_walk *walk, void *y, const void *a, const void *b) {
  const int last = walk->rank - 1;
  size_t rows = 1;
  for (int axis = 0; axis < last; axis++) rows *= walk->shape[axis];
  size_t at[VK_AXES] = {0};
  ptrdiff_t offset[VK_OPERANDS] = {0};
  for (size_t row = 0; row < rows; row++) {
    binary_row(kind, adding, walk->shape[last], (real *)y + offset[0], (const real *)a + offset[1],
               walk->stride[1][last], (const real *)b + offset[2], walk->stride[2][last]);
    for (int axis = last - 1; axis >= 0; axis--) {
      for (int operand = 0; operand < VK_OPERANDS; operand++) offset[operand] += walk->stride[operand][axis];
      if (++at[axis] < walk->shape[axis]) break;
      for (int operand = 0; operand < VK_OPERANDS; operand++)
        offset[operand] -= walk->stride[operand][axis] * (ptrdiff_t)walk->shape[axis];
      at[axis] = 0;
    }
  }
}

#define VK_SLOPE_ROW(slope)                                                                                       \
  for (size_t i = 0; i < n; i += LANES) {                                                                         \
    const size_t lanes = n - i < LANES ? n - i : LANES;                                                           \
    const vec a = a_step ? v_loadn(pa + i, lanes) : v_all(*pa), b = b_step ? v_loadn(pb + i, lanes) : v_all(*pb); \
    vec result = v_loadn(dy + i, lanes) * (slope);                                                                \
    (void)a, (void)b;                                                                                             \
    if (dx_step) {                                                                                                \
      v_storen(dx + i, v_loadn(dx + i, lanes) + result, lanes);                                                   \
    } else {                                                                                                      \
      result = v_pick(v_first(lanes), result, v_all(0)); /* 0·∞ beyond the end is NaN */                          \
      sum += result;                                                                                              \
    }                                                                                                             \
  }

static void binary_slope_row(int kind, size_t n, real *dx, ptrdiff_t dx_step, const real *pa, ptrdiff_t a_step,
                             const real *pb, ptrdiff_t b_step, const real *dy) {
  vec sum = v_all(0);
  switch (kind) {
#define VK_CASE(name, value, slope_a, slope_b)             \
  case 2 * VK_##name: VK_SLOPE_ROW(slope_a) break;         \
  case 2 * VK_##name + 1: VK_SLOPE_ROW(slope_b) break;
    VK_BINARY_KINDS(VK_CASE)
#undef VK_CASE
  }
  if (!dx_step) *dx += v_sum(sum);
}

static void FN(binary_gradient)(int kind, int side, const vk_walk *walk, void *dx, const void *a,
                                const void *b, const void *dy) {
  const int last = walk->rank - 1;
  size_t rows = 1;
  for (int axis = 0; axis < last; axis++) rows *= walk->shape[axis];
  size_t at[VK_AXES] = {0};
  ptrdiff_t offset[VK_OPERANDS] = {0};
  for (size_t row = 0; row < rows; row++) {
    binary_slope_row(2 * kind + side, walk->shape[last], (real *)dx + offset[0], walk->stride[0][last],
                     (const real *)a + offset[1], walk->stride[1][last], (const real *)b + offset[2],
                     walk->stride[2][last], (const real *)dy + offset[3]);
    for (int axis = last - 1; axis >= 0; axis--) {
      for (int operand = 0; operand < VK_OPERANDS; operand++) offset[operand] += walk->stride[operand][axis];
      if (++at[axis] < walk->shape[axis]) break;
      for (int operand = 0; operand < VK_OPERANDS; operand++)
        offset[operand] -= walk->stride[operand][axis] * (ptrdiff_t)walk->shape[axis];
      at[axis] = 0;
    }
  }
}

#define reduce_step FN(reduce_step)
#define reduce_steps FN(reduce_steps)
#define reduce_axes FN(reduce_axes)
#define reduce_fold FN(reduce_fold)
#define reduce_finish FN(reduce_finish)
#define reduce_start FN(reduce_start)
#define reduce_walk FN(reduce_walk)

VK_INLINE real reduce_start(int kind) {
  return kind == VK_MAX ? -INFINITY : kind == VK_MIN ? INFINITY : kind == VK_PRODUCT ? 1 : 0;
}
// One more vector of operands.
VK_INLINE vec reduce_step(const int kind, vec state, vec x, vec centre) {
  switch (kind) {
    case VK_MAX: return v_pick((x > state) | (x != x), x, state);
    case VK_MIN: return v_pick((x < state) | (x != x), x, state);
    case VK_PRODUCT: return state * x;
    case VK_SUM_SQUARES: case VK_L2: return v_madd(x, x, state);
    case VK_L1: return state + v_abs(x);
    case VK_LOG_SUM_EXP: return state + v_exp(x - centre);
    default: return state + x;
  }
}
// Two states of the same kind into one.
VK_INLINE vec reduce_fold(const int kind, vec a, vec b) {
  switch (kind) {
    case VK_MAX: case VK_MIN: case VK_PRODUCT: return reduce_step(kind, a, b, b);
    default: return a + b;
  }
}
VK_INLINE vec reduce_finish(const int kind, vec state, real count, vec centre) {
  switch (kind) {
    case VK_MEAN: return state / v_all(count);
    case VK_L2: return v_sqrt(state);
    case VK_LOG_SUM_EXP: return v_log(state) + centre;
    default: return state;
  }
}

// Axes of one kind, outermost first.
typedef struct {
  int rank;
  size_t shape[VK_AXES], count;
  ptrdiff_t x[VK_AXES], y[VK_AXES];
} reduce_axes;

// The reduction of LANES columns at x (or, with `along` set, of runs of that many elements lane by lane) over all
// reduced positions.
VK_INLINE vec reduce_steps(const int kind, const reduce_axes *reduced, const real *x, size_t along, size_t lanes,
                           vec centre) {
  vec total = v_all(reduce_start(kind)), block = total;
  size_t at[VK_AXES] = {0}, in_block = 0;
  for (size_t index = 0; index < reduced->count; index++) {
    const size_t whole = along / LANES * LANES;
    if (along) {
      for (size_t i = 0; i < whole; i += LANES) {
        block = reduce_step(kind, block, v_load(x + i), centre);
        if (++in_block == 64) total = reduce_fold(kind, total, block), block = v_all(reduce_start(kind)), in_block = 0;
      }
      if (whole < along) {
        const vec last = reduce_step(kind, block, v_loadn(x + whole, along - whole), centre);
        block = v_pick(v_first(along - whole), last, block);
      }
    } else {
      block = reduce_step(kind, block, v_loadn(x, lanes), centre);
      if (++in_block == 64) total = reduce_fold(kind, total, block), block = v_all(reduce_start(kind)), in_block = 0;
    }
    for (int axis = reduced->rank - 1; axis >= 0; axis--) {
      x += reduced->x[axis];
      if (++at[axis] < reduced->shape[axis]) break;
      x -= reduced->x[axis] * (ptrdiff_t)reduced->shape[axis];
      at[axis] = 0;
    }
  }
  return reduce_fold(kind, total, block);
}

// Folds the lanes of a state into one.
VK_INLINE vec FN(reduce_lanes)(const int kind, vec state) {
  if (kind == VK_MAX || kind == VK_MIN || kind == VK_PRODUCT) {
    real all = state[0];
    for (int lane = 1; lane < LANES; lane++) {
      const real x = state[lane];
      if (kind == VK_PRODUCT) all *= x;
      else if (x != x || (all == all && (kind == VK_MAX ? x > all : x < all))) all = x;
    }
    return v_all(all);
  }
  return v_all(v_sum(state));
}

VK_INLINE void reduce_walk(const int kind, int adding, const reduce_axes *kept, const reduce_axes *reduced,
                           size_t along, size_t columns, real count, real *y, const real *x) {
  size_t at[VK_AXES] = {0};
  for (size_t index = 0; index < kept->count; index++) {
    for (size_t j = 0; j < columns; j += LANES) {
      const size_t lanes = columns - j < LANES ? columns - j : LANES;
      vec centre = v_all(0);
      if (kind == VK_LOG_SUM_EXP) {
        centre = reduce_steps(VK_MAX, reduced, x + j, along, lanes, centre);
        if (along) centre = FN(reduce_lanes)(VK_MAX, centre);
        centre = v_pick(v_abs(centre) < v_all(INFINITY), centre, v_all(0));
      }
      vec state = reduce_steps(kind, reduced, x + j, along, lanes, centre);
      if (along) state = FN(reduce_lanes)(kind, state);
      state = reduce_finish(kind, state, count, centre);
      v_storen(y + j, adding ? v_loadn(y + j, lanes) + state : state, lanes);
    }
    for (int axis = kept->rank - 1; axis >= 0; axis--) {
      x += kept->x[axis];
      y += kept->y[axis];
      if (++at[axis] < kept->shape[axis]) break;
      x -= kept->x[axis] * (ptrdiff_t)kept->shape[axis];
      y -= kept->y[axis] * (ptrdiff_t)kept->shape[axis];
      at[axis] = 0;
    }
  }
}

static void FN(reduce)(int kind, int adding, const vk_walk *walk, void *y, const void *x) {
  const int last = walk->rank - 1, last_reduced = walk->stride[0][last] == 0;
  reduce_axes kept = {.count = 1}, reduced = {.count = 1};
  for (int axis = 0; axis < last; axis++) {
    reduce_axes *axes = walk->stride[0][axis] == 0 ? &reduced : &kept;
    axes->shape[axes->rank] = walk->shape[axis];
    axes->y[axes->rank] = walk->stride[0][axis];
    axes->x[axes->rank++] = walk->stride[1][axis];
    axes->count *= walk->shape[axis];
  }
  const size_t along = last_reduced ? walk->shape[last] : 0, columns = last_reduced ? 1 : walk->shape[last];
  const real count = (real)(reduced.count * (last_reduced ? along : 1));
  switch (kind) {
#define VK_CASE(kind) \
  case kind: reduce_walk(kind, adding, &kept, &reduced, along, columns, count, y, x); break;
    VK_CASE(VK_SUM) VK_CASE(VK_MEAN) VK_CASE(VK_MAX) VK_CASE(VK_MIN) VK_CASE(VK_PRODUCT)
    VK_CASE(VK_SUM_SQUARES) VK_CASE(VK_L1) VK_CASE(VK_L2) VK_CASE(VK_LOG_SUM_EXP)
#undef VK_CASE
  }
}
