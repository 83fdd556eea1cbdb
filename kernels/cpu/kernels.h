// kernels.h: all kernels of one instruction set, and their table.
//
// An isa_*.cpp sets BS_ISA (the table's name) and BS_VEC_BYTES (the width of a vector) and includes
// this under the target pragma of its instruction set. Nothing here but the table has external
// linkage, and nothing of the C++ library is used: an inline function compiled for AVX-512 could be
// the copy that the linker keeps for the whole program.

#include "check.h"
#include "formula.h"

#define BS_STRING_OF(x) #x
#define BS_STRING(x) BS_STRING_OF(x)
#define BS_JOIN_OF(a, b) a##b
#define BS_JOIN(a, b) BS_JOIN_OF(a, b)

namespace bs {
namespace BS_ISA {
namespace {

#include "simd.h"

#include "transcendental.h"

#include "share.h"

#include "each.h"

#include "conv2d.h"

#include "batchnorm_tile.h"

#include "batchnorm.h"

#include "batchnorm_backward.h"

#include "batchnorm_tangent.h"

#include "elementwise.h"

#include "philox.h"

#include "augment.h"

#include "dropout.h"

#include "pgd.h"

#include "pool.h"

#include "reduce.h"

#include "select.h"

#include "sgd.h"

#include "softmax.h"

#include "step.h"

#include "peak.h"

int64_t workspace(int32_t kernel, const bs_shape *shape) {
  if (bs_bad_shape(kernel, shape)) return -1;
  switch (kernel) {
  case BS_CONV2D_FORWARD:
  case BS_CONV2D_BACKWARD_INPUT:
  case BS_CONV2D_BACKWARD_WEIGHT:
    return conv2d_workspace(kernel, shape);
  case BS_BATCHNORM_FORWARD:
  case BS_BATCHNORM_BACKWARD:
  case BS_BATCHNORM_TANGENT_FORWARD:
  case BS_BATCHNORM_TANGENT_BACKWARD:
    return bn_workspace_cells(shape->batchnorm);
  case BS_AUGMENT:
    return augment_workspace(shape->augment);
  }
  return 0;
}

} // namespace
} // namespace BS_ISA
} // namespace bs

#define BS_ENTRY(NAME, name, shape, args) bs::BS_ISA::name,
extern "C" const bs_kernels BS_JOIN(bs_cpu_table_, BS_ISA) = {
    BS_ABI, sizeof(bs_kernels), BS_STRING(BS_ISA), {BS_KERNELS(BS_ENTRY)}, bs::BS_ISA::workspace, bs_cpu_run};
#undef BS_ENTRY

extern "C" double BS_JOIN(bs_cpu_fma_, BS_ISA)(int64_t rounds, volatile float *seed) {
  return bs::BS_ISA::fma_loop(rounds, seed);
}
