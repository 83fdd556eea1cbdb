// ptx.cuh: the instructions of GPUs that C++ has no name for. kernels/emu/runtime/ptx.cuh is their twin in C++.
#ifndef BROADSIDE_CUDA_PTX_CUH
#define BROADSIDE_CUDA_PTX_CUH

namespace bs {
namespace cuda {

// dynamic_shared is the block's dynamic shared memory.
__device__ __forceinline__ void *dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char memory[];
  return memory;
}

} // namespace cuda
} // namespace bs

#endif
