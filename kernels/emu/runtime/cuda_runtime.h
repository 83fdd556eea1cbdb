// cuda_runtime.h: the part of CUDA that Broadside's kernels use, on a CPU.
//
// With this folder in front of the include path a C++ compiler takes kernels/cuda/*.cu as they are. A thread
// of a block is a fiber; blocks run one after the other. What waits for others (__syncthreads, warp
// instructions) hands over to the next fiber, in an order that changes from block to block, so that a missing
// barrier shows. Shared memory starts as NaN, and nothing may be written behind it. For tests: correct, not fast.
#ifndef BROADSIDE_EMU_CUDA_RUNTIME_H
#define BROADSIDE_EMU_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __shared__ static
#define __constant__ static const
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// ---- the grid, seen from a thread -----------------------------------------------------------

namespace emu {

constexpr int warp_size = 32;

void sync_block(int barrier, int threads); // threads: how many take part, 0 for all
void sync_warp(unsigned mask);
int lane();

// dynamic_shared is the block's dynamic shared memory, 1024-byte aligned.
void *dynamic_shared();

// exchange deposits this lane's value and returns where the warp's lie, one after the other, until this
// lane's next exchange but one. mask names the lanes that take part.
const void *exchange(unsigned mask, const void *value, size_t bytes);

// copy_later copies to shared memory, or writes zeros if there is no `from`, as late as a GPU may: when
// wait_copies leaves only the `newest` youngest of the groups that commit_copies ends.
void copy_later(void *shared, const void *from, int bytes);
void commit_copies();
void wait_copies(int newest);

// expect_aligned ends the process where a GPU would fault.
void expect_aligned(const void *p, size_t bytes);

template <typename T> T from_lane(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 64, "exchange");
  T result;
  memcpy(&result, (const char *)exchange(mask, &value, sizeof value) + sizeof value * (unsigned)(source & 31), sizeof result);
  return result;
}

} // namespace emu

// The place of the running thread.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = emu::warp_size;

inline void __syncthreads() { emu::sync_block(0, 0); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emu::sync_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <typename T> T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
  return emu::from_lane(mask, v, (emu::lane() & ~(width - 1)) | (source & (width - 1)));
}
template <typename T> T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32) {
  (void)width;
  return emu::from_lane(mask, v, emu::lane() ^ bits);
}
template <typename T> T __shfl_down_sync(unsigned mask, T v, int by, int width = 32) {
  int lane = emu::lane(), source = lane + by;
  return emu::from_lane(mask, v, (lane & (width - 1)) + by < width ? source : lane);
}
template <typename T> T __shfl_up_sync(unsigned mask, T v, int by, int width = 32) {
  int lane = emu::lane(), source = lane - by;
  return emu::from_lane(mask, v, (lane & (width - 1)) >= by ? source : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  int mine = predicate != 0;
  const int *all = (const int *)emu::exchange(mask, &mine, sizeof mine);
  unsigned bits = 0;
  for (int i = 0; i < emu::warp_size; i++)
    if (mask >> i & 1) bits |= (unsigned)all[i] << i;
  return bits;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

// Fibers of a block take turns, and blocks run one after the other; other streams do not touch the same cells.
inline unsigned atomicAdd(unsigned *to, unsigned v) {
  unsigned before = *to;
  *to += v;
  return before;
}
inline unsigned atomicMin(unsigned *to, unsigned v) {
  unsigned before = *to;
  if (v < before) *to = v;
  return before;
}

// ---- arithmetic -----------------------------------------------------------------------------

inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline unsigned __float_as_uint(float v) { unsigned u; memcpy(&u, &v, 4); return u; }
inline float __uint_as_float(unsigned u) { float v; memcpy(&v, &u, 4); return v; }
inline int __float_as_int(float v) { return (int)__float_as_uint(v); }
inline float __int_as_float(int u) { return __uint_as_float((unsigned)u); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float rsqrtf(float v) { return 1 / sqrtf(v); }
inline void sincospif(float v, float *s, float *c) {
  double a = 3.14159265358979323846 * v;
  *s = (float)sin(a);
  *c = (float)cos(a);
}
template <typename T> T __ldg(const T *p) { return *p; }
template <typename T> T __ldcs(const T *p) { return *p; }
template <typename T> void __stcs(T *p, T v) { *p = v; }
template <typename T> T min(T a, T b) { return b < a ? b : a; }
template <typename T> T max(T a, T b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }

// ---- the host's side ------------------------------------------------------------------------

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorLaunchOutOfResources = 701,
};
typedef struct CUstream_st *cudaStream_t;
struct cudaLaunchAttribute;

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute *attrs;
  unsigned numAttrs;
};

namespace emu {

// submit does work when the stream comes to it; without a stream at once.
void submit(cudaStream_t stream, std::function<void()> work);

// launch submits the run of a kernel's blocks. It returns an error where a GPU would; the run ends the process with a
// message where a GPU would hang.
int launch(const cudaLaunchConfig_t &config, const void *kernel, std::function<void()> thread);

} // namespace emu

template <typename... Params, typename... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *c, void (*kernel)(Params...), Args &&...args) {
  std::tuple<Params...> values((Params)args...);
  return (cudaError_t)emu::launch(*c, (const void *)kernel, [=] { std::apply(kernel, values); });
}

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value);
template <typename F> cudaError_t cudaFuncSetAttribute(F *kernel, cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute((const void *)kernel, attribute, value);
}

inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream) {
  emu::submit(stream, [=] { memset(p, value, bytes); });
  return cudaSuccess;
}

#endif
