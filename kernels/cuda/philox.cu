// philox.cu: the philox kernel. A thread makes the four elements of one block of random words.
#include "philox.cuh"

#include "each.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {
namespace {

// box_muller makes two normals, in double: near u1 = 1 the logarithm in float would lose all its digits.
__device__ float2 box_muller(uint32_t word1, uint32_t word2) {
  const double unit = 1.0 / 16777216, two_pi = 6.28318530717958647692;
  double u1 = ((word1 >> 8) + 0.5) * unit, u2 = ((word2 >> 8) + 0.5) * unit;
  double radius = sqrt(-2 * log(u1)), angle = two_pi * u2;
  return make_float2((float)(radius * cos(angle)), (float)(radius * sin(angle)));
}

// distribute makes a block's four elements of its words.
__device__ float4 distribute(int distribution, const uint4 &w) {
  auto uniform = [](uint32_t word) { return (float)(word >> 8) * 0x1p-24f; };
  auto rademacher = [](uint32_t word) { return word >> 31 ? -1.0f : 1.0f; };
  switch (distribution) {
  case BS_UNIFORM:
    return make_float4(uniform(w.x), uniform(w.y), uniform(w.z), uniform(w.w));
  case BS_NORMAL: {
    float2 first = box_muller(w.x, w.y), second = box_muller(w.z, w.w);
    return make_float4(first.x, first.y, second.x, second.y);
  }
  case BS_RADEMACHER:
    return make_float4(rademacher(w.x), rademacher(w.y), rademacher(w.z), rademacher(w.w));
  }
  return make_float4(__uint_as_float(w.x), __uint_as_float(w.y), __uint_as_float(w.z), __uint_as_float(w.w));
}

} // namespace

bs_status philox(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_PHILOX, shape, arg);
  if (status != BS_OK) return status;
  const bs_philox &s = shape->philox;
  philox_stream words = {s.key0, s.key1, s.ctr1, s.ctr2, s.ctr3};
  float *out = arg_at<float>(arg, 0);
  bool wide = aligned(out);
  int64_t count = s.count;
  int distribution = s.distribution;
  return each(stream, ceil_div(count, (int64_t)4), [=] __device__(int64_t block) {
    float4 v = distribute(distribution, philox_block(words, (uint32_t)block));
    int64_t i = 4 * block;
    if (wide && i + 4 <= count) {
      *(float4 *)(out + i) = v;
      return;
    }
    out[i] = v.x;
    if (i + 1 < count) out[i + 1] = v.y;
    if (i + 2 < count) out[i + 2] = v.z;
    if (i + 3 < count) out[i + 3] = v.w;
  });
}

} // namespace cuda
} // namespace bs
