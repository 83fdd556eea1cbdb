// batchnorm.cu: batchnorm_forward, batchnorm_combine, batchnorm_fold, and what the backward passes share.
//
// The statistics take one pass over memory: the sums of u and u^2, where u is the distance to the average of the
// ghost's first pixels. So a mean far from zero costs no accuracy.
#include "batchnorm.cuh"

#include "each.cuh"

namespace bs {
namespace cuda {
namespace {

struct forward_args {
  const float *x, *residual; // residual may be NULL
  float *y;
  bool relu;
};

// origin_of is the average of a channel's first four pixels; `first` is where it begins.
__device__ __forceinline__ float origin_of(const float *first, int64_t rows, int c) {
  auto pixel = [=](int64_t row) { return first[min(row, rows - 1) * c]; };
  return ((pixel(0) + pixel(1)) + (pixel(2) + pixel(3))) * 0.25f;
}

template <int V, bool wide> struct forward_sums {
  typedef forward_args args;
  static constexpr int v = V, unroll = 4;
  typedef lanes<V> row;
  const float *x;
  lanes<V> origin;

  __device__ forward_sums(const args &a, const norm_place &at, int c) : x(a.x) {
#pragma unroll
    for (int k = 0; k < V; k++) origin.v[k] = origin_of(x + at.begin + at.channel + k, at.rows, c);
  }
  __device__ row load(int64_t i) const { return cuda::load<V, wide>(x + i); }
  __device__ void add(const row &r, lanes<V> &a, lanes<V> &b) const {
#pragma unroll
    for (int k = 0; k < V; k++) {
      float u = r.v[k] - origin.v[k];
      a.v[k] += u;
      b.v[k] = fmaf(u, u, b.v[k]);
    }
  }
};

// The coefficients of forward_apply: mean, gamma rstd, beta.
__device__ void put_forward(const norm_channel &at, float mean, float rstd, const float *gamma, const float *beta,
                            float *saved) {
  saved[at.stat] = mean;
  saved[at.stat + at.c] = rstd;
  at.put(0, mean);
  at.put(1, gamma[at.param] * rstd);
  at.put(2, beta[at.param]);
}

struct batch_statistics {
  const float *x, *gamma, *beta;
  float *saved, *stats; // stats may be NULL
  double eps;
  bool synced;

  __device__ void operator()(const norm_channel &at, double a, double b) const {
    double rows = (double)at.rows, shift = a / rows, variance = b / rows - shift * shift;
    double mean = origin_of(x + at.begin, at.rows, at.c) + shift;
    if (variance < 0) variance = 0; // fmax would turn a NaN, which must be seen, into 0
    if (synced) {
      saved[at.stat] = (float)mean;
      saved[at.stat + at.c] = (float)variance;
      return;
    }
    put_forward(at, (float)mean, (float)(1 / sqrt(variance + eps)), gamma, beta, saved);
    if (!stats) return;
    stats[at.stat] = (float)mean;
    stats[at.stat + at.c] = (float)(variance * (rows / (rows - 1)));
  }
};

struct running_statistics {
  const float *running, *gamma, *beta;
  float *saved;
  double eps;

