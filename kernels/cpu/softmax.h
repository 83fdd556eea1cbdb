// softmax.h: softmax_xent and softmax_xent_tangent.

static int argmax(const float *z, int n) {
  int best = 0;
  for (int k = 1; k < n; k++)
    if (z[k] > z[best]) best = k;
  return best;
}

// softmax_row writes prob = softmax(z) and returns the logarithm of the sum of exp(z). The largest
// logit is subtracted first, so nothing overflows.
static double softmax_row(const float *z, int classes, float *prob) {
  float top = z[argmax(z, classes)];
  double sum = 0;
  for (int k = 0; k < classes; k++) {
    prob[k] = exp_of(z[k] - top);
    sum += prob[k];
  }
  float scale = (float)(1 / sum);
  for (int k = 0; k < classes; k++) prob[k] *= scale;
  return log_of(sum) + top;
}

// xent_row returns the cross-entropy with the smoothed label, given the row's log-sum-exp.
static double xent_row(const float *z, int classes, int label, double smoothing, double logsum) {
  double loss = (1 - smoothing) * (logsum - z[label]);
  if (smoothing == 0) return loss;
  double sum = 0;
  for (int k = 0; k < classes; k++) sum += logsum - z[k];
  return loss + smoothing / classes * sum;
}

static bs_status softmax_xent(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_SOFTMAX_XENT, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_softmax &s = shape->softmax;
  const float *z = arg_at<const float>(arg, 0), *weight = arg_at<const float>(arg, 2);
  const int32_t *label = arg_at<const int32_t>(arg, 1);
  float *loss = arg_at<float>(arg, 3), *correct = arg_at<float>(arg, 4), *prob = arg_at<float>(arg, 5);
  float *dlogits = arg_at<float>(arg, 6);
  for (int i = 0; i < s.n; i++)
    if (label[i] < 0 || label[i] >= s.classes) return BS_BAD_ARGUMENT;
  float off = (float)(s.smoothing / s.classes), on = (float)(1 - s.smoothing + s.smoothing / s.classes);
  for (int i = 0; i < s.n; i++, z += s.classes, prob += s.classes) {
    float w = weight ? weight[i] : 1;
    double logsum = softmax_row(z, s.classes, prob);
    loss[i] = (float)(w * xent_row(z, s.classes, label[i], s.smoothing, logsum));
    correct[i] = argmax(z, s.classes) == label[i] ? 1 : 0;
    if (!dlogits) continue;
    float *d = dlogits + (int64_t)i * s.classes;
    for (int k = 0; k < s.classes; k++) d[k] = w * (prob[k] - (k == label[i] ? on : off));
  }
  return BS_OK;
}

static bs_status softmax_xent_tangent(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_SOFTMAX_XENT_TANGENT, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_softmax &s = shape->softmax;
  const float *prob = arg_at<const float>(arg, 0), *weight = arg_at<const float>(arg, 1);
  const float *tz = arg_at<const float>(arg, 2);
  float *out = arg_at<float>(arg, 3);
  for (int i = 0; i < s.n; i++, prob += s.classes, tz += s.classes, out += s.classes) {
    double mean = 0;
    for (int k = 0; k < s.classes; k++) mean += (double)prob[k] * tz[k];
    float w = weight ? weight[i] : 1;
    for (int k = 0; k < s.classes; k++) out[k] = (float)(w * (prob[k] * (tz[k] - mean)));
  }
  return BS_OK;
}
