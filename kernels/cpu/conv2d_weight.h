// conv2d_weight.h: the convolution's gradients to its weights and bias.
//
// The register block is E neighbouring elements of a filter (taps and input channels) by NV vectors of
// output channels. It walks over a tile's pixels: per pixel NV loads of dy, E broadcasts of x and E NV
// multiply-adds. Between tiles the sums rest in packed accumulators, which are added to dw at the end;
// so a weight is a sum of sums, which also keeps the rounding error small.

// A walk over a tile's pixels: images x rows x cols, with the distances in x and dy.
struct weight_walk {
  index_t images, rows, cols;
  index_t x_image, x_row, x_pixel, y_image, y_row, y_pixel;
  bool odd = false; // pairs of pixels: a single pixel follows each row's pairs
};

typedef void (*weight_fn)(const float *x, const float *dy, const weight_walk &walk, float *sums);

// weight_step adds the products of one pixel, or of one pair of pixels.
template <int E, int NV, bool Pairs>
BS_INLINE void weight_step(const float *x, const float *dy, int32_t mask, vf (&acc)[E][NV]) {
  vf d[NV];
#pragma GCC unroll 2
  for (int v = 0; v < NV; v++) d[v] = load(dy + v * VW);
#pragma GCC unroll 16
  for (int e = 0; e < E; e++) {
    vf a = broadcast<Pairs>(x + e, mask);
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) acc[e][v] = multiply_add<Pairs>(a, d[v], acc[e][v]);
  }
}

template <int E, int NV, bool Pairs>
static void weight_block(const float *x, const float *dy, const weight_walk &walk, float *sums) {
  vf acc[E][NV];
#pragma GCC unroll 16
  for (int e = 0; e < E; e++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) acc[e][v] = load(sums + (e * NV + v) * VW);
  const index_t x_pixel = walk.x_pixel, y_pixel = walk.y_pixel;
  for (index_t n = 0; n < walk.images; n++) {
    for (index_t row = 0; row < walk.rows; row++) {
      const float *xp = x + n * walk.x_image + row * walk.x_row;
      const float *yp = dy + n * walk.y_image + row * walk.y_row;
      for (index_t col = 0; col < walk.cols; col++, xp += x_pixel, yp += y_pixel)
        weight_step<E, NV, Pairs>(xp, yp, -1, acc);
      if (Pairs && walk.odd) weight_step<E, NV, Pairs>(xp, yp, 0xffff, acc);
    }
  }
#pragma GCC unroll 16
  for (int e = 0; e < E; e++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) store(sums + (e * NV + v) * VW, acc[e][v]);
}

template <int E, int NV, bool Pairs> static weight_fn weight_block_of(int elements) {
  if constexpr (E > 1) {
    if (elements < E) return weight_block_of<E - 1, NV, Pairs>(elements);
  }
  return weight_block<E, NV, Pairs>;
}

template <bool Pairs> static weight_fn weight_block_for(int elements, int vectors) {
  return vectors == 1 ? weight_block_of<narrow_block, 1, Pairs>(elements)
                      : weight_block_of<wide_block, 2, Pairs>(elements);
}
static weight_fn choose_weight(int elements, int vectors, bool pairs = false) {
  if (bf16_pairs && pairs) return weight_block_for<bf16_pairs>(elements, vectors);
  return weight_block_for<false>(elements, vectors);
}

// The plan of a weight gradient. Packed sums: [group][block of channels][tap][input channel][lane], as
// packed weights. A block of dy's channels is copied into a panel, zero-padded, where its last vector is
// not full or its pixels lie badly in cache.
struct weight_plan {
  conv_shape shape;
  sliding_window window;
  tiling tiles;
  index_t in_channels, out_channels, taps;           // per group
  bool one_run, panel; // a filter row is one run in the window; dy is always copied into a panel
  index_t sum_cells, bias_cells, panel_cells, cells; // cells: the whole workspace
};

// Pixels a multiple of this many cells apart share few of the L1 cache's sets. A walk over pixels that
// reads a line of each would evict its own lines.
enum { conflict_cells = 128 };

// Aims for tiles: x in the L1 cache where the sums are few; larger tiles where they have to come from
// outer caches each time.
enum { weight_tile_cells = 4096, weight_tile_pixels = 64, weight_large_sums = 131072, weight_large_pixels = 128 };

