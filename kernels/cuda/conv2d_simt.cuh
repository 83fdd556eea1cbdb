// conv2d_simt.cuh: tiles of a matrix product in float, on CUDA cores.
#ifndef BROADSIDE_CUDA_CONV2D_SIMT_CUH
#define BROADSIDE_CUDA_CONV2D_SIMT_CUH

#include "conv2d_async.cuh"

namespace bs {
namespace cuda {

// SimtFactor is the slab of one factor in shared memory: `Count` rows (or columns) of the product, Depth terms.
// A thread takes PerThread of the rows, four side by side at a time: element i of thread t is row index(t, i).
//
// With terms side by side (inner) row index(t, i) lies in line i owners + t: threads that read together then read
// lines that follow each other, and these, Depth + 4 cells apart, lie in different banks.
template <int Count, int PerThread, int Depth, bool inner> struct SimtFactor {
  static constexpr int owners = Count / PerThread;
  static constexpr int pitch = inner ? Depth + 4 : Count, cells = inner ? Count * pitch : Depth * pitch;
  static_assert(PerThread % 4 == 0 && Depth % 4 == 0, "vectors of 4");
  template <int Threads> using Dealt = Chunks<inner ? Count : Depth, inner ? Depth : Count, Threads>;

  static __device__ __forceinline__ int index(int t, int i) { return i / 4 * (4 * owners) + 4 * t + i % 4; }

  // place is the cell of a row and column of the slab as it lies in memory.
  static __device__ __forceinline__ int place(int row, int col) {
    if (!inner) return row * pitch + col;
    return ((row / (4 * owners) * 4 + row % 4) * owners + row % (4 * owners) / 4) * pitch + col;
  }

  // terms reads V terms of element i, from k on.
  template <int V> static __device__ __forceinline__ lanes<V> terms(const float *slab, int t, int i, int k) {
    static_assert(inner, "terms side by side");
    return load<V, true>(slab + (i * owners + t) * pitch + k);
  }

  // column reads term k of all of a thread's elements.
  static __device__ __forceinline__ void column(const float *slab, int t, int k, float (&v)[PerThread]) {
    static_assert(!inner, "rows side by side");
#pragma unroll
    for (int i = 0; i < PerThread; i += 4) {
      lanes<4> four = load<4, true>(slab + k * pitch + index(t, i));
#pragma unroll
      for (int e = 0; e < 4; e++) v[i + e] = four.v[e];
    }
  }
};

// SimtTile is a tile of Rows x Cols sums, PerRow x PerCol for each thread. A warp covers 4 x 8 threads (8 x 4
// where the tile is narrow): its loads from shared memory are then of one or two conflict-free wavefronts, and its
// stores of 128 contiguous bytes.
template <int Rows, int Cols, int PerRow, int PerCol, int Blocks> struct SimtTile {
  static constexpr int rows = Rows, cols = Cols, depth = 16, blocks = Blocks; // blocks: of a multiprocessor, at least
  static constexpr int thread_cols = Cols / PerCol, threads = Rows / PerRow * thread_cols;
  static constexpr int warp_cols = thread_cols < 8 ? thread_cols : 8, warp_rows = 32 / warp_cols;
  static_assert(threads % 32 == 0 && thread_cols % warp_cols == 0, "whole warps");

  // Product computes a tile. inner_a, inner_b: whether the factors' memory has terms side by side.
  template <bool inner_a, bool inner_b> class Product {
    using A = SimtFactor<Rows, PerRow, depth, inner_a>;
    using B = SimtFactor<Cols, PerCol, depth, inner_b>;

    float sum_[PerRow][PerCol] = {};
    int row_, col_; // of the thread

  public:
    using ChunksA = typename A::template Dealt<threads>;
    using ChunksB = typename B::template Dealt<threads>;
    using Pipeline = AsyncPipeline<A, ChunksA, B, ChunksB, 2>;
    static constexpr int shared = Pipeline::shared;

    __device__ __forceinline__ Product() {
      int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, across = thread_cols / warp_cols;
      row_ = warp / across * warp_rows + lane / warp_cols;
      col_ = warp % across * warp_cols + lane % warp_cols;
    }

    template <typename SourceA, typename SourceB>
    __device__ __forceinline__ void run(SourceA &a, SourceB &b, int slabs) {
      Pipeline::run(a, b, slabs, [&](const float *at_a, const float *at_b) { multiply(at_a, at_b); });
    }

    // each hands out the sums, four side by side at a time.
    template <typename F> __device__ __forceinline__ void each(const F &f) const {
#pragma unroll
      for (int i = 0; i < PerRow; i++)
#pragma unroll
        for (int j = 0; j < PerCol; j += 4)
          f(A::index(row_, i), B::index(col_, j), lanes<4>{{sum_[i][j], sum_[i][j + 1], sum_[i][j + 2], sum_[i][j + 3]}});
    }

  private:
    // multiply adds a slab. Whatever the layout, the terms of a sum are added one by one, in their order.
    __device__ __forceinline__ void multiply(const float *a, const float *b) {
      if constexpr (inner_a) {
        constexpr int V = inner_b ? 4 : 2; // as registers allow: the terms of all of B's columns come at once
#pragma unroll 1
        for (int k = 0; k < depth; k += V) {
          lanes<V> left[PerRow];
#pragma unroll
          for (int i = 0; i < PerRow; i++) left[i] = A::template terms<V>(a, row_, i, k);
          if constexpr (inner_b)
            by_column(left, b, k);
          else
            by_term(left, b, k);
        }
      } else {
#pragma unroll
        for (int k = 0; k < depth; k++) {
          float left[PerRow], right[PerCol];
          A::column(a, row_, k, left);
          B::column(b, col_, k, right);
#pragma unroll
          for (int i = 0; i < PerRow; i++)
#pragma unroll
            for (int j = 0; j < PerCol; j++) sum_[i][j] += left[i] * right[j];
        }
      }
    }

    __device__ __forceinline__ void by_column(const lanes<4> (&left)[PerRow], const float *b, int k) {
#pragma unroll
      for (int j = 0; j < PerCol; j++) {
        lanes<4> right = B::template terms<4>(b, col_, j, k);
#pragma unroll
        for (int e = 0; e < 4; e++)
#pragma unroll
          for (int i = 0; i < PerRow; i++) sum_[i][j] += left[i].v[e] * right.v[e];
      }
    }

    __device__ __forceinline__ void by_term(const lanes<2> (&left)[PerRow], const float *b, int k) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float right[PerCol];
        B::column(b, col_, k + e, right);
#pragma unroll
        for (int i = 0; i < PerRow; i++)
#pragma unroll
          for (int j = 0; j < PerCol; j++) sum_[i][j] += left[i].v[e] * right[j];
      }
    }
  };
};

} // namespace cuda
} // namespace bs

#endif
