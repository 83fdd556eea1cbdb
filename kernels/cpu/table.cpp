// table.cpp: chooses a table for this processor.
#include "table.h"

#include <string.h>

namespace {

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
  if (table == &bs_cpu_table_avx2) return avx2;
  if (table == &bs_cpu_table_wide) return table && avx2;
  bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
  if (table == &bs_cpu_table_avx512) return avx512;
  if (table == &bs_cpu_table_avx512bf16) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
  return table != nullptr;
}

} // namespace

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
