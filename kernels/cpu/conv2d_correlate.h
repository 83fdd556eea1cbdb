// conv2d_correlate.h: correlation of a window with packed filters, the work of both the forward pass
// and the backward pass to the input.
//
// The register block is P pixels by NV vectors of output channels. The reduction runs over the
// filter's taps and channels: per step NV loads of packed weights, P broadcasts from the window and
// P NV multiply-adds. In NHWC the taps of one filter row and their channels are contiguous, so with
// one group a filter row is a single run.

#if BS_VEC_BYTES == 64 || defined(__aarch64__)
enum { wide_block = 12 }; // 32 vector registers
#else
enum { wide_block = 6 }; // 16 vector registers
#endif
enum { narrow_block = 12, max_block = 12, max_vectors = 2 };

// Pixels, or elements, of a register block with this many vectors of channels.
BS_INLINE int block_size(int vectors) { return vectors == 1 ? (int)narrow_block : (int)wide_block; }

// A part of the reduction: rows x cols runs of len cells. src_row and src_col lie between runs in the
// window, w_row and w_col in the packed weights.
struct reduction {
  index_t rows, cols, len, src_row, src_col, w_row, w_col;
  bool pairs; // cells are pairs of bfloat16s
};

// What happens to the sums of a block of pixels.
struct block_output {
  int lanes;         // channels to store, at most NV VW
  bool add;          // start from the output's values
  bool relu;         // finish with max(0, y)
  const float *bias; // start from bias too; or NULL
};

typedef void (*correlate_fn)(const float *const *x, const float *w, const reduction &red, float *const *y,
                             const block_output &out);

// finish_block stores the sums of a block, in one sweep per step: a short reduction leaves no time for
// decisions at every vector.
template <int P, int NV> BS_INLINE void finish_block(vf (&acc)[P][NV], float *const *y, const block_output &out) {
  const bool full = out.lanes == NV * VW;
  if (out.add) {
#pragma GCC unroll 16
    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++)
        acc[p][v] += full ? load(y[p] + v * VW) : load_partial(y[p] + v * VW, out.lanes - v * VW);
  }
  if (out.relu) {
#pragma GCC unroll 16
    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) acc[p][v] = vmax(zero(), acc[p][v]);
  }
  if (full) {
#pragma GCC unroll 16
    for (int p = 0; p < P; p++)
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) store(y[p] + v * VW, acc[p][v]);
    return;
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; p++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) store_partial(y[p] + v * VW, acc[p][v], out.lanes - v * VW);
}

// correlate_block computes P pixels: x[p] is pixel p's first tap, y[p] its first output channel.
template <int P, int NV, bool Pairs>
static void correlate_block(const float *const *x, const float *w, const reduction &red, float *const *y,
                            const block_output &out) {
  const float *xp[P];
  vf acc[P][NV];
#pragma GCC unroll 16
  for (int p = 0; p < P; p++) xp[p] = x[p];
#pragma GCC unroll 2
  for (int v = 0; v < NV; v++) {
    vf start = out.bias ? load_partial(out.bias + v * VW, out.lanes - v * VW) : zero();
#pragma GCC unroll 16
    for (int p = 0; p < P; p++) acc[p][v] = start;
  }
  for (index_t r = 0; r < red.rows; r++) {
    for (index_t s = 0; s < red.cols; s++) {
      const float *wp = w + r * red.w_row + s * red.w_col;
      index_t begin = r * red.src_row + s * red.src_col, end = begin + red.len;
      for (index_t i = begin; i < end; i++, wp += NV * VW) {
        vf b[NV];
#pragma GCC unroll 2
        for (int v = 0; v < NV; v++) b[v] = load(wp + v * VW);
#pragma GCC unroll 16
        for (int p = 0; p < P; p++) {
          vf a = broadcast<Pairs>(xp[p] + i);
#pragma GCC unroll 2
          for (int v = 0; v < NV; v++) acc[p][v] = multiply_add<Pairs>(a, b[v], acc[p][v]);
        }
      }
    }
  }
  finish_block<P, NV>(acc, y, out);
}

template <int P, int NV, bool Pairs> static correlate_fn correlate_block_of(int pixels) {
  if constexpr (P > 1) {
    if (pixels < P) return correlate_block_of<P - 1, NV, Pairs>(pixels);
  }
  return correlate_block<P, NV, Pairs>;
}

