// hopper.cuh: instructions of compute capability 9.0: barriers in shared memory that count bytes (mbarrier), bulk
// copies (TMA), products of warpgroups (wgmma). kernels/emu/runtime/hopper.cuh is their twin in C++.
//
// wgmma and setmaxnreg belong to sm_90a alone. BS_HOPPER_CODE says that the code being compiled is for it; what uses
// these functions is empty elsewhere.
#ifndef BROADSIDE_CUDA_HOPPER_CUH
#define BROADSIDE_CUDA_HOPPER_CUH

#include "ptx.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define BS_HOPPER_CODE 1
#else
#define BS_HOPPER_CODE 0
#endif

namespace bs {
namespace cuda {

// has_hopper_code tells the host whether the library holds code of sm_90a.
#if defined(BROADSIDE_SM90A)
constexpr bool has_hopper_code = true;
#else
constexpr bool has_hopper_code = false;
#endif

// ---- mbarrier: a phase ends once `arrivals` have come and all bytes that were announced are there ----

__device__ __forceinline__ void init_barrier(uint64_t *barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// show_barriers makes initialised barriers known to the copy engine. A __syncthreads() must follow.
__device__ __forceinline__ void show_barriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void arrive(uint64_t *barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// arrive_expecting arrives and announces bytes that copies will bring.
__device__ __forceinline__ void arrive_expecting(uint64_t *barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes) : "memory");
}

// wait_phase waits for the end of the current phase if that has this parity (0, 1, 0, ...), and of none if it has
// the other: the phase before has then ended.
__device__ __forceinline__ void wait_phase(uint64_t *barrier, uint32_t parity) {
  uint32_t ended;
  do {
    asm volatile("{\n.reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n}"
                 : "=r"(ended)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
  } while (!ended);
}

// ---- bulk copies to shared memory; they arrive at a barrier as bytes ----

// A TensorMap describes a tensor and a box of it; cuTensorMapEncodeTiled fills it.
struct alignas(128) TensorMap {
  unsigned char opaque[128];
};

// copy_box copies the box whose first element is (i0, i1, i2, i3), innermost first, to an address aligned to 128
// bytes. What lies outside the tensor comes as zeros. The map lies in a __grid_constant__ parameter.
__device__ __forceinline__ void copy_box(void *shared, const TensorMap &map, int i0, int i1, int i2, int i3, uint64_t *barrier) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(
                   shared_address(shared)),
               "l"(&map), "r"(shared_address(barrier)), "r"(i0), "r"(i1), "r"(i2), "r"(i3)
               : "memory");
}

// copy_bulk copies contiguous bytes: addresses and number are multiples of 16.
__device__ __forceinline__ void copy_bulk(void *shared, const void *from, int bytes, uint64_t *barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(shared)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

// ---- registers: a warpgroup gives some back, which others take ----

template <int count> __device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count> __device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

// ---- wgmma ----

// matrix_descriptor describes a matrix in shared memory that is made of matrices of 128 contiguous bytes, each 8 rows
// of 16 bytes (no swizzle). Its rows are the columns of the product, and the terms lie
// side by side. term_step and row_step are the bytes from one such matrix to the next along the terms and the rows.
__device__ __forceinline__ uint64_t matrix_descriptor(const void *start, int term_step, int row_step) {
  return (uint64_t)(shared_address(start) >> 4 & 0x3fff) | (uint64_t)(term_step >> 4) << 16 | (uint64_t)(row_step >> 4) << 32;
}

// fence_products orders what was done to registers before products that use them.
__device__ __forceinline__ void fence_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// wait_products waits until at most the `newest` youngest groups of products are under way.
template <int newest> __device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(newest) : "memory");
}

// settle keeps the compiler from moving uses of sums to before the wait above it.
template <int N> __device__ __forceinline__ void settle(float (&sum)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(sum[i])::"memory");
}

// multiply_async is d += a b for a of 64 x 16 and b of 16 x 2 D bfloat16s, by a warpgroup. Warp w of it holds rows
// 16 w to 16 w + 15 of a and d. Lane 4 g + t holds a as mma_bf16's, and of d d[4 j + 2 h + e] = (g + 8 h, 8 j + 2 t + e).
// Until wait_products says so, d is not there, and neither a nor b may be changed.
//
// multiply_async_tf32 is the same for a of 64 x 8 and b of 8 x 2 D tf32 numbers, a as mma_tf32's.
#define BS_SUMS8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define BS_SUMS16(d, i) BS_SUMS8(d, i), BS_SUMS8(d, i + 8)
#define BS_SUMS32(d, i) BS_SUMS16(d, i), BS_SUMS16(d, i + 16)
#define BS_FACTORS "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b)
#define BS_WGMMA "{\n.reg .pred p;\nsetp.eq.u32 p, 0, 0;\nwgmma.mma_async.sync.aligned."
#define BS_MULTIPLY_ASYNC(name, type, transposed)                                                                  \
  __device__ __forceinline__ void name(float (&d)[16], const uint32_t (&a)[4], uint64_t b) { \
    asm volatile(BS_WGMMA "m64n32" type \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, " \
                 "{%16, %17, %18, %19}, %20, p, 1, 1" transposed ";\n}" \
                 : BS_SUMS16(d, 0) \
                 : BS_FACTORS); \
  } \
  __device__ __forceinline__ void name(float (&d)[32], const uint32_t (&a)[4], uint64_t b) { \
    asm volatile(BS_WGMMA "m64n64" type \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, " \
                 "{%32, %33, %34, %35}, %36, p, 1, 1" transposed ";\n}" \
                 : BS_SUMS32(d, 0) \
                 : BS_FACTORS); \
  } \
  __device__ __forceinline__ void name(float (&d)[64], const uint32_t (&a)[4], uint64_t b) { \
    asm volatile(BS_WGMMA "m64n128" type \
                 " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, " \
                 "{%64, %65, %66, %67}, %68, p, 1, 1" transposed ";\n}" \
                 : BS_SUMS32(d, 0), BS_SUMS32(d, 32) \
                 : BS_FACTORS); \
  }

BS_MULTIPLY_ASYNC(multiply_async, "k16.f32.bf16.bf16", ", 0")
BS_MULTIPLY_ASYNC(multiply_async_tf32, "k8.f32.tf32.tf32", "")

#undef BS_SUMS8
#undef BS_SUMS16
#undef BS_SUMS32
#undef BS_FACTORS
#undef BS_WGMMA
#undef BS_MULTIPLY_ASYNC

} // namespace cuda
} // namespace bs

#endif
