// peak.cpp: measures what this machine can do at most, for the share of it that the kernels reach.
#include "table.h"

#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// The loop of a table is the one of its instruction set, by the start of its name: tables that differ in
// other instructions share one.
const struct {
  const char *name;
  bs_cpu_fma_loop loop;
} fma_loops[] = {
#if defined(__x86_64__)
    {"avx512", bs_cpu_fma_avx512},
    {"avx2", bs_cpu_fma_avx2},
    {"wide", bs_cpu_fma_avx2},
#endif
#if defined(__aarch64__)
    {"neon", bs_cpu_fma_neon},
#else
    {"scalar", bs_cpu_fma_scalar},
#endif
};

// best returns the highest rate of several short runs: what else the machine does only slows it down.
double best(bs_cpu_fma_loop loop) {
  enum { RUNS = 12 };
  const double seconds = 0.01;
  double rate = 0;
  int64_t rounds = 1000;
  for (int run = 0; run < RUNS;) {
    volatile float seed = 1;
    double start = bs_cpu_thread_seconds(), work = loop(rounds, &seed), took = bs_cpu_thread_seconds() - start;
    if (took < seconds) {
      rounds *= 2;
      continue;
    }
    rate = work / took > rate ? work / took : rate;
    run++;
  }
  return rate;
}

#if defined(__x86_64__) && defined(__GNUC__)
// As fma_loop of peak.h, of pairs of bfloat16 with float sums.
__attribute__((target("avx512f,avx512bf16"))) double bf16_loop(int64_t rounds, volatile float *seed) {
  enum { CHAINS = 16, LANES = 16 };
  const __m512 ones = _mm512_set1_ps(*seed);
  const __m512bh a = _mm512_cvtne2ps_pbh(ones, ones);
  __m512 chain[CHAINS];
  for (int i = 0; i < CHAINS; i++) chain[i] = _mm512_set1_ps(*seed * i);
  for (int64_t r = 0; r < rounds; r++)
    for (int i = 0; i < CHAINS; i++) chain[i] = _mm512_dpbf16_ps(chain[i], a, a);
  __m512 sum = chain[0];
  for (int i = 1; i < CHAINS; i++) sum = _mm512_add_ps(sum, chain[i]);
  *seed = _mm512_reduce_add_ps(sum);
  return 4.0 * CHAINS * LANES * (double)rounds;
}
#endif

} // namespace

extern "C" double bs_cpu_thread_seconds(void) {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

extern "C" double bs_cpu_peak(const char *isa) {
  const bs_kernels *table = bs_cpu_kernels(isa);
  for (const auto &f : fma_loops)
    if (table && strncmp(table->name, f.name, strlen(f.name)) == 0) return best(f.loop);
  return 0;
}

extern "C" double bs_cpu_peak_bf16(void) {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512bf16")) return best(bf16_loop);
#endif
  return 0;
}

// The triad of STREAM (McCalpin 1995).
extern "C" void bs_cpu_triad(float *a, const float *b, const float *c, float s, int64_t n) {
  for (int64_t i = 0; i < n; i++) a[i] = b[i] + s * c[i];
}
