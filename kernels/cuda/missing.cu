// missing.cu: kernels still to be written. A line goes when its kernel comes; the file goes with the last.
#include "kernels.cuh"

namespace bs {
namespace cuda {

#define BS_MISSING(name) \
  bs_status name(const bs_shape *, void *const *, void *) { return BS_UNSUPPORTED; }
BS_MISSING(conv2d_forward)
BS_MISSING(conv2d_backward_input)
BS_MISSING(conv2d_backward_weight)
BS_MISSING(batchnorm_forward)
BS_MISSING(batchnorm_backward)
BS_MISSING(batchnorm_tangent_forward)
BS_MISSING(batchnorm_tangent_backward)
BS_MISSING(batchnorm_fold)

} // namespace cuda
} // namespace bs
