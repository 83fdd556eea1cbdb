// reduce.h: dot, norm, minmax.
//
// Products of floats are exact in double, so the sums are accurate to double rounding; memory, not
// the conversion, bounds their speed. The order of the additions is fixed by the count alone.

// dot_double returns the sum of x[i] z[i] in four running vectors.
static double dot_double(const float *x, const float *z, int64_t count) {
  vd a = {}, b = {}, c = {}, d = {};
  int64_t i = 0;
  for (; i + 4 * VW <= count; i += 4 * VW) {
    a = fmadd(to_double(load(x + i)), to_double(load(z + i)), a);
    b = fmadd(to_double(load(x + i + VW)), to_double(load(z + i + VW)), b);
    c = fmadd(to_double(load(x + i + 2 * VW)), to_double(load(z + i + 2 * VW)), c);
    d = fmadd(to_double(load(x + i + 3 * VW)), to_double(load(z + i + 3 * VW)), d);
  }
  for (; i < count; i += VW) {
    int n = count - i < VW ? (int)(count - i) : VW;
    a = fmadd(to_double(load_partial(x + i, n)), to_double(load_partial(z + i, n)), a);
  }
  return vsum((a + b) + (c + d));
}

// put_double writes a double over two cells, which need not be aligned to 8 bytes.
static void put_double(void *cells, double v) { memcpy(cells, &v, sizeof v); }

static bs_status dot(const bs_shape *shape, void *const *arg, void *) {
  if (shape->vector.count <= 0) return BS_BAD_SHAPE;
  if (!all_set(arg, 0b111)) return BS_BAD_ARGUMENT;
  put_double(arg[2], dot_double(arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), shape->vector.count));
  return BS_OK;
}

static bs_status norm(const bs_shape *shape, void *const *arg, void *) {
  if (shape->vector.count <= 0) return BS_BAD_SHAPE;
  if (!all_set(arg, 0b11)) return BS_BAD_ARGUMENT;
  const float *x = arg_at<const float>(arg, 0);
  put_double(arg[1], sqrt(dot_double(x, x, shape->vector.count)));
  return BS_OK;
}

static bs_status minmax(const bs_shape *shape, void *const *arg, void *) {
  int64_t count = shape->vector.count;
  if (count <= 0) return BS_BAD_SHAPE;
  if (!all_set(arg, 0b11)) return BS_BAD_ARGUMENT;
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
