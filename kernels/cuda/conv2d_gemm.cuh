// conv2d_gemm.cuh: convolutions as matrix products: what their rows, columns and terms are, and where a block
// finds them in memory (an implicit GEMM, Chetlur et al. 2014: no im2col matrix exists).
//
//   forward          y[pixel][k]     = sum over taps (r, s) and c of x[pixel, tap][c] w[k][tap][c]
//   backward_input   dx[pixel][c]    = sum over taps and k of dy[pixel, tap][k] w[k][tap][c], by phases (below)
//   backward_weight  dw[k][tap, c]   = sum over pixels of dy[pixel][k] x[pixel, tap][c]
//
// A block computes a tile of the product, slab of terms by slab of terms. The slab of a factor lies in shared
// memory as a matrix of `Rows` x `Cols` floats, in the order in which its memory is contiguous: x, dy and the
// weights of `forward` with terms side by side, the others with rows (or columns) of the product side by side.
// The threads share a slab out in chunks of 4 floats side by side. A source walks over a thread's chunks of one
// factor, slab after slab, and hands each place in memory to a sink: cp.async or registers.
#ifndef BROADSIDE_CUDA_CONV2D_GEMM_CUH
#define BROADSIDE_CUDA_CONV2D_GEMM_CUH

#include "lanes.cuh"

namespace bs {
namespace cuda {

constexpr int64_t most_blocks = 0x7fffffff; // of a grid

// Chunks deals the chunks of a matrix of Rows x Cols out to threads. A thread has `lines` rows, `advance` apart from
// slab to slab too, and `across` chunks of each: 16 threads side by side fill the banks of shared memory.
template <int Rows, int Cols, int Threads> struct Chunks {
  static constexpr int columns = Cols / 4, side = columns < 16 ? columns : 16, across = columns / side;
  static constexpr int row_step = Threads / side, lines = (Rows + row_step - 1) / row_step, count = lines * across;
  static constexpr bool even = Rows % row_step == 0;
  static constexpr int advance = even ? row_step : Rows, slab_cols = Cols;
  static_assert(Cols % 4 == 0 && columns % side == 0 && Threads % side == 0 && (even || lines == 1), "chunks");

  // The row and column of chunk i; its first chunks are those of its first row.
  static __device__ __forceinline__ int row(int i) { return (int)threadIdx.x / side + i / across * row_step; }
  static __device__ __forceinline__ int col(int i) { return (int)threadIdx.x % side * 4 + i % across * (4 * side); }
  static __device__ __forceinline__ bool mine(int i) { return even || row(i) < Rows; }
};

// Digits counts in three digits, the low two of given radices: taps and channels, or images, rows and columns.
struct Digits {
  int high, mid, low;

  static __device__ __forceinline__ Digits of(int v, int mids, int lows) { return {v / (mids * lows), v / lows % mids, v % lows}; }

  __device__ __forceinline__ void add(const Digits &d, int mids, int lows) {
    high += d.high, mid += d.mid, low += d.low;
    if (low >= lows) low -= lows, mid++;
    if (mid >= mids) mid -= mids, high++;
  }

  // add of a small number: one round at most where the low digit's radix is larger.
  __device__ __forceinline__ void add(int d, int mids, int lows) {
    for (low += d; low >= lows; low -= lows)
      if (++mid == mids) mid = 0, high++;
  }
};

// ---- forward and backward_input: a product of pixels and weights

// Along one axis, output positions 0 to count - 1 lie at pixel out_first + out_step i and see pixels
// step i + first + t of the input through taps t = 0 to taps - 1. Backward these are the filter's tap_first - stride t.
//
// Forward that is plain. Backward, dx[p] sums dy[(p + pad - r) / stride] w[r] over the r that divide evenly.
// Write p + pad = stride j + a. For each a, a phase, that is a convolution of dy of stride 1 with the taps
// r = a + stride i at rows j - i, here in reverse order of i.
struct Axis {
  int taps, count, step, first, out_step, out_first, tap_first;

  static __device__ Axis forward(int out, int kernel, int stride, int pad) {
    return {kernel, out, stride, -pad, 1, 0, 0};
  }

