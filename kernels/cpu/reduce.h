// reduce.h: dot, norm, minmax.
//
// Products of floats are exact in double, so the sums are accurate to double rounding; memory, not
// the conversion, bounds their speed. The order of the additions is fixed by the count alone.

// Half a vector of floats: what fills one register of doubles.
typedef float half_vf __attribute__((vector_size(BS_VEC_BYTES / 2)));
typedef float half_mem __attribute__((vector_size(BS_VEC_BYTES / 2), aligned(4), may_alias));
typedef double half_vd __attribute__((vector_size(BS_VEC_BYTES)));

BS_INLINE half_vd load_doubles(const float *p) {
  half_vf v = *(const half_mem *)p;
  return __builtin_convertvector(v, half_vd);
}

// dot_double returns the sum of x[i] z[i], added up in eight vectors of doubles.
static double dot_double(const float *x, const float *z, int64_t count) {
  enum { SUMS = 8, H = VW / 2 };
  half_vd sum[SUMS] = {};
  int64_t i = 0;
  for (; i + SUMS * H <= count; i += SUMS * H)
    for (int k = 0; k < SUMS; k++) sum[k] += load_doubles(x + i + k * H) * load_doubles(z + i + k * H);
  double total = 0;
  for (; i < count; i++) total += (double)x[i] * z[i];
  for (int half = SUMS / 2; half > 0; half /= 2)
    for (int k = 0; k < half; k++) sum[k] += sum[k + half];
  for (int k = 0; k < H; k++) total += sum[0][k];
  return total;
}

// put_double writes a double over two cells, which need not be aligned to 8 bytes.
static void put_double(void *cells, double v) { memcpy(cells, &v, sizeof v); }

static bs_status dot(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_DOT, shape, arg, false);
  if (status != BS_OK) return status;
  put_double(arg[2], dot_double(arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), shape->vector.count));
  return BS_OK;
}

static bs_status norm(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_NORM, shape, arg, false);
  if (status != BS_OK) return status;
  const float *x = arg_at<const float>(arg, 0);
  put_double(arg[1], sqrt(dot_double(x, x, shape->vector.count)));
  return BS_OK;
}

static bs_status minmax(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_MINMAX, shape, arg, false);
  if (status != BS_OK) return status;
  int64_t count = shape->vector.count;
  const float *x = arg_at<const float>(arg, 0);
  float *out = arg_at<float>(arg, 1);
  vf low = set1(x[0]), high = low;
  int64_t i = 0;
  for (; i + VW <= count; i += VW) {
    low = vmin(load(x + i), low);
    high = vmax(load(x + i), high);
  }
  float smallest = hmin(low), largest = hmax(high);
  for (; i < count; i++) {
    if (x[i] < smallest) smallest = x[i];
    if (x[i] > largest) largest = x[i];
  }
  out[0] = smallest;
  out[1] = largest;
  return BS_OK;
}
