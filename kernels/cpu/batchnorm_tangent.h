// batchnorm_tangent.h: batchnorm_tangent_forward and batchnorm_tangent_backward.
//
// With r = rstd, m1 = <tx>, m2 = <xhat tx> over the ghost, and ' for R{.}:
//   xhat' = r (tx - m1 - xhat m2), ty = gamma xhat' + tgamma xhat + tbeta + tresidual.
// With g = dy and g' = tdy masked by y > 0, s1 = <g>, s2 = <g xhat>:
//   s1' = <g'>, s2' = <g' xhat + g xhat'>, r' = -r^2 m2,
//   tdx = (tgamma r + gamma r') (g - s1 - xhat s2) + gamma r (g' - s1' - xhat' s2 - xhat s2').
// Frozen statistics are constants: m1, m2, r' and the terms with s1, s2, s1', s2' of tdx are zero.

// tangent_moments sets ws.sum_a = sum tx and ws.sum_b = sum tx (x - mean). Table 0 is the mean.
static void tangent_moments(const bn_workspace &ws, const float *x, const float *tx, int64_t floats) {
  const float *mean = ws.table(0);
  channel_sums(ws, floats, [=](auto lanes, int64_t i, int j, vf &a, vf &b) {
    vf t = get(tx + i, lanes);
    a += t;
    b = fmadd(t, get(x + i, lanes) - get(mean + j, lanes), b);
  });
}

struct tangent_forward_args {
  const float *x, *y, *tx, *tresidual; // y is NULL without relu, tresidual may be NULL
  float *ty;
};

// tangent_forward_apply writes ty = A (tx - m1) + B (x - mean) + tbeta + tresidual, masked.
// Tables: mean, A, m1, B, tbeta.
static void tangent_forward_apply(const bn_workspace &ws, const tangent_forward_args &k, int64_t floats) {
  const float *mean = ws.table(0), *a = ws.table(1), *m1 = ws.table(2), *b = ws.table(3), *tbeta = ws.table(4);
  const float *x = k.x, *y = k.y, *tx = k.tx, *tresidual = k.tresidual;
  float *ty = k.ty;
  each_in_rows(ws, floats, [=](auto lanes, int64_t i, int j) {
    vf t = fmadd(get(b + j, lanes), get(x + i, lanes) - get(mean + j, lanes), get(tbeta + j, lanes));
    t = fmadd(get(a + j, lanes), get(tx + i, lanes) - get(m1 + j, lanes), t);
    if (tresidual) t += get(tresidual + i, lanes);
    put(ty + i, y ? positive(get(y + i, lanes), t) : t, lanes);
  });
}

static bs_status batchnorm_tangent_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_BATCHNORM_TANGENT_FORWARD, shape, arg, true);
  if (status != BS_OK) return status;
  const bs_batchnorm &s = shape->batchnorm;
  const int32_t *set = arg_at<const int32_t>(arg, 3);
  if (bad_sets(s, set)) return BS_BAD_ARGUMENT;
  bn_workspace ws = bn_workspace_at(member_of(stream), arg[11], s);
  const bool writes = ws.team.index == 0;
  for (int i = 0; i < bs_ghosts(&s); i++) {
    ghost g = ghost_at(s, set, i);
    int64_t row = 2 * (int64_t)i * s.c, channels = (int64_t)g.set * s.c;
    const float *gamma = arg_at<const float>(arg, 2) + channels, *saved = arg_at<const float>(arg, 4) + row;
    const float *tgamma = arg_at<const float>(arg, 6) + channels, *tbeta = arg_at<const float>(arg, 7) + channels;
    const float *rstd = saved + s.c;
    float *tsaved = arg_at<float>(arg, 10) + row;
    tangent_forward_args k = {arg_at<const float>(arg, 0) + g.begin,
                              s.relu ? arg_at<const float>(arg, 1) + g.begin : nullptr,
                              arg_at<const float>(arg, 5) + g.begin, at_ghost(arg_at<const float>(arg, 8), g),
                              arg_at<float>(arg, 9) + g.begin};
    memcpy(ws.table(0), saved, sizeof(float) * (size_t)s.c);
    spread(ws, 1);
    if (s.frozen)
      memset(ws.sum_a, 0, 2 * sizeof(double) * (size_t)s.c);
    else
      tangent_moments(ws, k.x, k.tx, g.floats);
    for (int c = 0; c < s.c; c++) {
      double r = rstd[c], m1 = ws.sum_a[c] / g.values, m2 = r * ws.sum_b[c] / g.values;
      if (writes) tsaved[c] = (float)m1, tsaved[s.c + c] = (float)m2;
      ws.table(1)[c] = (float)(gamma[c] * r);
      ws.table(2)[c] = (float)m1;
      ws.table(3)[c] = (float)(tgamma[c] * r - gamma[c] * r * r * m2);
      ws.table(4)[c] = tbeta[c];
    }
    spread(ws, 5);
    tangent_forward_apply(ws, k, g.floats);
  }
  return BS_OK;
}

