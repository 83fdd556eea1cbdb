// sgd.cu: the fused SGD update with momentum, Nesterov momentum and weight decay.
#include "each.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {

bs_status sgd(const bs_shape *shape, void *const *arg, void *stream) {
  const bs_sgd &s = shape->sgd;
  bs_status status = check(BS_SGD, shape, arg);
  if (status != BS_OK) return status;
  float *w = arg_at<float>(arg, 0), *velocity = arg_at<float>(arg, 2);
  const float *g = arg_at<const float>(arg, 1), *hyper = arg_at<const float>(arg, 3);
  float momentum = (float)s.momentum, decay = (float)s.weight_decay;
  bool nesterov = s.nesterov != 0;
  if (!velocity) {
    auto update = [=] __device__(float &w, float g) { w = fmaf(-hyper[0], hyper[2] * fmaf(hyper[1], g, decay * w), w); };
    return map(stream, s.count, update, w, g);
  }
  auto update = [=] __device__(float &w, float g, float &v) {
    float d = hyper[2] * fmaf(hyper[1], g, decay * w);
    v = fmaf(momentum, v, d);
    w = fmaf(-hyper[0], nesterov ? fmaf(momentum, v, d) : v, w);
  };
  return map(stream, s.count, update, w, g, velocity);
}

} // namespace cuda
} // namespace bs
