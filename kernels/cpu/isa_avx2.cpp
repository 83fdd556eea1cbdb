// The kernels for AVX2 with FMA (x86-64 since 2013): 32-byte vectors.
#if defined(__x86_64__)

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "table.h"

#define BS_ISA avx2
#define BS_VEC_BYTES 32

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
