// lanes.cuh: a few consecutive floats that a thread handles together.
#ifndef BROADSIDE_CUDA_LANES_CUH
#define BROADSIDE_CUDA_LANES_CUH

#include "device.cuh"

namespace bs {
namespace cuda {

template <int V> struct alignas(4 * V) lanes { float v[V]; };

// load reads V floats, at once where `wide` says that p is aligned to them.
template <int V, bool wide> __device__ __forceinline__ lanes<V> load(const float *p) {
  lanes<V> r;
  if constexpr (wide) {
    r = *(const lanes<V> *)p;
  } else {
#pragma unroll
    for (int k = 0; k < V; k++) r.v[k] = p[k];
  }
  return r;
}

template <int V, bool wide> __device__ __forceinline__ void store(float *p, const lanes<V> &r) {
  if constexpr (wide) {
    *(lanes<V> *)p = r;
  } else {
#pragma unroll
    for (int k = 0; k < V; k++) p[k] = r.v[k];
  }
}

// aligned reports whether pointers are multiples of 16 bytes; NULL is.
template <typename... Pointers> bool aligned(const Pointers *...p) { return ((((uintptr_t)p & 15) == 0) && ...); }

// positive keeps v where y > 0 and is zero elsewhere: the derivative of ReLU.
__device__ __forceinline__ float positive(float y, float v) { return y > 0 ? v : 0; }

// relu_of is max(0, v). A NaN stays NaN, so that a diverging run is seen.
__device__ __forceinline__ float relu_of(float v) { return v <= 0 ? 0 : v; }

// clamp keeps a NaN too.
__device__ __forceinline__ float clamp(float v, float low, float high) { return v < low ? low : v > high ? high : v; }

} // namespace cuda
} // namespace bs

#endif
