// reduce.cu: dot, norm, minmax. Products of floats are exact in double, so sums are accurate to double rounding.
#include "kernels.cuh"
#include "reduce.cuh"

namespace bs {
namespace cuda {
namespace {

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

} // namespace

int64_t reduce_cells(const bs_vector &s) { return partial_cells<double>(s.count); }

bs_status dot(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_DOT, shape, arg);
  if (status != BS_OK) return status;
  float *out = arg_at<float>(arg, 2);
  return reduce(stream, sum_of_products{}, arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), shape->vector.count, arg[3],
                [=] __device__(double sum) { put_double(out, sum); });
}

bs_status norm(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_NORM, shape, arg);
  if (status != BS_OK) return status;
  const float *x = arg_at<const float>(arg, 0);
  float *out = arg_at<float>(arg, 1);
  return reduce(stream, sum_of_squares{}, x, x, shape->vector.count, arg[2], [=] __device__(double sum) { put_double(out, sqrt(sum)); });
}

bs_status minmax(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_MINMAX, shape, arg);
  if (status != BS_OK) return status;
  const float *x = arg_at<const float>(arg, 0);
  float *out = arg_at<float>(arg, 1);
  return reduce(stream, extremes{}, x, x, shape->vector.count, arg[2], [=] __device__(float2 range) {
    out[0] = range.x;
    out[1] = range.y;
  });
}

} // namespace cuda
} // namespace bs
