// philox.h: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as
// 1, 2, 3") and the philox kernel.

enum { PHILOX_LANES = 16 }; // blocks made at a time, in loops that vectorise

struct philox_stream {
  uint32_t key0, key1, ctr1, ctr2, ctr3;
};

// philox_blocks writes the words of N blocks with counters (block + l, ctr1, ctr2, ctr3).
// The loops over l must stay loops to become vectors.
template <int N>
static void philox_blocks(const philox_stream &stream, uint32_t block, uint32_t *words) {
  uint32_t c0[N], c1[N], c2[N], c3[N];
#pragma GCC unroll 1
  for (int l = 0; l < N; l++) {
    c0[l] = block + (uint32_t)l;
    c1[l] = stream.ctr1;
    c2[l] = stream.ctr2;
    c3[l] = stream.ctr3;
  }
  uint32_t k0 = stream.key0, k1 = stream.key1;
  for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
#pragma GCC unroll 1
    for (int l = 0; l < N; l++) {
      uint64_t p0 = (uint64_t)0xD2511F53u * c0[l], p1 = (uint64_t)0xCD9E8D57u * c2[l];
      c0[l] = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0;
      c1[l] = (uint32_t)p1;
      c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
      c3[l] = (uint32_t)p0;
    }
  }
  for (int l = 0; l < N; l++) {
    words[4 * l] = c0[l];
    words[4 * l + 1] = c1[l];
    words[4 * l + 2] = c2[l];
    words[4 * l + 3] = c3[l];
  }
}

// each_word calls op(i, word) for elements 0 .. count-1 of the stream.
template <class Op>
BS_INLINE void each_word(const philox_stream &stream, int64_t count, Op op) {
  uint32_t words[4 * PHILOX_LANES];
  for (int64_t begin = 0; begin < count; begin += 4 * PHILOX_LANES) {
    philox_blocks<PHILOX_LANES>(stream, (uint32_t)(begin / 4), words);
    int n = count - begin < 4 * PHILOX_LANES ? (int)(count - begin) : 4 * PHILOX_LANES;
    for (int i = 0; i < n; i++) op(begin + i, words[i]);
  }
}

// sample_stream is the random stream of one sample for a purpose and layer; key = {seed low, seed
// high, epoch, copy}.
static philox_stream sample_stream(const uint32_t *key, int32_t sample, uint32_t purpose, uint32_t layer) {
  return philox_stream{key[0], key[1], (uint32_t)sample, key[2], purpose << 24 | layer << 8 | key[3]};
}

// fill_normal writes standard normals by Box-Muller, in double: near u1 = 1 the logarithm in float
// would lose all its digits.
static void fill_normal(const philox_stream &stream, int64_t count, float *out) {
  const double unit = 1.0 / 16777216;
  uint32_t words[4 * PHILOX_LANES];
  for (int64_t begin = 0; begin < count; begin += 4 * PHILOX_LANES) {
    philox_blocks<PHILOX_LANES>(stream, (uint32_t)(begin / 4), words);
    int n = count - begin < 4 * PHILOX_LANES ? (int)(count - begin) : 4 * PHILOX_LANES;
    for (int i = 0; i < n; i += 2) {
      double u1 = ((words[i] >> 8) + 0.5) * unit, u2 = ((words[i + 1] >> 8) + 0.5) * unit;
      double radius = sqrt(-2 * log_of(u1)), sine, cosine;
      turn(u2, &sine, &cosine);
      out[begin + i] = (float)(radius * cosine);
      if (i + 1 < n) out[begin + i + 1] = (float)(radius * sine);
    }
  }
}

static bs_status philox(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_PHILOX, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_philox &s = shape->philox;
  philox_stream stream = {s.key0, s.key1, s.ctr1, s.ctr2, s.ctr3};
  float *out = arg_at<float>(arg, 0);
  switch (s.distribution) {
  case BS_BITS:
    each_word(stream, s.count, [=](int64_t i, uint32_t word) { memcpy(out + i, &word, 4); });
    return BS_OK;
  case BS_UNIFORM:
    each_word(stream, s.count, [=](int64_t i, uint32_t word) { out[i] = (float)(int32_t)(word >> 8) * 0x1p-24f; });
    return BS_OK;
  case BS_NORMAL:
    fill_normal(stream, s.count, out);
    return BS_OK;
  case BS_RADEMACHER:
    each_word(stream, s.count, [=](int64_t i, uint32_t word) { out[i] = word >> 31 ? -1.0f : 1.0f; });
    return BS_OK;
  }
  return BS_BAD_SHAPE;
}
