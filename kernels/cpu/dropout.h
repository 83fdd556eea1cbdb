// dropout.h: dropout, whose mask is recomputed from the sample's random stream wherever it is needed.

static bs_status dropout(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_DROPOUT, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_dropout &s = shape->dropout;
  const float *x = arg_at<const float>(arg, 0);
  const int32_t *sample = arg_at<const int32_t>(arg, 1);
  const uint32_t *key = arg_at<const uint32_t>(arg, 2);
  float *y = arg_at<float>(arg, 3), scale = (float)(1 / (1 - s.p));
  // uniform < p, in whole numbers: (word >> 8) < p 2^24.
  int32_t threshold = (int32_t)ceil(s.p * 16777216);
  for (int i = 0; i < s.n; i++, x += s.per, y += s.per) {
    const float *from = x;
    float *to = y;
    each_word(sample_stream(key, sample[i], 2, (uint32_t)s.layer), s.per, [=](int64_t e, uint32_t word) {
      float kept = from[e] * scale;
      to[e] = (int32_t)(word >> 8) < threshold ? 0.0f : kept;
    });
  }
  return BS_OK;
}

// forward_gradient projects each sample's gradient on a random direction of its own.
static bs_status forward_gradient(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_FORWARD_GRADIENT, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_dropout &s = shape->dropout;
  const float *dy = arg_at<const float>(arg, 0);
  const int32_t *sample = arg_at<const int32_t>(arg, 1);
  const uint32_t *key = arg_at<const uint32_t>(arg, 2);
  float *dx = arg_at<float>(arg, 3);
  for (int i = 0; i < s.n; i++, dy += s.per, dx += s.per) {
    const float *from = dy;
    float *to = dx;
    philox_stream stream = sample_stream(key, sample[i], 12, (uint32_t)s.layer);
    double sum = 0;
    each_word(stream, s.per, [=, &sum](int64_t e, uint32_t word) { sum += word >> 31 ? -(double)from[e] : (double)from[e]; });
    float derivative = (float)sum;
    each_word(stream, s.per, [=](int64_t e, uint32_t word) { to[e] = word >> 31 ? -derivative : derivative; });
  }
  return BS_OK;
}
