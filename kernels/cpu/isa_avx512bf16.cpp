// The kernels for AVX-512 with AVX512_BF16: those of avx512, with bfloat16 in hardware.
#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "table.h"

#define BS_ISA avx512bf16
#define BS_VEC_BYTES 64
#define BS_BF16_PAIRS 1

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16,avx2,fma")
#endif

#include "kernels.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
