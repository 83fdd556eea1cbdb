// ptx.cuh: kernels/cuda/ptx/ptx.cuh on a CPU, function by function.
#ifndef BROADSIDE_EMU_PTX_CUH
#define BROADSIDE_EMU_PTX_CUH

#include <cuda_runtime.h>

namespace bs {
namespace cuda {

inline void *dynamic_shared() { return emu::dynamic_shared(); }

template <int bytes> void copy_async(void *shared, const void *from, bool there) {
  emu::expect_aligned(from, bytes);
  emu::copy_later(shared, there ? from : nullptr, bytes);
}
inline void copy_async4(void *shared, const void *from, bool there) { copy_async<4>(shared, from, there); }
inline void copy_async16(void *shared, const void *from, bool there) { copy_async<16>(shared, from, there); }
inline void commit_async() { emu::commit_copies(); }
template <int newest> void wait_async() { emu::wait_copies(newest); }

inline uint32_t bf16_bits(float v) {
  uint32_t u = __float_as_uint(v);
  if (v != v) return 0x7fff;
  return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
inline uint32_t pack_bf16(float low, float high) { return bf16_bits(low) | bf16_bits(high) << 16; }
inline float bf16_low(uint32_t packed) { return __uint_as_float(packed << 16); }
inline float bf16_high(uint32_t packed) { return __uint_as_float(packed & 0xffff0000u); }

inline uint32_t round_tf32(float v) {
  uint32_t u = __float_as_uint(v);
  return (fabsf(v) < INFINITY ? u + 0x1000 : u) & 0xffffe000u;
}

// The rows of the four matrices: lane l gave the row at 8 l.
inline const uint16_t *exchange_rows(const void *row) {
  emu::expect_aligned(row, 16);
  return (const uint16_t *)emu::exchange(0xffffffffu, row, 16);
}

inline void load_matrices(uint32_t (&r)[4], const void *row) {
  const uint16_t *rows = exchange_rows(row);
  int l = emu::lane();
  for (int i = 0; i < 4; i++) memcpy(&r[i], rows + 8 * (8 * i + l / 4) + 2 * (l % 4), 4);
}

inline void load_matrices_transposed(uint32_t (&r)[4], const void *row) {
  const uint16_t *rows = exchange_rows(row);
  int l = emu::lane();
  for (int i = 0; i < 4; i++) {
    const uint16_t *at = rows + 8 * (8 * i + 2 * (l % 4)) + l / 4;
    r[i] = at[0] | (uint32_t)at[8] << 16;
  }
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Fragments {
    uint32_t a[4], b[2];
  } mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
  const Fragments *all = (const Fragments *)emu::exchange(0xffffffffu, &mine, sizeof mine);
  int g = emu::lane() / 4, t = emu::lane() % 4;
  for (int i = 0; i < 4; i++) {
    int row = i / 2, column = 2 * t + i % 2; // row g + 8 row
    for (int k = 0; k < 8; k++) {            // terms 2 k and 2 k + 1
      uint32_t x = all[4 * g + k % 4].a[row + k / 4 * 2], y = all[4 * column + k % 4].b[k / 4];
      d[i] += bf16_low(x) * bf16_low(y) + bf16_high(x) * bf16_high(y);
    }
  }
}

// Bits below those of tf32 are cut.
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Fragments {
    float a[4], b[2];
  } mine;
  for (int i = 0; i < 4; i++) mine.a[i] = __uint_as_float(a[i] & 0xffffe000u);
  for (int i = 0; i < 2; i++) mine.b[i] = __uint_as_float(b[i] & 0xffffe000u);
  const Fragments *all = (const Fragments *)emu::exchange(0xffffffffu, &mine, sizeof mine);
  int g = emu::lane() / 4, t = emu::lane() % 4;
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 8; k++) d[i] += all[4 * g + k % 4].a[i / 2 + k / 4 * 2] * all[4 * (2 * t + i % 2) + k % 4].b[k / 4];
}

} // namespace cuda
} // namespace bs

#endif
