// batchnorm.h: batchnorm_forward and batchnorm_fold.
//
// Statistics take one pass over memory: a column block's mean is found first, then, while the block
// is in cache, the squares around it. So a mean far from zero costs no accuracy.

// moments adds the sum of x and the sum of x^2 over `rows` rows of a column block to the channels' doubles.
// In double the squares around 0 are as good as centred ones for any float data: they follow from
// the sum S and the squares Q around m as Q + m (2 S - rows m).
template <int NV, class Lanes>
BS_INLINE void moments(const bn_workspace &ws, const float *x, int channel, int rows, Lanes lanes, int count) {
  enum { STRIP = 16 }; // rows added up before they join the block's sum: fewer roundings
  vf s[NV] = {}, q[NV] = {};
  for (int begin = 0; begin < rows; begin += STRIP) {
    vf strip[NV] = {};
    int end = begin + STRIP < rows ? begin + STRIP : rows;
    for (int row = begin; row < end; row++)
      for (int v = 0; v < NV; v++) strip[v] += get(x + (int64_t)row * ws.width + v * VW, lanes);
    for (int v = 0; v < NV; v++) s[v] += strip[v];
  }
  vf m[NV];
  for (int v = 0; v < NV; v++) m[v] = s[v] * set1(1.0f / (float)rows);
  for (int row = 0; row < rows; row++)
    for (int v = 0; v < NV; v++) {
      vf d = get(x + (int64_t)row * ws.width + v * VW, lanes) - m[v];
      q[v] = fmadd(d, d, q[v]);
    }
  float sum[NV * VW], mean[NV * VW], square[NV * VW];
  for (int v = 0; v < NV; v++) {
    store(sum + v * VW, s[v]);
    store(mean + v * VW, m[v]);
    store(square + v * VW, q[v]);
  }
  for (int i = 0; i < count;) {
    int run = ws.c - channel < count - i ? ws.c - channel : count - i;
    double *to_sum = ws.sum_a + channel, *to_square = ws.sum_b + channel;
    for (int k = 0; k < run; k++) {
      double total = sum[i + k], centre = mean[i + k];
      to_sum[k] += total;
      to_square[k] += square[i + k] + centre * (2 * total - rows * centre);
    }
    i += run;
    channel = 0;
  }
}

// ghost_moments sets ws.sum_a and ws.sum_b to the channels' sums of x and x^2.
static void ghost_moments(const bn_workspace &ws, const float *x, int64_t floats) {
  memset(ws.sum_a, 0, 2 * sizeof(double) * (size_t)ws.c);
  each_column_block(floats, ws.width, [&](int64_t at, int j, int rows, int n) {
    if (n == BLOCK * VW)
      moments<BLOCK>(ws, x + at, j % ws.c, rows, whole{}, n);
    else
      moments<1>(ws, x + at, j % ws.c, rows, first{n}, n);
  });
}

// batch_statistics writes a ghost's saved [2][c] (mean, rstd) and, unless NULL, stats [2][c] (mean, unbiased variance).
static void batch_statistics(const bn_workspace &ws, const float *x, const ghost &g, double eps, float *saved,
                             float *stats) {
  ghost_moments(ws, x + g.begin, g.floats);
  for (int i = 0; i < ws.c; i++) {
    double mean = ws.sum_a[i] / g.values, variance = ws.sum_b[i] / g.values - mean * mean;
    // fmax would turn a NaN, which must be seen, into 0.
    if (variance < 0) variance = 0;
    saved[i] = (float)mean;
    saved[ws.c + i] = (float)(1 / sqrt(variance + eps));
    if (!stats) continue;
    stats[i] = (float)mean;
    stats[ws.c + i] = (float)(variance * (g.values / (g.values - 1)));
  }
}

// running_statistics writes a ghost's saved [2][c] from its set's running statistics.
static void running_statistics(const float *running, int c, double eps, float *saved) {
  for (int i = 0; i < c; i++) {
    saved[i] = running[i];
    saved[c + i] = (float)(1 / sqrt((double)running[c + i] + eps));
  }
}

// normalise writes y = (x - mean) gamma rstd + beta (+ residual), and max(0, y) with relu.
static void normalise(const bn_workspace &ws, const ghost &g, const float *x, const float *residual, bool relu,
                      float *y) {
  const float *mean = ws.table(0), *scale = ws.table(1), *beta = ws.table(2);
  each_in_rows(g.floats, ws.width, [=](auto lanes, int64_t i, int j) {
    vf v = fmadd(get(x + i, lanes) - get(mean + j, lanes), get(scale + j, lanes), get(beta + j, lanes));
    if (residual) v += get(residual + i, lanes);
    put(y + i, relu ? vmax(zero(), v) : v, lanes);
  });
}

static bs_status batchnorm_forward(const bs_shape *shape, void *const *arg, void *) {
  const bs_batchnorm &s = shape->batchnorm;
  const int32_t *set = arg_at<const int32_t>(arg, 4);
  if (bad_batchnorm(s)) return BS_BAD_SHAPE;
  if (!all_set(arg, s.frozen ? 0b1011100111 : 0b1011000111) || bad_sets(s, set)) return BS_BAD_ARGUMENT;
  const float *x = arg_at<const float>(arg, 0), *residual = arg_at<const float>(arg, 3);
  const float *running = arg_at<const float>(arg, 5);
  float *y = arg_at<float>(arg, 6), *stats = arg_at<float>(arg, 8);
  bn_workspace ws = bn_workspace_at(arg[9], s);
  for (int i = 0; i < ghost_count(s); i++) {
    ghost g = ghost_at(s, set, i);
    int64_t row = 2 * (int64_t)i * s.c, channels = (int64_t)g.set * s.c;
    float *saved = arg_at<float>(arg, 7) + row;
    if (s.frozen)
      running_statistics(running + 2 * channels, s.c, s.eps, saved);
    else
      batch_statistics(ws, x, g, s.eps, saved, stats ? stats + row : stats);
    const float *gamma = arg_at<const float>(arg, 1) + channels, *beta = arg_at<const float>(arg, 2) + channels;
    for (int k = 0; k < s.c; k++) {
      ws.table(0)[k] = saved[k];
      ws.table(1)[k] = gamma[k] * saved[s.c + k];
      ws.table(2)[k] = beta[k];
    }
    spread(ws, 3);
    normalise(ws, g, x + g.begin, residual ? residual + g.begin : residual, s.relu != 0, y + g.begin);
  }
  return BS_OK;
}

static bs_status batchnorm_fold(const bs_shape *shape, void *const *arg, void *) {
  const bs_fold &s = shape->fold;
  if (s.ghosts <= 0 || s.c <= 0) return BS_BAD_SHAPE;
  if (!all_set(arg, 0b11)) return BS_BAD_ARGUMENT;
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