  // backward is the phase of `pixel`, one of the first `stride`.
  static __host__ __device__ Axis backward(int size, int kernel, int stride, int pad, int pixel) {
    int a = (pixel + pad) % stride, j = (pixel + pad) / stride;
    int taps = a < kernel ? (kernel - a + stride - 1) / stride : 0;
    return {taps, (size - 1 - pixel) / stride + 1, 1, j - (taps - 1), stride, pixel, a + stride * (taps - 1)};
  }
};

// A product of pixels and weights. `in` is what a pixel is read from, `out` what is written.
struct PixelGemm {
  const float *in, *weights, *bias;
  float *out;
  int n, in_h, in_w, in_c, out_h, out_w, out_c;
  int groups, group_in, group_out; // and the channels of one
  int r, s, stride_h, stride_w, pad_h, pad_w;
  int phases_h, phases_w; // 1 in forward
  int row_tiles, col_tiles;
  bool accumulate, relu;
  bool wide_out; // rows of `out` are aligned to 16 bytes and so is every 4th of their group's channels
};

// A position of a grid of rows x cols positions per image.
struct Position {
  int image, h, w;

  static __device__ __forceinline__ Position of(int64_t i, int rows, int cols) {
    int64_t line = i / cols;
    return {(int)(line / rows), (int)(line % rows), (int)(i - line * cols)};
  }

  // plus is the position i further on; it spares the threads 64-bit divisions.
  __device__ __forceinline__ Position plus(int i, int rows, int cols) const {
    int line = h + (w + i) / cols;
    return {image + line / rows, line % rows, (w + i) % cols};
  }
};

// The part of a PixelGemm that a block works on. It lies in shared memory, which spares every thread the divisions
// and the registers.
struct PixelBlock {
  Axis h, w;
  int group, first_in, first_out; // and its first channels
  Position start; // of the tile's first row
  int64_t row;    // the same, counted over all images
  int rows, col;  // rows from there on, up to a tile's; first column (channel of the group)
  int terms;      // taps times channels

