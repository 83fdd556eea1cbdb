// batchnorm_backward.cu: batchnorm_backward.
//
// With g = dy masked by y > 0, s1 = <g>, s2 = <g xhat> over the ghost:
//   dx = gamma r (g - s1 - xhat s2), dgamma = sum g xhat, dbeta = sum g.
#include "batchnorm.cuh"

namespace bs {
namespace cuda {
namespace {

struct backward_args {
  const float *x, *y, *dy, *saved; // y is NULL without relu
  float *dx, *dresidual;           // may be NULL
  bool add_dx = false, add_dresidual = false;
};

template <int V> struct backward_row {
  lanes<V> x, g;
};

template <int V, bool wide> __device__ __forceinline__ backward_row<V> load_backward(const backward_args &k, int64_t i) {
  backward_row<V> r;
  r.x = load<V, wide>(k.x + i), r.g = load<V, wide>(k.dy + i);
  if (k.y) {
    lanes<V> y = load<V, wide>(k.y + i);
#pragma unroll
    for (int j = 0; j < V; j++) r.g.v[j] = positive(y.v[j], r.g.v[j]);
  }
  return r;
}

// Adds up g and g (x - mean).
template <int V, bool wide> struct backward_sums {
  typedef backward_args args;
  static constexpr int v = V, unroll = wide ? 2 : 1; // as registers allow
  typedef backward_row<V> row;
  args k;
  lanes<V> mean;

  __device__ backward_sums(const args &a, const norm_place &at, int c)
      : k(a), mean(cuda::load<V, false>(a.saved + 2 * (int64_t)at.ghost * c + at.channel)) {}
  __device__ row load(int64_t i) const { return load_backward<V, wide>(k, i); }
  __device__ void add(const row &r, lanes<V> &a, lanes<V> &b) const {
#pragma unroll
    for (int j = 0; j < V; j++) {
      a.v[j] += r.g.v[j];
      b.v[j] = fmaf(r.g.v[j], r.x.v[j] - mean.v[j], b.v[j]);
    }
  }
};

// The coefficients of backward_apply: mean, gamma r, s1, r s2.
struct backward_finish {
  const float *gamma, *saved;
  float *sums;
  bool frozen;

  __device__ void operator()(const norm_channel &at, double &a, double &b) const {
    float rstd = saved[at.stat + at.c];
    b *= rstd;
    float s1 = (float)(a / at.rows), s2 = (float)(b / at.rows);
    sums[at.stat] = s1;
    sums[at.stat + at.c] = s2;
    at.put(0, saved[at.stat]);
    at.put(1, gamma[at.param] * rstd);
    at.put(2, frozen ? 0 : s1);
    at.put(3, frozen ? 0 : rstd * s2);
  }
};

// The same coefficients by given s1 and s2.
struct backward_given {
  const float *gamma, *saved, *sums;

  __device__ void operator()(const norm_channel &at, double &, double &) const {
    float rstd = saved[at.stat + at.c];
    at.put(0, saved[at.stat]);
    at.put(1, gamma[at.param] * rstd);
    at.put(2, sums[at.stat]);
    at.put(3, rstd * sums[at.stat + at.c]);
  }
};

template <int V, bool wide> struct backward_apply {
  typedef backward_args args;
  static constexpr int unroll = 2;
  struct row {
    backward_row<V> in;
    lanes<V> dx, dresidual;
  };
  args k;
  lanes<V> mean, scale, s1, s2;

  __device__ backward_apply(const args &a, const float *table, int c)
      : k(a), mean(coefficients<V>(table, 0, c)), scale(coefficients<V>(table, 1, c)), s1(coefficients<V>(table, 2, c)),
        s2(coefficients<V>(table, 3, c)) {}
  __device__ row load(int64_t i) const {
    row r = {load_backward<V, wide>(k, i), {}, {}};
    if (k.add_dx) r.dx = cuda::load<V, wide>(k.dx + i);
    if (k.add_dresidual) r.dresidual = cuda::load<V, wide>(k.dresidual + i);
    return r;
  }
  __device__ void put(row r, int64_t i) const {
#pragma unroll
    for (int j = 0; j < V; j++) {
      float g = r.in.g.v[j];
      r.dresidual.v[j] += g;
      r.dx.v[j] += scale.v[j] * (g - s1.v[j] - (r.in.x.v[j] - mean.v[j]) * s2.v[j]);
    }
    if (k.dresidual) store<V, wide>(k.dresidual + i, r.dresidual);
    if (k.dx) store<V, wide>(k.dx + i, r.dx);
  }
};

} // namespace

bs_status batchnorm_backward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_BATCHNORM_BACKWARD, shape, arg);
  if (status != BS_OK) return status;
  const bs_batchnorm &s = shape->batchnorm;
  norm_plan p = make_norm_plan(s, arg[11]);
  const int32_t *set = arg_at<const int32_t>(arg, 4);
  backward_args k = {arg_at<const float>(arg, 0), s.relu ? arg_at<const float>(arg, 1) : nullptr,
                     arg_at<const float>(arg, 2), arg_at<const float>(arg, 5),
                     arg_at<float>(arg, 6),       arg_at<float>(arg, 7)};
  k.add_dx = k.dx && (s.accumulate & 1), k.add_dresidual = k.dresidual && (s.accumulate & 2);
  const float *gamma = arg_at<const float>(arg, 3);
  if (s.synced) {
    status = run_finish(stream, p, false, set, backward_given{gamma, k.saved, arg_at<const float>(arg, 10)});
  } else {
    status = run_sums<backward_sums>(stream, p, k, aligned(k.x, k.y, k.dy));
    if (status != BS_OK) return status;
    status = run_finish(stream, p, true, set, backward_finish{gamma, k.saved, arg_at<float>(arg, 10), s.frozen != 0});
    if (status != BS_OK) return status;
    status = run_parameters(stream, p, set, arg_at<float>(arg, 8), arg_at<float>(arg, 9));
  }
  if (status != BS_OK || (!k.dx && !k.dresidual)) return status;
  return run_apply<backward_apply>(stream, p, k, aligned(k.x, k.y, k.dy, k.dx, k.dresidual));
}

} // namespace cuda
} // namespace bs
