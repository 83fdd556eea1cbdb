// softmax.cu: softmax_xent and softmax_xent_tangent. A warp takes a row.
#include "kernels.cuh"
#include "lanes.cuh"

namespace bs {
namespace cuda {
namespace {

constexpr int warp = 32, rows_per_block = 8;

dim3 row_blocks(int rows) { return dim3((unsigned)ceil_div(rows, rows_per_block)); }

__device__ int64_t row_of_warp() { return (int64_t)blockIdx.x * rows_per_block + threadIdx.x / warp; }

// sum_warp returns the sum of all lanes' values to every lane, in the same order on each.
__device__ double sum_warp(double v) {
  for (int bit = 1; bit < warp; bit *= 2) v += __shfl_xor_sync(0xffffffffu, v, bit);
  return v;
}

// The largest logit and where it first stands. A NaN is never larger; it shows in the sum of exponentials.
struct largest {
  float value;
  int at;
};

__device__ largest larger(largest a, largest b) {
  return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a;
}

__device__ largest largest_of_row(const float *z, int classes, int lane) {
  largest best = {-INFINITY, classes};
  for (int k = lane; k < classes; k += warp) best = larger(best, {z[k], k});
  for (int bit = 1; bit < warp; bit *= 2)
    best = larger(best, {__shfl_xor_sync(0xffffffffu, best.value, bit), __shfl_xor_sync(0xffffffffu, best.at, bit)});
  return best;
}

struct xent_args {
  int n, classes;
  double smoothing;
  const float *logits, *weight;
  const int32_t *label;
  float *loss, *correct, *prob, *dlogits;
  int32_t *fault;
};

__global__ void __launch_bounds__(warp * rows_per_block) xent_kernel(xent_args a) {
  int64_t row = row_of_warp();
  int lane = threadIdx.x % warp;
  if (row >= a.n) return;
  int label = a.label[row];
  if (label < 0 || label >= a.classes) {
    *a.fault = BS_BAD_ARGUMENT;
    return;
  }
  const float *z = a.logits + row * a.classes;
  float *prob = a.prob + row * a.classes;
  largest top = largest_of_row(z, a.classes, lane);
  double exponentials = 0, logits = 0;
  for (int k = lane; k < a.classes; k += warp) {
    prob[k] = expf(z[k] - top.value);
    exponentials += prob[k];
    logits += z[k];
  }
  exponentials = sum_warp(exponentials), logits = sum_warp(logits);
  float scale = (float)(1 / exponentials), w = a.weight ? a.weight[row] : 1;
  float off = (float)(a.smoothing / a.classes), on = (float)(1 - a.smoothing + a.smoothing / a.classes);
  for (int k = lane; k < a.classes; k += warp) {
    prob[k] *= scale;
    if (a.dlogits) a.dlogits[row * a.classes + k] = w * (prob[k] - (k == label ? on : off));
  }
  if (lane != 0) return;
  double log_sum = log(exponentials) + top.value, loss = (1 - a.smoothing) * (log_sum - z[label]);
  if (a.smoothing != 0) loss += a.smoothing * (log_sum - logits / a.classes);
  a.loss[row] = (float)(w * loss);
  a.correct[row] = top.at == label ? 1 : 0;
}

__global__ void __launch_bounds__(warp * rows_per_block)
    xent_tangent_kernel(int n, int classes, const float *prob, const float *weight, const float *tlogits, float *tdlogits) {
  int64_t row = row_of_warp(), at = row * classes;
  int lane = threadIdx.x % warp;
  if (row >= n) return;
  double mean = 0;
  for (int k = lane; k < classes; k += warp) mean += (double)prob[at + k] * tlogits[at + k];
  mean = sum_warp(mean);
  float w = weight ? weight[row] : 1;
  for (int k = lane; k < classes; k += warp) tdlogits[at + k] = (float)(w * (prob[at + k] * (tlogits[at + k] - mean)));
}

} // namespace

bs_status softmax_xent(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_SOFTMAX_XENT, shape, arg);
  if (status != BS_OK) return status;
  const bs_softmax &s = shape->softmax;
  xent_args a = {s.n, s.classes, s.smoothing, arg_at<const float>(arg, 0), arg_at<const float>(arg, 2),
                 arg_at<const int32_t>(arg, 1), arg_at<float>(arg, 3), arg_at<float>(arg, 4), arg_at<float>(arg, 5),
                 arg_at<float>(arg, 6), queue_of(stream).fault};
  return launch(stream, xent_kernel, row_blocks(s.n), dim3(warp * rows_per_block), 0, a);
}

bs_status softmax_xent_tangent(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_SOFTMAX_XENT_TANGENT, shape, arg);
  if (status != BS_OK) return status;
  const bs_softmax &s = shape->softmax;
  return launch(stream, xent_tangent_kernel, row_blocks(s.n), dim3(warp * rows_per_block), 0, s.n, s.classes,
                arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), arg_at<const float>(arg, 2), arg_at<float>(arg, 3));
}

} // namespace cuda
} // namespace bs
