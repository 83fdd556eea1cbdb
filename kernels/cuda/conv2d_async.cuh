// conv2d_async.cuh: slabs of floats on their way to shared memory by cp.async, while others are multiplied.
#ifndef BROADSIDE_CUDA_CONV2D_ASYNC_CUH
#define BROADSIDE_CUDA_CONV2D_ASYNC_CUH

#include "conv2d_gemm.cuh"
#include "ptx.cuh"

namespace bs {
namespace cuda {

// AsyncSink puts chunks into a slab by cp.async.
template <typename Factor, typename C> struct AsyncSink {
  float *slab;

  template <bool wide> __device__ __forceinline__ void put(int i, int e, const float *from, bool there) const {
    float *to = slab + Factor::place(C::row(i), C::col(i)) + e;
    if (wide)
      copy_async16(to, from, there);
    else
      copy_async4(to, from, there);
  }
};

// AsyncPipeline brings slabs of the factors A and B through `stages` places in shared memory.
template <typename A, typename ChunksA, typename B, typename ChunksB, int stages> struct AsyncPipeline {
  static constexpr int stage = A::cells + B::cells, shared = stages * stage * (int)sizeof(float);

  // run calls multiply(a, b) for all slabs, in order. While one is multiplied the next stages - 1 are on their way.
  template <typename SourceA, typename SourceB, typename Multiply>
  static __device__ __forceinline__ void run(SourceA &a, SourceB &b, int slabs, const Multiply &multiply) {
    float *memory = (float *)dynamic_shared();
    auto fetch = [&](int left) { // the slab with which so many are left
      if (left > 0) {
        float *at = memory + (unsigned)left % stages * stage;
        a.next(AsyncSink<A, ChunksA>{at});
        b.next(AsyncSink<B, ChunksB>{at + A::cells});
      }
      commit_async(); // nothing at the end, so that the groups behind a slab are always as many
    };
#pragma unroll
    for (int ahead = 0; ahead < stages - 1; ahead++) fetch(slabs - ahead);
#pragma unroll 1
    for (int left = slabs; left > 0; left--) {
      wait_async<stages - 2>();
      __syncthreads(); // all copies of this slab are there, and the one before is read
      fetch(left - (stages - 1));
      const float *at = memory + (unsigned)left % stages * stage;
      multiply(at, at + A::cells);
    }
  }
};

} // namespace cuda
} // namespace bs

#endif