static weight_plan make_weight_plan(const conv_shape &s) {
  weight_plan p = {};
  p.shape = s, p.window = forward_window(s);
  p.in_channels = s.c / s.groups, p.out_channels = s.k / s.groups, p.taps = s.r * s.s;
  p.sum_cells = line_up(s.groups * p.taps * p.in_channels * round_up(p.out_channels, VW));
  p.bias_cells = line_up(round_up(s.k, VW));
  if (s.c % conflict_cells == 0) p.window.pitch = s.c + line_cells, p.window.direct = false;
  p.one_run = s.groups == 1 && p.window.pitch == s.c;
  p.panel = s.bf16 || s.k % conflict_cells == 0;
  p.tiles = make_tiling(p.window, weight_tile_cells,
                        p.sum_cells > weight_large_sums ? weight_large_pixels : weight_tile_pixels);
  if (p.panel || p.out_channels % VW) p.panel_cells = line_up(p.tiles.images * p.tiles.rows * s.ow * max_vectors * VW);
  p.cells = p.sum_cells + p.bias_cells + p.panel_cells + buffer_cells(p.window, p.tiles) + line_cells;
  return p;
}

// join_rows makes the rows part of the columns, and the images rows, where the pixels of neighbouring
// rows follow one another at an even distance.
static bool join_rows(weight_walk *w) {
  bool even = w->x_row == w->cols * w->x_pixel && w->y_row == w->cols * w->y_pixel;
  if (w->rows > 1 && w->cols > 1 && !even) return false;
  if (w->cols == 1) w->x_pixel = w->x_row, w->y_pixel = w->y_row;
  w->cols *= w->rows, w->rows = w->images, w->images = 1;
  w->x_row = w->x_image, w->y_row = w->y_image;
  return true;
}

// pack_panel copies `lanes` channels of a tile's pixels of dy, zero-padded to `width`.
static void pack_panel(const float *dy, index_t pixels, index_t pixel, int lanes, int width, float *panel) {
  for (index_t i = 0; i < pixels; i++, dy += pixel, panel += width)
    for (int v = 0; v < width; v += VW) store(panel + v, load_partial(dy + v, lanes - v));
}

// weight_channels adds a tile's products with one block of output channels to the sums.
static void weight_channels(const weight_plan &p, const window_tile &tile, const float *x, const float *dy,
                            const weight_walk &walk, int vectors, float *sums) {
  index_t runs = p.one_run ? 1 : p.shape.s, len = p.one_run ? p.shape.s * p.in_channels : p.in_channels;
  index_t blocks = ceil_div(len, block_size(vectors)), small = len / blocks, larger = len % blocks;
  bool pairs = p.shape.bf16 && bf16_pairs;
  weight_fn small_fn = choose_weight((int)small, vectors, pairs);
  weight_fn large_fn = choose_weight((int)small + 1, vectors, pairs);
  for (index_t r = 0; r < p.shape.r; r++) {
    for (index_t s = 0; s < runs; s++) {
      const float *at = x + r * tile.row + s * tile.pixel;
      for (index_t b = 0; b < blocks; b++) {
        index_t size = small + (b < larger);
        (b < larger ? large_fn : small_fn)(at, dy, walk, sums);
        at += size, sums += size * vectors * VW;
      }
    }
  }
}

// walk_tile is the walk over a tile's pixels, the rows joined as far as they are even.
static weight_walk walk_tile(const weight_plan &p, const window_tile &tile, index_t y_pixel) {
  const conv_shape &s = p.shape;
  weight_walk w = {};
  w.images = tile.images, w.rows = tile.rows, w.cols = s.ow;
  w.x_image = tile.image, w.x_row = tile.row * s.stride_h, w.x_pixel = tile.pixel * s.stride_w;
  w.y_pixel = y_pixel, w.y_row = s.ow * y_pixel, w.y_image = tile.rows * w.y_row;
  if (join_rows(&w)) join_rows(&w);
  return w;
}

// narrow_window rounds a tile's window in its buffer; pairs are of neighbours in the walk.
static void narrow_window(const weight_plan &p, const window_tile &tile, float *buffer) {
  if (!bf16_pairs) return round_cells(buffer, tile.images * tile.image);
  pair_pixels(buffer, tile.images * tile.image, walk_tile(p, tile, p.shape.k).x_pixel);
}

