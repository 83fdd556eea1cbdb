// conv2d_tf32.cuh: tiles of a matrix product of tf32 factors, on tensor cores (mma.sync).
//
// The factors stay floats in shared memory, where cp.async brings them several slabs ahead, and are rounded in
// registers. What L1 and shared memory move sets the shape of the tiles: a slab of 128 + 128 rows and 16 terms,
// multiplied in 512 cycles of an A100 at its peak, costs 128 wavefronts (of 128 bytes, one in a cycle) to load, 128 to
// write and, with four warps of 64 x 64 sums, 256 to read: 512 in all. Eight warps of 64 x 32 would read 384. To round
// costs an A100 three instructions a number: those of 64 + 64 rows and 8 terms take 128 of the 256 cycles that a warp's
// share of the tensor cores is busy with them.
#ifndef BROADSIDE_CUDA_CONV2D_TF32_CUH
#define BROADSIDE_CUDA_CONV2D_TF32_CUH

#include "conv2d_async.cuh"

namespace bs {
namespace cuda {

// Tf32Factor is the slab of one factor in shared memory: `Count` rows (or columns) of the product, 16 terms. A warp
// takes `Warp` rows at a time, in groups of 8 as mma wants them. Row i of group j is index(i, j), so dealt that
// what a thread has of `side` groups lies side by side: it is read at once where rows are side by side, and the
// sums are written in whole sectors of memory.
//
// Loads and copies are free of bank conflicts; count the 16-byte units, eight of which fill the banks.
//   Terms side by side (inner): a line is 4 units. ldmatrix reads a unit of 8 lines 4 apart (2 where side is 2), whose
//   q = row / side count through 0 to 7: q's lowest bit moves a line to the other half of the banks, and the others
//   permute its units. Copies write two neighbouring lines, which have one q and stay in different halves.
//   Rows side by side: lanes read the units (or for side 2 halves of units) of four lines, one below the other. Four
//   units: the lanes of lines 0 and 1 take units 0 and 2 of either half of the banks, those of 2 and 3 units 1 and 3.
//   Eight: of each line units i and i + 4, for a different i. Copies write whole lines.
template <int Count, int Warp, bool inner> struct Tf32Factor {
  static constexpr int depth = 16, line = inner ? depth : Count, cells = Count * depth;
  static constexpr int units = line / 4 < 8 ? line / 4 : 8; // that are permuted
  static constexpr int groups = Warp / 8, side = groups < 4 ? groups : 4;
  static_assert(side == 4 || (side == 2 && Count == 16), "what is counted above");
  template <int Threads> using Dealt = Chunks<inner ? Count : depth, line, Threads>;

  // index is the row i of group j, of the warp.
  static __device__ __forceinline__ int index(int i, int j) {
    return (j / side * 8 + i % 2 * 4 + i / 2) * side + j % side;
  }

  // place is the cell of a row and column of the slab as it lies in memory.
  static __device__ __forceinline__ int place(int row, int col) {
    int key = inner ? row / side : row;
    return (inner ? row ^ (key & 1) : row) * line + (col / 4 ^ key / (8 / units) % units) * 4 + col % 4;
  }

  // fragments loads terms k to k + 7 of the warp's rows, from `first` on: lane 4 i + t gets the terms k + t and
  // k + t + 4 of row i of each group.
  static __device__ __forceinline__ void fragments(const float *slab, int first, int k, uint32_t (&f)[groups][2]) {
    int lane = (int)threadIdx.x % 32;
    if constexpr (inner) {
      const float *at = slab + place(first + index(lane % 8, lane / 16), k + lane / 8 % 2 * 4);
#pragma unroll
      for (int j = 0; j < groups; j += 2) {
        uint32_t r[4];
        load_matrices(r, at + index(0, j) * line);
#pragma unroll
        for (int m = 0; m < 4; m++) f[j + m / 2][m % 2] = round_tf32(__uint_as_float(r[m]));
      }
    } else {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const float *at = slab + place(k + lane % 4 + 4 * half, first + index(lane / 4, 0));
#pragma unroll
        for (int j = 0; j < groups; j += side) {
          lanes<side> v = load<side, true>(at + index(0, j));
#pragma unroll
          for (int e = 0; e < side; e++) f[j + e][half] = round_tf32(v.v[e]);
        }
      }
    }
  }
};

// Tf32Tile is a tile of Rows x Cols sums, WarpRows x WarpCols for each warp.
template <int Rows, int Cols, int WarpRows, int WarpCols, int Blocks> struct Tf32Tile {
  static constexpr int rows = Rows, cols = Cols, depth = 16, blocks = Blocks; // blocks: of a multiprocessor, at least
  static constexpr int across = Cols / WarpCols, threads = 32 * (Rows / WarpRows) * across;

  // As many stages as the blocks find room for in 132 KiB of shared memory, which leaves an A100 60 KiB of L1 (1 KiB
  // of a block is the system's). Three are enough: two slabs of each block under way are more than the 20 KB that 32
  // bytes a cycle over 600 cycles of latency need.
  static constexpr int room = (132 / Blocks - 1) * 1024 / ((Rows + Cols) * depth * (int)sizeof(float));
  static constexpr int stages = room < 4 ? room : 4;
  static_assert(stages >= 3, "shared memory");

  template <bool inner_a, bool inner_b> class Product {
    using A = Tf32Factor<Rows, WarpRows, inner_a>;
    using B = Tf32Factor<Cols, WarpCols, inner_b>;

    float sum_[WarpRows / 16][WarpCols / 8][4] = {};
    int row_, col_; // of the warp

  public:
    using ChunksA = typename A::template Dealt<threads>;
    using ChunksB = typename B::template Dealt<threads>;
    using Pipeline = AsyncPipeline<A, ChunksA, B, ChunksB, stages>;
    static constexpr int shared = Pipeline::shared;

    __device__ __forceinline__ Product() {
      int warp = (int)threadIdx.x / 32;
      row_ = warp / across * WarpRows, col_ = warp % across * WarpCols;
    }

    template <typename SourceA, typename SourceB>
    __device__ __forceinline__ void run(SourceA &a, SourceB &b, int slabs) {
      Pipeline::run(a, b, slabs, [&](const float *at_a, const float *at_b) { multiply(at_a, at_b); });
    }

    // each hands out the sums, those of `side` columns at a time.
    template <typename F> __device__ __forceinline__ void each(const F &f) const {
      int i = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
#pragma unroll
      for (int r = 0; r < WarpRows / 8; r++)
#pragma unroll
        for (int e = 0; e < 2; e++)
#pragma unroll
          for (int j = 0; j < WarpCols / 8; j += B::side) {
            lanes<B::side> v;
#pragma unroll
            for (int s = 0; s < B::side; s++) v.v[s] = sum_[r / 2][j + s][r % 2 * 2 + e];
            f(row_ + A::index(i, r), col_ + B::index(2 * t + e, j), v);
          }
    }

  private:
    __device__ __forceinline__ void multiply(const float *a, const float *b) {
#pragma unroll
      for (int k = 0; k < depth; k += 8) {
        uint32_t left[WarpRows / 8][2], right[WarpCols / 8][2];
        A::fragments(a, row_, k, left);
        B::fragments(b, col_, k, right);
#pragma unroll
        for (int i = 0; i < WarpRows / 16; i++) {
          const uint32_t rows_of[4] = {left[2 * i][0], left[2 * i + 1][0], left[2 * i][1], left[2 * i + 1][1]};
#pragma unroll
          for (int j = 0; j < WarpCols / 8; j++) mma_tf32(sum_[i][j], rows_of, right[j]);
        }
      }
    }
  };
};

} // namespace cuda
} // namespace bs

#endif
