// hopper.cuh: kernels/cuda/ptx/hopper.cuh on a CPU, function by function.
#ifndef BROADSIDE_EMU_HOPPER_CUH
#define BROADSIDE_EMU_HOPPER_CUH

#include "hopper.h"
#include "ptx.cuh"

#define BS_HOPPER_CODE 1

namespace bs {
namespace cuda {

constexpr bool has_hopper_code = true;

inline void init_barrier(uint64_t *barrier, int arrivals) { emu::init_barrier(barrier, arrivals); }
inline void show_barriers() { emu::show_barriers(); }
inline void arrive(uint64_t *barrier) { emu::arrive(barrier, 0); }
inline void arrive_expecting(uint64_t *barrier, int bytes) { emu::arrive(barrier, bytes); }
inline void wait_phase(uint64_t *barrier, uint32_t parity) { emu::wait_phase(barrier, parity); }

struct alignas(128) TensorMap {
  unsigned char opaque[128];
};

inline void copy_box(void *shared, const TensorMap &map, int i0, int i1, int i2, int i3, uint64_t *barrier) {
  int first[] = {i0, i1, i2, i3};
  emu::copy_box(shared, &map, first, barrier);
}
inline void copy_bulk(void *shared, const void *from, int bytes, uint64_t *barrier) { emu::copy_bulk(shared, from, bytes, barrier); }

template <int count> void give_registers() {}
template <int count> void take_registers() {}

inline uint64_t matrix_descriptor(const void *start, int term_step, int row_step) {
  return (uint64_t)(emu::shared_address(start) >> 4 & 0x3fff) | (uint64_t)(term_step >> 4) << 16 | (uint64_t)(row_step >> 4) << 32;
}

inline void fence_products() { emu::fence_products(); }
inline void commit_products() { emu::commit_products(); }
template <int newest> void wait_products() { emu::wait_products(newest); }
template <int N> void settle(float (&)[N]) {}
template <int N> void multiply_async(float (&d)[N], const uint32_t (&a)[4], uint64_t b) { emu::multiply_async(d, 2 * N, a, b, false); }
template <int N> void multiply_async_tf32(float (&d)[N], const uint32_t (&a)[4], uint64_t b) { emu::multiply_async(d, 2 * N, a, b, true); }

} // namespace cuda
} // namespace bs

#endif
