// table.h: the C side of package cpu: which tables there are and how a list of calls is run.
#ifndef BROADSIDE_CPU_TABLE_H
#define BROADSIDE_CPU_TABLE_H

#include "broadside.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The tables. One that this processor cannot run must not be used; bs_cpu_kernels sees to that. */
extern const bs_kernels bs_cpu_table_scalar;
#if defined(__x86_64__)
extern const bs_kernels bs_cpu_table_avx2, bs_cpu_table_avx512, bs_cpu_table_wide;
#endif

/* bs_kernels.run of every table. */
bs_status bs_cpu_run(const bs_kernels *table, const bs_call *call, int32_t n, void *const *base, void *stream,
                     int32_t *failed);

/* The table of that name, the best one if the name is NULL or empty; NULL if there is none of that
 * name or this processor cannot run it. */
const bs_kernels *bs_cpu_kernels(const char *isa);

/* The i-th table that this processor can run, best first; NULL behind the last. */
const bs_kernels *bs_cpu_available(int32_t i);

#ifdef __cplusplus
}
#endif
#endif