struct tangent_backward_args {
  const float *x, *y, *dy, *tx, *tdy; // y is NULL without relu
  float *tdx, *tdresidual;            // may be NULL
};

// tangent_backward_sums sets ws.sum_a = sum g' and ws.sum_b = sum (g' xhat + g xhat').
// Tables: mean, m1, r, r m2.
static void tangent_backward_sums(const bn_workspace &ws, const tangent_backward_args &k, int64_t floats) {
  const float *mean = ws.table(0), *m1 = ws.table(1), *r = ws.table(2), *rm2 = ws.table(3);
  const float *x = k.x, *y = k.y, *dy = k.dy, *tx = k.tx, *tdy = k.tdy;
  channel_sums(ws, floats, [=](auto lanes, int64_t i, int j, vf &a, vf &b) {
    vf g = get(dy + i, lanes), tg = get(tdy + i, lanes);
    if (y) {
      vf out = get(y + i, lanes);
      g = positive(out, g);
      tg = positive(out, tg);
    }
    vf rstd = get(r + j, lanes), xhat = (get(x + i, lanes) - get(mean + j, lanes)) * rstd;
    vf txhat = rstd * (get(tx + i, lanes) - get(m1 + j, lanes)) - xhat * get(rm2 + j, lanes);
    a += tg;
    b = fmadd(tg, xhat, fmadd(g, txhat, b));
  });
}

// tangent_backward_apply writes tdresidual = g' and
// tdx = A (g' - s1') + C (g - s1) + E (tx - m1) + F (x - mean). Tables: mean, m1, s1, s1', A, C, E, F.
static void tangent_backward_apply(const bn_workspace &ws, const tangent_backward_args &k, int64_t floats,
                                   int accumulate) {
  const float *mean = ws.table(0), *m1 = ws.table(1), *s1 = ws.table(2), *ts1 = ws.table(3);
  const float *a = ws.table(4), *c = ws.table(5), *e = ws.table(6), *f = ws.table(7);
  const float *x = k.x, *y = k.y, *dy = k.dy, *tx = k.tx, *tdy = k.tdy;
  float *tdx = k.tdx, *tdresidual = k.tdresidual;
  bool add_tdx = accumulate & 1, add_tdresidual = accumulate & 2;
  each_in_rows(ws, floats, [=](auto lanes, int64_t i, int j) {
    vf g = get(dy + i, lanes), tg = get(tdy + i, lanes);
    if (y) {
      vf out = get(y + i, lanes);
      g = positive(out, g);
      tg = positive(out, tg);
    }
    vf centred = get(x + i, lanes) - get(mean + j, lanes), tcentred = get(tx + i, lanes) - get(m1 + j, lanes);
    if (tdresidual) put(tdresidual + i, add_tdresidual ? get(tdresidual + i, lanes) + tg : tg, lanes);
    if (!tdx) return;
    vf d = get(a + j, lanes) * (tg - get(ts1 + j, lanes));
    d = fmadd(get(c + j, lanes), g - get(s1 + j, lanes), d);
    d = fmadd(get(e + j, lanes), tcentred, d);
    d = fmadd(get(f + j, lanes), centred, d);
    put(tdx + i, add_tdx ? get(tdx + i, lanes) + d : d, lanes);
  });
}

