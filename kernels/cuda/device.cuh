// device.cuh: what every kernel file uses: queues, launches, arguments.
//
// The kernels here compile with nvcc for GPUs and with a C++ compiler for the emulator (kernels/emu), so they
// keep to what both know: launches go through launch(), instructions that C++ has no name for are functions
// of ptx.cuh.
#ifndef BROADSIDE_CUDA_DEVICE_CUH
#define BROADSIDE_CUDA_DEVICE_CUH

#include <cuda_runtime.h>

#include "broadside.h"
#include "queue.h"

namespace bs {
namespace cuda {

inline const bs_cuda_queue &queue_of(void *stream) { return *(const bs_cuda_queue *)stream; }

inline bs_status status_of(cudaError_t error) { return error == cudaSuccess ? BS_OK : BS_DEVICE_ERROR; }

// A block gets more dynamic shared memory than this only where its kernel has asked for it.
enum { plain_shared = 48 << 10 };

// launch queues a kernel. The arguments are converted to the kernel's parameters.
template <typename... Params, typename... Args>
bs_status launch(void *stream, void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, Args... args) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = queue_of(stream).stream;
  cudaError_t error = cudaSuccess;
  if (shared > plain_shared)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
  if (error == cudaSuccess) error = cudaLaunchKernelEx(&config, kernel, (Params)args...);
  ((bs_cuda_queue *)stream)->error = error;
  return status_of(error);
}

template <typename T> T *arg_at(void *const *arg, int i) { return (T *)arg[i]; }

// aligned_scratch is a workspace from its first multiple of 16 bytes on, which is at most scratch_slack cells in.
enum { scratch_slack = 4 };
template <typename T> T *aligned_scratch(void *workspace) { return (T *)(((uintptr_t)workspace + 15) & ~(uintptr_t)15); }

template <typename T> __host__ __device__ constexpr T ceil_div(T a, T b) { return (a + b - 1) / b; }

} // namespace cuda
} // namespace bs

#endif
