// conv2d_columns.cuh: sums over all pixels, column by column, in a fixed order.
#ifndef BROADSIDE_CUDA_CONV2D_COLUMNS_CUH
#define BROADSIDE_CUDA_CONV2D_COLUMNS_CUH

#include "conv2d_plan.cuh"

namespace bs {
namespace cuda {

// A block has 32 columns, which it reads side by side, and 8 rows of threads.
enum { column_width = 32, column_rows = 8, column_threads = column_width * column_rows };

// sum_rows adds the sums of a column's 8 threads; the first of them gets the result.
__device__ __forceinline__ float sum_rows(float mine) {
  __shared__ float all[column_rows][column_width];
  int x = (int)threadIdx.x % column_width, y = (int)threadIdx.x / column_width;
  all[y][x] = mine;
  __syncthreads();
  float sum = 0;
  if (y == 0)
    for (int i = 0; i < column_rows; i++) sum += all[i][x];
  return sum;
}

// add_parts_kernel: to[i] += the sum of part[j][i].
static __global__ void __launch_bounds__(column_threads) add_parts_kernel(const float *part, int parts, int64_t cells, float *to) {
  int64_t i = (int64_t)blockIdx.x * column_width + threadIdx.x % column_width;
  float mine = 0;
  if (i < cells)
    for (int j = (int)threadIdx.x / column_width; j < parts; j += column_rows) mine += part[j * cells + i];
  float sum = sum_rows(mine);
  if (threadIdx.x < column_width && i < cells) to[i] += sum;
}

inline bs_status add_parts(void *stream, const float *part, int parts, int64_t cells, float *to) {
  int64_t blocks = ceil_div(cells, (int64_t)column_width);
  if (blocks > most_blocks) return BS_UNSUPPORTED;
  return launch(stream, add_parts_kernel, dim3((unsigned)blocks), dim3(column_threads), 0, part, parts, cells, to);
}

inline Splits split_columns(int64_t pixels, int64_t columns) {
  return split(pixels, ceil_div(columns, (int64_t)column_width), column_threads, 256);
}

inline int64_t column_cells(int64_t pixels, int64_t columns) {
  int count = split_columns(pixels, columns).count;
  return count > 1 ? count * columns : 0;
}

// A Terms is made on the device for a column and a first pixel; next() is the term of that pixel, then of every 8th.
// cell(column) is where a column's sum belongs. With one part sums are added to `out`, else each part is written
// to its own `columns` cells. Four blocks of a multiprocessor leave registers for the loads of four terms.
template <typename Terms>
__global__ void __launch_bounds__(column_threads, 4)
    sum_columns_kernel(const typename Terms::Of of, int64_t pixels, int columns, Splits s, float *out) {
  int tiles = (columns + column_width - 1) / column_width, split = (int)(blockIdx.x / (unsigned)tiles);
  int column = (int)(blockIdx.x % (unsigned)tiles) * column_width + (int)threadIdx.x % column_width;
  int first = (int)threadIdx.x / column_width;
  int64_t start = (int64_t)split * s.part;
  int end = (int)(pixels - start < s.part ? pixels - start : s.part);
  float mine = 0;
  if (column < columns) {
    Terms terms(of, column, start + first);
#pragma unroll 4
    for (int i = first; i < end; i += column_rows) mine += terms.next();
  }
  float sum = sum_rows(mine);
  if (first || column >= columns) return;
  float *to = out + (int64_t)split * columns + Terms::cell(of, column);
  *to = s.count > 1 ? sum : *to + sum;
}

// sum_columns adds the sums of all columns to `to`, by way of column_cells() of workspace.
template <typename Terms>
bs_status sum_columns(void *stream, const typename Terms::Of &of, int64_t pixels, int64_t columns, float *to, float *workspace) {
  Splits s = split_columns(pixels, columns);
  int64_t blocks = ceil_div(columns, (int64_t)column_width) * s.count;
  if (blocks > most_blocks) return BS_UNSUPPORTED;
  bs_status status = launch(stream, sum_columns_kernel<Terms>, dim3((unsigned)blocks), dim3(column_threads), 0, of, pixels,
                            columns, s, s.count > 1 ? workspace : to);
  if (status != BS_OK || s.count == 1) return status;
  return add_parts(stream, workspace, s.count, columns, to);
}

// DepthwiseTerms are the terms of a weight's gradient; a column is a tap and a filter.
class DepthwiseTerms {
public:
  struct Of {
    bs_conv2d s;
    const float *x, *dy;
  };

  __device__ __forceinline__ DepthwiseTerms(const Of &of, int column, int64_t pixel)
      : of_(of), step_(Digits::of(column_rows, of.s.oh, of.s.ow)) {
    const bs_conv2d &s = of.s;
    int k = column % s.k, tap = column / s.k;
    Position p = Position::of(pixel, s.oh, s.ow);
    at_ = {p.image, p.h, p.w};
    dh_ = tap / s.s - s.pad_h, dw_ = tap % s.s - s.pad_w;
    x_ = of.x + k / (s.k / s.c), dy_ = of.dy + pixel * s.k + k;
  }

  __device__ __forceinline__ float next() {
    const bs_conv2d &s = of_.s;
    int h = at_.mid * s.stride_h + dh_, w = at_.low * s.stride_w + dw_;
    float term = 0;
    if ((unsigned)h < (unsigned)s.h && (unsigned)w < (unsigned)s.w)
      term = factor(x_[(int64_t)at_.high * s.h * s.w * s.c + (h * s.w + w) * s.c], s.precision) * factor(*dy_, s.precision);
    at_.add(step_, s.oh, s.ow);
    dy_ += (int64_t)column_rows * s.k;
    return term;
  }

  static __device__ __forceinline__ int64_t cell(const Of &of, int column) {
    return (int64_t)(column % of.s.k) * of.s.r * of.s.s + column / of.s.k;
  }

private:
  const Of &of_;
  Digits at_, step_;
  int dh_, dw_;
  const float *x_, *dy_;
};

// BiasTerms are those of a bias' gradient.
class BiasTerms {
public:
  struct Of {
    const float *dy;
    int k;
  };

  __device__ __forceinline__ BiasTerms(const Of &of, int column, int64_t pixel)
      : dy_(of.dy + pixel * of.k + column), step_((int64_t)column_rows * of.k) {}

  __device__ __forceinline__ float next() {
    float term = *dy_;
    dy_ += step_;
    return term;
  }

  static __device__ __forceinline__ int64_t cell(const Of &, int column) { return column; }

private:
  const float *dy_;
  int64_t step_;
};

} // namespace cuda
} // namespace bs

#endif
