// batchnorm_tangent.cu: batchnorm_tangent_forward and batchnorm_tangent_backward.
//
// With r = rstd, m1 = <tx>, m2 = <xhat tx> over the ghost, and ' for R{.}:
//   xhat' = r (tx - m1 - xhat m2), ty = gamma xhat' + tgamma xhat + tbeta + tresidual.
// With g = dy and g' = tdy masked by y > 0, s1 = <g>, s2 = <g xhat>:
//   s1' = <g'>, s2' = <g' xhat + g xhat'>, r' = -r^2 m2,
//   tdx = (tgamma r + gamma r') (g - s1 - xhat s2) + gamma r (g' - s1' - xhat' s2 - xhat s2').
// Frozen statistics are constants: m1, m2, r' and the terms with s1, s2, s1', s2' of tdx are zero.
#include "batchnorm.cuh"

namespace bs {
namespace cuda {
namespace {

// ---- forward

struct tangent_forward_args {
  const float *x, *y, *tx, *tresidual, *saved; // y is NULL without relu, tresidual may be NULL
  float *ty;
};

// Adds up tx and tx (x - mean).
template <int V, bool wide> struct tangent_forward_sums {
  typedef tangent_forward_args args;
  static constexpr int v = V, unroll = 2;
  struct row {
    lanes<V> x, tx;
  };
  args k;
  lanes<V> mean;

  __device__ tangent_forward_sums(const args &a, const norm_place &at, int c)
      : k(a), mean(cuda::load<V, false>(a.saved + 2 * (int64_t)at.ghost * c + at.channel)) {}
  __device__ row load(int64_t i) const { return {cuda::load<V, wide>(k.x + i), cuda::load<V, wide>(k.tx + i)}; }
  __device__ void add(const row &r, lanes<V> &a, lanes<V> &b) const {
#pragma unroll
    for (int j = 0; j < V; j++) {
      a.v[j] += r.tx.v[j];
      b.v[j] = fmaf(r.tx.v[j], r.x.v[j] - mean.v[j], b.v[j]);
    }
  }
};

// The coefficients of tangent_forward_apply: mean, A = gamma r, m1, B = tgamma r - gamma r^2 m2, tbeta.
struct tangent_forward_finish {
  const float *gamma, *tgamma, *tbeta, *saved;
  float *tsaved;

