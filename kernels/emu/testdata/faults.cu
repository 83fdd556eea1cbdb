// faults.cu: kernels with one fault each, and the same kernel without. emu_test.go runs `faults NAME`: the emulator
// must end it with a message or, where a GPU would return an error or wrong numbers, so must it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.cuh"
#include "hopper.cuh"

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

// ---- compute capability 9.0 ----

enum HopperFault { no_fault, no_wait, wrong_phase, early_arrival, no_product_wait, no_fence, unknown_barrier, few_bytes, changed_fragment };

struct HopperArguments {
  TensorMap map;
  const uint16_t *weights;
  float *out;
};

// A warpgroup multiplies ones of 64 x 16 by two matrices of 16 x 32, which come one after the other to the same place,
// and adds a box of floats to two of each thread's sums. A thread of a fifth warp copies.
template <HopperFault fault> __global__ void hopper_kernel(const __grid_constant__ HopperArguments in) {
  unsigned char *shared = (unsigned char *)dynamic_shared();
  uint64_t *full = (uint64_t *)shared, *empty = full + 1;
  float *box = (float *)(shared + 128), sum[16] = {};
  unsigned char *weights = shared + 1024;
  uint32_t ones[4] = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80};
  if (threadIdx.x == 0) {
    init_barrier(full, 1), init_barrier(empty, threads / 32);
    if (fault != unknown_barrier) show_barriers();
  }
  __syncthreads();
  for (int round = 0; round < 2 && threadIdx.x == threads; round++) {
    wait_phase(empty, round ^ 1);
    arrive_expecting(full, (round ? 1024 : 1536) - (fault == few_bytes ? 16 : 0));
    copy_bulk(weights, in.weights + round * 512, 1024, full);
    if (round == 0) copy_box(box, in.map, 0, -1, 0, 0, full);
  }
  if (threadIdx.x >= threads) return;
  for (int round = 0; round < 2; round++) {
    auto arrives = [&] {
      __syncwarp();
      if (threadIdx.x % 32 == 0) arrive(empty);
    };
    if (fault != no_wait) wait_phase(full, fault == wrong_phase ? round ^ 1 : round);
    if (fault != no_fence) fence_products();
    multiply_async(sum, ones, matrix_descriptor(weights, 128, 256));
    commit_products();
    if (fault == changed_fragment) ones[2] = 0;
    if (fault == early_arrival) arrives();
    if (fault != no_product_wait) wait_products<0>();
    if (fault != early_arrival) arrives();
  }
  float found = sum[1] + sum[6]; // of columns 2 t + 1 and 2 t + 8, t = thread % 4
  wait_products<0>();
  wait_phase(full, 1);
  in.out[threadIdx.x] = found + box[threadIdx.x];
}

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

extern "C" int cuTensorMapEncodeTiled(void *, int, uint32_t, void *, const uint64_t *, const uint64_t *, const uint32_t *,
                                      const uint32_t *, int, int, int, int);

// hopper runs the kernel with a fault in several orders and reports whether the sums were right each time.
template <HopperFault fault> bool hopper() {
  alignas(16) static uint16_t weights[2][4][2][8][8]; // of a round; of 8 columns, of 8 terms; column, term
  alignas(16) static float tensor[4 * 4 * 8];
  for (int i = 0; i < 1024; i++) {
    float v = (float)((i / 512 + 1) * (i / 128 % 4 * 8 + i / 8 % 8 + 1)); // (round + 1) (column + 1)
    (&weights[0][0][0][0][0])[i] = (uint16_t)(__float_as_uint(v) >> 16);
  }
  for (int i = 0; i < 4 * 4 * 8; i++) tensor[i] = (float)i;
  const uint64_t sizes[] = {8, 4, 4, 1}, strides[] = {8 * 4, 8 * 4 * 4, 8 * 4 * 4 * 4};
  const uint32_t box[] = {8, 4, 4, 1}, steps[] = {1, 1, 1, 1};
  HopperArguments arguments = {{}, &weights[0][0][0][0][0], out};
  if (cuTensorMapEncodeTiled(&arguments.map, 7, 4, tensor, sizes, strides, box, steps, 0, 0, 0, 0)) return false;
  for (int round = 0; round < 16; round++) {
    bs_cuda_queue queue = {};
    if (launch(&queue, hopper_kernel<fault>, dim3(1), dim3(threads + 32), 2048, arguments) != BS_OK) return false;
    for (int i = 0; i < threads; i++) {
      int w = i / 8 % 4 - 1, from_box = w < 0 ? 0 : (i / 32 * 4 + w) * 8 + i % 8;
      if (out[i] != (float)(16 * 3 * (2 * (i % 4) + 2 + 2 * (i % 4) + 9) + from_box)) return false;
    }
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
    {"copies and products of a warpgroup", hopper<no_fault>},
    {"not waiting for a bulk copy", hopper<no_wait>},
    {"waiting for the wrong phase", hopper<wrong_phase>},
    {"giving back a stage that products read", hopper<early_arrival>},
    {"not waiting for products", hopper<no_product_wait>},
    {"products without a fence", hopper<no_fence>},
    {"a barrier that the copy engine does not know", hopper<unknown_barrier>},
    {"announcing too few bytes", hopper<few_bytes>},
    {"changing a fragment that is being multiplied", hopper<changed_fragment>},
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
