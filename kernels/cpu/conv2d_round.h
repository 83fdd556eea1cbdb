// conv2d_round.h: convolutions whose factors are rounded, to bfloat16 or to tf32.
//
// The f32 kernels pack weights, windows and gradients into buffers; here those buffers are then rounded
// in place. For tf32, and without hardware for bfloat16, that is all: a float with 16 zero bits at its end
// is a bfloat16, one with 13 a tf32, and the f32 kernels multiply them exactly. With the hardware
// (BS_BF16_PAIRS) each cell is made to hold two bfloat16s, neighbours of the reduction, the first in its
// lower half, and a block's step is dot2, two products added to a sum:
//   forward and backward to the input: channels 2i and 2i + 1 of a group, the last one alone if odd;
//   backward to the weights: a pixel and the next of the walk.
//
// BS_BF16_PAIRS is 1 where the target has vdpbf16ps, 2 to compute dot2 by two multiply-adds: slower
// than the f32 kernels, but it lets other machines test the logic of pairs.

#ifndef BS_BF16_PAIRS
#define BS_BF16_PAIRS 0
#endif

enum { bf16_pairs = BS_BF16_PAIRS != 0 };

// pairs tells whether the factors of a convolution, unless it is depthwise, are multiplied as pairs.
BS_INLINE bool pairs(const conv_shape &s) { return bf16_pairs && s.precision == BS_BF16; }

// round_bits adds `half` and keeps the `kept` upper bits; a carry may reach infinity. NaN must not carry: it becomes
// quiet and is cut.
BS_INLINE vu round_bits(vf v, vu half, uint32_t kept) {
  vu bits = (vu)v, nan = (vu)(v != v);
  return ((nan & (bits | 0x400000)) | (~nan & (bits + half))) & kept;
}

// round_bf16 rounds to bfloat16, to nearest even: half a unit of the upper half, or just less if that is even.
BS_INLINE vu round_bf16(vf v) { return round_bits(v, ((vu)v >> 16 & 1) + 0x7fff, 0xffff0000u); }

// round_tf32 rounds to tf32, to nearest, ties away from zero: half a unit of the upper 19 bits.
BS_INLINE vu round_tf32(vf v) { return round_bits(v, set1((uint32_t)0x1000), 0xffffe000u); }

// round_factor rounds to a precision other than BS_F32.
BS_INLINE vf round_factor(vf v, int32_t precision) {
  return (vf)(precision == BS_TF32 ? round_tf32(v) : round_bf16(v));
}

// pair_bf16 rounds two vectors and joins them lane by lane: `first` in the lower halves.
BS_INLINE vf pair_bf16(vf first, vf second) { return (vf)(round_bf16(first) >> 16 | round_bf16(second)); }

// dot2 adds the products of the lower halves and of the upper halves of a and b to acc. As vdpbf16ps, it
// adds the upper ones first and rounds after each.
BS_INLINE vf dot2(vf a, vf b, vf acc) {
#if BS_BF16_PAIRS == 1
  return (vf)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#else
  vu p = (vu)a, q = (vu)b;
  acc = fmadd((vf)(p & 0xffff0000u), (vf)(q & 0xffff0000u), acc);
  return fmadd((vf)(p << 16), (vf)(q << 16), acc);
#endif
}

// multiply_add is a step of a block: a b + acc, or two such products where cells are pairs.
template <bool Pairs> BS_INLINE vf multiply_add(vf a, vf b, vf acc) {
  if constexpr (Pairs) return dot2(a, b, acc);
  return fmadd(a, b, acc);
}

// broadcast copies the bits of a cell, `mask`ed where cells are pairs, to all lanes.
template <bool Pairs> BS_INLINE vf broadcast(const float *cell, int32_t mask = -1) {
  if constexpr (!Pairs) return set1(*cell);
  int32_t bits;
  memcpy(&bits, cell, sizeof bits);
  return as_float(set1(bits & mask));
}

