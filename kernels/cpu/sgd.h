// sgd.h: the fused SGD update with momentum, Nesterov momentum and weight decay.

static bs_status sgd(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_SGD, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_sgd &s = shape->sgd;
  float *w = arg_at<float>(arg, 0), *velocity = arg_at<float>(arg, 2);
  const float *g = arg_at<const float>(arg, 1), *hyper = arg_at<const float>(arg, 3);
  vf lr = set1(hyper[0]), scale = set1(hyper[1]), gain = set1(hyper[2]);
  vf momentum = set1((float)s.momentum), decay = set1((float)s.weight_decay);
  bool nesterov = s.nesterov != 0;
  each(s.count, [=](auto lanes, int64_t i) {
    vf weight = get(w + i, lanes);
    vf d = gain * fmadd(scale, get(g + i, lanes), decay * weight);
    if (velocity) {
      vf v = fmadd(momentum, get(velocity + i, lanes), d);
      put(velocity + i, v, lanes);
      d = nesterov ? fmadd(momentum, v, d) : v;
    }
    put(w + i, fmadd(-lr, d, weight), lanes);
  });
  return BS_OK;
}
