//go:build mpi

/* sum.c: the sum of a chunk over ranks, in the order of the tree. */
#include "wire.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
typedef unsigned mode;
static mode flush_denormals(void) {
  mode before = _mm_getcsr();
  _mm_setcsr(before | 0x8040); /* flush to zero, denormals are zero */
  return before;
}
static void restore(mode before) { _mm_setcsr(before); }
#elif defined(__aarch64__)
typedef uint64_t mode;
static mode flush_denormals(void) {
  mode before;
  __asm__ volatile("mrs %0, fpcr" : "=r"(before));
  __asm__ volatile("msr fpcr, %0" : : "r"(before | 1u << 24));
  return before;
}
static void restore(mode before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
typedef int mode;
static mode flush_denormals(void) { return 0; }
static void restore(mode before) { (void)before; }
#endif

static void add(float *out, const float *a, const float *b, long n) {
  for (long i = 0; i < n; i++) out[i] = a[i] + b[i];
}

/* Blocks stay in the cache while the tree passes over them. Inlined, additions could leave the reach of the mode. */
__attribute__((noinline)) static void sum(float *out, float **summand, int count, long n) {
  enum { block = 2048 };
  for (long at = 0; at < n; at += block) {
    long m = n - at < block ? n - at : block;
    for (int s = count / 2; s > 1; s /= 2)
      for (int l = 0; l < s; l++) add(summand[l] + at, summand[l] + at, summand[l + s] + at, m);
    add(out + at, summand[0] + at, summand[1] + at, m);
  }
}

void bs_tree_sum(float *out, float **summand, int count, long n, int flush) {
  mode before = 0;
  if (flush) before = flush_denormals();
  sum(out, summand, count, n);
  if (flush) restore(before);
}
