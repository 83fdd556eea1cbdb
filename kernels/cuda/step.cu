// step.cu: what step rules do besides sgd: clip, agc, trust, adam, snr.
#include "each.cuh"
#include "formula.h"
#include "kernels.cuh"
#include "reduce.cuh"

namespace bs {
namespace cuda {
namespace {

// The sums of squares of a row of weights and of its gradient.
struct row_norms {
  struct value {
    double w, g;
  };
  static __device__ value combine(value a, value b) { return {a.w + b.w, a.g + b.g}; }
};

// A block clips a row.
__global__ void __launch_bounds__(threads) agc_kernel(bs_agc s, const float *w, float *g, const float *hyper) {
  w += (int64_t)blockIdx.x * s.fan, g += (int64_t)blockIdx.x * s.fan;
  row_norms::value mine = {0, 0};
  for (int i = threadIdx.x; i < s.fan; i += threads) mine.w += (double)w[i] * w[i], mine.g += (double)g[i] * g[i];
  mine = combine_block<row_norms>(mine);
  float *factor = (float *)dynamic_shared();
  if (threadIdx.x == 0) *factor = bs_agc_factor(&s, sqrt(mine.w), sqrt(mine.g), hyper[1]);
  __syncthreads();
  if (*factor == 1) return;
  for (int i = threadIdx.x; i < s.fan; i += threads) g[i] *= *factor;
}

// The ratios of the elements that have a variance, and how many they are.
struct ratios {
  struct value {
    double sum, counted;
  };
  double groups;
  static constexpr bool pairs = true;
  static __device__ value empty() { return {0, 0}; }
  __device__ void add(value &to, float g, float square) const {
    double ratio = bs_snr_ratio(groups, g, square);
    if (ratio >= 0) to.sum += ratio, to.counted++;
  }
  static __device__ value combine(value a, value b) { return {a.sum + b.sum, a.counted + b.counted}; }
};

} // namespace

int64_t snr_cells(const bs_vector &s) { return 2 + partial_cells<ratios::value>(s.count); }

bs_status clip(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_CLIP, shape, arg);
  if (status != BS_OK) return status;
  bs_clip s = shape->clip;
  const float *norm = arg_at<const float>(arg, 0);
  float *hyper = arg_at<float>(arg, 1);
  return each(stream, 1, [=] __device__(int64_t) { hyper[1] = bs_clip_scale(&s, bs_double(norm, 0), hyper[1]); });
}

bs_status agc(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_AGC, shape, arg);
  if (status != BS_OK) return status;
  return launch(stream, agc_kernel, dim3((unsigned)shape->agc.units), dim3(threads), threads * sizeof(row_norms::value), shape->agc,
                arg_at<const float>(arg, 0), arg_at<float>(arg, 1), arg_at<const float>(arg, 2));
}

bs_status trust(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_TRUST, shape, arg);
  if (status != BS_OK) return status;
  bs_trust s = shape->trust;
  const float *w = arg_at<const float>(arg, 0), *g = arg_at<const float>(arg, 1), *dot = arg_at<const float>(arg, 2);
  const float *hyper = arg_at<const float>(arg, 3);
  float *out = arg_at<float>(arg, 4);
  return each(stream, s.count, [=] __device__(int64_t i) { bs_trust_tensor(&s, i, w, g, dot, hyper, out); });
}

bs_status adam(const bs_shape *shape, void *const *arg, void *stream) {
  const bs_adam &s = shape->adam;
  bs_status status = check(BS_ADAM, shape, arg);
  if (status != BS_OK) return status;
  const float *hyper = arg_at<const float>(arg, 4), *correction = arg_at<const float>(arg, 5);
  float beta1 = (float)s.beta1, fresh1 = (float)(1 - s.beta1), beta2 = (float)s.beta2, fresh2 = (float)(1 - s.beta2);
  float eps = (float)s.eps, decay = (float)s.weight_decay;
  auto direct = [=] __device__(float w, float g, float &m, float &square, float &u) {
    float d = hyper[1] * g;
    m = fmaf(beta1, m, fresh1 * d);
    square = fmaf(beta2, square, fresh2 * d * d);
    u = fmaf(decay, w, correction[0] * m / fmaf(correction[1], sqrtf(square), eps));
  };
  return map(stream, s.count, direct, arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), arg_at<float>(arg, 2),
             arg_at<float>(arg, 3), overwritten{arg_at<float>(arg, 6)});
}

bs_status snr(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_SNR, shape, arg);
  if (status != BS_OK) return status;
  const bs_vector &s = shape->vector;
  float *g = arg_at<float>(arg, 0), *mean = arg_at<float>(arg, 2);
  const float *square = arg_at<const float>(arg, 1);
  double groups = s.a, least = s.b;
  status = reduce(stream, ratios{groups}, g, square, s.count, mean + 2,
                  [=] __device__(ratios::value all) { put_double(mean, all.sum / all.counted); });
  if (status != BS_OK) return status;
  auto damp = [=] __device__(float &g, float square) {
    g *= bs_snr_factor(bs_snr_ratio(groups, g, square), bs_double(mean, 0), least);
  };
  return map(stream, s.count, damp, g, square);
}

} // namespace cuda
} // namespace bs
