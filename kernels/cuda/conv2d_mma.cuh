// conv2d_mma.cuh: tiles of a matrix product of bfloat16 factors, on tensor cores (mma.sync).
//
// The factors are floats in memory. They are rounded on their way to shared memory, in registers. What decides is how
// much L1 and shared memory move, 128 bytes in a cycle (a wavefront). 128 x 128 sums of 32 terms take the tensor cores
// of an A100 512 cycles at their peak and those of an H200 about 400 (256 at their peak, of which mma.sync reaches two
// thirds), and cost
//   rounded in registers:   256 wavefronts to load, 128 to store as bfloat16, 256 to load as fragments: 640;
//   cp.async of floats:     256 to load, 256 to store, 512 to load as fragments: 1024; and every warp that uses a
//                           number rounds it: twice the conversions, between the loads and the products.
// So fragments matter: four warps of 64 x 64 sums load 256, eight of 64 x 32 would 384. Their sums leave registers for
// slabs of 16 terms, and two blocks of a multiprocessor multiply while the other waits or stores.
//
// Loads are one slab ahead. Two blocks take 2 x 320 cycles for theirs, in which L2 delivers both blocks' 32 KiB at 48
// bytes a cycle (a 108th of an A100's; an H200 has more, and L1 spares part: it has most pixels of the other taps). The
// latency of L2, 200 to 270 cycles, is less than half of that. A second slab ahead would gain where memory must answer,
// 200 to 300 cycles later: in a 3x3 convolution one slab in nine, 30 of 640 cycles, 5 %. In a 1x1 all do, but there the
// 16 KiB of pixels under way keep even an H200's share of its memory, 20 bytes a cycle, busy for 800 cycles of latency.
// And there are no 32 more registers: 230 to 254 of 255 are in use.
#ifndef BROADSIDE_CUDA_CONV2D_MMA_CUH
#define BROADSIDE_CUDA_CONV2D_MMA_CUH

#include "conv2d_gemm.cuh"
#include "ptx.cuh"

