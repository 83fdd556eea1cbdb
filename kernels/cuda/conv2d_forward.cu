// conv2d_forward.cu
#include "conv2d_depthwise.cuh"
#include "conv2d_pixels.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {

namespace {

PixelGemm gemm_of(const bs_conv2d &s) {
  PixelGemm g = {};
  g.n = s.n, g.in_h = s.h, g.in_w = s.w, g.in_c = s.c, g.out_h = s.oh, g.out_w = s.ow, g.out_c = s.k;
  g.groups = s.groups, g.r = s.r, g.s = s.s, g.phases_h = g.phases_w = 1;
  g.stride_h = s.stride_h, g.stride_w = s.stride_w, g.pad_h = s.pad_h, g.pad_w = s.pad_w;
  g.accumulate = s.accumulate, g.relu = s.relu;
  return g;
}

} // namespace

int64_t conv2d_forward_cells(const bs_conv2d &s) {
  PixelGemm g = gemm_of(s);
  return hopper_shape(g, s.precision) ? hopper_cells(g, s.precision) : 0;
}

bs_status conv2d_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_CONV2D_FORWARD, shape, arg);
  if (status != BS_OK) return status;
  const bs_conv2d &s = shape->conv2d;
  if (!fits(s)) return BS_UNSUPPORTED;
  const float *x = arg_at<const float>(arg, 0), *w = arg_at<const float>(arg, 1), *bias = arg_at<const float>(arg, 2);
  float *y = arg_at<float>(arg, 3);
  if (depthwise(s)) return depthwise_forward(s, x, w, bias, y, stream);
  PixelGemm g = gemm_of(s);
  g.in = x, g.weights = w, g.bias = bias, g.out = y;
  if (on_hopper(queue_of(stream), g, s.precision)) return hopper_gemm<false>(g, s.precision, arg_at<float>(arg, 4), stream);
  return pixel_gemm<false>(g, s.precision, stream);
}

} // namespace cuda
} // namespace bs
