// The kernels for the processor's base instruction set, in 16-byte vectors: SSE2 on x86-64, NEON on
// arm64, single instructions elsewhere.

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "table.h"

#define BS_ISA scalar
#define BS_VEC_BYTES 16

#include "kernels.h"