namespace bs {
namespace cuda {

// factor rounds a factor of products where that is asked for.
__device__ __forceinline__ float factor(float v, int32_t precision) {
  if (precision == BS_BF16) return __uint_as_float(pack_bf16(v, 0) << 16);
  if (precision == BS_TF32) return __uint_as_float(round_tf32(v));
  return v;
}

// MmaFactor is the slab of one factor in shared memory: bfloat16, lines of Cols. Units of 16 bytes are swizzled
// (exclusive or) so that the 8 lines of a matrix of ldmatrix lie in different banks.
template <int Count, int Depth, bool inner> struct MmaFactor {
  static constexpr int line = inner ? Depth : Count, cells = Count * Depth;
  static constexpr int units = line / 8 < 8 ? line / 8 : 8; // that are permuted
  template <int Threads> using Dealt = Chunks<inner ? Count : Depth, line, Threads>;

  static __device__ __forceinline__ int place(int row, int col) {
    return row * line + (col / 8 ^ row / (8 / units) % units) * 8 + col % 8;
  }

  // fragment loads 16 rows of the product by 16 terms. The four 8x8 matrices come in the order of mma's a: rows
  // first; with `terms_first` in that of two b side by side.
  template <bool terms_first>
  static __device__ __forceinline__ void fragment(const uint16_t *slab, int row, int term, uint32_t (&r)[4]) {
    int lane = (int)threadIdx.x % 32, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
    int dr = terms_first ? high : low, dt = terms_first ? low : high;
    if (inner)
      load_matrices(r, slab + place(row + dr + lane % 8, term + dt));
    else
      load_matrices_transposed(r, slab + place(term + dt + lane % 8, row + dr));
  }
};

// Staged holds a thread's chunks of a slab between memory and shared memory. It is the sink of a source.
template <typename Factor, typename C> struct Staged {
  float v[C::count][4];

  struct Sink {
    float (&v)[C::count][4];
    template <bool wide> __device__ __forceinline__ void put(int i, int e, const float *from, bool there) const {
      if (wide) {
        lanes<4> four = {};
        if (there) four = load<4, true>(from);
#pragma unroll
        for (int k = 0; k < 4; k++) v[i][k] = four.v[k];
      } else {
        v[i][e] = there ? *from : 0;
      }
    }
  };

  template <typename Source> __device__ __forceinline__ void fetch(Source &source) { source.next(Sink{v}); }

  __device__ __forceinline__ void store(uint16_t *slab) const {
#pragma unroll
    for (int i = 0; i < C::count; i++)
      if (C::mine(i))
        *(uint2 *)(slab + Factor::place(C::row(i), C::col(i))) = make_uint2(pack_bf16(v[i][0], v[i][1]), pack_bf16(v[i][2], v[i][3]));
  }
};

// MmaTile is a tile of Rows x Cols sums, WarpRows x WarpCols for each warp.
template <int Rows, int Cols, int WarpRows, int WarpCols, int Blocks, int Depth = 32> struct MmaTile {
  static constexpr int rows = Rows, cols = Cols, depth = Depth, blocks = Blocks; // blocks: of a multiprocessor, at least
  static constexpr int across = Cols / WarpCols, threads = 32 * (Rows / WarpRows) * across;
  static_assert(WarpRows % 16 == 0 && WarpCols % 16 == 0, "16x16 fragments");

  template <bool inner_a, bool inner_b> class Product {
    using A = MmaFactor<Rows, depth, inner_a>;
    using B = MmaFactor<Cols, depth, inner_b>;
    static constexpr int stage = A::cells + B::cells;

    float sum_[WarpRows / 16][WarpCols / 8][4] = {};
    int row_, col_; // of the warp

  public:
    using ChunksA = typename A::template Dealt<threads>;
    using ChunksB = typename B::template Dealt<threads>;
    static constexpr int shared = 2 * stage * (int)sizeof(uint16_t);

    __device__ __forceinline__ Product() {
      int warp = (int)threadIdx.x / 32;
      row_ = warp / across * WarpRows, col_ = warp % across * WarpCols;
    }

    // run sums slabs of terms. While one is multiplied the next is on its way into registers.
    template <typename SourceA, typename SourceB>
    __device__ __forceinline__ void run(SourceA &a, SourceB &b, int slabs) {
      uint16_t *memory = (uint16_t *)dynamic_shared();
      Staged<A, ChunksA> next_a;
      Staged<B, ChunksB> next_b;
      auto fetch = [&] { next_a.fetch(a), next_b.fetch(b); };
      auto store = [&](int slab) {
        uint16_t *at = memory + slab % 2 * stage;
        next_a.store(at), next_b.store(at + A::cells);
      };
      if (slabs) fetch(), store(0);
      for (int slab = 0; slab < slabs; slab++) {
        __syncthreads(); // this slab is there, and the other stage is read
        bool more = slab + 1 < slabs;
        if (more) fetch();
        const uint16_t *at = memory + slab % 2 * stage;
        multiply(at, at + A::cells);
        if (more) store(slab + 1);
      }
    }

    // each hands out the sums, two side by side at a time.
    template <typename F> __device__ __forceinline__ void each(const F &f) const {
      int lane = (int)threadIdx.x % 32;
#pragma unroll
      for (int i = 0; i < WarpRows / 16; i++)
#pragma unroll
        for (int j = 0; j < WarpCols / 8; j++)
#pragma unroll
          for (int half = 0; half < 2; half++)
            f(row_ + 16 * i + 8 * half + lane / 4, col_ + 8 * j + 2 * (lane % 4),
              lanes<2>{{sum_[i][j][2 * half], sum_[i][j][2 * half + 1]}});
    }

  private:
    __device__ __forceinline__ void multiply(const uint16_t *a, const uint16_t *b) {
#pragma unroll
      for (int k = 0; k < depth; k += 16) {
        uint32_t left[WarpRows / 16][4], right[WarpCols / 16][4];
#pragma unroll
        for (int i = 0; i < WarpRows / 16; i++) A::template fragment<false>(a, row_ + 16 * i, k, left[i]);
#pragma unroll
        for (int j = 0; j < WarpCols / 16; j++) B::template fragment<true>(b, col_ + 16 * j, k, right[j]);
#pragma unroll
        for (int i = 0; i < WarpRows / 16; i++)
#pragma unroll
          for (int j = 0; j < WarpCols / 8; j++)
            mma_bf16(sum_[i][j], left[i], right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
      }
    }
  };
};

} // namespace cuda
} // namespace bs

#endif
