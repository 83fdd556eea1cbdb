// pool.h: max and average pooling over NHWC, vectors along the channels.

// A window: its rows and columns inside the image, where the image begins in the input, and where
// the output pixel begins.
struct window {
  int top, bottom, left, right;
  int64_t image, out;
};

// each_window calls op(window) for all output pixels in order.
template <class Op>
BS_INLINE void each_window(const bs_pool &s, Op op) {
  int64_t out = 0;
  for (int n = 0; n < s.n; n++)
    for (int oy = 0; oy < s.oh; oy++)
      for (int ox = 0; ox < s.ow; ox++, out += s.c) {
        int y = oy * s.stride_h - s.pad_h, x = ox * s.stride_w - s.pad_w;
        op(window{y < 0 ? 0 : y, y < s.h - s.r ? y + s.r : s.h, x < 0 ? 0 : x, x < s.w - s.s ? x + s.s : s.w,
                  (int64_t)n * s.h * s.w * s.c, out});
      }
}

// each_position calls op(at, position) for the window's elements: `at` is the input pixel's first
// float, `position` its number in the image.
template <class Op>
BS_INLINE void each_position(const bs_pool &s, const window &w, Op op) {
  for (int y = w.top; y < w.bottom; y++)
    for (int x = w.left; x < w.right; x++) {
      int32_t position = y * s.w + x;
      op(w.image + (int64_t)position * s.c, position);
    }
}

static bs_status maxpool_forward(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_MAXPOOL_FORWARD, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_pool &s = shape->pool;
  const float *x = arg_at<const float>(arg, 0);
  float *y = arg_at<float>(arg, 1);
  int32_t *index = arg_at<int32_t>(arg, 2);
  each_window(s, [&](const window &w) {
    each(s.c, [&](auto lanes, int64_t c) {
      int32_t start = w.top * s.w + w.left;
      vf best = get(x + w.image + (int64_t)start * s.c + c, lanes);
      vi where = set1(start);
      each_position(s, w, [&](int64_t at, int32_t position) {
        vf v = get(x + at + c, lanes);
        // A NaN wins, so that a diverging run is seen.
        vi larger = (v > best) | (v != v);
        best = select(larger, v, best);
        where = select(larger, set1(position), where);
      });
      put(y + w.out + c, best, lanes);
      put(index + w.out + c, where, lanes);
    });
  });
  return BS_OK;
}

// each_maximum calls op(out, in) with the offsets of every output float and of the input float that
// index names. It stops at an index outside the image.
template <class Op>
BS_INLINE bs_status each_maximum(const bs_pool &s, const int32_t *index, Op op) {
  uint32_t pixels = (uint32_t)s.h * (uint32_t)s.w;
  int64_t out = 0, image = 0;
  for (int n = 0; n < s.n; n++, image += (int64_t)pixels * s.c)
    for (int64_t pixel = 0; pixel < (int64_t)s.oh * s.ow; pixel++)
      for (int c = 0; c < s.c; c++, out++) {
        if ((uint32_t)index[out] >= pixels) return BS_BAD_ARGUMENT;
        op(out, image + (int64_t)index[out] * s.c + c);
      }
  return BS_OK;
}

static bs_status maxpool_backward(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_MAXPOOL_BACKWARD, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_pool &s = shape->pool;
  const float *dy = arg_at<const float>(arg, 0);
  float *dx = arg_at<float>(arg, 2);
  if (!s.accumulate) memset(dx, 0, sizeof(float) * (size_t)s.n * s.h * s.w * s.c);
  return each_maximum(s, arg_at<const int32_t>(arg, 1), [=](int64_t out, int64_t in) { dx[in] += dy[out]; });
}

static bs_status maxpool_tangent(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_MAXPOOL_TANGENT, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_pool &s = shape->pool;
  const float *tx = arg_at<const float>(arg, 0);
  float *ty = arg_at<float>(arg, 2);
  return each_maximum(s, arg_at<const int32_t>(arg, 1), [=](int64_t out, int64_t in) { ty[out] = tx[in]; });
}

static bs_status avgpool_forward(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_AVGPOOL_FORWARD, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_pool &s = shape->pool;
  const float *x = arg_at<const float>(arg, 0);
  float *y = arg_at<float>(arg, 1);
  vf size = set1((float)((int64_t)s.r * s.s));
  each_window(s, [&](const window &w) {
    each(s.c, [&](auto lanes, int64_t c) {
      vf sum = zero();
      each_position(s, w, [&](int64_t at, int32_t) { sum += get(x + at + c, lanes); });
      put(y + w.out + c, sum / size, lanes);
    });
  });
  return BS_OK;
}

static bs_status avgpool_backward(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_AVGPOOL_BACKWARD, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_pool &s = shape->pool;
  const float *dy = arg_at<const float>(arg, 0);
  float *dx = arg_at<float>(arg, 1);
  vf size = set1((float)((int64_t)s.r * s.s));
  if (!s.accumulate) memset(dx, 0, sizeof(float) * (size_t)s.n * s.h * s.w * s.c);
  each_window(s, [&](const window &w) {
    each(s.c, [&](auto lanes, int64_t c) {
      vf d = get(dy + w.out + c, lanes) / size;
      each_position(s, w, [&](int64_t at, int32_t) { put(dx + at + c, get(dx + at + c, lanes) + d, lanes); });
    });
  });
  return BS_OK;
}
