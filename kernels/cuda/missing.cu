// missing.cu: kernels still to be written. A line goes when its kernel comes; the file goes with the last.
#include "kernels.cuh"

namespace bs {
namespace cuda {

#define BS_MISSING(name) \
  bs_status name(const bs_shape *, void *const *, void *) { return BS_UNSUPPORTED; }

} // namespace cuda
} // namespace bs
