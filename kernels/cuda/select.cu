// select.cu: median, by radix selection: three histograms of the digits of the values' bits, from the highest on.
//
// Counts and the smallest of some bits are the same in any order, so atomics do not change what comes out.
#include "each.cuh"
#include "formula.h"
#include "kernels.cuh"
#include "ptx.cuh"

namespace bs {
namespace cuda {
namespace {

constexpr int select_threads = 256, digits = 1 << 11, per_thread = digits / select_threads;

// A choice is a set of values by their leading bits, and the rank within it of the value that is looked for.
struct choice {
  uint32_t bits, mask;                   // values whose bits under the mask are these
  unsigned long long rank, count, total; // count: of them; total: of all values
  uint32_t larger;                       // bits of the smallest value above the chosen one
  uint32_t histogram[digits];
};

struct ratio_vectors {
  const float *x, *z;
  int64_t count;
  float delta;
  bool zeros;
  __device__ uint32_t bits(int64_t i) const { return bs_ratio_bits(x[i], z[i], delta, zeros); }
};

__global__ void __launch_bounds__(select_threads) begin_kernel(choice *c) {
  for (int i = threadIdx.x; i < digits; i += select_threads) c->histogram[i] = 0;
  if (threadIdx.x > 0) return;
  c->bits = c->mask = 0;
  c->rank = c->count = c->total = 0;
  c->larger = 0xffffffffu;
}

__global__ void __launch_bounds__(select_threads) histogram_kernel(ratio_vectors of, choice *c, int shift, int bits) {
  unsigned *histogram = (unsigned *)dynamic_shared();
  for (int i = threadIdx.x; i < digits; i += select_threads) histogram[i] = 0;
  __syncthreads();
  uint32_t last = (1u << bits) - 1;
  for (int64_t i = first_element(); i < of.count; i += element_step()) {
    uint32_t v = of.bits(i);
    if (bs_is_finite(v) && (v & c->mask) == c->bits) atomicAdd(&histogram[v >> shift & last], 1u);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < digits; i += select_threads)
    if (histogram[i] > 0) atomicAdd(&c->histogram[i], histogram[i]);
}

// choose_kernel narrows the choice by a digit. A thread sums the counts of its digits; the first one finds the thread
// that has the digit, and then the digit.
__global__ void __launch_bounds__(select_threads) choose_kernel(choice *c, int shift, int bits) {
  unsigned long long *sums = (unsigned long long *)dynamic_shared();
  unsigned own[per_thread], *histogram = c->histogram + threadIdx.x * per_thread;
  unsigned long long sum = 0;
  for (int i = 0; i < per_thread; i++) sum += own[i] = histogram[i], histogram[i] = 0;
  sums[threadIdx.x] = sum;
  __syncthreads();
  unsigned long long *found = sums + select_threads; // the thread, and the rank among its values
  if (threadIdx.x == 0) {
    if (c->mask == 0) { // the first digit: all values
      for (int i = 0; i < select_threads; i++) c->total += sums[i];
      if (c->total > 0) c->rank = (c->total - 1) / 2;
    }
    unsigned long long at = 0, rank = c->rank;
    for (; c->total > 0 && rank >= sums[at]; at++) rank -= sums[at];
    found[0] = at, found[1] = rank;
  }
  __syncthreads();
  if (threadIdx.x != found[0] || c->total == 0) return;
  unsigned long long rank = found[1];
  int digit = 0;
  for (; rank >= own[digit]; digit++) rank -= own[digit];
  c->bits |= (uint32_t)(threadIdx.x * per_thread + digit) << shift;
  c->mask |= ((1u << bits) - 1) << shift;
  c->rank = rank, c->count = own[digit];
}

// both says that the other value in the middle is not the chosen one.
__device__ __forceinline__ bool both(const choice *c) { return c->total % 2 == 0 && c->rank + 1 == c->count; }

__global__ void __launch_bounds__(each_threads) larger_kernel(ratio_vectors of, choice *c) {
  if (!both(c)) return;
  uint32_t best = 0xffffffffu;
  for (int64_t i = first_element(); i < of.count; i += element_step()) {
    uint32_t v = of.bits(i);
    if (v > c->bits && v < best) best = v;
  }
  atomicMin(&c->larger, best);
}

__global__ void middle_kernel(const choice *c, float *out) {
  double v = c->total == 0 ? (double)NAN : bs_middle(c->bits, both(c) ? c->larger : c->bits);
  memcpy(out, &v, sizeof v);
}

} // namespace

int64_t median_cells(const bs_vector &) { return scratch_slack + (int64_t)(sizeof(choice) / 4); }

bs_status median(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_MEDIAN, shape, arg);
  if (status != BS_OK) return status;
  const bs_vector &s = shape->vector;
  ratio_vectors of = {arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), s.count, (float)s.a, s.b == 0};
  choice *c = aligned_scratch<choice>(arg[3]);
  dim3 grid = each_blocks(ceil_div(s.count, (int64_t)16)), block(select_threads);
  status = launch(stream, begin_kernel, dim3(1), block, 0, c);
  const int shift[] = {21, 10, 0}, bits[] = {11, 11, 10};
  for (int i = 0; i < 3; i++) {
    if (status == BS_OK) status = launch(stream, histogram_kernel, grid, block, digits * sizeof(unsigned), of, c, shift[i], bits[i]);
    if (status == BS_OK)
      status = launch(stream, choose_kernel, dim3(1), block, (select_threads + 2) * sizeof(unsigned long long), c, shift[i], bits[i]);
  }
  if (status == BS_OK) status = launch(stream, larger_kernel, grid, block, 0, of, c);
  return status == BS_OK ? launch(stream, middle_kernel, dim3(1), dim3(1), 0, c, arg_at<float>(arg, 2)) : status;
}

} // namespace cuda
} // namespace bs
