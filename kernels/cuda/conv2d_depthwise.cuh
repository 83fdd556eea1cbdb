// conv2d_depthwise.cuh: convolutions with one input channel per group. They have kernels of their own, since a matrix
// product with one term per tap would be mostly padding.
#ifndef BROADSIDE_CUDA_CONV2D_DEPTHWISE_CUH
#define BROADSIDE_CUDA_CONV2D_DEPTHWISE_CUH

#include "device.cuh"

namespace bs {
namespace cuda {

inline bool depthwise(const bs_conv2d &s) { return s.groups > 1 && s.c == s.groups; }

bs_status depthwise_forward(const bs_conv2d &s, const float *x, const float *w, const float *bias, float *y, void *stream);
bs_status depthwise_backward_input(const bs_conv2d &s, const float *dy, const float *w, float *dx, void *stream);

} // namespace cuda
} // namespace bs

#endif