// One channel's numbers in the tangent backward pass.
struct tangent_channel {
  double gamma, tgamma, r, m1, m2, s1, s2, ts1, ts2;
};

// put_tangent_tables writes channel c of tangent_backward_apply's tables 1 to 7.
static void put_tangent_tables(const bn_workspace &ws, int c, const tangent_channel &k, bool frozen) {
  double a = k.gamma * k.r, r2 = k.r * k.r, slope = k.tgamma * k.r;
  double values[] = {0, 0, 0, a, slope, 0, 0};
  if (!frozen) {
    slope -= k.gamma * r2 * k.m2;
    double e = -a * k.s2 * k.r, f = -slope * k.r * k.s2 - a * k.r * k.ts2 + a * k.s2 * r2 * k.m2;
    double moving[] = {k.m1, k.s1, k.ts1, a, slope, e, f};
    memcpy(values, moving, sizeof values);
  }
  for (int i = 0; i < 7; i++) ws.table(1 + i)[c] = (float)values[i];
}

static bs_status batchnorm_tangent_backward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_BATCHNORM_TANGENT_BACKWARD, shape, arg, true);
  if (status != BS_OK) return status;
  const bs_batchnorm &s = shape->batchnorm;
  const int32_t *set = arg_at<const int32_t>(arg, 4);
  if (bad_sets(s, set)) return BS_BAD_ARGUMENT;
  bn_workspace ws = bn_workspace_at(member_of(stream), arg[15], s);
  const bool writes = ws.team.index == 0;
  for (int i = 0; i < bs_ghosts(&s); i++) {
    ghost g = ghost_at(s, set, i);
    int64_t row = 2 * (int64_t)i * s.c, channels = (int64_t)g.set * s.c;
    const float *gamma = arg_at<const float>(arg, 3) + channels, *tgamma = arg_at<const float>(arg, 10) + channels;
    const float *saved = arg_at<const float>(arg, 5) + row, *sums = arg_at<const float>(arg, 6) + row;
    const float *tsaved = arg_at<const float>(arg, 8) + row;
    float *hgamma = arg_at<float>(arg, 13) + channels, *hbeta = arg_at<float>(arg, 14) + channels;
    tangent_backward_args k = {arg_at<const float>(arg, 0) + g.begin,
                               s.relu ? arg_at<const float>(arg, 1) + g.begin : nullptr,
                               arg_at<const float>(arg, 2) + g.begin, arg_at<const float>(arg, 7) + g.begin,
                               arg_at<const float>(arg, 9) + g.begin, at_ghost(arg_at<float>(arg, 11), g),
                               at_ghost(arg_at<float>(arg, 12), g)};
    for (int c = 0; c < s.c; c++) {
      ws.table(0)[c] = saved[c];
      ws.table(1)[c] = s.frozen ? 0 : tsaved[c];
      ws.table(2)[c] = saved[s.c + c];
      ws.table(3)[c] = s.frozen ? 0 : saved[s.c + c] * tsaved[s.c + c];
    }
    spread(ws, 4);
    tangent_backward_sums(ws, k, g.floats);
    for (int c = 0; c < s.c; c++) {
      if (writes) hgamma[c] += (float)ws.sum_b[c], hbeta[c] += (float)ws.sum_a[c];
      tangent_channel channel = {gamma[c],       tgamma[c],       saved[s.c + c],
                                 tsaved[c],      tsaved[s.c + c], sums[c],
                                 sums[s.c + c],  ws.sum_a[c] / g.values, ws.sum_b[c] / g.values};
      put_tangent_tables(ws, c, channel, s.frozen != 0);
    }
    if (!k.tdx && !k.tdresidual) continue;
    spread(ws, 8);
    tangent_backward_apply(ws, k, g.floats, s.accumulate);
  }
  return BS_OK;
}
