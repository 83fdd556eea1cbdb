// The 64-byte kernels of AVX-512, compiled for AVX2: each vector becomes two registers. Slower than
// avx2; it lets a machine without AVX-512 test that code, pairs of bfloat16s included.
#if defined(__x86_64__)

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "table.h"

#define BS_ISA wide
#define BS_VEC_BYTES 64
#define BS_BF16_PAIRS 2

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
