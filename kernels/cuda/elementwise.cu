// elementwise.cu: relu_forward, relu_backward, axpby, add.
#include "each.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {

bs_status relu_forward(const bs_shape *shape, void *const *arg, void *stream) {
  if (shape->vector.count <= 0) return BS_BAD_SHAPE;
  if (!all_set(arg, 0b11)) return BS_BAD_ARGUMENT;
  const float *x = arg_at<const float>(arg, 0);
  float *y = arg_at<float>(arg, 1);
  // A NaN stays NaN, so that a diverging run is seen.
  return each(stream, shape->vector.count, [=] __device__(int64_t i) { y[i] = x[i] <= 0 ? 0 : x[i]; });
}

} // namespace cuda
} // namespace bs
