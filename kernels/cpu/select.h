// select.h: median, by radix selection: three histograms of the digits of the values' bits, from the highest on.

struct ratio_vectors {
  const float *x, *z;
  int64_t count;
  float delta;
  bool zeros;
  uint32_t bits(int64_t i) const { return bs_ratio_bits(x[i], z[i], delta, zeros); }
};

// A choice is a set of values by their leading bits, and the rank within it of the value that is looked for.
struct choice {
  uint32_t bits, mask; // values whose bits under the mask are these
  int64_t rank, count, total; // count: of them; total: of all values
};

// choose narrows a choice by a digit of so many bits.
static void choose(choice *c, const ratio_vectors &of, int shift, int bits) {
  enum { MOST = 1 << 11 };
  int64_t histogram[MOST] = {};
  uint32_t last = (1u << bits) - 1;
  for (int64_t i = 0; i < of.count; i++) {
    uint32_t v = of.bits(i);
    if (bs_is_finite(v) && (v & c->mask) == c->bits) histogram[v >> shift & last]++;
  }
  if (c->mask == 0) { // the first digit: all values
    for (int64_t n : histogram) c->total += n;
    c->rank = (c->total - 1) / 2;
    if (c->total == 0) return;
  }
  uint32_t digit = 0;
  for (; c->rank >= histogram[digit]; digit++) c->rank -= histogram[digit];
  c->bits |= digit << shift, c->mask |= last << shift, c->count = histogram[digit];
}

// larger returns the bits of the smallest value above a chosen one.
static uint32_t larger(uint32_t than, const ratio_vectors &of) {
  uint32_t best = 0xffffffffu;
  for (int64_t i = 0; i < of.count; i++) {
    uint32_t v = of.bits(i);
    if (v > than && v < best) best = v;
  }
  return best;
}

static bs_status median(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_MEDIAN, shape, arg, false);
  if (status != BS_OK) return status;
  const bs_vector &s = shape->vector;
  ratio_vectors of = {arg_at<const float>(arg, 0), arg_at<const float>(arg, 1), s.count, (float)s.a, s.b == 0};
  choice c = {};
  choose(&c, of, 21, 11);
  if (c.total == 0) {
    put_double(arg[2], NAN);
    return BS_OK;
  }
  choose(&c, of, 10, 11);
  choose(&c, of, 0, 10);
  bool both = c.total % 2 == 0 && c.rank + 1 == c.count; // the other one in the middle is another value
  put_double(arg[2], bs_middle(c.bits, both ? larger(c.bits, of) : c.bits));
  return BS_OK;
}
