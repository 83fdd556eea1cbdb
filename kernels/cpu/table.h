// table.h: the C side of package cpu: which tables there are and how a list of calls is run.
#ifndef BROADSIDE_CPU_TABLE_H
#define BROADSIDE_CPU_TABLE_H

#include "broadside.h"
#include "team.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The tables. One that this processor cannot run must not be used; bs_cpu_kernels sees to that. */
#if defined(__aarch64__)
extern const bs_kernels bs_cpu_table_neon;
#else
extern const bs_kernels bs_cpu_table_scalar;
#endif
#if defined(__x86_64__)
extern const bs_kernels bs_cpu_table_avx2, bs_cpu_table_avx512, bs_cpu_table_avx512bf16;
extern const bs_kernels bs_cpu_table_wide __attribute__((weak)); /* its address is NULL without package wide */
#endif

/* Measuring, not part of the kernels' ABI. Each instruction set has a loop of multiply-adds in registers,
 * which returns the floating point operations it did (peak.h). */
typedef double (*bs_cpu_fma_loop)(int64_t rounds, volatile float *seed);
#if defined(__aarch64__)
double bs_cpu_fma_neon(int64_t rounds, volatile float *seed);
#else
double bs_cpu_fma_scalar(int64_t rounds, volatile float *seed);
#endif
#if defined(__x86_64__)
double bs_cpu_fma_avx2(int64_t rounds, volatile float *seed);
double bs_cpu_fma_avx512(int64_t rounds, volatile float *seed);
#endif

/* The processor time that the calling thread has used, in seconds. */
double bs_cpu_thread_seconds(void);

/* Floating point operations per second of processor time that the calling thread reaches in registers:
 * f32 multiply-adds of the named table, as in bs_cpu_kernels, and dot products of bfloat16 pairs. 0 if this
 * processor has no such table or instruction. A tenth of a second or more. */
double bs_cpu_peak(const char *isa);
double bs_cpu_peak_bf16(void);

/* a = b + s c over n elements. */
void bs_cpu_triad(float *a, const float *b, const float *c, float s, int64_t n);

/* bs_kernels.run of every table. The stream is the team (team.h) that shares the calls; NULL: none. */
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
