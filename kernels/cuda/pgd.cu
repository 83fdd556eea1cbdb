// pgd.cu: pgd_step, a sign-gradient step projected on the eps-ball around the clean input.
#include "each.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {

bs_status pgd_step(const bs_shape *shape, void *const *arg, void *stream) {
  const bs_pgd &s = shape->pgd;
  bs_status status = check(BS_PGD_STEP, shape, arg);
  if (status != BS_OK) return status;
  const float *bounds = arg_at<const float>(arg, 3);
  float step = (float)s.step, eps = (float)s.eps;
  auto move = [=] __device__(float x, float clean, float grad, float &out) {
    float moved = x + (grad > 0 ? step : grad < 0 ? -step : 0);
    float v = clean + clamp(moved - clean, -eps, eps);
    out = bounds ? clamp(v, bounds[0], bounds[1]) : v;
  };
  return map(stream, s.count, move, arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), arg_at<const float>(arg, 2),
             overwritten{arg_at<float>(arg, 4)});
}

} // namespace cuda
} // namespace bs
