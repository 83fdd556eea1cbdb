// conv2d_hopper.cuh: convolutions of bfloat16 or tf32 factors on compute capability 9.0: bulk copies (TMA) and products of
// warpgroups (wgmma).
//
// The product is that of conv2d_gemm.cuh's forward and backward_input. A block computes tiles of 128 or 256 pixels by
// N filters, a chunk of channels of all taps at a time: 32 bfloat16s or 16 tf32 numbers, 64 bytes in either case, which
// wgmma multiplies in the same time.
//
//   copier (1 thread)          brings a box of pixels, floats, with all the neighbours that the taps see, and the
//                              weights of one tap after the other, which pack_weights_kernel has rounded
//   rounders (3 warps)         round the box
//   multipliers (2 x 4 warps)  for each tap, load the pixels that it sees as fragments and multiply
//
// Why so: 128 x 128 sums of a chunk are multiplied in 256 cycles. Copied tap by tap, their pixels would be 16 KiB (8
// for tf32) from L2 in that time, of which a multiprocessor gets some 6 KiB; a box of 3x3 taps is 1.3 to 1.6 times its
// pixels, where 9 would be copied. Shared memory gives 128 bytes a cycle. Half a chunk of 64 pixels and N filters is
// multiplied in N / 2 cycles. Its fragments take 16, the weights N / 4: that fits from N = 64 on. As floats,
// to be rounded again for every tap, bfloat16's fragments would take 32. Rounding takes 48 (32), but once for all taps.
#ifndef BROADSIDE_CUDA_CONV2D_HOPPER_CUH
#define BROADSIDE_CUDA_CONV2D_HOPPER_CUH

#include "conv2d_hopper_plan.cuh"
#include "conv2d_pixels.cuh"
#include "hopper.cuh"

namespace bs {
namespace cuda {

// Taps that see the same box of pixels: those of a filter's rows tap_h, tap_h + tap_step_h, ..., and columns alike.
struct TapGroup {
  int first_h, first_w; // the pixel that tap (0, 0) of output (0, 0) sees
  int taps_h, taps_w, tap_h, tap_w;
  int box_h, box_w, pixels; // of a box, in pixels that are read
};

// A HopperGemm is the kernel's parameter: outputs of one phase (conv2d_gemm.cuh), which are rows x cols per image.
struct HopperGemm {
  TensorMap map[hopper_groups];
  TapGroup group[hopper_groups];
  PixelGemm g;
  const unsigned char *weights; // packed
  int groups, n, rows, cols;
  int step_h, step_w, tap_step_h, tap_step_w; // of pixels per output, of filter taps per tap
  int out_first_h, out_first_w, out_step_h, out_step_w;
  int chunks, filters; // filters with their padding
  HopperTile tile;
  int tiles_h, tiles_w, col_tiles, tiles;
};

constexpr int hopper_threads = 384, rounders = 3, multipliers = 8; // the latter two: warps

// The rings of stages in shared memory, and their barriers.
struct HopperRings {
  uint64_t *float_full, *float_empty, *round_full, *round_empty, *weight_full, *weight_empty;
  unsigned char *floats, *rounds, *weights;

  __device__ __forceinline__ HopperRings(const HopperTile &t) {
    unsigned char *at = (unsigned char *)dynamic_shared();
    float_full = (uint64_t *)at, float_empty = float_full + hopper_stages;
    round_full = float_empty + hopper_stages, round_empty = round_full + hopper_stages;
    weight_full = round_empty + hopper_stages, weight_empty = weight_full + hopper_stages;
    floats = at + hopper_barrier_bytes;
    rounds = floats + t.float_stages * t.float_bytes;
    weights = rounds + round_stages * t.round_bytes;
  }

