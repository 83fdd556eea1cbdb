// elementwise.cu: relu_forward, relu_backward, axpby, add, muladd.
#include "each.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {

bs_status relu_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_RELU_FORWARD, shape, arg);
  if (status != BS_OK) return status;
  return map(stream, shape->vector.count, [] __device__(float x, float &y) { y = relu_of(x); },
             arg_at<const float>(arg, 0), overwritten{arg_at<float>(arg, 1)});
}

bs_status relu_backward(const bs_shape *shape, void *const *arg, void *stream) {
  const bs_vector &s = shape->vector;
  bs_status status = check(BS_RELU_BACKWARD, shape, arg);
  if (status != BS_OK) return status;
  const float *y = arg_at<const float>(arg, 0), *dy = arg_at<const float>(arg, 1);
  float *dx = arg_at<float>(arg, 2);
  if (s.b == 0)
    return map(stream, s.count, [] __device__(float y, float dy, float &dx) { dx = positive(y, dy); }, y, dy, overwritten{dx});
  return map(stream, s.count, [] __device__(float y, float dy, float &dx) { dx += positive(y, dy); }, y, dy, dx);
}

bs_status axpby(const bs_shape *shape, void *const *arg, void *stream) {
  const bs_vector &s = shape->vector;
  bs_status status = check(BS_AXPBY, shape, arg);
  if (status != BS_OK) return status;
  const float *x = arg_at<const float>(arg, 0);
  float *y = arg_at<float>(arg, 1), a = (float)s.a, b = (float)s.b;
  if (s.a == 0 && s.b == 0) return map(stream, s.count, [] __device__(float &y) { y = 0; }, overwritten{y});
  if (s.a == 0) return map(stream, s.count, [=] __device__(float &y) { y *= b; }, y);
  if (s.b == 0) return map(stream, s.count, [=] __device__(float x, float &y) { y = a * x; }, x, overwritten{y});
  return map(stream, s.count, [=] __device__(float x, float &y) { y = fmaf(a, x, b * y); }, x, y);
}

bs_status add(const bs_shape *shape, void *const *arg, void *stream) {
  const bs_vector &s = shape->vector;
  bs_status status = check(BS_ADD, shape, arg);
  if (status != BS_OK) return status;
  float a = (float)s.a, b = (float)s.b;
  return map(stream, s.count, [=] __device__(float x, float z, float &y) { y = fmaf(a, x, b * z); },
             arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), overwritten{arg_at<float>(arg, 2)});
}

bs_status muladd(const bs_shape *shape, void *const *arg, void *stream) {
  const bs_vector &s = shape->vector;
  bs_status status = check(BS_MULADD, shape, arg);
  if (status != BS_OK) return status;
  const float *x = arg_at<const float>(arg, 0), *z = arg_at<const float>(arg, 1);
  float *y = arg_at<float>(arg, 2), a = (float)s.a, b = (float)s.b;
  if (s.b == 0) return map(stream, s.count, [=] __device__(float x, float z, float &y) { y = a * x * z; }, x, z, overwritten{y});
  return map(stream, s.count, [=] __device__(float x, float z, float &y) { y = fmaf(a * x, z, b * y); }, x, z, y);
}

} // namespace cuda
} // namespace bs
