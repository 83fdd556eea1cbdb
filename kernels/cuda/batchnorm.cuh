// batchnorm.cuh: what the four batch norm passes share.
//
// A pass is up to four kernels:
//   sums        two sums over the rows of every ghost and channel, split over several blocks
//   finish      adds up what the blocks found; writes statistics, and a table of coefficients for apply
//   parameters  adds the ghosts' totals to the gradients of gamma and beta, in order
//   apply       the elements, with the coefficients in registers
// Partial sums and tables lie in the workspace. How the rows are split depends on the shape alone, and so do the
// sums' bits.
#ifndef BROADSIDE_CUDA_BATCHNORM_CUH
#define BROADSIDE_CUDA_BATCHNORM_CUH

#include "kernels.cuh"
#include "lanes.cuh"
#include "ptx.cuh"

namespace bs {
namespace cuda {

constexpr int norm_threads = 256, norm_blocks = 2048, norm_tables = 8;

// How the rows of the activations [rows][c] are dealt to threads: a block has norm_threads / columns rows of
// `columns` threads, and a thread has v neighbouring channels of every so many rows.
struct norm_plan {
  int c, v, columns, tiles; // tiles: blocks side by side
  int ghosts, splits;       // splits: blocks that share the rows of a ghost and tile
  int64_t rows, last_rows;  // of a ghost, of the last ghost
  int64_t block_rows;
  double *partial; // [ghosts][splits][2][c]; after finish, the totals in place of the first split
  float *table;    // [ghosts][norm_tables][c]

