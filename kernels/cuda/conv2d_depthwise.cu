// conv2d_depthwise.cu: convolutions with one input channel per group. A thread has one channel of one pixel.
#include "conv2d_depthwise.cuh"
#include "conv2d_mma.cuh"

namespace bs {
namespace cuda {
namespace {

// A block has 32 channels of 8 pixels.
enum { depthwise_channels = 32, depthwise_pixels = 8, depthwise_threads = depthwise_channels * depthwise_pixels };

template <typename Op>
__global__ void __launch_bounds__(depthwise_threads) depthwise_kernel(int64_t pixels, int h, int w, int channels, Op op) {
  int tiles = (channels + depthwise_channels - 1) / depthwise_channels;
  int channel = (int)(blockIdx.x % (unsigned)tiles) * depthwise_channels + (int)threadIdx.x % depthwise_channels;
  int64_t pixel = (int64_t)(blockIdx.x / (unsigned)tiles) * depthwise_pixels + threadIdx.x / depthwise_channels;
  if (channel >= channels || pixel >= pixels) return;
  Position p = Position::of(pixel, h, w);
  op(pixel, p, channel);
}

// depthwise_each runs op(pixel, position, channel) for all pixels of n images and all channels.
template <typename Op> bs_status depthwise_each(void *stream, int n, int h, int w, int channels, Op op) {
  int64_t pixels = (int64_t)n * h * w;
  int64_t blocks = ceil_div(pixels, (int64_t)depthwise_pixels) * ceil_div(channels, (int)depthwise_channels);
  if (blocks > most_blocks) return BS_UNSUPPORTED;
  return launch(stream, depthwise_kernel<Op>, dim3((unsigned)blocks), dim3(depthwise_threads), 0, pixels, h, w, channels, op);
}

} // namespace

bs_status depthwise_forward(const bs_conv2d &s, const float *x, const float *w, const float *bias, float *y, void *stream) {
  int multiplier = s.k / s.c;
  return depthwise_each(stream, s.n, s.oh, s.ow, s.k, [=] __device__(int64_t pixel, Position p, int k) {
    const float *image = x + (int64_t)p.image * s.h * s.w * s.c + k / multiplier, *filter = w + k * s.r * s.s;
    float sum = 0;
    for (int r = 0; r < s.r; r++) {
      int h = p.h * s.stride_h - s.pad_h + r;
      if ((unsigned)h >= (unsigned)s.h) continue;
      for (int t = 0; t < s.s; t++) {
        int v = p.w * s.stride_w - s.pad_w + t;
        if ((unsigned)v >= (unsigned)s.w) continue;
        sum += factor(image[(h * s.w + v) * s.c], s.precision) * factor(filter[r * s.s + t], s.precision);
      }
    }
    float *to = y + pixel * s.k + k;
    if (s.accumulate) sum += *to;
    if (bias) sum += bias[k];
    *to = s.relu ? relu_of(sum) : sum;
  });
}

bs_status depthwise_backward_input(const bs_conv2d &s, const float *dy, const float *w, float *dx, void *stream) {
  int multiplier = s.k / s.c;
  return depthwise_each(stream, s.n, s.h, s.w, s.c, [=] __device__(int64_t pixel, Position p, int c) {
    const float *image = dy + (int64_t)p.image * s.oh * s.ow * s.k + c * multiplier, *filters = w + c * multiplier * s.r * s.s;
    float sum = 0;
    for (int r = 0; r < s.r; r++) {
      int h = p.h + s.pad_h - r, oh = h / s.stride_h;
      if (h < 0 || h % s.stride_h || oh >= s.oh) continue;
      for (int t = 0; t < s.s; t++) {
        int v = p.w + s.pad_w - t, ow = v / s.stride_w;
        if (v < 0 || v % s.stride_w || ow >= s.ow) continue;
        for (int m = 0; m < multiplier; m++)
          sum += factor(image[(oh * s.ow + ow) * s.k + m], s.precision) * factor(filters[(m * s.r + r) * s.s + t], s.precision);
      }
    }
    float *to = dx + pixel * s.c + c;
    *to = s.accumulate ? *to + sum : sum;
  });
}

} // namespace cuda
} // namespace bs

