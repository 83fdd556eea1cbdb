// reduce.cuh: reductions whose bits repeat.
//
// A grid that depends on the count alone leaves one partial result per block in the workspace; one more block
// combines them, in their order.
#ifndef BROADSIDE_CUDA_REDUCE_CUH
#define BROADSIDE_CUDA_REDUCE_CUH

#include "lanes.cuh"
#include "ptx.cuh"

namespace bs {
namespace cuda {
namespace {

constexpr int threads = 256, most_blocks = 1024, batch = 4; // float4s that a thread takes at a time

inline int reduce_blocks(int64_t count) {
  int64_t blocks = ceil_div(count, (int64_t)(threads * 4 * batch));
  return (int)(blocks < most_blocks ? blocks : most_blocks);
}

// partial_cells is the workspace for a reduction of so many elements to a Value of 8 or 16 bytes.
template <typename Value> int64_t partial_cells(int64_t count) {
  return scratch_slack + (int64_t)(sizeof(Value) / 4) * reduce_blocks(count);
}

// combine_block returns the combination of all threads' values to thread 0.
template <typename Of> __device__ typename Of::value combine_block(typename Of::value mine) {
  typename Of::value *all = (typename Of::value *)dynamic_shared();
  all[threadIdx.x] = mine;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if ((int)threadIdx.x < half) all[threadIdx.x] = mine = Of::combine(mine, all[threadIdx.x + half]);
  }
  return mine;
}

// add_lanes adds N float4s of x and z, `step` float4s apart from the i-th on. All loads come first.
template <typename Of, bool wide, int N>
__device__ __forceinline__ void add_lanes(const Of &of, typename Of::value &to, const float *x, const float *z, int64_t i, int64_t step) {
  lanes<4> a[N], b[N];
#pragma unroll
  for (int u = 0; u < N; u++) {
    a[u] = load<4, wide>(x + (i + u * step) * 4);
    b[u] = Of::pairs ? load<4, wide>(z + (i + u * step) * 4) : a[u];
  }
#pragma unroll
  for (int u = 0; u < N; u++)
#pragma unroll
    for (int k = 0; k < 4; k++) of.add(to, a[u].v[k], b[u].v[k]);
}

template <typename Of, bool wide>
__global__ void __launch_bounds__(threads) partial_kernel(Of of, const float *x, const float *z, int64_t count, typename Of::value *partial) {
  typename Of::value mine = Of::empty();
  int64_t whole = count / 4, step = (int64_t)gridDim.x * threads, i = (int64_t)blockIdx.x * threads + threadIdx.x;
  int64_t rest = whole * 4 + i;
  for (; i + (batch - 1) * step < whole; i += batch * step) add_lanes<Of, wide, batch>(of, mine, x, z, i, step);
  for (; i < whole; i += step) add_lanes<Of, wide, 1>(of, mine, x, z, i, step);
  if (rest < count) of.add(mine, x[rest], Of::pairs ? z[rest] : x[rest]);
  mine = combine_block<Of>(mine);
  if (threadIdx.x == 0) partial[blockIdx.x] = mine;
}

template <typename Of, typename Put>
__global__ void __launch_bounds__(threads) combine_kernel(const typename Of::value *partial, int count, Put put) {
  typename Of::value mine = Of::empty();
  for (int i = threadIdx.x; i < count; i += threads) mine = Of::combine(mine, partial[i]);
  mine = combine_block<Of>(mine);
  if (threadIdx.x == 0) put(mine);
}

// reduce calls put(result) on the device. `of` says what is added to what and how, as in reduce.cu.
template <typename Of, typename Put>
bs_status reduce(void *stream, Of of, const float *x, const float *z, int64_t count, void *scratch, Put put) {
  typedef typename Of::value value;
  value *partial = aligned_scratch<value>(scratch);
  int blocks = reduce_blocks(count);
  auto kernel = aligned(x, z) ? partial_kernel<Of, true> : partial_kernel<Of, false>;
  bs_status status = launch(stream, kernel, dim3(blocks), dim3(threads), threads * sizeof(value), of, x, z, count, partial);
  if (status != BS_OK) return status;
  return launch(stream, combine_kernel<Of, Put>, dim3(1), dim3(threads), threads * sizeof(value), partial, blocks, put);
}

// put_double writes a double over two cells, which need not be aligned to 8 bytes.
__device__ inline void put_double(float *cells, double v) { memcpy(cells, &v, sizeof v); }

} // namespace
} // namespace cuda
} // namespace bs

#endif