  dim3 grid() const { return dim3((unsigned)((int64_t)ghosts * splits * tiles)); }
};

// norm_columns is the power of two up to 32 that leaves the fewest threads idle. Where a row takes several blocks, a
// block's part should be at least `least` threads wide, so that it fills whole sectors of memory.
inline int norm_columns(int groups, int least) {
  int best = 32;
  for (int columns = 16; columns > 0; columns /= 2)
    if ((columns >= least || columns >= groups) && ceil_div(groups, columns) * columns < ceil_div(groups, best) * best)
      best = columns;
  return best;
}

inline norm_plan make_norm_plan(const bs_batchnorm &s, void *workspace) {
  norm_plan p = {};
  p.c = s.c, p.v = s.c % 4 == 0 ? 4 : 1;
  p.columns = norm_columns(p.c / p.v, 8 / p.v);
  p.tiles = ceil_div(p.c / p.v, p.columns);
  p.ghosts = bs_ghosts(&s);
  p.rows = (int64_t)(s.ghost < s.n ? s.ghost : s.n) * s.hw;
  p.last_rows = (int64_t)bs_last_ghost(&s) * s.hw;
  int64_t down = norm_threads / p.columns, others = (int64_t)p.tiles * p.ghosts;
  int64_t splits = others < norm_blocks ? norm_blocks / others : 1;
  p.block_rows = ceil_div(ceil_div(p.rows, splits * down), (int64_t)4) * 4 * down; // a thread loads up to 4 rows at once
  p.splits = (int)ceil_div(p.rows, p.block_rows);
  p.partial = aligned_scratch<double>(workspace);
  p.table = (float *)(p.partial + 2 * (int64_t)p.ghosts * p.splits * p.c);
  return p;
}

// A thread's part of the activations.
struct norm_place {
  int ghost, split, channel;   // the first of its v channels; there may be none
  int64_t begin;               // the ghost's first cell
  int64_t row, end;            // of the ghost, the thread's first and the block's end
  int step;                    // rows from one of the thread's to the next
};

__device__ __forceinline__ norm_place norm_place_of(const norm_plan &p, unsigned block) {
  norm_place at;
  unsigned rest = block / (unsigned)p.tiles, tile = block - rest * (unsigned)p.tiles;
  at.ghost = (int)(rest / (unsigned)p.splits);
  at.split = (int)(rest - (unsigned)at.ghost * (unsigned)p.splits);
  int y = (int)threadIdx.x / p.columns;
  at.channel = ((int)tile * p.columns + (int)threadIdx.x - y * p.columns) * p.v;
  at.begin = at.ghost * p.rows * p.c;
  int64_t first = at.split * p.block_rows, rows = at.ghost == p.ghosts - 1 ? p.last_rows : p.rows;
  at.row = first + y;
  at.end = min(first + p.block_rows, rows);
  at.step = norm_threads / p.columns;
  return at;
}

// each_norm_row calls use(op.load(i), i) for the thread's rows before `end`, where i is the cell of its first channel,
// and returns the next row. Op::unroll rows are loaded at once.
template <typename Op, typename Use>
__device__ __forceinline__ int64_t each_norm_row(const Op &op, const norm_place &at, int64_t row, int64_t end, int c, Use use) {
  int64_t i = at.begin + row * c + at.channel, next = (int64_t)at.step * c;
  for (; row + (Op::unroll - 1) * at.step < end; row += Op::unroll * at.step, i += Op::unroll * next) {
    typename Op::row r[Op::unroll];
#pragma unroll
    for (int u = 0; u < Op::unroll; u++) r[u] = op.load(i + u * next);
#pragma unroll
    for (int u = 0; u < Op::unroll; u++) use(r[u], i + u * next);
  }
  for (; row < end; row += at.step, i += next) use(op.load(i), i);
  return row;
}

// ---- sums -----------------------------------------------------------------------------------

// add_up_block leaves the sums over the block's rows, for every column, in the threads of the first row.
template <int V> __device__ __forceinline__ void add_up_block(double (&sum)[2 * V], int columns) {
  double *all = (double *)dynamic_shared() + threadIdx.x;
#pragma unroll
  for (int k = 0; k < 2 * V; k++) all[k * norm_threads] = sum[k];
  for (int half = norm_threads / 2; half >= columns; half /= 2) {
    __syncthreads();
    if ((int)threadIdx.x >= half) continue;
#pragma unroll
    for (int k = 0; k < 2 * V; k++) all[k * norm_threads] = sum[k] += all[k * norm_threads + half];
  }
}

// norm_sums_kernel writes partial sums of what op.add(row, a, b) adds to a and b. The sums of a few rows are float:
// more, of squares of numbers that share a grid, would round to one side.
template <typename Op> __global__ void __launch_bounds__(norm_threads) norm_sums_kernel(norm_plan p, typename Op::args args) {
  constexpr int V = Op::v, strip = 16;
  norm_place at = norm_place_of(p, blockIdx.x);
  double sum[2 * V] = {};
  if (at.channel < p.c) {
    Op op(args, at, p.c);
    for (int64_t row = at.row; row < at.end;) {
      lanes<V> a = {}, b = {};
      row = each_norm_row(op, at, row, min(at.end, row + strip * at.step), p.c,
                          [&](const typename Op::row &r, int64_t) { op.add(r, a, b); });
#pragma unroll
      for (int k = 0; k < V; k++) sum[k] += a.v[k], sum[V + k] += b.v[k];
    }
  }
  add_up_block<V>(sum, p.columns);
  if ((int)threadIdx.x >= p.columns || at.channel >= p.c) return;
  double *to = p.partial + ((int64_t)at.ghost * p.splits + at.split) * 2 * p.c + at.channel;
#pragma unroll
  for (int k = 0; k < V; k++) to[k] = sum[k], to[p.c + k] = sum[V + k];
}

// run_sums runs Op<channels of a thread, whether they are loaded at once>.
template <template <int, bool> class Op, typename Args>
bs_status run_sums(void *stream, const norm_plan &p, const Args &args, bool wide) {
  auto run = [&](auto kernel) {
    return launch(stream, kernel, p.grid(), dim3(norm_threads), 2 * p.v * norm_threads * sizeof(double), p, args);
  };
  if (p.v == 1) return run(norm_sums_kernel<Op<1, true>>);
  return wide ? run(norm_sums_kernel<Op<4, true>>) : run(norm_sums_kernel<Op<4, false>>);
}

// ---- finish ---------------------------------------------------------------------------------

// One channel of one ghost.
struct norm_channel {
  int c;
  double rows;        // values that the sums are over
  int64_t begin;      // the ghost's first cell, in this channel
  int64_t stat;       // of [ghosts][2][c]; the second kind is c further
  int64_t param;      // of [sets][c]
  float *table;       // coefficient i is table[i c]

