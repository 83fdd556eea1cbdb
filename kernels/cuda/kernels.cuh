// kernels.cuh: the host functions of the table, each in the file of its family.
#ifndef BROADSIDE_CUDA_KERNELS_CUH
#define BROADSIDE_CUDA_KERNELS_CUH

#include "device.cuh"

namespace bs {
namespace cuda {

#define BS_DECLARE(NAME, name, shape, args) bs_status name(const bs_shape *shape, void *const *arg, void *stream);
BS_KERNELS(BS_DECLARE)
#undef BS_DECLARE

} // namespace cuda
} // namespace bs

#endif