  __device__ __forceinline__ Position position(int row) const { return start.plus(row, h.count, w.count); }
};

// block_of places a block: tiles of the same pixels come one after the other, so that L2 keeps them.
template <bool backward> __device__ PixelBlock block_of(const PixelGemm &g, int tile_rows, int tile_cols) {
  PixelBlock b;
  unsigned i = blockIdx.x;
  b.col = (int)(i % g.col_tiles) * tile_cols, i /= g.col_tiles;
  b.row = (int64_t)(i % g.row_tiles) * tile_rows, i /= g.row_tiles;
  b.group = (int)(i % g.groups), i /= g.groups; // left: the phase
  b.first_in = b.group * g.group_in, b.first_out = b.group * g.group_out;
  if (backward) {
    b.h = Axis::backward(g.out_h, g.r, g.stride_h, g.pad_h, (int)i / g.phases_w);
    b.w = Axis::backward(g.out_w, g.s, g.stride_w, g.pad_w, (int)i % g.phases_w);
  } else {
    b.h = Axis::forward(g.out_h, g.r, g.stride_h, g.pad_h);
    b.w = Axis::forward(g.out_w, g.s, g.stride_w, g.pad_w);
  }
  b.terms = b.h.taps * b.w.taps * g.group_in;
  int64_t left = (int64_t)g.n * b.h.count * b.w.count - b.row; // none in a phase smaller than others
  b.rows = left < 0 ? 0 : left < tile_rows ? (int)left : tile_rows;
  if (b.rows) b.start = Position::of(b.row, b.h.count, b.w.count);
  return b;
}

// PixelSource walks over pixels as the rows of a matrix of Rows x Cols terms (tap, channel).
template <typename C, bool wide> class PixelSource {
  static_assert(C::across == 1, "one term, many rows");
  int64_t cell_[C::count]; // of what tap (0, 0) sees, which may lie outside the image
  int h_[C::count], w_[C::count];
  Digits at_ = {};
  const PixelGemm &g_; // kernel parameters are operands of instructions
  const PixelBlock &b_;

public:
  __device__ __forceinline__ PixelSource(const PixelGemm &g, const PixelBlock &b) : g_(g), b_(b) {
#pragma unroll
    for (int i = 0; i < C::count; i++) {
      bool there = C::row(i) < b.rows;
      Position p = b.position(there ? C::row(i) : 0);
      h_[i] = p.h * b.h.step + b.h.first, w_[i] = p.w * b.w.step + b.w.first;
      cell_[i] = (int64_t)(p.image * g.in_h + h_[i]) * (g.in_w * g.in_c) + w_[i] * g.in_c + b.first_in;
      if (!there) h_[i] = -0x40000000; // above every image
    }
    if (b.terms) at_ = Digits::of(C::col(0), b.w.taps, g.group_in);
  }

  template <typename Sink> __device__ __forceinline__ void next(const Sink &sink) {
    Digits at = at_;
#pragma unroll
    for (int e = 0; e < (wide ? 1 : 4); e++) {
      bool tap = at.high < b_.h.taps;
      int cell = tap ? (at.high * g_.in_w + at.mid) * g_.in_c + at.low : 0; // what is not read is aligned too
#pragma unroll
      for (int i = 0; i < C::count; i++) {
        if (!C::mine(i)) continue;
        int h = h_[i] + at.high, w = w_[i] + at.mid;
        bool there = tap && (unsigned)h < (unsigned)g_.in_h && (unsigned)w < (unsigned)g_.in_w;
        sink.template put<wide>(i, e, g_.in + (cell_[i] + cell), there);
      }
      if (!wide) at.add(1, b_.w.taps, g_.group_in);
    }
    at_.add(C::slab_cols, b_.w.taps, g_.group_in);
  }
};

// WeightRowSource walks over filters as rows: forward's weights, where a filter's terms are contiguous.
template <typename C, bool wide> class WeightRowSource {
  static_assert(C::across == 1, "one term, many rows");
  const float *filter_; // the thread's first
  int term_, left_;     // left: filters from there
  const PixelBlock &b_;

public:
  __device__ __forceinline__ WeightRowSource(const PixelGemm &g, const PixelBlock &b)
      : term_(C::col(0)), left_(g.group_out - b.col - C::row(0)), b_(b) {
    filter_ = g.weights + (int64_t)(b.first_out + b.col + C::row(0)) * b.terms;
  }

  template <typename Sink> __device__ __forceinline__ void next(const Sink &sink) {
    int terms = b_.terms;
#pragma unroll
    for (int i = 0; i < C::count; i++) {
      if (!C::mine(i)) continue;
#pragma unroll
      for (int e = 0; e < (wide ? 1 : 4); e++) {
        bool there = i * C::row_step < left_ && term_ + e < terms;
        sink.template put<wide>(i, e, there ? filter_ + (i * C::row_step * terms + term_ + e) : filter_, there);
      }
    }
    term_ += C::slab_cols;
  }
};

// put_line hands over a thread's chunks of a row, from chunk i on: `left` numbers from `line` on are there.
template <typename C, bool wide, typename Sink>
__device__ __forceinline__ void put_line(const Sink &sink, int i, const float *line, int left) {
  if (!C::mine(i)) return;
#pragma unroll
  for (int j = 0; j < C::across; j++)
#pragma unroll
    for (int e = 0; e < (wide ? 1 : 4); e++) {
      int col = j * (4 * C::side) + e;
      sink.template put<wide>(i + j, e, line + col, col < left);
    }
}

// WeightTapSource walks over terms (tap, k) as rows of c: backward_input's weights.
template <typename C, bool wide> class WeightTapSource {
  const float *weights_; // of the first filter of the group, at this thread's c
  Digits at_ = {};
  int left_; // columns from there
  const PixelGemm &g_;
  const PixelBlock &b_;

public:
  __device__ __forceinline__ WeightTapSource(const PixelGemm &g, const PixelBlock &b)
      : left_(g.group_out - b.col - C::col(0)), g_(g), b_(b) {
    weights_ = g.weights + (int64_t)b.group * g.group_in * (g.r * g.s * g.group_out) + b.col + C::col(0);
    if (b.terms) at_ = Digits::of(C::row(0), b.w.taps, g.group_in);
  }

  template <typename Sink> __device__ __forceinline__ void next(const Sink &sink) {
#pragma unroll
    for (int i = 0; i < C::count; i += C::across) {
      int r = b_.h.tap_first - g_.stride_h * at_.high, s = b_.w.tap_first - g_.stride_w * at_.mid;
      const float *line = weights_ + ((at_.low * g_.r + r) * g_.s + s) * g_.group_out;
      int left = at_.high < b_.h.taps ? left_ : 0;
      put_line<C, wide>(sink, i, line, left);
      at_.add(C::advance, b_.w.taps, g_.group_in);
    }
  }
};

// ---- backward_weight: a product of outputs' gradients and pixels

// The sum over the pixels is split into `splits` parts of `part` pixels. With one split the product is added to
// dw, else each part is written to its own `cells` of the workspace.
struct WeightGemm {
  const float *x, *dy;
  float *out;
  int h, w, c, k, r, s, stride_h, stride_w, pad_h, pad_w, groups, oh, ow;
  int group_c, group_k, cols; // cols: taps times group_c, the cells of a filter
  int64_t pixels, cells;
  int splits, part;
  int row_tiles, col_tiles;
  bool wide_out; // as in PixelGemm
};

struct WeightBlock {
  int group, split, row, col; // of the group, the tile's first
  int64_t first;              // pixel
  int pixels;
};

__device__ inline WeightBlock weight_block_of(const WeightGemm &g, int tile_rows, int tile_cols) {
  WeightBlock b;
  unsigned i = blockIdx.x;
  b.col = (int)(i % g.col_tiles) * tile_cols, i /= g.col_tiles;
  b.row = (int)(i % g.row_tiles) * tile_rows, i /= g.row_tiles;
  b.group = (int)(i % g.groups), b.split = (int)(i / g.groups);
  b.first = (int64_t)b.split * g.part;
  b.pixels = (int)(g.pixels - b.first < g.part ? g.pixels - b.first : g.part);
  return b;
}

// GradientSource walks over pixels of dy as rows of k.
template <typename C, bool wide> class GradientSource {
  const float *at_;
  int pixel_, pixels_, pitch_, left_;

public:
  __device__ __forceinline__ GradientSource(const WeightGemm &g, const WeightBlock &b)
      : pixel_(C::row(0)), pixels_(b.pixels), pitch_(g.k), left_(g.group_k - b.row - C::col(0)) {
    at_ = g.dy + (b.first + pixel_) * pitch_ + b.group * g.group_k + b.row + C::col(0);
  }

  template <typename Sink> __device__ __forceinline__ void next(const Sink &sink) {
#pragma unroll
    for (int i = 0; i < C::count; i += C::across) {
      put_line<C, wide>(sink, i, at_, pixel_ < pixels_ ? left_ : 0);
      at_ += (int64_t)C::advance * pitch_;
      pixel_ += C::advance;
    }
  }
};

// TapSource walks over output pixels as rows of (tap, c): the x that meet dy.
template <typename C, bool wide> class TapSource {
  static constexpr int columns = C::across * (wide ? 1 : 4); // of the thread; the four of a chunk are one if wide

  const WeightGemm &g_;
  Digits at_, step_;
  const float *x_;
  int pixel_, pixels_;
  int h_[columns], w_[columns], cell_[columns]; // where an output's column is, from the output's pixel

public:
  __device__ __forceinline__ TapSource(const WeightGemm &g, const WeightBlock &b)
      : g_(g), pixel_(C::row(0)), pixels_(b.pixels) {
    Position p = Position::of(b.first + pixel_, g.oh, g.ow);
    at_ = {p.image, p.h, p.w};
    step_ = Digits::of(C::advance, g.oh, g.ow);
    x_ = g.x + b.group * g.group_c;
#pragma unroll
    for (int j = 0; j < columns; j++) {
      int col = b.col + (wide ? C::col(j) : C::col(j / 4) + j % 4);
      Digits tap = Digits::of(col, g.s, g.group_c);
      h_[j] = tap.high - g.pad_h, w_[j] = tap.mid - g.pad_w;
      cell_[j] = (h_[j] * g.w + w_[j]) * g.c + tap.low;
      if (col >= g.cols) h_[j] = -0x40000000; // above every image
    }
  }

  template <typename Sink> __device__ __forceinline__ void next(const Sink &sink) {
#pragma unroll
    for (int i = 0; i < C::count; i += C::across) {
      int top = at_.mid * g_.stride_h, left = at_.low * g_.stride_w;
      const float *pixel = x_ + ((int64_t)at_.high * (g_.h * g_.w * g_.c) + (top * g_.w + left) * g_.c);
      if (pixel_ >= pixels_) top = -0x40000000;
#pragma unroll
      for (int j = 0; j < columns; j++) {
        bool there = (unsigned)(top + h_[j]) < (unsigned)g_.h && (unsigned)(left + w_[j]) < (unsigned)g_.w;
        if (C::mine(i)) sink.template put<wide>(i + (wide ? j : j / 4), wide ? 0 : j % 4, pixel + cell_[j], there);
      }
      at_.add(step_, g_.oh, g_.ow);
      pixel_ += C::advance;
    }
  }
};

} // namespace cuda
} // namespace bs

#endif
