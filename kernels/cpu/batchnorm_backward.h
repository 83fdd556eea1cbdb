// batchnorm_backward.h: batchnorm_backward.
//
// With g = dy masked by y > 0, s1 = <g>, s2 = <g xhat> over the ghost:
//   dx = gamma r (g - s1 - xhat s2), dgamma = sum g xhat, dbeta = sum g.
// Two passes over memory: the sums, then dx and dresidual. A synced call is given s1 and s2 and does the second.

struct bn_backward_args {
  const float *x, *y, *dy; // y is NULL without relu
  float *dx, *dresidual;   // may be NULL
};

// bn_backward_sums sets ws.sum_a = sum g and ws.sum_b = sum g (x - mean). Table 0 is the mean.
static void bn_backward_sums(const bn_workspace &ws, const bn_backward_args &k, int64_t floats) {
  const float *x = k.x, *y = k.y, *dy = k.dy, *mean = ws.table(0);
  auto add_up = [=](auto lanes, int64_t i, int j, vf g, vf &a, vf &b) {
    a += g;
    b = fmadd(g, get(x + i, lanes) - get(mean + j, lanes), b);
  };
  if (y) {
    channel_sums(ws, floats, [=](auto lanes, int64_t i, int j, vf &a, vf &b) {
      add_up(lanes, i, j, positive(get(y + i, lanes), get(dy + i, lanes)), a, b);
    });
  } else {
    channel_sums(ws, floats, [=](auto lanes, int64_t i, int j, vf &a, vf &b) {
      add_up(lanes, i, j, get(dy + i, lanes), a, b);
    });
  }
}

// bn_backward_apply writes dx and dresidual. Tables: mean, gamma r, s1, r s2.
static void bn_backward_apply(const bn_workspace &ws, const bn_backward_args &k, int64_t floats, int accumulate) {
  const float *x = k.x, *y = k.y, *dy = k.dy;
  const float *mean = ws.table(0), *scale = ws.table(1), *s1 = ws.table(2), *s2 = ws.table(3);
  float *dx = k.dx, *dresidual = k.dresidual;
  bool add_dx = accumulate & 1, add_dresidual = accumulate & 2;
  each_in_rows(ws, floats, [=](auto lanes, int64_t i, int j) {
    vf g = get(dy + i, lanes);
    if (y) g = positive(get(y + i, lanes), g);
    vf centred = get(x + i, lanes) - get(mean + j, lanes);
    if (dresidual) put(dresidual + i, add_dresidual ? get(dresidual + i, lanes) + g : g, lanes);
    if (!dx) return;
    vf d = get(scale + j, lanes) * (g - get(s1 + j, lanes) - centred * get(s2 + j, lanes));
    put(dx + i, add_dx ? get(dx + i, lanes) + d : d, lanes);
  });
}

// at_ghost moves an optional pointer to the ghost's first float.
template <class T>
BS_INLINE T *at_ghost(T *p, const ghost &g) {
  return p ? p + g.begin : p;
}

// bn_backward_means sets table 2 to s1 and table 3 to s2 by ws.sum_a and ws.sum_b, and puts out what the first member
// is to: sums [2][c], and the sums of dgamma and dbeta [c], which may be NULL.
static void bn_backward_means(const bn_workspace &ws, const float *rstd, double values, bool writes, float *sums,
                              float *dgamma, float *dbeta) {
  float *s1 = ws.table(2), *s2 = ws.table(3);
  for (int c = 0; c < ws.c; c++) {
    double sum_g = ws.sum_a[c], sum_gx = ws.sum_b[c] * rstd[c];
    s1[c] = (float)(sum_g / values);
    s2[c] = (float)(sum_gx / values);
    if (!writes) continue;
    if (dgamma) dgamma[c] += (float)sum_gx;
    if (dbeta) dbeta[c] += (float)sum_g;
    sums[c] = s1[c];
    sums[ws.c + c] = s2[c];
  }
}

static bs_status batchnorm_backward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_BATCHNORM_BACKWARD, shape, arg, true);
  if (status != BS_OK) return status;
  const bs_batchnorm &s = shape->batchnorm;
  const int32_t *set = arg_at<const int32_t>(arg, 4);
  if (bad_sets(s, set)) return BS_BAD_ARGUMENT;
  float *dgamma = arg_at<float>(arg, 8), *dbeta = arg_at<float>(arg, 9);
  bn_workspace ws = bn_workspace_at(member_of(stream), arg[11], s);
  const bool writes = ws.team.index == 0;
  for (int i = 0; i < bs_ghosts(&s); i++) {
    ghost g = ghost_at(s, set, i);
    int64_t row = 2 * (int64_t)i * s.c, channels = (int64_t)g.set * s.c;
    const float *gamma = arg_at<const float>(arg, 3) + channels, *saved = arg_at<const float>(arg, 5) + row;
    const float *rstd = saved + s.c;
    float *sums = arg_at<float>(arg, 10) + row;
    bn_backward_args k = {arg_at<const float>(arg, 0) + g.begin,
                          s.relu ? arg_at<const float>(arg, 1) + g.begin : nullptr,
                          arg_at<const float>(arg, 2) + g.begin, at_ghost(arg_at<float>(arg, 6), g),
                          at_ghost(arg_at<float>(arg, 7), g)};
    memcpy(ws.table(0), saved, sizeof(float) * (size_t)s.c);
    spread(ws, 1);
    if (s.synced) {
      memcpy(ws.table(2), sums, sizeof(float) * (size_t)s.c);
      memcpy(ws.table(3), sums + s.c, sizeof(float) * (size_t)s.c);
    } else {
      bn_backward_sums(ws, k, g.floats);
      bn_backward_means(ws, rstd, g.values, writes, sums, dgamma ? dgamma + channels : dgamma,
                        dbeta ? dbeta + channels : dbeta);
    }
    if (!k.dx && !k.dresidual) continue;
    for (int c = 0; c < s.c; c++) {
      ws.table(1)[c] = gamma[c] * rstd[c];
      ws.table(2)[c] = s.frozen ? 0 : ws.table(2)[c];
      ws.table(3)[c] = s.frozen ? 0 : rstd[c] * ws.table(3)[c];
    }
    spread(ws, 4);
    bn_backward_apply(ws, k, g.floats, s.accumulate);
  }
  return BS_OK;
}
