// dropout.h: dropout, whose mask is recomputed from the sample's random stream wherever it is needed.

static bool bad_dropout(const bs_dropout &s) {
  return s.n <= 0 || s.per <= 0 || s.layer < 0 || s.layer >= 65536 || !(s.p >= 0 && s.p < 1);
}

static bs_status dropout(const bs_shape *shape, void *const *arg, void *) {
  const bs_dropout &s = shape->dropout;
  if (bad_dropout(s)) return BS_BAD_SHAPE;
  if (!all_set(arg, 0b1111)) return BS_BAD_ARGUMENT;
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
