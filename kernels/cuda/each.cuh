// each.cuh: kernels that do the same to every element.
#ifndef BROADSIDE_CUDA_EACH_CUH
#define BROADSIDE_CUDA_EACH_CUH

#include "lanes.cuh"

namespace bs {
namespace cuda {

enum { each_threads = 256 };

// each_blocks is how many blocks take `count` elements, one per thread; what is left is done in further rounds.
inline dim3 each_blocks(int64_t count) {
  const int64_t most = 1 << 16, blocks = ceil_div(count, (int64_t)each_threads);
  return dim3((unsigned)(blocks < most ? blocks : most));
}

// first_element and element_step walk a grid of each_blocks over the elements.
__device__ __forceinline__ int64_t first_element() { return (int64_t)blockIdx.x * each_threads + threadIdx.x; }
__device__ __forceinline__ int64_t element_step() { return (int64_t)gridDim.x * each_threads; }

template <typename Op> __global__ void __launch_bounds__(each_threads) each_kernel(int64_t count, Op op) {
  for (int64_t i = first_element(); i < count; i += element_step()) op(i);
}

// each runs op(i) for i in [0, count), in any order.
template <typename Op> bs_status each(void *stream, int64_t count, Op op) {
  return launch(stream, each_kernel<Op>, each_blocks(count), dim3(each_threads), 0, count, op);
}

// divide is i / by for an element's number i: in 32 bits, where it fits, several times as fast.
__device__ __forceinline__ int64_t divide(int64_t i, int32_t by) {
  return i >> 32 == 0 ? (int64_t)((uint32_t)i / (uint32_t)by) : i / by;
}

// ---- maps: op(a, b, ...) on the elements of vectors ------------------------------------------

// A vector of a map: const float * is read, float * read and written, overwritten written only.
struct overwritten {
  float *p;
};

inline bool map_aligned(const float *p) { return aligned(p); }
inline bool map_aligned(overwritten to) { return aligned(to.p); }

template <int V> __device__ __forceinline__ lanes<V> map_load(const float *p, int64_t i) {
  return load<V, true>(p + i * V);
}
template <int V> __device__ __forceinline__ lanes<V> map_load(overwritten, int64_t) { return {}; }

template <int V> __device__ __forceinline__ void map_store(const float *, int64_t, const lanes<V> &) {}
template <int V> __device__ __forceinline__ void map_store(float *p, int64_t i, const lanes<V> &r) {
  store<V, true>(p + i * V, r);
}
template <int V> __device__ __forceinline__ void map_store(overwritten to, int64_t i, const lanes<V> &r) {
  store<V, true>(to.p + i * V, r);
}

// map_at handles elements i V to i V + V - 1.
template <int V, typename Op, typename... Vectors>
__device__ __forceinline__ void map_at(int64_t i, const Op &op, Vectors... vector) {
  auto handle = [&](auto... values) {
#pragma unroll
    for (int k = 0; k < V; k++) op(values.v[k]...);
    (map_store<V>(vector, i, values), ...);
  };
  handle(map_load<V>(vector, i)...);
}

template <int V, typename Op, typename... Vectors>
__global__ void __launch_bounds__(each_threads) map_kernel(int64_t count, Op op, Vectors... vector) {
  int64_t whole = count / V;
  for (int64_t i = first_element(); i < whole; i += element_step()) map_at<V>(i, op, vector...);
  int64_t rest = whole * V + first_element();
  if (rest < count) map_at<1>(rest, op, vector...);
}

// map runs op on references to the elements i of all vectors, for i in [0, count). An element is read before
// it is written, so vectors may be the same.
template <typename Op, typename... Vectors> bs_status map(void *stream, int64_t count, Op op, Vectors... vector) {
  if ((map_aligned(vector) && ...))
    return launch(stream, map_kernel<4, Op, Vectors...>, each_blocks(ceil_div(count, (int64_t)4)), dim3(each_threads), 0,
                  count, op, vector...);
  return launch(stream, map_kernel<1, Op, Vectors...>, each_blocks(count), dim3(each_threads), 0, count, op, vector...);
}

} // namespace cuda
} // namespace bs

#endif