  __device__ void operator()(const norm_channel &at, double, double) const {
    int channel = (int)(at.param % at.c);
    const float *mean = running + 2 * (at.param - channel) + channel;
    put_forward(at, mean[0], (float)(1 / sqrt(mean[at.c] + eps)), gamma, beta, saved);
  }
};

template <int V, bool wide> struct forward_apply {
  typedef forward_args args;
  static constexpr int unroll = 4;
  struct row {
    lanes<V> x, residual;
  };
  args k;
  lanes<V> mean, scale, beta;

  __device__ forward_apply(const args &a, const float *table, int c)
      : k(a), mean(coefficients<V>(table, 0, c)), scale(coefficients<V>(table, 1, c)), beta(coefficients<V>(table, 2, c)) {}
  __device__ row load(int64_t i) const {
    row r;
    r.x = cuda::load<V, wide>(k.x + i);
    if (k.residual) r.residual = cuda::load<V, wide>(k.residual + i);
    return r;
  }
  __device__ void put(const row &r, int64_t i) const {
    lanes<V> y;
#pragma unroll
    for (int j = 0; j < V; j++) {
      y.v[j] = fmaf(r.x.v[j] - mean.v[j], scale.v[j], beta.v[j]);
      if (k.residual) y.v[j] += r.residual.v[j];
      if (k.relu) y.v[j] = relu_of(y.v[j]);
    }
    store<V, wide>(k.y + i, y);
  }
};

// A thread adds up a channel. Ghosts follow each other with the same set mostly: its gradient stays in registers. Where
// there are sets and few channels, as in standardised weights with a set for each ghost, `ways` threads share a channel:
// each takes all ghosts of the sets that are its own.
__global__ void __launch_bounds__(each_threads)
    parameters_kernel(norm_plan p, const int32_t *set, int ways, float *dgamma, float *dbeta) {
  constexpr int batch = 8; // ghosts loaded at once
  int way = (int)first_element() / p.c, channel = (int)first_element() - way * p.c;
  if (way >= ways) return;
  int64_t current = -1;
  double a = 0, b = 0;
  auto flush = [&] {
    if (current < 0) return;
    if (dbeta) dbeta[current * p.c + channel] += (float)a;
    if (dgamma) dgamma[current * p.c + channel] += (float)b;
  };
  for (int first = 0; first < p.ghosts; first += batch) {
    double totals[2][batch];
    int32_t id[batch];
#pragma unroll
    for (int i = 0; i < batch; i++) {
      int ghost = min(first + i, p.ghosts - 1);
      const double *total = p.partial + (int64_t)ghost * p.splits * 2 * p.c + channel;
      totals[0][i] = total[0], totals[1][i] = total[p.c], id[i] = set ? set[ghost] : 0;
    }
#pragma unroll
    for (int i = 0; i < batch; i++) {
      if (first + i >= p.ghosts || id[i] < 0 || id[i] % ways != way) continue; // finish reports negative sets
      if (id[i] != current) flush(), current = id[i], a = b = 0;
      a += totals[0][i], b += totals[1][i];
    }
  }
  flush();
}

} // namespace

int64_t batchnorm_cells(const bs_batchnorm &s) {
  norm_plan p = make_norm_plan(s, nullptr);
  return scratch_slack + (4 * (int64_t)p.splits + norm_tables) * p.ghosts * p.c;
}

bs_status run_parameters(void *stream, const norm_plan &p, const int32_t *set, float *dgamma, float *dbeta) {
  if (!dgamma && !dbeta) return BS_OK;
  int ways = set && p.c < each_threads ? each_threads / p.c : 1;
  return launch(stream, parameters_kernel, each_blocks((int64_t)p.c * ways), dim3(each_threads), 0, p, set, ways, dgamma, dbeta);
}

bs_status batchnorm_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_BATCHNORM_FORWARD, shape, arg);
  if (status != BS_OK) return status;
  const bs_batchnorm &s = shape->batchnorm;
  norm_plan p = make_norm_plan(s, arg[9]);
  const float *gamma = arg_at<const float>(arg, 1), *beta = arg_at<const float>(arg, 2);
  const int32_t *set = arg_at<const int32_t>(arg, 4);
  float *saved = arg_at<float>(arg, 7);
  forward_args k = {arg_at<const float>(arg, 0), arg_at<const float>(arg, 3), arg_at<float>(arg, 6), s.relu != 0};
  if (s.frozen) {
    status = run_finish(stream, p, false, set, running_statistics{arg_at<const float>(arg, 5), gamma, beta, saved, s.eps});
  } else {
    status = run_sums<forward_sums>(stream, p, k, aligned(k.x));
    if (status != BS_OK) return status;
    status = run_finish(stream, p, true, set,
                        batch_statistics{k.x, gamma, beta, saved, arg_at<float>(arg, 8), s.eps, s.synced != 0});
  }
  return status == BS_OK && !s.synced ? run_apply<forward_apply>(stream, p, k, aligned(k.x, k.residual, k.y)) : status;
}

bs_status batchnorm_combine(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_BATCHNORM_COMBINE, shape, arg);
  if (status != BS_OK) return status;
  const bs_combine s = shape->combine;
  const float *rows = arg_at<const float>(arg, 0);
  float *out = arg_at<float>(arg, 1), *stats = s.variances ? arg_at<float>(arg, 2) : nullptr;
  const int64_t of_block = ceil_div((int64_t)s.parts, (int64_t)s.blocks);
  const double all = (double)s.parts * (double)s.values;
  return each(stream, s.c, [=] __device__(int64_t c) {
    auto cell = [=](int i, int64_t at) { return (double)rows[(i % s.blocks * of_block + i / s.blocks) * s.stride + at]; };
    double mean = 0, second = 0;
    for (int i = 0; i < s.parts; i++) mean += cell(i, c), second += cell(i, s.c + c);
    mean /= s.parts;
    for (int i = 0; s.variances && i < s.parts; i++) {
      double off = cell(i, c) - mean;
      second += off * off;
    }
    second /= s.parts;
    out[c] = (float)mean;
    out[s.c + c] = (float)second;
    if (!stats) return;
    stats[c] = (float)mean;
    stats[s.c + c] = (float)(second * (all / (all - 1)));
  });
}

bs_status batchnorm_fold(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_BATCHNORM_FOLD, shape, arg);
  if (status != BS_OK) return status;
  const bs_fold &s = shape->fold;
  const float *stats = arg_at<const float>(arg, 0);
  float *running = arg_at<float>(arg, 1);
  int64_t row = 2 * (int64_t)s.c;
  int ghosts = s.ghosts;
  double momentum = s.momentum;
  return each(stream, row, [=] __device__(int64_t i) {
    double value = running[i];
    for (int g = 0; g < ghosts; g++) value = (1 - momentum) * value + momentum * stats[g * row + i];
    running[i] = (float)value;
  });
}

} // namespace cuda
} // namespace bs