template <bool Pairs> static correlate_fn correlate_block_for(int pixels, int vectors) {
  return vectors == 1 ? correlate_block_of<narrow_block, 1, Pairs>(pixels)
                      : correlate_block_of<wide_block, 2, Pairs>(pixels);
}
static correlate_fn choose_correlate(int pixels, int vectors, bool pairs = false) {
  if (bf16_pairs && pairs) return correlate_block_for<bf16_pairs>(pixels, vectors);
  return correlate_block_for<false>(pixels, vectors);
}

// A correlation of a window with filters, written to a tensor [n][out_h][out_w][out_c].
struct correlation {
  sliding_window window;
  tiling tiles;
  index_t out_h, out_w, out_c, groups, in_channels, out_channels; // channels per group
  index_t out_step_h, out_step_w; // distance of the outputs of neighbouring positions
  index_t weight_cells;           // packed weights
  bool pairs;                     // in_channels are pairs of bfloat16s
  bool depthwise;                 // see conv2d_depthwise.h
};

// One of the correlation's interleaved outputs: position (i, j), if it lies in [first, last), is output
// (origin_h + i out_step_h, origin_w + j out_step_w), and its taps are taps_h x taps_w pixels from
// (skip_h, skip_w) of its window.
struct phase {
  index_t taps_h, taps_w, skip_h, skip_w;
  index_t first_h, last_h, first_w, last_w, origin_h, origin_w;
  index_t weights; // where its packed weights start
};

// Packed weights: [group][block of channels][tap][input channel][lane], lanes in whole vectors, blocks of
// two vectors and the last of one or two.
BS_INLINE index_t group_weight_cells(const correlation &c, index_t taps) {
  return taps * c.in_channels * round_up(c.out_channels, VW);
}

// Longest part of the reduction done in one go: its packed weights stay in the L2 cache.
enum { reduction_cells = 16384 };

// prefetch_source spreads what the next tile reads of the source over the register blocks of this one.
static prefetch_range prefetch_source(const correlation &c, const window_tile &tile, index_t phases,
                                      const float *source) {
  index_t pixels = tile.images * tile.rows * c.window.cols, channels = ceil_div(c.out_channels, max_vectors * VW);
  index_t blocks = ceil_div(pixels, block_size(c.out_channels > VW ? 2 : 1));
  return prefetch_window(c.window, c.tiles, tile.n0, tile.row0, source, phases * c.groups * channels * blocks);
}

// pixel_run is a walk over a tile's pixels of one phase.
struct pixel_run {
  const float *x;
  float *y;
  index_t images, rows, cols;
  index_t x_image, x_row, x_pixel, y_image, y_row, y_pixel;
  prefetch_range *ahead; // what the next tile reads
};

// correlate_pixels runs one part of the reduction over all pixels, in blocks of nearly equal size.
static void correlate_pixels(const pixel_run &run, int vectors, const float *w, const reduction &red,
                             const block_output &out) {
  index_t pixels = run.images * run.rows * run.cols;
  index_t blocks = ceil_div(pixels, block_size(vectors)), small = pixels / blocks, larger = pixels % blocks;
  correlate_fn small_fn = choose_correlate((int)small, vectors, red.pairs);
  correlate_fn large_fn = choose_correlate((int)small + 1, vectors, red.pairs);
  const float *x[max_block], *x_row = run.x, *x_image = run.x, *xp = run.x;
  float *y[max_block], *y_row = run.y, *y_image = run.y, *yp = run.y;
  index_t row = 0, col = 0;
  for (index_t b = 0; b < blocks; b++) {
    index_t size = small + (b < larger);
    for (index_t p = 0; p < size; p++) {
      x[p] = xp, y[p] = yp;
      xp += run.x_pixel, yp += run.y_pixel;
      if (++col < run.cols) continue;
      col = 0;
      x_row += run.x_row, y_row += run.y_row;
      if (++row == run.rows) {
        row = 0;
        x_row = x_image += run.x_image, y_row = y_image += run.y_image;
      }
      xp = x_row, yp = y_row;
    }
    prefetch_step(run.ahead);
    (b < larger ? large_fn : small_fn)(x, w, red, y, out);
  }
}

// correlate_channels computes a block of output channels for a walk, cutting the reduction into parts.
static void correlate_channels(const pixel_run &run, int vectors, const float *w, const reduction &whole,
                               block_output out) {
  index_t limit = reduction_cells / (vectors * VW * whole.cols);
  index_t len = min_index(whole.len, max_index(limit, 1));
  index_t rows = min_index(max_index(limit / whole.len, 1), whole.rows);
  bool relu = out.relu;
  for (index_t r = 0; r < whole.rows; r += rows) {
    for (index_t i = 0; i < whole.len; i += len) {
      reduction part = whole;
      part.rows = min_index(rows, whole.rows - r), part.len = min_index(len, whole.len - i);
      bool first = r == 0 && i == 0, last = r + rows >= whole.rows && i + len >= whole.len;
      pixel_run at = run;
      at.x += r * whole.src_row + i;
      out.relu = relu && last;
      correlate_pixels(at, vectors, w + r * whole.w_row + i * vectors * VW, part, out);
      if (first) out.add = true, out.bias = NULL;
    }
  }
}

