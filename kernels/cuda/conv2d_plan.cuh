// conv2d_plan.cuh: which tile a convolution is computed with, and how its weight gradient's sum is split.
#ifndef BROADSIDE_CUDA_CONV2D_PLAN_CUH
#define BROADSIDE_CUDA_CONV2D_PLAN_CUH

#include "conv2d_hopper_plan.cuh"
#include "conv2d_mma.cuh"
#include "conv2d_simt.cuh"
#include "conv2d_tf32.cuh"

namespace bs {
namespace cuda {

// fits reports whether what the kernels index in 32 bits can be: a padded image, the weights, all rows of pixels.
inline bool fits(const bs_conv2d &s) {
  auto cells = [](int64_t a, int64_t b, int64_t c) { return (double)a * (double)b * (double)c; };
  const int64_t most = 0x7fffffff, h = s.h + 2 * (int64_t)s.pad_h, w = s.w + 2 * (int64_t)s.pad_w;
  return cells(h, w, s.c > s.k ? s.c : s.k) < most && cells((int64_t)s.r * s.s, s.k, s.c / s.groups) < most &&
         cells(s.n, h, 1) < most;
}

// The widths of tiles, and what a sum costs in each against the widest. A tile of R x C sums does R C / (2 (R + C))
// operations for a byte that it loads: 32 at 128 x 128, 21 at 128 x 64, 13 at 128 x 32, 7.5 at 256 x 16. In float,
// where a GPU does 4 to 10 operations for a byte from its L2 cache, that is enough, and narrow tiles cost the work
// around the multiplications; on tensor cores (60 and more) all lean on L1, which holds a tile's pixels from tap to tap.
enum TileWidth { tile_16, tile_32, tile_64, tile_128 };
constexpr int tile_width[] = {16, 32, 64, 128};
constexpr float tile_cost[] = {1.6f, 1.35f, 1.1f, 1};

// tile_for picks the width that computes `count` rows or columns at the least cost, padding included.
inline TileWidth tile_for(int count) {
  int best = tile_128;
  auto cost = [&](int t) { return (float)(ceil_div(count, tile_width[t]) * tile_width[t]) * tile_cost[t]; };
  for (int t = tile_64; t >= tile_16; t--)
    if (cost(t) < cost(best)) best = t;
  return (TileWidth)best;
}

// least_blocks is how many blocks of a tile a multiprocessor is to hold. Copies of single floats take registers.
template <typename Tile> constexpr int least_blocks(bool wide) { return wide ? Tile::blocks : (Tile::blocks + 1) / 2; }

// with_precision calls run with the tile for a precision.
template <typename F32, typename BF16, typename TF32, typename Run> bs_status with_precision(int32_t precision, const Run &run) {
  switch (precision) {
  case BS_BF16:
    return run(BF16{});
  case BS_TF32:
    return run(TF32{});
  }
  return run(F32{});
}

// with_pixel_tile calls run with the tile for a product of pixels and weights of `cols` columns.
template <typename Run> bs_status with_pixel_tile(int cols, int32_t precision, const Run &run) {
  switch (tile_for(cols)) {
  case tile_16:
    return with_precision<SimtTile<256, 16, 8, 4, 4>, MmaTile<128, 16, 32, 16, 4>, Tf32Tile<128, 16, 32, 16, 4>>(precision, run);
  case tile_32:
    return with_precision<SimtTile<128, 32, 8, 4, 4>, MmaTile<128, 32, 32, 32, 4, 16>, Tf32Tile<128, 32, 32, 32, 4>>(precision, run);
  case tile_64:
    return with_precision<SimtTile<128, 64, 8, 8, 3>, MmaTile<128, 64, 64, 32, 3, 16>, Tf32Tile<128, 64, 64, 32, 3>>(precision, run);
  case tile_128:
    break;
  }
  return with_precision<SimtTile<128, 128, 8, 8, 2>, MmaTile<128, 128, 64, 64, 2, 16>, Tf32Tile<128, 128, 64, 64, 2>>(precision, run);
}

// hopper_shape reports whether a product of pixels and weights is one that compute capability 9.0 has a kernel for
// (conv2d_hopper.cuh): tensor maps need rows of a multiple of 16 bytes, and where more than a third of the channels or
// about as many filters would be padding, mma.sync does not pad.
inline bool hopper_shape(const PixelGemm &g, int32_t precision) {
  int depth = hopper_depth(precision), h = g.out_h > g.in_h ? g.out_h : g.in_h, w = g.out_w > g.in_w ? g.out_w : g.in_w;
  bool rounds = precision == BS_BF16 || precision == BS_TF32, counts = (double)g.n * h * w * ceil_div(g.out_c, 32) < 1 << 30;
  return has_hopper_code && rounds && counts && g.groups == 1 && g.in_c % 4 == 0 && ceil_div(g.in_c, depth) * depth * 2 <= g.in_c * 3 &&
         tile_for(g.out_c) != tile_16 && g.stride_h <= hopper_stride && g.stride_w <= hopper_stride && g.r <= hopper_taps && g.s <= hopper_taps;
}

// on_hopper decides whether that kernel computes it.
inline bool on_hopper(const bs_cuda_queue &queue, const PixelGemm &g, int32_t precision) {
  return queue.capability == 90 && queue.processors > 0 && queue.encode_tiled && hopper_shape(g, precision) && aligned(g.in);
}

// with_weight_tile calls run with the tile for a weight gradient of `rows` filters.
template <typename Run> bs_status with_weight_tile(int rows, int32_t precision, const Run &run) {
  switch (tile_for(rows)) {
  case tile_16:
    return with_precision<SimtTile<16, 64, 4, 4, 8>, MmaTile<16, 64, 16, 16, 4>, Tf32Tile<16, 128, 16, 32, 4>>(precision, run);
  case tile_32:
    return with_precision<SimtTile<32, 64, 4, 4, 4>, MmaTile<32, 64, 32, 16, 4>, Tf32Tile<32, 128, 32, 32, 4>>(precision, run);
  case tile_64:
    return with_precision<SimtTile<64, 64, 8, 4, 4>, MmaTile<64, 128, 32, 64, 2>, Tf32Tile<64, 128, 32, 64, 3>>(precision, run);
  case tile_128:
    break;
  }
  return with_precision<SimtTile<128, 128, 8, 8, 2>, MmaTile<128, 128, 64, 64, 2, 16>, Tf32Tile<128, 128, 64, 64, 2>>(precision, run);
}

// Splits of a sum over `terms` into `count` parts of `part` terms. They depend on the shape alone, so that the
// result does not depend on the GPU.
struct Splits {
  int count, part;
};

// split cuts a sum of which `blocks` blocks of `threads` threads do one part each into as many parts as keep a
// GPU of 132 multiprocessors busy (2^17 threads), but none shorter than `least`, a multiple of all slabs.
inline Splits split(int64_t terms, int64_t blocks, int threads, int least) {
  int64_t wanted = ceil_div((int64_t)(1 << 17), blocks * threads);
  int64_t most = ceil_div(terms, (int64_t)least), longest = 1 << 30;
  int64_t count = wanted < most ? wanted : most;
  if (count < ceil_div(terms, longest)) count = ceil_div(terms, longest);
  int64_t part = ceil_div(ceil_div(terms, count), (int64_t)least) * least;
  return {(int)ceil_div(terms, part), (int)part};
}

} // namespace cuda
} // namespace bs

#endif
