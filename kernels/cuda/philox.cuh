// philox.cuh: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3").
#ifndef BROADSIDE_CUDA_PHILOX_CUH
#define BROADSIDE_CUDA_PHILOX_CUH

#include "device.cuh"

namespace bs {
namespace cuda {

struct philox_stream {
  uint32_t key0, key1, ctr1, ctr2, ctr3;
};

// philox_block is the four words with the counter (block, ctr1, ctr2, ctr3).
__device__ __forceinline__ uint4 philox_block(const philox_stream &stream, uint32_t block) {
  uint4 c = make_uint4(block, stream.ctr1, stream.ctr2, stream.ctr3);
  uint32_t k0 = stream.key0, k1 = stream.key1;
#pragma unroll
  for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    uint32_t high0 = __umulhi(0xD2511F53u, c.x), high1 = __umulhi(0xCD9E8D57u, c.z);
    c = make_uint4(high1 ^ c.y ^ k0, 0xCD9E8D57u * c.z, high0 ^ c.w ^ k1, 0xD2511F53u * c.x);
  }
  return c;
}

__device__ __forceinline__ uint32_t word_of(const uint4 &words, int i) {
  return i == 0 ? words.x : i == 1 ? words.y : i == 2 ? words.z : words.w;
}

// sample_stream is the random stream of one sample for a purpose and layer; key = {seed low, seed high,
// epoch, copy}.
__device__ __forceinline__ philox_stream sample_stream(const uint32_t *key, int32_t sample, uint32_t purpose, uint32_t layer) {
  return {key[0], key[1], (uint32_t)sample, key[2], purpose << 24 | layer << 8 | key[3]};
}

} // namespace cuda
} // namespace bs

#endif
