// kernels.cuh: the host functions of the table, each in the file of its family.
#ifndef BROADSIDE_CUDA_KERNELS_CUH
#define BROADSIDE_CUDA_KERNELS_CUH

#include "check.h"
#include "device.cuh"

namespace bs {
namespace cuda {

// workspace is bs_kernels.workspace of the table.
int64_t workspace(int32_t kernel, const bs_shape *shape);

// check refuses a bad shape and a missing argument or workspace.
inline bs_status check(int32_t kernel, const bs_shape *shape, void *const *arg) {
  return bs_check(kernel, shape, arg, workspace(kernel, shape) > 0);
}

#define BS_DECLARE(NAME, name, shape, args) bs_status name(const bs_shape *shape, void *const *arg, void *stream);
BS_KERNELS(BS_DECLARE)
#undef BS_DECLARE

// Cells of workspace, by family.
int64_t reduce_cells(const bs_vector &s);
int64_t median_cells(const bs_vector &s);
int64_t snr_cells(const bs_vector &s);
int64_t conv2d_forward_cells(const bs_conv2d &s);
int64_t conv2d_backward_input_cells(const bs_conv2d &s);
int64_t conv2d_backward_weight_cells(const bs_conv2d &s);
int64_t batchnorm_cells(const bs_batchnorm &s);

} // namespace cuda
} // namespace bs

#endif
