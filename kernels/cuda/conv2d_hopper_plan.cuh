// conv2d_hopper_plan.cuh: which boxes of outputs a convolution is cut into on compute capability 9.0, and the stages
// that a block has in shared memory.
#ifndef BROADSIDE_CUDA_CONV2D_HOPPER_PLAN_CUH
#define BROADSIDE_CUDA_CONV2D_HOPPER_PLAN_CUH

#include "conv2d_gemm.cuh"
#include "hopper.cuh"

namespace bs {
namespace cuda {

constexpr int hopper_line = 64;  // bytes of a rounded pixel, and of a filter's weights of one tap
constexpr int hopper_stride = 2; // at most
constexpr int hopper_groups = hopper_stride * hopper_stride;
constexpr int hopper_stages = 8; // at most, of a ring
constexpr int round_stages = 2;  // of rounded pixels
constexpr int hopper_barrier_bytes = 512, hopper_shared = 227 << 10;
static_assert(6 * hopper_stages * (int)sizeof(uint64_t) <= hopper_barrier_bytes, "barriers");

// hopper_depth is how many channels make a chunk.
__host__ __device__ constexpr int hopper_depth(int32_t precision) { return precision == BS_TF32 ? hopper_line / 4 : hopper_line / 2; }

// A HopperTile is 128 blocks outputs: a box of 1 << log_n images, 1 << log_h rows and 1 << log_w columns.
struct HopperTile {
  int blocks, log_w, log_h, log_n; // blocks: of 64 outputs, for each of the two warpgroups
  int float_bytes, round_bytes;    // of a stage of pixels
  int float_stages, weight_stages;
};

// The taps of an axis, in runs of taps that see pixels `step` apart: tap t of a run is the filter's tap + tap_step t
// and sees, for output i of the phase, pixel step (i + t) + first.
struct HopperAxis {
  int runs, count, step, tap_step, out_first, out_step;
  struct {
    int first, taps, tap;
  } run[hopper_stride];

  static HopperAxis forward(int out, int kernel, int stride, int pad) {
    HopperAxis a = {kernel < stride ? kernel : stride, out, stride, stride, 0, 1, {}};
    for (int i = 0; i < a.runs; i++) a.run[i] = {i - pad, ceil_div(kernel - i, stride), i};
    return a;
  }

  static HopperAxis backward(int size, int kernel, int stride, int pad, int pixel) {
    Axis from = Axis::backward(size, kernel, stride, pad, pixel);
    return {from.taps > 0, from.count, 1, -stride, from.out_first, from.out_step, {{from.first, from.taps, from.tap_first}}};
  }

  // read is how many pixels a run reads for `outputs` outputs.
  int read(int i, int outputs) const { return outputs + run[i].taps - 1; }
};

// hopper_pixels are those of the boxes that a tile reads for a chunk: the largest box, and all.
struct HopperPixels {
  int largest, all;
};

inline HopperPixels hopper_pixels(const HopperTile &t, const HopperAxis &h, const HopperAxis &w) {
  HopperPixels p = {1, 0};
  for (int i = 0; i < h.runs; i++)
    for (int j = 0; j < w.runs; j++) {
      int box = h.read(i, 1 << t.log_h) * w.read(j, 1 << t.log_w) << t.log_n;
      p.largest = box > p.largest ? box : p.largest, p.all += box;
    }
  return p;
}

inline int hopper_shared_bytes(const HopperTile &t, int width) {
  return hopper_barrier_bytes + t.float_stages * t.float_bytes + round_stages * t.round_bytes + t.weight_stages * width * hopper_line;
}

// set_stages gives the tile's rings what room there is, and reports whether it is enough.
inline bool set_stages(HopperTile &t, const HopperAxis &h, const HopperAxis &w, int width, int depth) {
  if (h.read(0, 1 << t.log_h) * h.step > 256 || w.read(0, 1 << t.log_w) * w.step > 256) return false; // cuTensorMapEncodeTiled
  int pixels = hopper_pixels(t, h, w).largest;
  auto lines = [](int bytes) { return ceil_div(bytes, 128) * 128; }; // copies and matrices begin at whole ones
  t.float_bytes = lines(pixels * depth * 4), t.round_bytes = lines(pixels * hopper_line);
  t.float_stages = 2, t.weight_stages = 3;
  auto fits = [&] { return hopper_shared_bytes(t, width) <= hopper_shared; };
  if (!fits()) return false;
  while (t.weight_stages < hopper_stages && fits()) t.weight_stages++;
  if (!fits()) t.weight_stages--;
  while (t.float_stages < hopper_stages / 2 && fits()) t.float_stages++;
  if (!fits()) t.float_stages--;
  return true;
}

// hopper_clocks is about how long a GPU takes for a chunk of all tiles. In a cycle a multiprocessor
// multiplies 64 x 64 pairs of bytes, reads 128 bytes of shared memory and gets some 24 bytes from L2.
inline double hopper_clocks(const HopperTile &t, const HopperAxis &h, const HopperAxis &w, int n, int width, int filters, int depth, int processors) {
  int taps = 0;
  for (int i = 0; i < h.runs; i++)
    for (int j = 0; j < w.runs; j++) taps += h.run[i].taps * w.run[j].taps;
  double outputs = 128.0 * t.blocks, pixels = hopper_pixels(t, h, w).all;
  double multiply = outputs * width * hopper_line * taps / 4096;
  double shared = (pixels * (depth * 4 + hopper_line) + outputs * hopper_line * taps) / 128 + multiply / 2;
  double l2 = (pixels * depth * 4 + (double)taps * width * hopper_line) / 24;
  double tiles = (double)ceil_div(n, 1 << t.log_n) * ceil_div(h.count, 1 << t.log_h) * ceil_div(w.count, 1 << t.log_w) * (filters / width);
  double most = multiply > shared ? multiply : shared;
  most = l2 > most ? l2 : most;
  return ceil(tiles / processors) * (most + 0.1 * (multiply + shared + l2));
}

// hopper_tile finds the fastest tile. With up to hopper_taps taps along an axis there always is one. It may depend on the
// GPU: in any tile the terms of a sum come in the same order.
constexpr int hopper_taps = 7;
inline HopperTile hopper_tile(const HopperAxis &h, const HopperAxis &w, int n, int width, int filters, int depth, int processors) {
  HopperTile best = {};
  double least = 0;
  for (int blocks = 1; blocks <= 2; blocks++)
    for (int log_w = 0; log_w <= 6 + blocks; log_w++)
      for (int log_h = 0; log_h + log_w <= 6 + blocks; log_h++) {
        HopperTile t = {blocks, log_w, log_h, 6 + blocks - log_w - log_h, 0, 0, 0, 0};
        if (!set_stages(t, h, w, width, depth)) continue;
        double clocks = hopper_clocks(t, h, w, n, width, filters, depth, processors);
        if (least > 0 && clocks >= least) continue;
        best = t, least = clocks;
      }
  return best;
}

// hopper_gemm computes a product by way of hopper_cells() of workspace. conv2d_plan.cuh says which products it takes.
int64_t hopper_cells(const PixelGemm &g, int32_t precision);
template <bool backward> bs_status hopper_gemm(PixelGemm g, int32_t precision, float *workspace, void *stream);

} // namespace cuda
} // namespace bs

#endif