  __device__ void operator()(const norm_channel &at, double a, double b) const {
    double r = saved[at.stat + at.c], m1 = a / at.rows, m2 = r * b / at.rows, scale = gamma[at.param] * r;
    tsaved[at.stat] = (float)m1;
    tsaved[at.stat + at.c] = (float)m2;
    at.put(0, saved[at.stat]);
    at.put(1, scale);
    at.put(2, m1);
    at.put(3, tgamma[at.param] * r - scale * r * m2);
    at.put(4, tbeta[at.param]);
  }
};

// Writes ty = A (tx - m1) + B (x - mean) + tbeta + tresidual, masked.
template <int V, bool wide> struct tangent_forward_apply {
  typedef tangent_forward_args args;
  static constexpr int unroll = 2;
  struct row {
    lanes<V> x, tx, y, tresidual;
  };
  args k;
  lanes<V> mean, a, m1, b, tbeta;

  __device__ tangent_forward_apply(const args &k, const float *table, int c)
      : k(k), mean(coefficients<V>(table, 0, c)), a(coefficients<V>(table, 1, c)), m1(coefficients<V>(table, 2, c)),
        b(coefficients<V>(table, 3, c)), tbeta(coefficients<V>(table, 4, c)) {}
  __device__ row load(int64_t i) const {
    row r = {cuda::load<V, wide>(k.x + i), cuda::load<V, wide>(k.tx + i), {}, {}};
    if (k.y) r.y = cuda::load<V, wide>(k.y + i);
    if (k.tresidual) r.tresidual = cuda::load<V, wide>(k.tresidual + i);
    return r;
  }
  __device__ void put(const row &r, int64_t i) const {
    lanes<V> ty;
#pragma unroll
    for (int j = 0; j < V; j++) {
      float t = fmaf(b.v[j], r.x.v[j] - mean.v[j], tbeta.v[j]);
      t = fmaf(a.v[j], r.tx.v[j] - m1.v[j], t);
      if (k.tresidual) t += r.tresidual.v[j];
      ty.v[j] = k.y ? positive(r.y.v[j], t) : t;
    }
    store<V, wide>(k.ty + i, ty);
  }
};

// ---- backward

struct tangent_backward_args {
  const float *x, *y, *dy, *tx, *tdy; // y is NULL without relu
  const float *saved, *tsaved;        // tsaved is NULL if frozen
  float *tdx, *tdresidual;            // may be NULL
  bool add_tdx = false, add_tdresidual = false;
};

template <int V> struct tangent_backward_row {
  lanes<V> x, tx, g, tg;
};

template <int V, bool wide>
__device__ __forceinline__ tangent_backward_row<V> load_tangent_backward(const tangent_backward_args &k, int64_t i) {
  tangent_backward_row<V> r = {load<V, wide>(k.x + i), load<V, wide>(k.tx + i), load<V, wide>(k.dy + i),
                               load<V, wide>(k.tdy + i)};
  if (k.y) {
    lanes<V> y = load<V, wide>(k.y + i);
#pragma unroll
    for (int j = 0; j < V; j++) r.g.v[j] = positive(y.v[j], r.g.v[j]), r.tg.v[j] = positive(y.v[j], r.tg.v[j]);
  }
  return r;
}

// Adds up g' and g' xhat + g xhat'.
template <int V, bool wide> struct tangent_backward_sums {
  typedef tangent_backward_args args;
  static constexpr int v = V, unroll = 2;
  typedef tangent_backward_row<V> row;
  args k;
  lanes<V> mean, rstd, m1, rm2; // rm2 = r m2

  __device__ tangent_backward_sums(const args &a, const norm_place &at, int c) : k(a), m1(), rm2() {
    int64_t stat = 2 * (int64_t)at.ghost * c + at.channel;
    mean = cuda::load<V, false>(a.saved + stat), rstd = cuda::load<V, false>(a.saved + stat + c);
    if (!a.tsaved) return;
    m1 = cuda::load<V, false>(a.tsaved + stat), rm2 = cuda::load<V, false>(a.tsaved + stat + c);
#pragma unroll
    for (int j = 0; j < V; j++) rm2.v[j] *= rstd.v[j];
  }
  __device__ row load(int64_t i) const { return load_tangent_backward<V, wide>(k, i); }
  __device__ void add(const row &r, lanes<V> &a, lanes<V> &b) const {
#pragma unroll
    for (int j = 0; j < V; j++) {
      float xhat = (r.x.v[j] - mean.v[j]) * rstd.v[j];
      float txhat = rstd.v[j] * (r.tx.v[j] - m1.v[j]) - xhat * rm2.v[j];
      a.v[j] += r.tg.v[j];
      b.v[j] = fmaf(r.tg.v[j], xhat, fmaf(r.g.v[j], txhat, b.v[j]));
    }
  }
};

// The coefficients of tangent_backward_apply: mean, m1, s1, s1', A, C, E, F.
struct tangent_backward_finish {
  const float *gamma, *tgamma, *saved, *tsaved, *sums; // tsaved is NULL if frozen

