// ptx.cuh: the instructions of GPUs that C++ has no name for. kernels/emu/runtime/ptx.cuh is their twin in C++.
#ifndef BROADSIDE_CUDA_PTX_CUH
#define BROADSIDE_CUDA_PTX_CUH

#include <stdint.h>

namespace bs {
namespace cuda {

// dynamic_shared is the block's dynamic shared memory.
__device__ __forceinline__ void *dynamic_shared() {
  extern __shared__ __align__(1024) unsigned char memory[];
  return memory;
}

__device__ __forceinline__ uint32_t shared_address(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

// copy_async copies 4 bytes to shared memory, or writes zeros there unless `there` (0 bytes of the source: it is not
// read, and may lie anywhere); both are aligned to 4 bytes. It is done once wait_async says so, and then seen by
// this thread alone until a barrier.
__device__ __forceinline__ void copy_async4(void *shared, const void *from, bool there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)), "l"(from), "r"(there ? 4 : 0)
               : "memory");
}

// copy_async16 copies 16 bytes, aligned to 16. It goes through the L1 cache, where the next taps of a
// convolution find the same pixels.
__device__ __forceinline__ void copy_async16(void *shared, const void *from, bool there) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}

// commit_async makes a group of this thread's copies since the last one.
__device__ __forceinline__ void commit_async() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// wait_async waits until at most the `newest` youngest groups are still under way.
template <int newest> __device__ __forceinline__ void wait_async() {
  asm volatile("cp.async.wait_group %0;" ::"n"(newest) : "memory");
}

// pack_bf16 rounds two floats to bfloat16, to nearest even; `low` goes to the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

// round_tf32 rounds a float to tf32, to nearest, ties away from zero: the lower 13 bits become 0. Only an infinity and
// NaN do not round but are cut: a NaN that has only lower bits becomes an infinity. Denormal numbers round as others.
__device__ __forceinline__ uint32_t round_tf32(float v) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
  return bits;
}

// load_matrices reads four 8x8 matrices of 2-byte elements from shared memory. Lane l gives the address of row
// l % 8 of matrix l / 8 (16 bytes, aligned to 16) and gets elements (l / 4, 2 (l % 4)) and the next of each.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// load_matrices_transposed: the same of the transposed matrices.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// mma_bf16 is d += a b on the tensor cores, for a of 16x16 and b of 16x8 bfloat16s. Lane 4 g + t holds
// a: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), each with the element to its right in the upper half;
// b: (2t, g), (2t + 8, g), each with the element below; d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
               "{%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// mma_tf32 is d += a b on the tensor cores, for a of 16x8 and b of 8x8 tf32 numbers. Lane 4 g + t holds
// a: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); b: (t, g), (t + 4, g); d as above.
__device__ __forceinline__ void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

} // namespace cuda
} // namespace bs

#endif
