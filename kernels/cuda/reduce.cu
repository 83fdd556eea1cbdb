// reduce.cu: dot, norm, minmax.
//
// A grid that depends on the count alone leaves one partial result per block in the workspace; one more block
// combines them, in their order. Products of floats are exact in double, so sums are accurate to double rounding.
#include "kernels.cuh"
#include "lanes.cuh"
#include "ptx.cuh"

namespace bs {
namespace cuda {
namespace {

constexpr int threads = 256, most_blocks = 1024, batch = 4; // float4s that a thread takes at a time

int reduce_blocks(int64_t count) {
  int64_t blocks = ceil_div(count, (int64_t)(threads * 4 * batch));
  return (int)(blocks < most_blocks ? blocks : most_blocks);
}

// The sum of products.
struct sum_of_products {
  typedef double value;
  static constexpr bool pairs = true; // of x and z
  static __device__ double empty() { return 0; }
  static __device__ void add(double &sum, float x, float z) { sum += (double)x * z; }
  static __device__ double combine(double a, double b) { return a + b; }
};

struct sum_of_squares : sum_of_products {
  static constexpr bool pairs = false;
};

// The smallest and the largest element. A NaN wins, so that a diverging run is seen.
struct extremes {
  typedef float2 value;
  static constexpr bool pairs = false;
  static __device__ float2 empty() { return make_float2(INFINITY, -INFINITY); }
  static __device__ void add(float2 &range, float x, float) { range = combine(range, make_float2(x, x)); }
  static __device__ float2 combine(float2 a, float2 b) {
    return make_float2(b.x < a.x || b.x != b.x ? b.x : a.x, b.y > a.y || b.y != b.y ? b.y : a.y);
  }
};

// combine_block returns the combination of all threads' values to thread 0.
template <typename Of> __device__ typename Of::value combine_block(typename Of::value mine) {
  typename Of::value *all = (typename Of::value *)dynamic_shared();
  all[threadIdx.x] = mine;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if ((int)threadIdx.x < half) all[threadIdx.x] = mine = Of::combine(mine, all[threadIdx.x + half]);
  }
  return mine;
}

// add_lanes adds N float4s of x and z, `step` float4s apart from the i-th on. All loads come first.
template <typename Of, bool wide, int N>
__device__ __forceinline__ void add_lanes(typename Of::value &to, const float *x, const float *z, int64_t i, int64_t step) {
  lanes<4> a[N], b[N];
#pragma unroll
  for (int u = 0; u < N; u++) {
    a[u] = load<4, wide>(x + (i + u * step) * 4);
    b[u] = Of::pairs ? load<4, wide>(z + (i + u * step) * 4) : a[u];
  }
#pragma unroll
  for (int u = 0; u < N; u++)
#pragma unroll
    for (int k = 0; k < 4; k++) Of::add(to, a[u].v[k], b[u].v[k]);
}

template <typename Of, bool wide>
__global__ void __launch_bounds__(threads) partial_kernel(const float *x, const float *z, int64_t count, typename Of::value *partial) {
  typename Of::value mine = Of::empty();
  int64_t whole = count / 4, step = (int64_t)gridDim.x * threads, i = (int64_t)blockIdx.x * threads + threadIdx.x;
  int64_t rest = whole * 4 + i;
  for (; i + (batch - 1) * step < whole; i += batch * step) add_lanes<Of, wide, batch>(mine, x, z, i, step);
  for (; i < whole; i += step) add_lanes<Of, wide, 1>(mine, x, z, i, step);
  if (rest < count) Of::add(mine, x[rest], Of::pairs ? z[rest] : x[rest]);
  mine = combine_block<Of>(mine);
  if (threadIdx.x == 0) partial[blockIdx.x] = mine;
}

template <typename Of, typename Put>
__global__ void __launch_bounds__(threads) combine_kernel(const typename Of::value *partial, int count, Put put) {
  typename Of::value mine = Of::empty();
  for (int i = threadIdx.x; i < count; i += threads) mine = Of::combine(mine, partial[i]);
  mine = combine_block<Of>(mine);
  if (threadIdx.x == 0) put(mine);
}

// reduce calls put(result) on the device.
template <typename Of, typename Put>
bs_status reduce(void *stream, const float *x, const float *z, int64_t count, void *scratch, Put put) {
  typedef typename Of::value value;
  value *partial = aligned_scratch<value>(scratch);
  int blocks = reduce_blocks(count);
  auto kernel = aligned(x, z) ? partial_kernel<Of, true> : partial_kernel<Of, false>;
  bs_status status = launch(stream, kernel, dim3(blocks), dim3(threads), threads * sizeof(value), x, z, count, partial);
  if (status != BS_OK) return status;
  return launch(stream, combine_kernel<Of, Put>, dim3(1), dim3(threads), threads * sizeof(value), partial, blocks, put);
}

// put_double writes a double over two cells, which need not be aligned to 8 bytes.
__device__ void put_double(float *cells, double v) { memcpy(cells, &v, sizeof v); }

} // namespace

int64_t reduce_cells(const bs_vector &s) { return scratch_slack + 2 * (int64_t)reduce_blocks(s.count); }

bs_status dot(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_DOT, shape, arg);
  if (status != BS_OK) return status;
  float *out = arg_at<float>(arg, 2);
  return reduce<sum_of_products>(stream, arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), shape->vector.count, arg[3],
                        [=] __device__(double sum) { put_double(out, sum); });
}

bs_status norm(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_NORM, shape, arg);
  if (status != BS_OK) return status;
  const float *x = arg_at<const float>(arg, 0);
  float *out = arg_at<float>(arg, 1);
  return reduce<sum_of_squares>(stream, x, x, shape->vector.count, arg[2], [=] __device__(double sum) { put_double(out, sqrt(sum)); });
}

bs_status minmax(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_MINMAX, shape, arg);
  if (status != BS_OK) return status;
  const float *x = arg_at<const float>(arg, 0);
  float *out = arg_at<float>(arg, 1);
  return reduce<extremes>(stream, x, x, shape->vector.count, arg[2], [=] __device__(float2 range) {
    out[0] = range.x;
    out[1] = range.y;
  });
}

} // namespace cuda
} // namespace bs
