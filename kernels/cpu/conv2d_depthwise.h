// conv2d_depthwise.h: depthwise convolutions, one filter for each channel (groups = c = k).
//
// With one channel in and one out, a group would use one lane of a vector. Here the lanes are the
// channels themselves: a step multiplies neighbouring channels of a pixel by those of a tap, without
// broadcasts. It is bound by one load per multiply-add. Factors may be rounded but are never paired.

static bool depthwise(const conv_shape &s) { return s.groups == s.c && s.c == s.k && s.groups > 1; }

// Aim for tiles: a window in the L1 cache, for its cells are read once for every tap.
enum { depthwise_tile_cells = 4096, depthwise_tile_pixels = 16 };

// use_channels makes pixels of a window whole vectors: the kernels read no part of one.
static void use_channels(sliding_window *v) {
  if (v->c % VW == 0) return;
  v->pitch = round_up(v->c, VW);
  v->direct = false;
}

// use_depthwise makes a correlation one of channels as lanes. Its packed weights are [tap][channel].
static void use_depthwise(correlation *c) {
  use_channels(&c->window);
  c->tiles = make_tiling(c->window, depthwise_tile_cells, depthwise_tile_pixels);
  c->depthwise = true;
  c->groups = c->in_channels = 1, c->out_channels = c->out_c;
}

// pack_depthwise_taps packs a phase's taps in reverse order.
static void pack_depthwise_taps(const conv_shape &s, const phase &ph, index_t a, index_t b, const float *w,
                                float *packed) {
  index_t width = round_up(s.c, VW);
  memset(packed, 0, sizeof(float) * ph.taps_h * ph.taps_w * width);
  for (index_t i = ph.taps_h; i-- > 0;) {
    for (index_t j = ph.taps_w; j-- > 0; packed += width) {
      const float *tap = w + (a + s.stride_h * i) * s.s + b + s.stride_w * j;
      for (index_t c = 0; c < s.c; c++) packed[c] = tap[c * s.r * s.s];
    }
  }
}

// A row of pixels of a phase: taps_h x taps_w taps, with the distances in the window, the packed weights
// and the output.
struct depthwise_row {
  index_t taps_h, taps_w, x_row, x_tap, x_pixel, width, y_pixel;
};

// depthwise_pixels computes P pixels of all channels.
template <int P>
static void depthwise_pixels(const float *x, const float *w, const depthwise_row &row, float *y, index_t channels,
                             const block_output &out) {
  for (index_t c = 0; c < channels; c += VW) {
    int lanes = (int)min_index(channels - c, VW);
    vf acc[P][1], start = out.bias ? load_partial(out.bias + c, lanes) : zero();
    float *to[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) acc[p][0] = start, to[p] = y + p * row.y_pixel + c;
    const float *wp = w + c;
    for (index_t r = 0; r < row.taps_h; r++) {
      const float *xp = x + r * row.x_row + c;
      for (index_t s = 0; s < row.taps_w; s++, xp += row.x_tap, wp += row.width) {
        vf b = load(wp);
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) acc[p][0] = fmadd(load(xp + p * row.x_pixel), b, acc[p][0]);
      }
    }
    block_output part = {lanes, out.add, out.relu, NULL};
    finish_block<P, 1>(acc, to, part);
  }
}

typedef void (*depthwise_fn)(const float *x, const float *w, const depthwise_row &row, float *y, index_t channels,
                             const block_output &out);
enum { depthwise_block = 8 };

template <int P> static depthwise_fn depthwise_pixels_of(index_t pixels) {
  if constexpr (P > 1) {
    if (pixels < P) return depthwise_pixels_of<P - 1>(pixels);
  }
  return depthwise_pixels<P>;
}

