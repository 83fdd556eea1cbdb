// pgd.h: pgd_step, a sign-gradient step projected on the eps-ball around the clean input.

static bool bad_pgd(const bs_pgd &s) {
  return s.count <= 0 || !(s.eps >= 0);
}

static bs_status pgd_step(const bs_shape *shape, void *const *arg, void *) {
  const bs_pgd &s = shape->pgd;
  if (bad_pgd(s)) return BS_BAD_SHAPE;
  if (!all_set(arg, 0b10111)) return BS_BAD_ARGUMENT;
  const float *x = arg_at<const float>(arg, 0), *clean = arg_at<const float>(arg, 1);
  const float *grad = arg_at<const float>(arg, 2), *bounds = arg_at<const float>(arg, 3);
  float *out = arg_at<float>(arg, 4);
  vf step = set1((float)s.step), eps = set1((float)s.eps);
  vf low = set1(bounds ? bounds[0] : -__builtin_inff()), high = set1(bounds ? bounds[1] : __builtin_inff());
  each(s.count, [=](auto lanes, int64_t i) {
    vf g = get(grad + i, lanes), from = get(clean + i, lanes);
    vf move = select(g > zero(), step, select(g < zero(), -step, zero()));
    vf delta = vmin(vmax((get(x + i, lanes) + move) - from, -eps), eps);
    put(out + i, vmin(vmax(from + delta, low), high), lanes);
  });
  return BS_OK;
}
