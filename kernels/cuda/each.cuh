// each.cuh: kernels that do the same to every element.
#ifndef BROADSIDE_CUDA_EACH_CUH
#define BROADSIDE_CUDA_EACH_CUH

#include "device.cuh"

namespace bs {
namespace cuda {

enum { each_threads = 256 };

template <typename Op> __global__ void __launch_bounds__(each_threads) each_kernel(int64_t count, Op op) {
  int64_t step = (int64_t)gridDim.x * each_threads;
  for (int64_t i = (int64_t)blockIdx.x * each_threads + threadIdx.x; i < count; i += step) op(i);
}

// each runs op(i) for i in [0, count), in any order.
template <typename Op> bs_status each(void *stream, int64_t count, Op op) {
  const int64_t most = 1 << 16; // blocks; what is left is done in further rounds
  int64_t blocks = ceil_div(count, (int64_t)each_threads);
  return launch(stream, each_kernel<Op>, dim3((unsigned)(blocks < most ? blocks : most)), dim3(each_threads), 0, count, op);
}

} // namespace cuda
} // namespace bs

#endif
