// pgd.h: pgd_step, a sign-gradient step projected on the eps-ball around the clean input.

static bs_status pgd_step(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_PGD_STEP, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_pgd &s = shape->pgd;
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