  __device__ void put(int i, double v) const { table[(int64_t)i * c] = (float)v; }
};

constexpr int finish_columns = 32, finish_down = 16;

// norm_finish_kernel calls op(channel, a, b) with the sums of every ghost and channel (0 if there are none); what op
// leaves in a and b is what norm_parameters_kernel adds up.
template <typename Op>
__global__ void __launch_bounds__(finish_columns *finish_down)
    norm_finish_kernel(norm_plan p, bool summed, const int32_t *set, int32_t *fault, Op op) {
  int tiles = ceil_div(p.c, finish_columns), ghost = (int)(blockIdx.x / (unsigned)tiles);
  int channel = (int)(blockIdx.x % (unsigned)tiles) * finish_columns + (int)threadIdx.x % finish_columns;
  double *partial = p.partial + (int64_t)ghost * p.splits * 2 * p.c + channel, a = 0, b = 0;
  if (summed && channel < p.c)
    for (int split = (int)threadIdx.x / finish_columns; split < p.splits; split += finish_down)
      a += partial[2 * (int64_t)split * p.c], b += partial[(2 * (int64_t)split + 1) * p.c];
  double *all = (double *)dynamic_shared() + threadIdx.x;
  all[0] = a, all[finish_columns * finish_down] = b;
  for (int half = finish_columns * finish_down / 2; half >= finish_columns; half /= 2) {
    __syncthreads();
    if ((int)threadIdx.x >= half) continue;
    all[0] = a += all[half];
    all[finish_columns * finish_down] = b += all[finish_columns * finish_down + half];
  }
  if ((int)threadIdx.x >= finish_columns || channel >= p.c) return;
  int32_t id = set ? set[ghost] : 0;
  if (id < 0) *fault = BS_BAD_ARGUMENT, id = 0;
  norm_channel at = {p.c,
                     (double)(ghost == p.ghosts - 1 ? p.last_rows : p.rows),
                     ghost * p.rows * p.c + channel,
                     2 * (int64_t)ghost * p.c + channel,
                     (int64_t)id * p.c + channel,
                     p.table + (int64_t)ghost * norm_tables * p.c + channel};
  op(at, a, b);
  if (summed) partial[0] = a, partial[p.c] = b;
}

template <typename Op> bs_status run_finish(void *stream, const norm_plan &p, bool summed, const int32_t *set, const Op &op) {
  int64_t blocks = (int64_t)p.ghosts * ceil_div(p.c, finish_columns);
  return launch(stream, norm_finish_kernel<Op>, dim3((unsigned)blocks), dim3(finish_columns * finish_down),
                2 * finish_columns * finish_down * sizeof(double), p, summed, set, queue_of(stream).fault, op);
}

// ---- parameters -----------------------------------------------------------------------------

// run_parameters adds the ghosts' totals a to dbeta and b to dgamma, [sets][c]; either may be NULL.
bs_status run_parameters(void *stream, const norm_plan &p, const int32_t *set, float *dgamma, float *dbeta);

// ---- apply ----------------------------------------------------------------------------------

// norm_apply_kernel calls op.put(row, i) for all rows. It begins at the end, part of which the sums have left in cache.
template <typename Op> __global__ void __launch_bounds__(norm_threads) norm_apply_kernel(norm_plan p, typename Op::args args) {
  norm_place at = norm_place_of(p, gridDim.x - 1 - blockIdx.x);
  if (at.channel >= p.c) return;
  Op op(args, p.table + (int64_t)at.ghost * norm_tables * p.c + at.channel, p.c);
  each_norm_row(op, at, at.row, at.end, p.c, [&](const typename Op::row &r, int64_t i) { op.put(r, i); });
}

template <template <int, bool> class Op, typename Args>
bs_status run_apply(void *stream, const norm_plan &p, const Args &args, bool wide) {
  auto run = [&](auto kernel) { return launch(stream, kernel, p.grid(), dim3(norm_threads), 0, p, args); };
  if (p.v == 1) return run(norm_apply_kernel<Op<1, true>>);
  return wide ? run(norm_apply_kernel<Op<4, true>>) : run(norm_apply_kernel<Op<4, false>>);
}

// coefficients loads coefficient i of a table for V channels.
template <int V> __device__ __forceinline__ lanes<V> coefficients(const float *table, int i, int c) {
  return load<V, true>(table + (int64_t)i * c);
}

} // namespace cuda
} // namespace bs

#endif
