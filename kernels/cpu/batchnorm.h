// batchnorm.h: batchnorm_forward, batchnorm_combine and batchnorm_fold.
//
// Statistics take one pass over memory: a column block's mean is found first, then, while the block
// is in cache, the squares around it. So a mean far from zero costs no accuracy.

// moments adds the sums of u and u^2, where u = x - origin, over `rows` rows of a column block to the
// channels' doubles; `origin` is the ghost's first pixel. A float sum only places a centre m near the
// mean; with D = sum (x - m), which is small, Q = sum (x - m)^2 and e = m - origin, the sums are
// rows e + D and Q + e (2 D + rows e). Squares of floats on one grid round to one side more often, so
// Q leaves float after every STRIP rows.
template <int NV, class Lanes>
BS_INLINE void moments(const bn_workspace &ws, const float *x, const float *origin, int channel, int rows,
                       Lanes lanes, int count) {
  enum { STRIP = 16 };
  vf m[NV] = {}, d[NV] = {};
  vd q[NV] = {};
  for (int row = 0; row < rows; row++)
    for (int v = 0; v < NV; v++) m[v] += get(x + (int64_t)row * ws.width + v * VW, lanes);
  for (int v = 0; v < NV; v++) m[v] *= 1.0f / (float)rows;
  for (int begin = 0; begin < rows; begin += STRIP) {
    int end = begin + STRIP < rows ? begin + STRIP : rows;
    vf strip[NV] = {};
    for (int row = begin; row < end; row++)
      for (int v = 0; v < NV; v++) {
        vf off = get(x + (int64_t)row * ws.width + v * VW, lanes) - m[v];
        d[v] += off;
        strip[v] = fmadd(off, off, strip[v]);
      }
    for (int v = 0; v < NV; v++) q[v] += to_double(strip[v]);
  }
  float centre[NV * VW], first_moment[NV * VW];
  double second_moment[NV * VW];
  memcpy(second_moment, q, sizeof q);
  for (int v = 0; v < NV; v++) {
    store(centre + v * VW, m[v]);
    store(first_moment + v * VW, d[v]);
  }
  for (int i = 0; i < count;) {
    int run = ws.c - channel < count - i ? ws.c - channel : count - i;
    double *sum = ws.sum_a + channel, *squares = ws.sum_b + channel;
    for (int k = 0; k < run; k++) {
      double e = (double)centre[i + k] - origin[channel + k], rest = first_moment[i + k];
      sum[k] += rows * e + rest;
      squares[k] += second_moment[i + k] + e * (2 * rest + rows * e);
    }
    i += run;
    channel = 0;
  }
}

// ghost_moments sets ws.sum_a and ws.sum_b to the channels' sums of u and u^2, u = x - the first pixel.
static void ghost_moments(const bn_workspace &ws, const float *x, int64_t floats) {
  sum_in_parts(ws, floats, [&](const bn_workspace &part, int64_t at, int j, int rows, int n) {
    if (n == BLOCK * VW)
      moments<BLOCK>(part, x + at, x, j % ws.c, rows, whole{}, n);
    else
      moments<1>(part, x + at, x, j % ws.c, rows, first{n}, n);
  });
}

// batch_statistics sets table 0 to a ghost's means and table 1 to its rstd, or if synced to its biased variance, and
// writes stats [2][c] (mean, unbiased variance) unless they are NULL.
static void batch_statistics(const bn_workspace &ws, const float *x, const ghost &g, const bs_batchnorm &s, float *stats) {
  float *mean_of = ws.table(0), *second = ws.table(1), *origin = ws.table(2);
  memcpy(origin, x + g.begin, sizeof(float) * (size_t)ws.c); // y may take the place of x before the last has read it
  ghost_moments(ws, x + g.begin, g.floats);
  for (int i = 0; i < ws.c; i++) {
    double shift = ws.sum_a[i] / g.values, mean = origin[i] + shift;
    double variance = ws.sum_b[i] / g.values - shift * shift;
    // fmax would turn a NaN, which must be seen, into 0.
    if (variance < 0) variance = 0;
    mean_of[i] = (float)mean;
    second[i] = (float)(s.synced ? variance : 1 / sqrt(variance + s.eps));
    if (!stats) continue;
    stats[i] = (float)mean;
    stats[ws.c + i] = (float)(variance * (g.values / (g.values - 1)));
  }
}

// running_statistics sets tables 0 and 1 to a set's running mean and rstd.
static void running_statistics(const bn_workspace &ws, const float *running, double eps) {
  for (int i = 0; i < ws.c; i++) {
    ws.table(0)[i] = running[i];
    ws.table(1)[i] = (float)(1 / sqrt((double)running[ws.c + i] + eps));
  }
}

