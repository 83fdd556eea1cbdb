// peak.h: what one core can compute at most: multiply-adds that touch nothing but registers.
//
// Not a kernel: a yardstick, compiled for each instruction set like the kernels themselves.

// Enough chains of dependent multiply-adds to fill the pipelines, and few enough for the registers.
#if BS_VEC_BYTES == 64 || defined(__aarch64__)
enum { PEAK_CHAINS = 16 };
#else
enum { PEAK_CHAINS = 14 };
#endif

// fma_loop does `rounds` multiply-adds on each lane of each chain and returns the floating point operations
// done. seed is 1; the compiler must not know that, nor what becomes of the sum. The values stay near 1.
static double fma_loop(int64_t rounds, volatile float *seed) {
  vf chain[PEAK_CHAINS];
  for (int i = 0; i < PEAK_CHAINS; i++) chain[i] = set1(*seed);
  const vf a = set1(*seed * 0.75f), b = set1(*seed * 0.25f);
  for (int64_t r = 0; r < rounds; r++)
    for (int i = 0; i < PEAK_CHAINS; i++) chain[i] = fmadd(chain[i], a, b);
  vf sum = zero();
  for (int i = 0; i < PEAK_CHAINS; i++) sum += chain[i];
  *seed = vsum(sum) / (PEAK_CHAINS * VW);
  return 2.0 * PEAK_CHAINS * VW * (double)rounds;
}
