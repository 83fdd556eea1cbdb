// faults.cu: kernels with one fault each, and the same kernel without. emu_test.go runs `faults NAME`: the emulator
// must end it with a message or, where a GPU would return an error or wrong numbers, so must it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.cuh"
#include "ptx.cuh"

using namespace bs::cuda;

namespace {

constexpr int threads = 128;

// Every thread writes its cell and reads the one opposite, twice.
template <bool first, bool second> __global__ void reverse_kernel(float *out) {
  float *cell = (float *)dynamic_shared();
  int i = (int)threadIdx.x;
  float sum = 0;
  for (int round = 0; round < 2; round++) {
    cell[i] = (float)(i + 1000 * round);
    if (first) __syncthreads();
    sum += cell[threads - 1 - i];
    if (second) __syncthreads();
  }
  out[i] = sum;
}

// Every lane sums its warp's numbers through shared memory.
template <bool synced> __global__ void warp_kernel(float *out) {
  float *cell = (float *)dynamic_shared();
  int i = (int)threadIdx.x, first = i / 32 * 32;
  cell[i] = (float)i;
  if (synced) __syncwarp();
  float sum = 0;
  for (int k = 0; k < 32; k++) sum += cell[first + k];
  out[i] = sum;
}

__global__ void deadlock_kernel(float *) {
  if (threadIdx.x % 2)
    __syncthreads();
  else
    __syncwarp();
}

__global__ void lanes_kernel(float *out) {
  float v = (float)threadIdx.x;
  if (threadIdx.x % 2)
    out[threadIdx.x] = __shfl_xor_sync(0xaaaaaaaau, v, 2);
  else
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, v, 2);
}

__global__ void overrun_kernel(float *) { ((float *)dynamic_shared())[threadIdx.x + 1] = 1; }

template <bool waits> __global__ void copy_kernel(float *out) {
  float *cell = (float *)dynamic_shared() + threadIdx.x;
  out[threadIdx.x] = 5;
  copy_async4(cell, out + threadIdx.x, true);
  commit_async();
  if (waits) wait_async<0>();
  out[threadIdx.x] = *cell;
}

__global__ void reading_kernel(float *out) { out[threadIdx.x] = out[threadIdx.x + 1]; }

float out[threads];

bs_status run(void (*kernel)(float *), size_t shared = threads * sizeof(float), float *to = out) {
  bs_cuda_queue queue = {};
  return launch(&queue, kernel, dim3(1), dim3(threads), shared, to);
}

// run_plainly runs a kernel that has not asked for its shared memory.
cudaError_t run_plainly(void (*kernel)(float *), size_t shared) {
  cudaLaunchConfig_t config = {};
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  return cudaLaunchKernelEx(&config, kernel, out);
}

// often runs a kernel in several orders of its threads and reports whether out was expected(i) each time.
template <typename Expected> bool often(void (*kernel)(float *), Expected expected) {
  for (int round = 0; round < 16; round++) {
    if (run(kernel) != BS_OK) return false;
    for (int i = 0; i < threads; i++)
      if (out[i] != expected(i)) return false;
  }
  return true;
}

float reversed(int i) { return (float)(2 * (threads - 1 - i) + 1000); }
float warp_sum(int i) { return (float)(i / 32 * 32 * 32 + 31 * 16); }
float five(int) { return 5; }

struct {
  const char *name;
  bool (*right)();
} const cases[] = {
    {"two barriers", [] { return often(reverse_kernel<true, true>, reversed); }},
    {"no first barrier", [] { return often(reverse_kernel<false, true>, reversed); }},
    {"no second barrier", [] { return often(reverse_kernel<true, false>, reversed); }},
    {"a warp barrier", [] { return often(warp_kernel<true>, warp_sum); }},
    {"no warp barrier", [] { return often(warp_kernel<false>, warp_sum); }},
    {"waiting for a copy", [] { return often(copy_kernel<true>, five); }},
    {"not waiting for a copy", [] { return often(copy_kernel<false>, five); }},
    {"48 KiB of shared memory", [] { return run(reverse_kernel<true, true>, 48 << 10) == BS_OK; }},
    {"more shared memory", [] { return run_plainly(reverse_kernel<true, true>, (48 << 10) + 1) == cudaSuccess; }},
    {"227 KiB asked for", [] { return run(copy_kernel<true>, 227 << 10) == BS_OK; }},
    {"more asked for", [] { return run(copy_kernel<true>, (227 << 10) + 1) == BS_OK; }},
    {"writing behind shared memory", [] { return run(overrun_kernel) == BS_OK; }},
    {"reading behind an argument", [] { return run(reading_kernel, 0, (float *)malloc(threads * sizeof(float))) == BS_OK; }},
    {"threads that wait for each other", [] { return run(deadlock_kernel) == BS_OK; }},
    {"lanes that name different lanes", [] { return run(lanes_kernel) == BS_OK; }},
};

} // namespace

int main(int, char **argv) {
  for (const auto &c : cases) {
    if (strcmp(c.name, argv[1])) continue;
    puts(c.right() ? "right" : "wrong");
    return 0;
  }
  fprintf(stderr, "no case %s\n", argv[1]);
  return 2;
}