// correlate_phase computes the outputs of a phase that has taps in a tile. `out` holds what to do with
// the sums.
static void correlate_phase(const correlation &c, const phase &ph, const window_tile &tile, const float *weights,
                            float *y, block_output out, prefetch_range *ahead) {
  index_t row0 = max_index(ph.first_h, tile.row0), row1 = min_index(ph.last_h, tile.row0 + tile.rows);
  if (row0 >= row1 || ph.first_w >= ph.last_w) return;
  const sliding_window &v = c.window;
  pixel_run run = {};
  run.ahead = ahead;
  run.images = tile.images, run.rows = row1 - row0, run.cols = ph.last_w - ph.first_w;
  run.x_image = tile.image, run.x_row = tile.row * v.step_h, run.x_pixel = tile.pixel * v.step_w;
  run.y_pixel = c.out_step_w * c.out_c, run.y_row = c.out_step_h * c.out_w * c.out_c;
  run.y_image = c.out_h * c.out_w * c.out_c;
  const float *x = tile.at + (row0 - tile.row0) * run.x_row + ph.first_w * run.x_pixel + ph.skip_h * tile.row +
                   ph.skip_w * tile.pixel;
  y += tile.n0 * run.y_image + (ph.origin_h + row0 * c.out_step_h) * c.out_w * c.out_c +
       (ph.origin_w + ph.first_w * c.out_step_w) * c.out_c;
  const float *bias = out.bias;
  bool one_run = c.groups == 1; // a filter row's taps are contiguous
  for (index_t g = 0; g < c.groups; g++) {
    const float *w = weights + ph.weights + g * group_weight_cells(c, ph.taps_h * ph.taps_w);
    for (index_t k = 0; k < c.out_channels; k += max_vectors * VW) {
      index_t lanes = min_index(c.out_channels - k, max_vectors * VW);
      int vectors = lanes > VW ? 2 : 1;
      index_t channels = g * c.out_channels + k, width = vectors * VW;
      reduction red = {ph.taps_h, one_run ? 1 : ph.taps_w, one_run ? ph.taps_w * c.in_channels : c.in_channels,
                       tile.row,  tile.pixel, ph.taps_w * c.in_channels * width, c.in_channels * width, c.pairs};
      run.x = x + g * c.in_channels;
      run.y = y + channels;
      out.lanes = (int)lanes;
      out.bias = bias ? bias + channels : NULL;
      correlate_channels(run, vectors, w + k * ph.taps_h * ph.taps_w * c.in_channels, red, out);
    }
  }
}

// ---- rounded factors: see conv2d_round.h

// use_pairs makes a correlation one of pairs of channels, unless it is depthwise.
static void use_pairs(correlation *c) {
  if (c->depthwise) return;
  c->in_channels = ceil_div(c->in_channels, 2);
  c->pairs = true;
}

// narrow_weights rounds a phase's packed weights in place. c has in_channels as they were packed.
static void narrow_weights(const conv_shape &s, const correlation &c, index_t taps, float *packed) {
  if (!pairs(s) || c.depthwise) return round_cells(packed, c.groups * group_weight_cells(c, taps), s.precision);
  float *to = packed;
  for (index_t g = 0; g < c.groups; g++) {
    for (index_t k = 0; k < c.out_channels; k += max_vectors * VW) {
      index_t width = round_up(min_index(c.out_channels - k, max_vectors * VW), VW);
      for (index_t t = 0; t < taps; t++, packed += c.in_channels * width, to += ceil_div(c.in_channels, 2) * width)
        pair_rows(packed, c.in_channels, width, to);
    }
  }
}

// narrow_tile rounds a tile's window in its buffer.
static void narrow_tile(const conv_shape &s, const correlation &c, window_tile *tile, float *buffer) {
  if (!pairs(s) || c.depthwise) return round_cells(buffer, tile->images * tile->image, s.precision);
  index_t pixels = tile->images * tile->image / tile->pixel, pixel = c.groups * ceil_div(c.in_channels, 2);
  pair_channels(buffer, pixels, c.groups, c.in_channels);
  tile->image = tile->image / tile->pixel * pixel, tile->row = tile->row / tile->pixel * pixel, tile->pixel = pixel;
}
