// dropout.cu: dropout, whose mask is recomputed from the sample's random stream wherever it is needed, and the forward
// gradient, whose directions are. A thread takes the four elements of one block of random words.
#include "each.cuh"
#include "kernels.cuh"
#include "philox.cuh"
#include "ptx.cuh"

namespace bs {
namespace cuda {
namespace {

constexpr int direction_threads = 256;

// forward_gradient_kernel has a block for each sample. All of dy is read before any of dx is written: they may be one.
__global__ void __launch_bounds__(direction_threads)
    forward_gradient_kernel(const float *dy, const int32_t *sample, const uint32_t *key, float *dx, int per, uint32_t layer) {
  double *sums = (double *)dynamic_shared();
  philox_stream stream = sample_stream(key, sample[blockIdx.x], 12, layer);
  int64_t first = (int64_t)blockIdx.x * per;
  double sum = 0;
  for (int e = 4 * threadIdx.x; e < per; e += 4 * direction_threads) {
    uint4 words = philox_block(stream, (uint32_t)e / 4);
    for (int k = 0; k < 4 && e + k < per; k++) sum += word_of(words, k) >> 31 ? -(double)dy[first + e + k] : (double)dy[first + e + k];
  }
  sums[threadIdx.x] = sum;
  for (int half = direction_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if ((int)threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  __syncthreads();
  float derivative = (float)sums[0];
  for (int e = 4 * threadIdx.x; e < per; e += 4 * direction_threads) {
    uint4 words = philox_block(stream, (uint32_t)e / 4);
    for (int k = 0; k < 4 && e + k < per; k++) dx[first + e + k] = word_of(words, k) >> 31 ? -derivative : derivative;
  }
}

} // namespace

bs_status dropout(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_DROPOUT, shape, arg);
  if (status != BS_OK) return status;
  const bs_dropout &s = shape->dropout;
  const float *x = arg_at<const float>(arg, 0);
  const int32_t *sample = arg_at<const int32_t>(arg, 1);
  const uint32_t *key = arg_at<const uint32_t>(arg, 2);
  float *y = arg_at<float>(arg, 3), scale = (float)(1 / (1 - s.p));
  // uniform < p, in whole numbers: (word >> 8) < p 2^24.
  uint32_t threshold = (uint32_t)ceil(s.p * 16777216), layer = (uint32_t)s.layer;
  int per = s.per, blocks = (int)ceil_div((int64_t)per, (int64_t)4);
  bool wide = per % 4 == 0 && aligned(x, y);
  return each(stream, (int64_t)s.n * blocks, [=] __device__(int64_t i) {
    int64_t n = divide(i, blocks);
    int e = 4 * (int)(i - n * blocks);
    int64_t at = n * per + e;
    uint4 words = philox_block(sample_stream(key, sample[n], 2, layer), (uint32_t)e / 4);
    auto keep = [&](float v, int k) { return word_of(words, k) >> 8 < threshold ? 0 : v * scale; };
    if (wide) {
      float4 v = *(const float4 *)(x + at);
      *(float4 *)(y + at) = make_float4(keep(v.x, 0), keep(v.y, 1), keep(v.z, 2), keep(v.w, 3));
      return;
    }
    for (int k = 0; k < 4 && e + k < per; k++) y[at + k] = keep(x[at + k], k);
  });
}

bs_status forward_gradient(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_FORWARD_GRADIENT, shape, arg);
  if (status != BS_OK) return status;
  const bs_dropout &s = shape->dropout;
  return launch(stream, forward_gradient_kernel, dim3((unsigned)s.n), dim3(direction_threads), direction_threads * sizeof(double),
                arg_at<const float>(arg, 0), arg_at<const int32_t>(arg, 1), arg_at<const uint32_t>(arg, 2), arg_at<float>(arg, 3), (int)s.per,
                (uint32_t)s.layer);
}

} // namespace cuda
} // namespace bs