// narrow_panel packs rounded channels of dy, and returns the walk over the panel.
static weight_walk narrow_panel(weight_walk w, const float *dy, index_t pixel, int lanes, int width, float *panel) {
  if (!bf16_pairs) {
    pack_panel(dy, w.images * w.rows * w.cols, pixel, lanes, width, panel);
    round_cells(panel, w.images * w.rows * w.cols * width);
    return w;
  }
  pair_panel(dy, w.images * w.rows, w.cols, pixel, lanes, width, panel);
  w.y_row = ceil_div(w.cols, 2) * width, w.y_image = w.rows * w.y_row;
  w.odd = w.cols % 2 != 0, w.cols /= 2, w.x_pixel *= 2;
  return w;
}

// weight_tile adds a tile's products to all sums. dy points to the tile's first pixel.
static void weight_tile(const weight_plan &p, const window_tile &tile, const float *dy, float *panel, float *sums) {
  const conv_shape &s = p.shape;
  index_t pixels = tile.images * tile.rows * s.ow;
  for (index_t g = 0; g < s.groups; g++) {
    for (index_t k = 0; k < p.out_channels; k += max_vectors * VW) {
      int lanes = (int)min_index(p.out_channels - k, max_vectors * VW), vectors = lanes > VW ? 2 : 1;
      const float *from = dy + g * p.out_channels + k;
      bool packed = p.panel || lanes % VW;
      weight_walk walk = walk_tile(p, tile, packed ? vectors * VW : s.k);
      if (s.bf16) walk = narrow_panel(walk, from, s.k, lanes, vectors * VW, panel);
      else if (packed) pack_panel(from, pixels, s.k, lanes, vectors * VW, panel);
      weight_channels(p, tile, tile.at + g * p.in_channels, packed ? panel : from, walk, vectors, sums);
      sums += p.taps * p.in_channels * vectors * VW;
    }
  }
}

// bias_tile adds a tile's sum of dy over its pixels, in four interleaved parts, to `sums`.
static void bias_tile(const float *dy, index_t pixels, index_t channels, float *sums) {
  for (index_t k = 0; k < channels; k += VW) {
    int lanes = (int)min_index(channels - k, VW);
    const float *p = dy + k;
    vf part[4] = {};
    index_t i = 0;
    for (; i + 4 <= pixels; i += 4, p += 4 * channels)
      for (int j = 0; j < 4; j++) part[j] += load_partial(p + j * channels, lanes);
    for (; i < pixels; i++, p += channels) part[0] += load_partial(p, lanes);
    store(sums + k, load(sums + k) + ((part[0] + part[1]) + (part[2] + part[3])));
  }
}

// add_sums adds the packed sums to dw [k][r][s][c/groups].
static void add_sums(const weight_plan &p, const float *sums, float *dw) {
  index_t elements = p.taps * p.in_channels;
  for (index_t g = 0; g < p.shape.groups; g++) {
    for (index_t k = 0; k < p.out_channels; k += max_vectors * VW) {
      index_t lanes = min_index(p.out_channels - k, max_vectors * VW), width = lanes > VW ? 2 * VW : VW;
      for (index_t l = 0; l < lanes; l++, dw += elements)
        for (index_t e = 0; e < elements; e++) dw[e] += sums[e * width + l];
      sums += elements * width;
    }
  }
}

// weight_gradient adds to dw and, where it is not NULL, to dbias.
static void weight_gradient(const weight_plan &p, const float *x, const float *dy, float *dw, float *dbias,
                            float *work) {
  float *sums = work, *bias = sums + p.sum_cells, *panel = bias + p.bias_cells, *buffer = panel + p.panel_cells;
  memset(sums, 0, sizeof(float) * (p.sum_cells + p.bias_cells));
  const conv_shape &s = p.shape;
  for (index_t n0 = 0; n0 < s.n; n0 += p.tiles.images) {
    for (index_t row0 = 0; row0 < s.oh; row0 += p.tiles.rows) {
      window_tile tile = open_tile(p.window, p.tiles, n0, row0, x, buffer);
      if (s.bf16) narrow_window(p, tile, buffer);
      const float *dy_tile = dy + (n0 * s.oh + row0) * s.ow * s.k;
      weight_tile(p, tile, dy_tile, panel, sums);
      if (dbias) bias_tile(dy_tile, tile.images * tile.rows * s.ow, s.k, bias);
    }
  }
  add_sums(p, sums, dw);
  if (!dbias) return;
  for (index_t k = 0; k < s.k; k++) dbias[k] += bias[k];
}
