// table.cpp: chooses a table for this processor and runs lists of calls.
#include "table.h"

#include <stddef.h>
#include <string.h>

#include "run.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

// Go mirrors these layouts.
static_assert(sizeof(bs_ref) == 16, "bs_ref");
static_assert(sizeof(bs_call) == 8 + 16 * BS_MAX_ARGS + sizeof(bs_shape), "bs_call");

namespace {

// DenormalsAreZero makes numbers below 2^-126 zero while it lives. They mean nothing in training, and
// arithmetic on them is a hundred times slower.
class DenormalsAreZero {
#if defined(__x86_64__)
  unsigned saved_ = _mm_getcsr();

public:
  DenormalsAreZero() { _mm_setcsr(saved_ | 0x8040); } // flush to zero, denormals are zero
  ~DenormalsAreZero() { _mm_setcsr(saved_); }
#elif defined(__aarch64__)
  uint64_t saved_;

public:
  DenormalsAreZero() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(saved_ | 1u << 24));
  }
  ~DenormalsAreZero() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
public:
  DenormalsAreZero() {}
  ~DenormalsAreZero() {}
#endif
};

const bs_kernels *const all_tables[] = {
#if defined(__x86_64__)
    &bs_cpu_table_avx512bf16, &bs_cpu_table_avx512, &bs_cpu_table_avx2, &bs_cpu_table_wide,
#endif
#if defined(__aarch64__)
    &bs_cpu_table_neon,
#else
    &bs_cpu_table_scalar,
#endif
};

bool supported(const bs_kernels *table) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (table == &bs_cpu_table_avx2 || table == &bs_cpu_table_wide) return avx2;
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (table == &bs_cpu_table_avx512) return avx512;
  if (table == &bs_cpu_table_avx512bf16) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
  return table != nullptr;
}

} // namespace

extern "C" bs_status bs_cpu_run(const bs_kernels *table, const bs_call *call, int32_t n, void *const *base,
                                void *stream, int32_t *failed) {
  DenormalsAreZero mode;
  return bs_run_calls(table, call, n, base, stream, failed);
}

extern "C" const bs_kernels *bs_cpu_available(int32_t i) {
  for (const bs_kernels *table : all_tables)
    if (supported(table) && i-- == 0) return table;
  return nullptr;
}

extern "C" const bs_kernels *bs_cpu_kernels(const char *isa) {
  if (!isa || !*isa) return bs_cpu_available(0);
  const bs_kernels *table;
  for (int32_t i = 0; (table = bs_cpu_available(i)); i++)
    if (strcmp(table->name, isa) == 0) return table;
  return nullptr;
}
