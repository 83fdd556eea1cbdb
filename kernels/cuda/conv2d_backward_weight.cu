// conv2d_backward_weight.cu
#include "conv2d_columns.cuh"
#include "conv2d_depthwise.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {
namespace {

template <typename Tile, bool wide>
__global__ void __launch_bounds__(Tile::threads, least_blocks<Tile>(wide)) weight_kernel(const WeightGemm g) {
  using Product = typename Tile::template Product<false, false>;
  __shared__ WeightBlock b;
  if (threadIdx.x == 0) b = weight_block_of(g, Tile::rows, Tile::cols);
  __syncthreads();
  GradientSource<typename Product::ChunksA, wide> gradients(g, b);
  TapSource<typename Product::ChunksB, wide> taps(g, b);
  Product product;
  product.run(gradients, taps, (b.pixels + Tile::depth - 1) / Tile::depth);
  int rows = g.group_k - b.row, cols = g.cols - b.col;
  float *out = g.out + b.split * g.cells + ((int64_t)b.group * g.group_k + b.row) * g.cols + b.col;
  product.each([&](int row, int col, auto sums) {
    constexpr int V = sizeof sums / sizeof(float);
    float *at = out + (int64_t)row * g.cols + col;
    if (row >= rows || col >= cols) return;
    if (g.splits > 1 && g.wide_out) return store<V, true>(at, sums);
#pragma unroll
    for (int e = 0; e < V; e++)
      if (col + e < cols) at[e] = g.splits > 1 ? sums.v[e] : at[e] + sums.v[e];
  });
}

// WeightPlan is how a weight gradient is cut into blocks.
struct WeightPlan {
  int64_t row_tiles, col_tiles, blocks;
  Splits splits;
};

int64_t pixels_of(const bs_conv2d &s) { return (int64_t)s.n * s.oh * s.ow; }
int64_t cells_of(const bs_conv2d &s) { return (int64_t)s.k * s.r * s.s * (s.c / s.groups); }

template <typename Tile> WeightPlan plan_of(const bs_conv2d &s) {
  WeightPlan p;
  p.row_tiles = ceil_div(s.k / s.groups, (int)Tile::rows);
  p.col_tiles = ceil_div((int64_t)s.r * s.s * (s.c / s.groups), (int64_t)Tile::cols);
  int64_t blocks = p.row_tiles * p.col_tiles * s.groups;
  p.splits = split(pixels_of(s), blocks, Tile::threads, 256);
  p.blocks = blocks * p.splits.count;
  return p;
}

int64_t part_cells(const bs_conv2d &s, const WeightPlan &p) {
  return p.splits.count > 1 ? p.splits.count * cells_of(s) : 0;
}

template <typename Tile> bs_status launch_weights(const bs_conv2d &s, const float *x, const float *dy, float *dw, float *workspace,
                                                  void *stream) {
  WeightPlan p = plan_of<Tile>(s);
  if (p.blocks > most_blocks) return BS_UNSUPPORTED;
  int group_c = s.c / s.groups, group_k = s.k / s.groups;
  WeightGemm g = {};
  g.x = x, g.dy = dy, g.out = p.splits.count > 1 ? workspace : dw;
  g.h = s.h, g.w = s.w, g.c = s.c, g.k = s.k, g.r = s.r, g.s = s.s, g.oh = s.oh, g.ow = s.ow, g.groups = s.groups;
  g.stride_h = s.stride_h, g.stride_w = s.stride_w, g.pad_h = s.pad_h, g.pad_w = s.pad_w;
  g.group_c = group_c, g.group_k = group_k, g.cols = s.r * s.s * group_c;
  g.pixels = pixels_of(s), g.cells = cells_of(s), g.splits = p.splits.count, g.part = p.splits.part;
  g.row_tiles = (int)p.row_tiles, g.col_tiles = (int)p.col_tiles;
  g.wide_out = group_c % 4 == 0 && aligned(g.out);
  bool wide = group_c % 4 == 0 && group_k % 4 == 0 && aligned(x, dy);
  constexpr int shared = Tile::template Product<false, false>::shared;
  auto kernel = wide ? weight_kernel<Tile, true> : weight_kernel<Tile, false>;
  bs_status status = launch(stream, kernel, dim3((unsigned)p.blocks), dim3(Tile::threads), shared, g);
  if (status != BS_OK || p.splits.count == 1) return status;
  return add_parts(stream, workspace, p.splits.count, cells_of(s), dw);
}

bs_status weight_gradient(const bs_conv2d &s, const float *x, const float *dy, float *dw, float *workspace, void *stream) {
  if (depthwise(s)) return sum_columns<DepthwiseTerms>(stream, {s, x, dy}, pixels_of(s), cells_of(s), dw, workspace);
  return with_weight_tile(s.k / s.groups, s.precision, [&](auto tile) {
    return launch_weights<decltype(tile)>(s, x, dy, dw, workspace, stream);
  });
}

} // namespace

int64_t conv2d_backward_weight_cells(const bs_conv2d &s) {
  int64_t weights = 0, bias = column_cells(pixels_of(s), s.k);
  if (depthwise(s))
    weights = column_cells(pixels_of(s), cells_of(s));
  else
    with_weight_tile(s.k / s.groups, s.precision, [&](auto tile) {
      weights = part_cells(s, plan_of<decltype(tile)>(s));
      return BS_OK;
    });
  return weights > bias ? weights : bias; // one after the other
}

bs_status conv2d_backward_weight(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_CONV2D_BACKWARD_WEIGHT, shape, arg);
  if (status != BS_OK) return status;
  const bs_conv2d &s = shape->conv2d;
  if (!fits(s)) return BS_UNSUPPORTED;
  const float *x = arg_at<const float>(arg, 0), *dy = arg_at<const float>(arg, 1);
  float *dw = arg_at<float>(arg, 2), *dbias = arg_at<float>(arg, 3), *workspace = arg_at<float>(arg, 4);
  status = weight_gradient(s, x, dy, dw, workspace, stream);
  if (status != BS_OK || !dbias) return status;
  return sum_columns<BiasTerms>(stream, {dy, s.k}, pixels_of(s), s.k, dbias, workspace);
}

} // namespace cuda
} // namespace bs
