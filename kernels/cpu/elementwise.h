// elementwise.h: relu_forward, relu_backward, axpby, add, muladd.

static bs_status relu_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_RELU_FORWARD, shape, arg, false);
  if (status != BS_OK) return status;
  const float *x = arg_at<const float>(arg, 0);
  float *y = arg_at<float>(arg, 1);
  range mine = share_cells(member_of(stream), shape->vector.count);
  // A NaN stays NaN, so that a diverging run is seen.
  each(mine, [=](auto lanes, int64_t i) { put(y + i, vmax(zero(), get(x + i, lanes)), lanes); });
  return BS_OK;
}

static bs_status relu_backward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_RELU_BACKWARD, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_vector &s = shape->vector;
  const float *y = arg_at<const float>(arg, 0), *dy = arg_at<const float>(arg, 1);
  float *dx = arg_at<float>(arg, 2);
  range mine = share_cells(member_of(stream), s.count);
  if (s.b == 0) {
    each(mine, [=](auto lanes, int64_t i) { put(dx + i, positive(get(y + i, lanes), get(dy + i, lanes)), lanes); });
  } else {
    each(mine, [=](auto lanes, int64_t i) {
      put(dx + i, get(dx + i, lanes) + positive(get(y + i, lanes), get(dy + i, lanes)), lanes);
    });
  }
  return BS_OK;
}

static bs_status axpby(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_AXPBY, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_vector &s = shape->vector;
  const float *x = arg_at<const float>(arg, 0);
  float *y = arg_at<float>(arg, 1);
  vf a = set1((float)s.a), b = set1((float)s.b);
  range mine = share_cells(member_of(stream), s.count);
  if (s.a == 0 && s.b == 0) {
    each(mine, [=](auto lanes, int64_t i) { put(y + i, zero(), lanes); });
  } else if (s.a == 0) {
    each(mine, [=](auto lanes, int64_t i) { put(y + i, b * get(y + i, lanes), lanes); });
  } else if (s.b == 0) {
    each(mine, [=](auto lanes, int64_t i) { put(y + i, a * get(x + i, lanes), lanes); });
  } else {
    each(mine, [=](auto lanes, int64_t i) {
      put(y + i, fmadd(a, get(x + i, lanes), b * get(y + i, lanes)), lanes);
    });
  }
  return BS_OK;
}

static bs_status add(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_ADD, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_vector &s = shape->vector;
  const float *x = arg_at<const float>(arg, 0), *z = arg_at<const float>(arg, 1);
  float *y = arg_at<float>(arg, 2);
  vf a = set1((float)s.a), b = set1((float)s.b);
  range mine = share_cells(member_of(stream), s.count);
  each(mine, [=](auto lanes, int64_t i) { put(y + i, fmadd(a, get(x + i, lanes), b * get(z + i, lanes)), lanes); });
  return BS_OK;
}

static bs_status muladd(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_MULADD, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_vector &s = shape->vector;
  const float *x = arg_at<const float>(arg, 0), *z = arg_at<const float>(arg, 1);
  float *y = arg_at<float>(arg, 2);
  vf a = set1((float)s.a), b = set1((float)s.b);
  range mine = share_cells(member_of(stream), s.count);
  if (s.b == 0) {
    each(mine, [=](auto lanes, int64_t i) { put(y + i, a * get(x + i, lanes) * get(z + i, lanes), lanes); });
  } else {
    each(mine, [=](auto lanes, int64_t i) {
      put(y + i, fmadd(a * get(x + i, lanes), get(z + i, lanes), b * get(y + i, lanes)), lanes);
    });
  }
  return BS_OK;
}