// normalise writes y = (x - mean) gamma rstd + beta (+ residual), and max(0, y) with relu.
static void normalise(const bn_workspace &ws, const ghost &g, const float *x, const float *residual, bool relu,
                      float *y) {
  const float *mean = ws.table(0), *scale = ws.table(1), *beta = ws.table(2);
  each_in_rows(ws, g.floats, [=](auto lanes, int64_t i, int j) {
    vf v = fmadd(get(x + i, lanes) - get(mean + j, lanes), get(scale + j, lanes), get(beta + j, lanes));
    if (residual) v += get(residual + i, lanes);
    put(y + i, relu ? vmax(zero(), v) : v, lanes);
  });
}

static bs_status batchnorm_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_BATCHNORM_FORWARD, shape, arg, true);
  if (status != BS_OK) return status;
  const bs_batchnorm &s = shape->batchnorm;
  const int32_t *set = arg_at<const int32_t>(arg, 4);
  if (bad_sets(s, set)) return BS_BAD_ARGUMENT;
  const float *x = arg_at<const float>(arg, 0), *residual = arg_at<const float>(arg, 3);
  const float *running = arg_at<const float>(arg, 5);
  float *y = arg_at<float>(arg, 6), *stats = s.synced ? nullptr : arg_at<float>(arg, 8);
  bn_workspace ws = bn_workspace_at(member_of(stream), arg[9], s);
  const bool writes = ws.team.index == 0;
  for (int i = 0; i < bs_ghosts(&s); i++) {
    ghost g = ghost_at(s, set, i);
    int64_t row = 2 * (int64_t)i * s.c, channels = (int64_t)g.set * s.c;
    float *saved = arg_at<float>(arg, 7) + row;
    if (s.frozen)
      running_statistics(ws, running + 2 * channels, s.eps);
    else
      batch_statistics(ws, x, g, s, stats && writes ? stats + row : nullptr);
    if (writes) memcpy(saved, ws.table(0), sizeof(float) * (size_t)s.c);
    if (writes) memcpy(saved + s.c, ws.table(1), sizeof(float) * (size_t)s.c);
    if (s.synced) continue;
    const float *gamma = arg_at<const float>(arg, 1) + channels, *beta = arg_at<const float>(arg, 2) + channels;
    for (int k = 0; k < s.c; k++) {
      ws.table(1)[k] *= gamma[k];
      ws.table(2)[k] = beta[k];
    }
    spread(ws, 3);
    normalise(ws, g, x + g.begin, residual ? residual + g.begin : residual, s.relu != 0, y + g.begin);
  }
  return BS_OK;
}

// The parts' variances and the variance of their means add up (Chan, Golub and LeVeque 1983): all parts have as many
// values.
static bs_status batchnorm_combine(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_BATCHNORM_COMBINE, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_combine &s = shape->combine;
  const float *rows = arg_at<const float>(arg, 0);
  float *out = arg_at<float>(arg, 1), *stats = s.variances ? arg_at<float>(arg, 2) : nullptr;
  const int64_t of_block = ((int64_t)s.parts + s.blocks - 1) / s.blocks;
  const double all = (double)s.parts * (double)s.values;
  auto row = [&](int i) { return rows + (i % s.blocks * of_block + i / s.blocks) * s.stride; };
  for (int c = 0; c < s.c; c++) {
    double mean = 0, second = 0;
    for (int i = 0; i < s.parts; i++) mean += row(i)[c], second += row(i)[s.c + c];
    mean /= s.parts;
    for (int i = 0; s.variances && i < s.parts; i++) {
      double off = row(i)[c] - mean;
      second += off * off;
    }
    second /= s.parts;
    out[c] = (float)mean;
    out[s.c + c] = (float)second;
    if (!stats) continue;
    stats[c] = (float)mean;
    stats[s.c + c] = (float)(second * (all / (all - 1)));
  }
  return BS_OK;
}

static bs_status batchnorm_fold(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_BATCHNORM_FOLD, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_fold &s = shape->fold;
  const float *stats = arg_at<const float>(arg, 0);
  float *running = arg_at<float>(arg, 1);
  int64_t row = 2 * (int64_t)s.c;
  for (int64_t i = 0; i < row; i++) {
    double value = running[i];
    for (int g = 0; g < s.ghosts; g++) value = (1 - s.momentum) * value + s.momentum * stats[g * row + i];
    running[i] = (float)value;
  }
  return BS_OK;
}
