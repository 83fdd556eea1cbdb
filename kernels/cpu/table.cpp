// table.cpp: chooses a table for this processor and runs lists of calls.
#include "table.h"

#include <stddef.h>
#include <string.h>

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

// resolve writes a call's pointers to arg; all that the call does not name are NULL.
bs_status resolve(const bs_call &call, void *const *base, void **arg) {
  if (call.args < 0 || call.args > BS_MAX_ARGS) return BS_BAD_ARGUMENT;
  for (int i = 0; i < BS_MAX_ARGS; i++) arg[i] = nullptr;
  for (int i = 0; i < call.args; i++) {
    const bs_ref &ref = call.arg[i];
    if (ref.base < 0) continue;
    if (ref.base >= BS_MAX_BASES || !base[ref.base]) return BS_BAD_ARGUMENT;
    int64_t unit = call.kernel == BS_AUGMENT && i == 0 ? 1 : 4; // image memory counts bytes
    arg[i] = (char *)base[ref.base] + ref.offset * unit;
  }
  return BS_OK;
}

bs_status run_call(const bs_kernels *table, const bs_call &call, void *const *base, void *stream) {
  void *arg[BS_MAX_ARGS];
  if (call.kernel < 0 || call.kernel >= BS_KERNEL_COUNT) return BS_UNSUPPORTED;
  bs_status status = resolve(call, base, arg);
  return status == BS_OK ? table->kernel[call.kernel](&call.shape, arg, stream) : status;
}

} // namespace

extern "C" bs_status bs_cpu_run(const bs_kernels *table, const bs_call *call, int32_t n, void *const *base,
                                void *stream, int32_t *failed) {
  DenormalsAreZero mode;
  for (int32_t i = 0; i < n; i++) {
    bs_status status = run_call(table, call[i], base, stream);
    if (status != BS_OK) {
      *failed = i;
      return status;
    }
  }
  return BS_OK;
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