// round_cells rounds cells in place.
static void round_cells(float *p, index_t cells, int32_t precision) {
  index_t i = 0;
  for (; i + VW <= cells; i += VW) store(p + i, round_factor(load(p + i), precision));
  if (i == cells) return;
  int left = (int)(cells - i);
  store_partial(p + i, round_factor(load_partial(p + i, left), precision), left);
}

// ---- pairs of channels

// halves rounds 2 VW cells to as many bfloat16s, a vector.
BS_INLINE vf halves(vf low, vf high) {
#if BS_BF16_PAIRS == 1
  const __m256bh part[2] = {_mm512_cvtneps_pbh((__m512)low), _mm512_cvtneps_pbh((__m512)high)};
#else
  typedef uint16_t half_vector __attribute__((vector_size(BS_VEC_BYTES / 2)));
  const half_vector part[2] = {__builtin_convertvector(round_bf16(low) >> 16, half_vector),
                               __builtin_convertvector(round_bf16(high) >> 16, half_vector)};
#endif
  vf both;
  memcpy(&both, part, sizeof both);
  return both;
}

// pair_run turns `channels` cells into ceil(channels / 2) pairs. `to` may be `from`, or in front of it.
BS_INLINE void pair_run(const float *from, index_t channels, float *to) {
  for (; channels >= 2 * VW; channels -= 2 * VW, from += 2 * VW, to += VW)
    store(to, halves(load(from), load(from + VW)));
  if (channels == 0) return;
  vf low = load_partial(from, (int)channels);
  vf high = channels > VW ? load_partial(from + VW, (int)(channels - VW)) : zero();
  store_partial(to, halves(low, high), (int)ceil_div(channels, 2));
}

// pair_channels turns pixels of groups of channels into pairs, in place.
static void pair_channels(float *p, index_t pixels, index_t groups, index_t channels) {
  if (channels % 2 == 0) return pair_run(p, pixels * groups * channels, p);
  index_t pairs = ceil_div(channels, 2);
  float *to = p;
  for (index_t i = 0; i < pixels * groups; i++, p += channels, to += pairs) pair_run(p, channels, to);
}

// pair_rows turns the packed weights of one tap, a row of `width` lanes for each channel, into pairs. `to`
// may be `from`, or in front of it.
static void pair_rows(const float *from, index_t channels, index_t width, float *to) {
  for (index_t i = 0; i < channels; i += 2, from += 2 * width, to += width)
    for (index_t l = 0; l < width; l += VW)
      store(to + l, pair_bf16(load(from + l), i + 1 < channels ? load(from + width + l) : zero()));
}

// ---- pairs of pixels

// pair_pixels joins every cell with the one `distance` cells behind it, in place; behind the last are
// zeros.
static void pair_pixels(float *p, index_t cells, index_t distance) {
  for (index_t i = 0; i < cells; i += VW) {
    index_t rest = min_index(max_index(cells - i - distance, 0), VW);
    vf first = load_partial(p + i, (int)min_index(cells - i, VW));
    vf second = rest > 0 ? load_partial(p + i + distance, (int)rest) : zero();
    store_partial(p + i, pair_bf16(first, second), (int)min_index(cells - i, VW));
  }
}

// pair_panel packs `lanes` channels of rows x cols pixels, zero-padded to `width`: pairs of neighbours in a
// row, the last one alone if cols is odd.
static void pair_panel(const float *dy, index_t rows, index_t cols, index_t pixel, int lanes, int width, float *panel) {
  for (index_t r = 0; r < rows; r++) {
    for (index_t i = 0; i < cols; i += 2, panel += width) {
      const float *at = dy + (r * cols + i) * pixel;
      for (int v = 0; v < width; v += VW) {
        vf second = i + 1 < cols ? load_partial(at + pixel + v, lanes - v) : zero();
        store(panel + v, pair_bf16(load_partial(at + v, lanes - v), second));
      }
    }
  }
}
