// ptx.cuh: kernels/cuda/ptx/ptx.cuh on a CPU, function by function.
#ifndef BROADSIDE_EMU_PTX_CUH
#define BROADSIDE_EMU_PTX_CUH

#include <cuda_runtime.h>

namespace bs {
namespace cuda {

inline void *dynamic_shared() { return emu::dynamic_shared(); }

} // namespace cuda
} // namespace bs

#endif