// depthwise_phase computes the outputs of a phase that has taps in a tile, as correlate_phase.
static void depthwise_phase(const correlation &c, const phase &ph, const window_tile &tile, const float *weights,
                            float *y, block_output out, prefetch_range *ahead) {
  index_t row0 = max_index(ph.first_h, tile.row0), row1 = min_index(ph.last_h, tile.row0 + tile.rows);
  index_t cols = ph.last_w - ph.first_w;
  if (row0 >= row1 || cols <= 0) return;
  const sliding_window &v = c.window;
  depthwise_row row = {ph.taps_h, ph.taps_w, tile.row, tile.pixel, tile.pixel * v.step_w, round_up(c.out_c, VW),
                       c.out_step_w * c.out_c};
  index_t blocks = ceil_div(cols, depthwise_block), small = cols / blocks, larger = cols % blocks;
  depthwise_fn small_fn = depthwise_pixels_of<depthwise_block>(small);
  depthwise_fn large_fn = depthwise_pixels_of<depthwise_block>(small + 1);
  for (index_t n = 0; n < tile.images; n++) {
    for (index_t i = row0; i < row1; i++) {
      const float *xp = tile.at + n * tile.image + ((i - tile.row0) * v.step_h + ph.skip_h) * tile.row +
                        (ph.first_w * v.step_w + ph.skip_w) * tile.pixel;
      float *yp = y + (((tile.n0 + n) * c.out_h + ph.origin_h + i * c.out_step_h) * c.out_w + ph.origin_w +
                       ph.first_w * c.out_step_w) * c.out_c;
      for (index_t b = 0; b < blocks; b++) {
        index_t size = small + (b < larger);
        prefetch_step(ahead);
        (b < larger ? large_fn : small_fn)(xp, weights + ph.weights, row, yp, c.out_c, out);
        xp += size * row.x_pixel, yp += size * row.y_pixel;
      }
    }
  }
}

// ---- gradient to the weights

// The plan of a depthwise weight gradient: sums are [tap][channel] in whole vectors.
struct depthwise_plan {
  conv_shape shape;
  sliding_window window;
  tiling tiles;
  index_t width, parts, sum_cells, bias_cells, cells; // parts of the sums, as in conv2d_weight.h
};

static depthwise_plan make_depthwise_plan(const conv_shape &s) {
  depthwise_plan p = {};
  p.shape = s, p.window = forward_window(s);
  use_channels(&p.window);
  p.tiles = make_tiling(p.window, depthwise_tile_cells, depthwise_tile_pixels);
  p.width = round_up(s.c, VW);
  p.sum_cells = line_up(s.r * s.s * p.width);
  p.bias_cells = line_up(p.width);
  p.parts = sum_parts(p.sum_cells, s.n * s.oh * s.ow, tile_count(p.window, p.tiles));
  p.cells = p.parts * (p.sum_cells + p.bias_cells) + buffer_cells(p.window, p.tiles) + line_cells;
  return p;
}

// depthwise_taps adds a tile's products of H x W taps with one vector of channels to the sums. x points to
// the first tap of the tile's first position, dy to its first pixel.
template <int H, int W>
static void depthwise_taps(const depthwise_plan &p, const window_tile &tile, const float *x, const float *dy, int lanes,
                           float *sums) {
  const conv_shape &s = p.shape;
  const index_t x_pixel = tile.pixel, x_step = tile.pixel * p.window.step_w, x_row = tile.row;
  vf acc[H][W];
#pragma GCC unroll 8
  for (int h = 0; h < H; h++)
#pragma GCC unroll 8
    for (int w = 0; w < W; w++) acc[h][w] = load(sums + (h * s.s + w) * p.width);
  for (index_t n = 0; n < tile.images; n++) {
    for (index_t i = 0; i < tile.rows; i++) {
      const float *xp = x + n * tile.image + i * p.window.step_h * x_row;
      const float *yp = dy + (n * tile.rows + i) * s.ow * s.c;
      for (index_t j = 0; j < s.ow; j++, xp += x_step, yp += s.c) {
        vf d = load_partial(yp, lanes);
        if (rounds(s)) d = round_factor(d, s.precision);
#pragma GCC unroll 8
        for (int h = 0; h < H; h++)
#pragma GCC unroll 8
          for (int w = 0; w < W; w++) acc[h][w] = fmadd(load(xp + h * x_row + w * x_pixel), d, acc[h][w]);
      }
    }
  }
#pragma GCC unroll 8
  for (int h = 0; h < H; h++)
#pragma GCC unroll 8
    for (int w = 0; w < W; w++) store(sums + (h * s.s + w) * p.width, acc[h][w]);
}