  __device__ __forceinline__ void init() const {
    for (int i = 0; i < hopper_stages; i++) {
      init_barrier(float_full + i, 1), init_barrier(float_empty + i, rounders);
      init_barrier(round_full + i, rounders), init_barrier(round_empty + i, multipliers);
      init_barrier(weight_full + i, 1), init_barrier(weight_empty + i, multipliers);
    }
    show_barriers();
  }
};

// A Turn goes around a ring. Who fills stages waits for `empty` of the round before.
struct Turn {
  int stage = 0;
  uint32_t round = 0;

  __device__ __forceinline__ void next(int stages) {
    if (++stage == stages) stage = 0, round ^= 1;
  }
};

// warp_arrives says that the warp is done with a stage.
__device__ __forceinline__ void warp_arrives(uint64_t *barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) arrive(barrier);
}

// A TilePlace is where a tile begins.
struct TilePlace {
  int image, h, w, col;

  __device__ __forceinline__ TilePlace(const HopperGemm &p, int tile, int width) {
    col = tile % p.col_tiles * width, tile /= p.col_tiles;
    w = tile % p.tiles_w << p.tile.log_w, tile /= p.tiles_w;
    h = tile % p.tiles_h << p.tile.log_h, image = tile / p.tiles_h << p.tile.log_n;
  }
};

// copy_tiles is the copier.
template <int N, int32_t precision> __device__ __forceinline__ void copy_tiles(const HopperGemm &p, const HopperRings &r) {
  constexpr int weight_bytes = N * hopper_line, depth = hopper_depth(precision);
  Turn pixels, weights;
  for (int tile = (int)blockIdx.x; tile < p.tiles; tile += (int)gridDim.x) {
    TilePlace at(p, tile, N);
    for (int i = 0; i < p.groups; i++) {
      const TapGroup &group = p.group[i];
      for (int chunk = 0; chunk < p.chunks; chunk++) {
        wait_phase(r.float_empty + pixels.stage, pixels.round ^ 1);
        arrive_expecting(r.float_full + pixels.stage, group.pixels * (depth * 4));
        copy_box(r.floats + pixels.stage * p.tile.float_bytes, p.map[i], chunk * depth, at.w * p.step_w + group.first_w,
                 at.h * p.step_h + group.first_h, at.image, r.float_full + pixels.stage);
        pixels.next(p.tile.float_stages);
        for (int t = 0; t < group.taps_h; t++)
          for (int u = 0; u < group.taps_w; u++) {
            int tap = (group.tap_h + t * p.tap_step_h) * p.g.s + group.tap_w + u * p.tap_step_w;
            const unsigned char *from = p.weights + ((int64_t)(tap * p.chunks + chunk) * p.filters + at.col) * hopper_line;
            wait_phase(r.weight_empty + weights.stage, weights.round ^ 1);
            arrive_expecting(r.weight_full + weights.stage, weight_bytes);
            copy_bulk(r.weights + weights.stage * weight_bytes, from, weight_bytes, r.weight_full + weights.stage);
            weights.next(p.tile.weight_stages);
          }
      }
    }
  }
}

// rounded_place is the byte of a unit of 16 bytes of a pixel in a rounded stage: those of any 8 pixels side by side lie in
// different banks (ldmatrix reads so).
__device__ __forceinline__ int rounded_place(int pixel, int unit) { return pixel * hopper_line + (unit ^ (pixel >> 1 & 3)) * 16; }

// put_rounded writes 4 channels of a pixel, of the pixel's `quad`th four.
template <int32_t precision> __device__ __forceinline__ void put_rounded(unsigned char *stage, int pixel, int quad, const lanes<4> &v) {
  if constexpr (precision == BS_TF32)
    *(uint4 *)(stage + rounded_place(pixel, quad)) = make_uint4(round_tf32(v.v[0]), round_tf32(v.v[1]), round_tf32(v.v[2]), round_tf32(v.v[3]));
  else
    *(uint2 *)(stage + rounded_place(pixel, quad / 2) + quad % 2 * 8) = make_uint2(pack_bf16(v.v[0], v.v[1]), pack_bf16(v.v[2], v.v[3]));
}

// round_tiles is what the rounders do. A thread has the same 4 channels of every 12th (24th) pixel.
template <int32_t precision> __device__ __forceinline__ void round_tiles(const HopperGemm &p, const HopperRings &r) {
  constexpr int depth = hopper_depth(precision), quads = depth / 4, step = rounders * 32 / quads;
  int thread = (int)threadIdx.x - 32, quad = thread % quads;
  Turn from, to;
  for (int tile = (int)blockIdx.x; tile < p.tiles; tile += (int)gridDim.x)
    for (int i = 0; i < p.groups; i++)
      for (int chunk = 0; chunk < p.chunks; chunk++) {
        wait_phase(r.float_full + from.stage, from.round);
        wait_phase(r.round_empty + to.stage, to.round ^ 1);
        const float *floats = (const float *)(r.floats + from.stage * p.tile.float_bytes) + quad * 4;
        unsigned char *rounded = r.rounds + to.stage * p.tile.round_bytes;
#pragma unroll 4
        for (int pixel = thread / quads; pixel < p.group[i].pixels; pixel += step)
          put_rounded<precision>(rounded, pixel, quad, load<4, true>(floats + pixel * depth));
        warp_arrives(r.float_empty + from.stage);
        warp_arrives(r.round_full + to.stage);
        from.next(p.tile.float_stages), to.next(round_stages);
      }
}

// Multiplier is a warp of a warpgroup that computes Blocks x 64 pixels by N filters.
template <int N, int Blocks, int32_t precision> class Multiplier {
  static constexpr int halves = 2; // of a chunk, which wgmma multiplies one by one

  const HopperGemm &p_;
  const HopperRings &r_;
  Turn pixels_, weights_;
  float sum_[Blocks][N / 2];
  uint32_t left_[halves][Blocks][4]; // fragments of pixels
  int row_;                          // the warp's first

public:
  __device__ __forceinline__ Multiplier(const HopperGemm &p, const HopperRings &r) : p_(p), r_(r) {
    int warp = (int)threadIdx.x / 32 - 4;
    row_ = warp / 4 * (64 * Blocks) + warp % 4 * 16;
  }

  __device__ __forceinline__ void run() {
    for (int tile = (int)blockIdx.x; tile < p_.tiles; tile += (int)gridDim.x) {
#pragma unroll
      for (int b = 0; b < Blocks; b++)
#pragma unroll
        for (int i = 0; i < N / 2; i++) sum_[b][i] = 0;
      for (int i = 0; i < p_.groups; i++) {
        int pixel[Blocks];
#pragma unroll
        for (int b = 0; b < Blocks; b++) pixel[b] = pixel_of(p_.group[i], row_ + 64 * b + (int)threadIdx.x % 16);
        for (int chunk = 0; chunk < p_.chunks; chunk++) add_chunk(p_.group[i], pixel);
      }
#pragma unroll
      for (int b = 0; b < Blocks; b++) settle(sum_[b]);
      write(TilePlace(p_, tile, N));
    }
  }

private:
  // pixel_of is the pixel of a box that tap (0, 0) of an output of the tile sees.
  __device__ __forceinline__ int pixel_of(const TapGroup &group, int row) const {
    int w = row & ((1 << p_.tile.log_w) - 1), h = row >> p_.tile.log_w & ((1 << p_.tile.log_h) - 1);
    int image = row >> (p_.tile.log_w + p_.tile.log_h);
    return (image * group.box_h + h) * group.box_w + w;
  }

  // add_chunk multiplies a box by its weights, tap by tap. While this warpgroup loads pixels the other one multiplies:
  // ptxas does not let fragments be loaded while products of the same warpgroup are under way.
  __device__ __forceinline__ void add_chunk(const TapGroup &group, const int (&pixel)[Blocks]) {
    wait_phase(r_.round_full + pixels_.stage, pixels_.round);
    const unsigned char *box = r_.rounds + pixels_.stage * p_.tile.round_bytes;
    for (int t = 0; t < group.taps_h; t++)
      for (int u = 0; u < group.taps_w; u++) {
        load_pixels(box, pixel, t * group.box_w + u);
        wait_phase(r_.weight_full + weights_.stage, weights_.round);
        multiply(r_.weights + weights_.stage * (N * hopper_line));
        warp_arrives(r_.weight_empty + weights_.stage);
        weights_.next(p_.tile.weight_stages);
      }
    warp_arrives(r_.round_empty + pixels_.stage);
    pixels_.next(round_stages);
  }

  __device__ __forceinline__ void load_pixels(const unsigned char *box, const int (&pixel)[Blocks], int moved) {
    int unit = (int)threadIdx.x % 32 / 16;
#pragma unroll
    for (int k = 0; k < halves; k++)
#pragma unroll
      for (int b = 0; b < Blocks; b++) load_matrices(left_[k][b], box + rounded_place(pixel[b] + moved, 2 * k + unit));
  }

  __device__ __forceinline__ void multiply(const unsigned char *weights) {
    fence_products();
#pragma unroll
    for (int k = 0; k < halves; k++)
#pragma unroll
      for (int b = 0; b < Blocks; b++) {
        uint64_t right = matrix_descriptor(weights + k * 256, 128, 512);
        if constexpr (precision == BS_TF32)
          multiply_async_tf32(sum_[b], left_[k][b], right);
        else
          multiply_async(sum_[b], left_[k][b], right);
      }
    commit_products();
    wait_products<0>();
  }

  __device__ __forceinline__ void write(const TilePlace &at) const {
    const PixelGemm &g = p_.g;
    int lane = (int)threadIdx.x % 32, col = at.col + 2 * (lane % 4);
#pragma unroll
    for (int b = 0; b < Blocks; b++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        int row = row_ + 64 * b + 8 * half + lane / 4;
        int w = at.w + (row & ((1 << p_.tile.log_w) - 1)), h = at.h + (row >> p_.tile.log_w & ((1 << p_.tile.log_h) - 1));
        int image = at.image + (row >> (p_.tile.log_w + p_.tile.log_h));
        if (image >= p_.n || h >= p_.rows || w >= p_.cols) continue;
        int64_t line = (int64_t)image * g.out_h + h * p_.out_step_h + p_.out_first_h;
        float *to = g.out + (line * g.out_w + w * p_.out_step_w + p_.out_first_w) * g.out_c;
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
          int c = col + 8 * j;
          if (c >= g.out_c) break;
          lanes<2> sums = {{sum_[b][4 * j + 2 * half], sum_[b][4 * j + 2 * half + 1]}};
          const float *bias = g.bias ? g.bias + c : nullptr;
          if (g.wide_out)
            write_sums<2, true>(g, to + c, bias, 2, sums);
          else
            write_sums<2, false>(g, to + c, bias, g.out_c - c, sums);
        }
      }
  }
};

template <int N, int Blocks, int32_t precision>
__global__ void __launch_bounds__(hopper_threads, 1) hopper_kernel(const __grid_constant__ HopperGemm p) {
#if BS_HOPPER_CODE
  HopperRings rings(p.tile);
  if (threadIdx.x == 0) rings.init();
  __syncthreads();
  int warp = (int)threadIdx.x / 32;
  if (warp < 4) { // 384 threads have 168 registers each
    give_registers<40>();
    if (warp) {
      round_tiles<precision>(p, rings);
    } else if (threadIdx.x == 0) {
      copy_tiles<N, precision>(p, rings);
    }
  } else {
    take_registers<232>();
    Multiplier<N, Blocks, precision>(p, rings).run();
  }
#endif
}

} // namespace cuda
} // namespace bs

#endif
