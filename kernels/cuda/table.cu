// table.cu: the table of CUDA kernels.
#include "kernels.cuh"
#include "run.h"

namespace bs {
namespace cuda {

int64_t workspace(int32_t kernel, const bs_shape *shape) {
  if (bs_bad_shape(kernel, shape)) return -1;
  switch (kernel) {
  case BS_BATCHNORM_FORWARD:
  case BS_BATCHNORM_BACKWARD:
  case BS_BATCHNORM_TANGENT_FORWARD:
  case BS_BATCHNORM_TANGENT_BACKWARD:
    return batchnorm_cells(shape->batchnorm);
  case BS_DOT:
  case BS_NORM:
  case BS_MINMAX:
    return reduce_cells(shape->vector);
  case BS_MEDIAN:
    return median_cells(shape->vector);
  case BS_SNR:
    return snr_cells(shape->vector);
  case BS_CONV2D_FORWARD:
    return conv2d_forward_cells(shape->conv2d);
  case BS_CONV2D_BACKWARD_INPUT:
    return conv2d_backward_input_cells(shape->conv2d);
  case BS_CONV2D_BACKWARD_WEIGHT:
    return conv2d_backward_weight_cells(shape->conv2d);
  }
  return 0;
}

namespace {

bs_status run(const bs_kernels *table, const bs_call *call, int32_t n, void *const *base, void *stream, int32_t *failed) {
  *failed = 0;
  bs_status status = status_of(cudaSetDevice(queue_of(stream).device));
  return status == BS_OK ? bs_run_calls(table, call, n, base, stream, failed) : status;
}

} // namespace
} // namespace cuda
} // namespace bs

#define BS_ENTRY(NAME, name, shape, args) bs::cuda::name,
extern "C" const bs_kernels bs_cuda_table = {BS_ABI, sizeof(bs_kernels), "cuda", {BS_KERNELS(BS_ENTRY)}, bs::cuda::workspace,
                                             bs::cuda::run};
#undef BS_ENTRY