typedef void (*depthwise_taps_fn)(const depthwise_plan &p, const window_tile &tile, const float *x, const float *dy,
                                  int lanes, float *sums);

// Taps of a block: three rows of at most three keep nine sums in flight, else a part of one row.
enum { depthwise_rows = 3, depthwise_short = 3, depthwise_long = 7 };

template <int H, int W> static depthwise_taps_fn depthwise_taps_of(index_t taps) {
  if constexpr (W > 1) {
    if (taps < W) return depthwise_taps_of<H, W - 1>(taps);
  }
  return depthwise_taps<H, W>;
}

// depthwise_tile adds a tile's products to all sums.
static void depthwise_tile(const depthwise_plan &p, const window_tile &tile, const float *dy, float *sums) {
  const conv_shape &s = p.shape;
  bool small = s.s <= depthwise_short;
  for (index_t c = 0; c < s.c; c += VW) {
    int lanes = (int)min_index(s.c - c, VW);
    for (index_t r = 0; r < s.r;) {
      index_t rows = small && s.r - r >= depthwise_rows ? depthwise_rows : 1;
      for (index_t t = 0; t < s.s;) {
        index_t taps = min_index(s.s - t, depthwise_long);
        depthwise_taps_fn fn = rows == 1 ? depthwise_taps_of<1, depthwise_long>(taps)
                                         : depthwise_taps_of<depthwise_rows, depthwise_short>(taps);
        fn(p, tile, tile.at + r * tile.row + t * tile.pixel + c, dy + c, lanes, sums + (r * s.s + t) * p.width + c);
        t += taps;
      }
      r += rows;
    }
  }
}

// depthwise_tiles sets a part of the sums and, where it is not NULL, of the bias's, to those over a run of tiles.
static void depthwise_tiles(const depthwise_plan &p, range tiles, const float *x, const float *dy, float *sums,
                            float *bias, float *buffer) {
  const conv_shape &s = p.shape;
  memset(sums, 0, sizeof(float) * p.sum_cells);
  if (bias) memset(bias, 0, sizeof(float) * p.bias_cells);
  for (index_t i = tiles.first; i < tiles.end; i++) {
    index_t n0, row0;
    tile_origin(p.window, p.tiles, i, &n0, &row0);
    window_tile tile = open_tile(p.window, p.tiles, n0, row0, x, buffer);
    if (rounds(s)) round_cells(buffer, tile.images * tile.image, s.precision);
    const float *dy_tile = dy + (n0 * s.oh + row0) * s.ow * s.k;
    depthwise_tile(p, tile, dy_tile, sums);
    if (bias) bias_tile(dy_tile, tile.images * tile.rows * s.ow, s.k, bias);
  }
}

// depthwise_weight_gradient adds to dw and, where it is not NULL, to dbias.
static void depthwise_weight_gradient(const bs_cpu_member &m, const depthwise_plan &p, const float *x, const float *dy,
                                      float *dw, float *dbias, float *work) {
  const conv_shape &s = p.shape;
  float *sums = work, *bias = sums + p.parts * p.sum_cells, *buffer = own_cells(m, bias + p.parts * p.bias_cells);
  range mine = share_of(m, p.parts);
  for (index_t i = mine.first; i < mine.end; i++)
    depthwise_tiles(p, part_of(tile_count(p.window, p.tiles), i, p.parts), x, dy, sums + i * p.sum_cells,
                    dbias ? bias + i * p.bias_cells : NULL, buffer);
  meet(m);
  add_parts(m, p.parts, p.sum_cells, sums);
  if (m.index == 0) add_transposed(sums, p.width, s.r * s.s, s.c, s.r * s.s, dw);
  add_bias(m, p.parts, p.bias_cells, bias, s.k, dbias);
}
