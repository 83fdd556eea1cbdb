// conv2d_backward_input.cu
#include "conv2d_depthwise.cuh"
#include "conv2d_pixels.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {

namespace {

PixelGemm gemm_of(const bs_conv2d &s) {
  PixelGemm g = {};
  g.n = s.n, g.in_h = s.oh, g.in_w = s.ow, g.in_c = s.k, g.out_h = s.h, g.out_w = s.w, g.out_c = s.c;
  g.groups = s.groups, g.r = s.r, g.s = s.s;
  g.stride_h = s.stride_h, g.stride_w = s.stride_w, g.pad_h = s.pad_h, g.pad_w = s.pad_w;
  g.phases_h = s.stride_h < s.h ? s.stride_h : s.h, g.phases_w = s.stride_w < s.w ? s.stride_w : s.w;
  g.accumulate = s.accumulate;
  return g;
}

} // namespace

int64_t conv2d_backward_input_cells(const bs_conv2d &s) {
  PixelGemm g = gemm_of(s);
  return hopper_shape(g, s.precision) ? hopper_cells(g, s.precision) : 0;
}

bs_status conv2d_backward_input(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_CONV2D_BACKWARD_INPUT, shape, arg);
  if (status != BS_OK) return status;
  const bs_conv2d &s = shape->conv2d;
  if (!fits(s)) return BS_UNSUPPORTED;
  const float *dy = arg_at<const float>(arg, 0), *w = arg_at<const float>(arg, 1);
  float *dx = arg_at<float>(arg, 2);
  if (depthwise(s)) return depthwise_backward_input(s, dy, w, dx, stream);
  PixelGemm g = gemm_of(s);
  g.in = dy, g.weights = w, g.out = dx;
  if (on_hopper(queue_of(stream), g, s.precision)) return hopper_gemm<true>(g, s.precision, arg_at<float>(arg, 3), stream);
  return pixel_gemm<true>(g, s.precision, stream);
}

} // namespace cuda
} // namespace bs