  __device__ void operator()(const norm_channel &at, double a, double b) const {
    double r = saved[at.stat + at.c], scale = gamma[at.param] * r, slope = tgamma[at.param] * r;
    double m1 = 0, s1 = 0, ts1 = 0, e = 0, f = 0;
    if (tsaved) {
      double m2 = tsaved[at.stat + at.c], s2 = sums[at.stat + at.c], ts2 = b / at.rows;
      m1 = tsaved[at.stat], s1 = sums[at.stat], ts1 = a / at.rows;
      slope -= scale * r * m2;
      e = -scale * s2 * r;
      f = -slope * r * s2 - scale * r * ts2 + scale * s2 * r * r * m2;
    }
    double values[norm_tables] = {saved[at.stat], m1, s1, ts1, scale, slope, e, f};
#pragma unroll
    for (int i = 0; i < norm_tables; i++) at.put(i, values[i]);
  }
};

// Writes tdresidual = g' and tdx = A (g' - s1') + C (g - s1) + E (tx - m1) + F (x - mean).
template <int V, bool wide> struct tangent_backward_apply {
  typedef tangent_backward_args args;
  static constexpr int unroll = 2;
  struct row {
    tangent_backward_row<V> in;
    lanes<V> tdx, tdresidual;
  };
  args k;
  lanes<V> mean, m1, s1, ts1, a, c, e, f;

  __device__ tangent_backward_apply(const args &k, const float *table, int channels)
      : k(k), mean(coefficients<V>(table, 0, channels)), m1(coefficients<V>(table, 1, channels)),
        s1(coefficients<V>(table, 2, channels)), ts1(coefficients<V>(table, 3, channels)),
        a(coefficients<V>(table, 4, channels)), c(coefficients<V>(table, 5, channels)),
        e(coefficients<V>(table, 6, channels)), f(coefficients<V>(table, 7, channels)) {}
  __device__ row load(int64_t i) const {
    row r = {load_tangent_backward<V, wide>(k, i), {}, {}};
    if (k.add_tdx) r.tdx = cuda::load<V, wide>(k.tdx + i);
    if (k.add_tdresidual) r.tdresidual = cuda::load<V, wide>(k.tdresidual + i);
    return r;
  }
  __device__ void put(row r, int64_t i) const {
#pragma unroll
    for (int j = 0; j < V; j++) {
      float d = a.v[j] * (r.in.tg.v[j] - ts1.v[j]);
      d = fmaf(c.v[j], r.in.g.v[j] - s1.v[j], d);
      d = fmaf(e.v[j], r.in.tx.v[j] - m1.v[j], d);
      d = fmaf(f.v[j], r.in.x.v[j] - mean.v[j], d);
      r.tdx.v[j] += d;
      r.tdresidual.v[j] += r.in.tg.v[j];
    }
    if (k.tdresidual) store<V, wide>(k.tdresidual + i, r.tdresidual);
    if (k.tdx) store<V, wide>(k.tdx + i, r.tdx);
  }
};

} // namespace

bs_status batchnorm_tangent_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_BATCHNORM_TANGENT_FORWARD, shape, arg);
  if (status != BS_OK) return status;
  const bs_batchnorm &s = shape->batchnorm;
  norm_plan p = make_norm_plan(s, arg[11]);
  tangent_forward_args k = {arg_at<const float>(arg, 0), s.relu ? arg_at<const float>(arg, 1) : nullptr,
                            arg_at<const float>(arg, 5), arg_at<const float>(arg, 8),
                            arg_at<const float>(arg, 4), arg_at<float>(arg, 9)};
  if (!s.frozen) status = run_sums<tangent_forward_sums>(stream, p, k, aligned(k.x, k.tx));
  if (status != BS_OK) return status;
  tangent_forward_finish finish = {arg_at<const float>(arg, 2), arg_at<const float>(arg, 6), arg_at<const float>(arg, 7),
                                   k.saved, arg_at<float>(arg, 10)};
  status = run_finish(stream, p, !s.frozen, arg_at<const int32_t>(arg, 3), finish);
  if (status != BS_OK) return status;
  return run_apply<tangent_forward_apply>(stream, p, k, aligned(k.x, k.y, k.tx, k.tresidual, k.ty));
}

bs_status batchnorm_tangent_backward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_BATCHNORM_TANGENT_BACKWARD, shape, arg);
  if (status != BS_OK) return status;
  const bs_batchnorm &s = shape->batchnorm;
  norm_plan p = make_norm_plan(s, arg[15]);
  const int32_t *set = arg_at<const int32_t>(arg, 4);
  tangent_backward_args k = {arg_at<const float>(arg, 0), s.relu ? arg_at<const float>(arg, 1) : nullptr,
                             arg_at<const float>(arg, 2), arg_at<const float>(arg, 7),
                             arg_at<const float>(arg, 9), arg_at<const float>(arg, 5),
                             s.frozen ? nullptr : arg_at<const float>(arg, 8),
                             arg_at<float>(arg, 11),      arg_at<float>(arg, 12)};
  k.add_tdx = k.tdx && (s.accumulate & 1), k.add_tdresidual = k.tdresidual && (s.accumulate & 2);
  status = run_sums<tangent_backward_sums>(stream, p, k, aligned(k.x, k.y, k.dy, k.tx, k.tdy));
  if (status != BS_OK) return status;
  tangent_backward_finish finish = {arg_at<const float>(arg, 3), arg_at<const float>(arg, 10), k.saved, k.tsaved,
                                    arg_at<const float>(arg, 6)};
  status = run_finish(stream, p, true, set, finish);
  if (status != BS_OK) return status;
  status = run_parameters(stream, p, set, arg_at<float>(arg, 13), arg_at<float>(arg, 14));
  if (status != BS_OK || (!k.tdx && !k.tdresidual)) return status;
  return run_apply<tangent_backward_apply>(stream, p, k, aligned(k.x, k.y, k.dy, k.tx, k.tdy, k.tdx, k.tdresidual));
}

} // namespace cuda
} // namespace bs
