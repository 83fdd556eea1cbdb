// simd.h: one vector type of BS_VEC_BYTES bytes, the same code for every instruction set.
//
// Written with the vector extensions of GCC and Clang instead of intrinsics, so any width compiles
// for any target: a 64-byte vector on AVX2 becomes two registers, which lets a machine without
// AVX-512 test the AVX-512 kernels' logic.
//
// Include it once per isa_*.cpp, inside namespace bs::BS_ISA and under that file's target pragma,
// after <stdint.h>, <stddef.h>, <string.h> and <math.h>. It defines everything with internal
// linkage and uses nothing of the C++ library: an inline library function compiled for AVX-512 here
// could be the copy that the linker keeps for the whole program.
//
// Kernel sources are named .h, not .inc: go build notices changes only in files it knows.

#ifndef BS_VEC_BYTES
#error "BS_VEC_BYTES must be 16, 32 or 64"
#endif

#if defined(__GNUC__) && !defined(__clang__)
// Vectors wider than the target's registers only pass between functions that are inlined. A vd, always
// wider, passes by reference: GCC's note on its calling convention has no pragma.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#define BS_INLINE static inline __attribute__((always_inline))

// Vectors of VW lanes: float, int32 and uint32 fill BS_VEC_BYTES; vd holds as many doubles and is
// twice as wide.
enum { VW = BS_VEC_BYTES / 4 };
typedef float vf __attribute__((vector_size(BS_VEC_BYTES)));
typedef int32_t vi __attribute__((vector_size(BS_VEC_BYTES)));
typedef uint32_t vu __attribute__((vector_size(BS_VEC_BYTES)));
typedef double vd __attribute__((vector_size(2 * BS_VEC_BYTES)));

// The same in memory: no alignment beyond the element's, and may alias anything.
typedef float vf_mem __attribute__((vector_size(BS_VEC_BYTES), aligned(4), may_alias));
typedef int32_t vi_mem __attribute__((vector_size(BS_VEC_BYTES), aligned(4), may_alias));
typedef uint32_t vu_mem __attribute__((vector_size(BS_VEC_BYTES), aligned(4), may_alias));

BS_INLINE vf load(const float *p) { return *(const vf_mem *)p; }
BS_INLINE vi load(const int32_t *p) { return *(const vi_mem *)p; }
BS_INLINE vu load(const uint32_t *p) { return *(const vu_mem *)p; }
BS_INLINE void store(float *p, vf v) { *(vf_mem *)p = v; }
BS_INLINE void store(int32_t *p, vi v) { *(vi_mem *)p = v; }
BS_INLINE void store(uint32_t *p, vu v) { *(vu_mem *)p = v; }

// All lanes x. Adding to a zero vector would turn -0 into +0; subtracting zero keeps every value.
BS_INLINE vf set1(float x) { return x - (vf){}; }
BS_INLINE vi set1(int32_t x) { return x - (vi){}; }
BS_INLINE vu set1(uint32_t x) { return x - (vu){}; }
BS_INLINE vd set1(double x) { return x - (vd){}; }
BS_INLINE vf zero() { return (vf){}; }

// Lane numbers 0 .. VW-1.
BS_INLINE vi lanes() {
#if BS_VEC_BYTES == 64
  return (vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif BS_VEC_BYTES == 32
  return (vi){0, 1, 2, 3, 4, 5, 6, 7};
#else
  return (vi){0, 1, 2, 3};
#endif
}

// copy_cells copies n < VW cells by pieces of fixed size, without a call to memcpy.
BS_INLINE void copy_cells(void *to, const void *from, int n) {
  char *t = (char *)to;
  const char *f = (const char *)from;
  if (VW > 8 && n & 8) memcpy(t, f, 32), t += 32, f += 32;
  if (VW > 4 && n & 4) memcpy(t, f, 16), t += 16, f += 16;
  if (n & 2) memcpy(t, f, 8), t += 8, f += 8;
  if (n & 1) memcpy(t, f, 4);
}

// The first n lanes, 0 <= n <= VW, from or to memory; the other lanes are loaded as 0 and memory
// behind the n cells is neither read nor written.
BS_INLINE vf load_partial(const float *p, int n) {
  if (n >= VW) return load(p);
  vf v = {};
  copy_cells(&v, p, n);
  return v;
}
BS_INLINE vi load_partial(const int32_t *p, int n) {
  if (n >= VW) return load(p);
  vi v = {};
  copy_cells(&v, p, n);
  return v;
}
BS_INLINE void store_partial(float *p, vf v, int n) {
  if (n >= VW) return store(p, v);
  copy_cells(p, &v, n);
}
BS_INLINE void store_partial(int32_t *p, vi v, int n) {
  if (n >= VW) return store(p, v);
  copy_cells(p, &v, n);
}

// a b + c, contracted to one instruction where the target has it.
BS_INLINE vf fmadd(vf a, vf b, vf c) { return a * b + c; }
BS_INLINE vd fmadd(const vd &a, const vd &b, const vd &c) { return a * b + c; }

// Comparisons (a < b, a == b, ...) give vi masks: -1 where true, 0 where false.
BS_INLINE vf select(vi mask, vf a, vf b) { return mask ? a : b; }
BS_INLINE vi select(vi mask, vi a, vi b) { return (mask & a) | (~mask & b); }

// As x86's maxps and minps: b where the lanes are equal or one is NaN. vmax(zero(), x) keeps NaN.
BS_INLINE vf vmax(vf a, vf b) { return a > b ? a : b; }
BS_INLINE vf vmin(vf a, vf b) { return a < b ? a : b; }

// Bits reinterpreted, and numbers converted (towards zero).
BS_INLINE vi as_int(vf v) { return (vi)v; }
BS_INLINE vf as_float(vi v) { return (vf)v; }
BS_INLINE vi to_int(vf v) { return __builtin_convertvector(v, vi); }
BS_INLINE vf to_float(vi v) { return __builtin_convertvector(v, vf); }
BS_INLINE vd to_double(vf v) { return __builtin_convertvector(v, vd); }
BS_INLINE vf to_float(const vd &v) { return __builtin_convertvector(v, vf); }

BS_INLINE vf vabs(vf v) { return (vf)((vi)v & 0x7fffffff); }

// Sum, largest and smallest over the lanes, always combined by the same tree: lane i with lane i + half.
BS_INLINE float vsum(vf v) {
  float a[VW];
  memcpy(a, &v, sizeof a);
  for (int half = VW / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) a[i] += a[i + half];
  return a[0];
}
BS_INLINE double vsum(const vd &v) {
  double a[VW];
  memcpy(a, &v, sizeof a);
  for (int half = VW / 2; half > 0; half /= 2)
    for (int i = 0; i < half; i++) a[i] += a[i + half];
  return a[0];
}
BS_INLINE float hmax(vf v) {
  float m = v[0];
  for (int i = 1; i < VW; i++) m = v[i] > m ? v[i] : m;
  return m;
}
BS_INLINE float hmin(vf v) {
  float m = v[0];
  for (int i = 1; i < VW; i++) m = v[i] < m ? v[i] : m;
  return m;
}
