// The kernels for the processor's base instruction set, in 16-byte vectors: SSE2 on x86-64, single
// instructions where there are no vectors. arm64 has isa_neon.cpp instead: NEON is its base.
#if !defined(__aarch64__)

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "table.h"

#define BS_ISA scalar
#define BS_VEC_BYTES 16

#include "kernels.h"

#endif
