// The kernels for arm64: 16-byte vectors in NEON, which every such processor has.
#if defined(__aarch64__)

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "table.h"

#define BS_ISA neon
#define BS_VEC_BYTES 16

#include "kernels.h"

#endif
