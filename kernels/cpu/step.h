// step.h: what step rules do besides sgd: clip, agc, trust, adam, snr.

static bs_status clip(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_CLIP, shape, arg, false);
  if (status != BS_OK) return status;
  float *hyper = arg_at<float>(arg, 1);
  hyper[1] = bs_clip_scale(&shape->clip, bs_double(arg_at<const float>(arg, 0), 0), hyper[1]);
  return BS_OK;
}

static bs_status agc(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_AGC, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_agc &s = shape->agc;
  const float *hyper = arg_at<const float>(arg, 2);
  for (int64_t unit = 0; unit < s.units; unit++) {
    const float *w = arg_at<const float>(arg, 0) + unit * s.fan;
    float *g = arg_at<float>(arg, 1) + unit * s.fan;
    float factor = bs_agc_factor(&s, sqrt(dot_double(w, w, s.fan)), sqrt(dot_double(g, g, s.fan)), hyper[1]);
    if (factor == 1) continue;
    each(s.fan, [=](auto lanes, int64_t i) { put(g + i, set1(factor) * get(g + i, lanes), lanes); });
  }
  return BS_OK;
}

static bs_status trust(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_TRUST, shape, arg, false);
  if (status != BS_OK) return status;
  for (int32_t i = 0; i < shape->trust.count; i++)
    bs_trust_tensor(&shape->trust, i, arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), arg_at<const float>(arg, 2),
                    arg_at<const float>(arg, 3), arg_at<float>(arg, 4));
  return BS_OK;
}

BS_INLINE vf vsqrt(vf v) {
  for (int i = 0; i < VW; i++) v[i] = sqrtf(v[i]);
  return v;
}

static bs_status adam(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_ADAM, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_adam &s = shape->adam;
  const float *w = arg_at<const float>(arg, 0), *g = arg_at<const float>(arg, 1);
  float *m = arg_at<float>(arg, 2), *square = arg_at<float>(arg, 3), *u = arg_at<float>(arg, 6);
  const float *hyper = arg_at<const float>(arg, 4), *correction = arg_at<const float>(arg, 5);
  vf scale = set1(hyper[1]), up = set1(correction[0]), root = set1(correction[1]);
  vf beta1 = set1((float)s.beta1), fresh1 = set1((float)(1 - s.beta1)), eps = set1((float)s.eps);
  vf beta2 = set1((float)s.beta2), fresh2 = set1((float)(1 - s.beta2)), decay = set1((float)s.weight_decay);
  each(s.count, [=](auto lanes, int64_t i) {
    vf d = scale * get(g + i, lanes);
    vf mean = fmadd(beta1, get(m + i, lanes), fresh1 * d);
    vf second = fmadd(beta2, get(square + i, lanes), fresh2 * d * d);
    put(m + i, mean, lanes);
    put(square + i, second, lanes);
    put(u + i, fmadd(decay, get(w + i, lanes), up * mean / fmadd(root, vsqrt(second), eps)), lanes);
  });
  return BS_OK;
}

static bs_status snr(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_SNR, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_vector &s = shape->vector;
  float *g = arg_at<float>(arg, 0);
  const float *square = arg_at<const float>(arg, 1);
  double sum = 0, counted = 0;
  for (int64_t i = 0; i < s.count; i++) {
    double ratio = bs_snr_ratio(s.a, g[i], square[i]);
    if (ratio >= 0) sum += ratio, counted++;
  }
  double mean = sum / counted;
  for (int64_t i = 0; i < s.count; i++) g[i] *= bs_snr_factor(bs_snr_ratio(s.a, g[i], square[i]), mean, s.b);
  return BS_OK;
}
