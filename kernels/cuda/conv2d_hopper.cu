// conv2d_hopper.cu: the host's side of conv2d_hopper.cuh.
#include "conv2d_hopper.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {

namespace {

int width_of(int filters) { return tile_width[tile_for(filters)]; }

int64_t packed_bytes(const PixelGemm &g, int depth) {
  int64_t filters = ceil_div(g.out_c, width_of(g.out_c)) * (int64_t)width_of(g.out_c);
  return (int64_t)g.r * g.s * ceil_div(g.in_c, depth) * filters * hopper_line;
}

// pack_weights_kernel rounds the weights and lays them out as a block copies and multiplies them: for each tap and
// chunk of channels, each 8 filters' four matrices of 128 bytes (matrix_descriptor). A thread writes 16 bytes of a filter.
template <bool backward, int32_t precision>
__global__ void __launch_bounds__(256)
    pack_weights_kernel(const float *w, uint4 *packed, int taps, int in_c, int out_c, int chunks, int filters, int units) {
  constexpr int depth = hopper_depth(precision), count = depth / 4;
  int i = (int)(blockIdx.x * 256 + threadIdx.x);
  if (i >= units) return;
  int filter = i % 8 + i / 32 % (filters / 8) * 8, c = i / 8 % 4 * count + i / (4 * filters) % chunks * depth;
  int tap = i / (4 * filters) / chunks;
  float v[count];
#pragma unroll
  for (int e = 0; e < count; e++) {
    bool there = filter < out_c && c + e < in_c;
    int64_t at = backward ? ((int64_t)(c + e) * taps + tap) * out_c + filter : ((int64_t)filter * taps + tap) * in_c + c + e;
    v[e] = there ? w[at] : 0;
  }
  if constexpr (precision == BS_TF32)
    packed[i] = make_uint4(round_tf32(v[0]), round_tf32(v[1]), round_tf32(v[2]), round_tf32(v[3]));
  else
    packed[i] = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}

// encode describes the input and the box that a tile of a group of taps reads. It returns a CUresult.
int encode(const bs_cuda_queue &queue, TensorMap *map, const HopperGemm &p, const TapGroup &group, int depth) {
  enum { float32 = 7, no_interleave = 0, no_swizzle = 0, promote_256 = 3, fill_zero = 0 }; // of cuda.h
  const PixelGemm &g = p.g;
  uint64_t line = (uint64_t)g.in_w * g.in_c * 4;
  uint64_t sizes[] = {(uint64_t)g.in_c, (uint64_t)g.in_w, (uint64_t)g.in_h, (uint64_t)g.n};
  uint64_t strides[] = {(uint64_t)g.in_c * 4, line, line * g.in_h};
  uint32_t box[] = {(uint32_t)depth, (uint32_t)(group.box_w * p.step_w), (uint32_t)(group.box_h * p.step_h), 1u << p.tile.log_n};
  uint32_t steps[] = {1, (uint32_t)p.step_w, (uint32_t)p.step_h, 1};
  return queue.encode_tiled(map, float32, 4, (void *)g.in, sizes, strides, box, steps, no_interleave, no_swizzle, promote_256, fill_zero);
}

void set_groups(HopperGemm &p, const HopperAxis &h, const HopperAxis &w) {
  for (int i = 0; i < h.runs; i++)
    for (int j = 0; j < w.runs; j++) {
      TapGroup &group = p.group[p.groups++];
      group = {h.run[i].first, w.run[j].first, h.run[i].taps, w.run[j].taps, h.run[i].tap, w.run[j].tap, h.read(i, 1 << p.tile.log_h),
               w.read(j, 1 << p.tile.log_w), 0};
      group.pixels = group.box_h * group.box_w << p.tile.log_n;
    }
}

template <int N, int Blocks, int32_t precision> bs_status launch_tiles(const HopperGemm &p, void *stream) {
  int processors = queue_of(stream).processors, blocks = processors < p.tiles ? processors : p.tiles;
  return launch(stream, hopper_kernel<N, Blocks, precision>, dim3((unsigned)blocks), dim3(hopper_threads),
                (size_t)hopper_shared_bytes(p.tile, N), p);
}

template <int N, int32_t precision> bs_status launch_width(const HopperGemm &p, void *stream) {
  return p.tile.blocks == 1 ? launch_tiles<N, 1, precision>(p, stream) : launch_tiles<N, 2, precision>(p, stream);
}

// phase computes the outputs of one phase.
template <int32_t precision>
bs_status phase(const PixelGemm &g, const HopperAxis &h, const HopperAxis &w, const unsigned char *packed, void *stream) {
  constexpr int depth = hopper_depth(precision);
  HopperGemm p = {};
  int width = width_of(g.out_c);
  p.g = g, p.weights = packed;
  p.n = g.n, p.rows = h.count, p.cols = w.count;
  p.chunks = ceil_div(g.in_c, depth), p.col_tiles = ceil_div(g.out_c, width), p.filters = p.col_tiles * width;
  p.step_h = h.step, p.step_w = w.step, p.tap_step_h = h.tap_step, p.tap_step_w = w.tap_step;
  p.out_first_h = h.out_first, p.out_first_w = w.out_first, p.out_step_h = h.out_step, p.out_step_w = w.out_step;
  p.tile = hopper_tile(h, w, g.n, width, p.filters, depth, queue_of(stream).processors);
  p.tiles_h = ceil_div(h.count, 1 << p.tile.log_h), p.tiles_w = ceil_div(w.count, 1 << p.tile.log_w);
  p.tiles = ceil_div(g.n, 1 << p.tile.log_n) * p.tiles_h * p.tiles_w * p.col_tiles;
  set_groups(p, h, w);
  for (int i = 0; i < p.groups; i++) {
    int error = encode(queue_of(stream), &p.map[i], p, p.group[i], depth);
    if (error == 0) continue;
    ((bs_cuda_queue *)stream)->error = error;
    return BS_DEVICE_ERROR;
  }
  if (width == 32) return launch_width<32, precision>(p, stream);
  if (width == 64) return launch_width<64, precision>(p, stream);
  return launch_width<128, precision>(p, stream);
}

// flatten makes images of 1 x 1 of the pixels where each output sees its own pixel alone: no tile has an edge then.
void flatten(PixelGemm &g) {
  if (g.r > 1 || g.s > 1 || g.stride_h > 1 || g.stride_w > 1 || g.pad_h || g.pad_w) return;
  g.n *= g.in_h * g.in_w;
  g.in_h = g.in_w = g.out_h = g.out_w = 1;
}

template <bool backward> HopperAxis axis(int out, int kernel, int stride, int pad, int at) {
  return backward ? HopperAxis::backward(out, kernel, stride, pad, at) : HopperAxis::forward(out, kernel, stride, pad);
}

template <bool backward, int32_t precision> bs_status rounded_gemm(PixelGemm g, unsigned char *packed, void *stream) {
  constexpr int depth = hopper_depth(precision);
  int chunks = ceil_div(g.in_c, depth), units = (int)(packed_bytes(g, depth) / 16), filters = units / (g.r * g.s * chunks * 4);
  bs_status status = launch(stream, pack_weights_kernel<backward, precision>, dim3((unsigned)ceil_div(units, 256)), dim3(256), 0, g.weights,
                            (uint4 *)packed, g.r * g.s, g.in_c, g.out_c, chunks, filters, units);
  flatten(g);
  for (int i = 0; i < g.phases_h * g.phases_w && status == BS_OK; i++)
    status = phase<precision>(g, axis<backward>(g.out_h, g.r, g.stride_h, g.pad_h, i / g.phases_w),
                              axis<backward>(g.out_w, g.s, g.stride_w, g.pad_w, i % g.phases_w), packed, stream);
  return status;
}

} // namespace

int64_t hopper_cells(const PixelGemm &g, int32_t precision) { return packed_bytes(g, hopper_depth(precision)) / 4 + scratch_slack; }

template <bool backward> bs_status hopper_gemm(PixelGemm g, int32_t precision, float *workspace, void *stream) {
  g.wide_out = g.out_c % 4 == 0 && aligned(g.out);
  unsigned char *packed = aligned_scratch<unsigned char>(workspace);
  return precision == BS_TF32 ? rounded_gemm<backward, BS_TF32>(g, packed, stream) : rounded_gemm<backward, BS_BF16>(g, packed, stream);
}

template bs_status hopper_gemm<false>(PixelGemm, int32_t, float *, void *);
template bs_status hopper_gemm<true>(PixelGemm, int32_t, float *, void *);

} // namespace cuda
} // namespace bs
