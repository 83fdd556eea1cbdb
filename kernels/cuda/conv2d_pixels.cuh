// conv2d_pixels.cuh: products of pixels and weights, the kernel of conv2d_forward and conv2d_backward_input.
#ifndef BROADSIDE_CUDA_CONV2D_PIXELS_CUH
#define BROADSIDE_CUDA_CONV2D_PIXELS_CUH

#include <type_traits>

#include "conv2d_plan.cuh"

namespace bs {
namespace cuda {

// write_sums stores V sums side by side, `left` of them inside the output.
template <int V, bool wide>
__device__ __forceinline__ void write_sums(const PixelGemm &g, float *at, const float *bias, int left, lanes<V> v) {
  lanes<V> before = {};
  if (g.accumulate) {
    if constexpr (wide) before = load<V, true>(at);
#pragma unroll
    for (int e = 0; e < (wide ? 0 : V); e++)
      if (e < left) before.v[e] = at[e];
  }
#pragma unroll
  for (int e = 0; e < V; e++) {
    v.v[e] += before.v[e];
    if (bias && (wide || e < left)) v.v[e] += bias[e];
    if (g.relu) v.v[e] = relu_of(v.v[e]);
    if (!wide && e < left) at[e] = v.v[e];
  }
  if constexpr (wide) store<V, true>(at, v);
}

template <typename Tile, bool backward, bool wide>
__global__ void __launch_bounds__(Tile::threads, least_blocks<Tile>(wide)) pixel_kernel(const PixelGemm g) {
  using Product = typename Tile::template Product<true, !backward>;
  using Weights = typename std::conditional<backward, WeightTapSource<typename Product::ChunksB, wide>,
                                            WeightRowSource<typename Product::ChunksB, wide>>::type;
  __shared__ PixelBlock b;
  if (threadIdx.x == 0) b = block_of<backward>(g, Tile::rows, Tile::cols);
  __syncthreads();
  if (b.rows == 0) return;
  PixelSource<typename Product::ChunksA, wide> pixels(g, b);
  Weights weights(g, b);
  Product product;
  product.run(pixels, weights, (b.terms + Tile::depth - 1) / Tile::depth);
  int first = b.first_out + b.col, cols = g.group_out - b.col;
  product.each([&](int row, int col, auto sums) {
    if (row >= b.rows || col >= cols) return;
    int64_t pixel = b.row + row;
    if (backward && g.phases_h * g.phases_w > 1) {
      Position p = b.position(row);
      pixel = ((int64_t)p.image * g.out_h + p.h * b.h.out_step + b.h.out_first) * g.out_w + p.w * b.w.out_step + b.w.out_first;
    }
    constexpr int V = sizeof sums / sizeof(float);
    float *at = g.out + pixel * g.out_c + first + col;
    const float *bias = g.bias ? g.bias + first + col : nullptr;
    if (g.wide_out)
      write_sums<V, true>(g, at, bias, V, sums);
    else
      write_sums<V, false>(g, at, bias, cols - col, sums);
  });
}

// pixel_gemm launches the product; the tiles of g are not yet set.
template <bool backward> bs_status pixel_gemm(PixelGemm g, int32_t precision, void *stream) {
  g.group_in = g.in_c / g.groups, g.group_out = g.out_c / g.groups;
  bool wide = g.group_in % 4 == 0 && (!backward || g.group_out % 4 == 0) && aligned(g.in, g.weights);
  g.wide_out = g.group_out % 4 == 0 && aligned(g.out);
  int64_t phases = (int64_t)g.phases_h * g.phases_w; // the first is the largest
  int64_t rows = g.n * (int64_t)ceil_div(g.out_h, g.phases_h) * ceil_div(g.out_w, g.phases_w);
  return with_pixel_tile(g.group_out, precision, [&](auto tile) {
    using Tile = decltype(tile);
    int64_t row_tiles = ceil_div(rows, (int64_t)Tile::rows);
    int64_t col_tiles = ceil_div(g.group_out, (int)Tile::cols), blocks = row_tiles * col_tiles * g.groups * phases;
    if (blocks > most_blocks) return BS_UNSUPPORTED;
    PixelGemm tiled = g;
    tiled.row_tiles = (int)row_tiles, tiled.col_tiles = (int)col_tiles;
    constexpr int shared = Tile::template Product<true, !backward>::shared;
    auto kernel = wide ? pixel_kernel<Tile, backward, true> : pixel_kernel<Tile, backward, false>;
    return launch(stream, kernel, dim3((unsigned)blocks), dim3(Tile::threads), shared, tiled);
  });
}

} // namespace cuda
} // namespace bs

#endif
