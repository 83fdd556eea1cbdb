// conv2d_weight.h: the convolution's gradients to its weights and bias.
//
// The register block is E neighbouring elements of a filter (taps and input channels) by NV vectors of
// output channels. It walks over a tile's pixels: per pixel NV loads of dy, E broadcasts of x and E NV
// multiply-adds. Between tiles the sums rest in packed accumulators, which are added to dw at the end;
// so a weight is a sum of sums, which also keeps the rounding error small.
//
// Small sums are kept in several parts, each over its own run of tiles, which the members of a team share; how
// many depends on the shape alone. Large sums would take long to add, and lie in the caches of the members: they
// share the blocks of output channels instead.

// A walk over a tile's pixels: images x rows x cols, with the distances in x and dy.
struct weight_walk {
  index_t images, rows, cols;
  index_t x_image, x_row, x_pixel, y_image, y_row, y_pixel;
  bool odd = false;   // pairs of pixels: a single pixel follows each row's pairs
  bool fresh = false; // the sums hold nothing yet
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
  vf acc[E][NV] = {};
  if (!walk.fresh) {
#pragma GCC unroll 16
    for (int e = 0; e < E; e++)
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) acc[e][v] = load(sums + (e * NV + v) * VW);
  }
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

// Sums of at most part_cells cells have up to max_parts parts, of at least part_pixels pixels each: adding up a
// part then costs no more than a hundredth of computing it.
enum { max_parts = 8, part_cells = 131072, part_pixels = 1024 };

// sum_parts is the number of parts of sums over so many pixels, which fall into so many tiles.
BS_INLINE index_t sum_parts(index_t cells, index_t pixels, index_t tiles) {
  if (cells > part_cells) return 1;
  return max_index(min_index(min_index(pixels / part_pixels, max_parts), tiles), 1);
}

// add_parts adds a member's share of the other parts' cells to the first part's. All parts must be complete, and
// the result may be read by all when it returns.
static void add_parts(const bs_cpu_member &m, index_t parts, index_t cells, float *sums) {
  if (parts == 1) return;
  each(share_cells(m, cells), [=](auto lanes, int64_t i) {
    vf total = get(sums + i, lanes);
    for (index_t part = 1; part < parts; part++) total += get(sums + part * cells + i, lanes);
    put(sums + i, total, lanes);
  });
  meet(m);
}

// The plan of a weight gradient. Packed sums: [group][block of channels][tap][input channel][lane], as
// packed weights. A tile's window holds at most window.c input channels at a time. A block of dy's
// channels is copied into a panel, zero-padded, where its last vector is not full or its pixels lie
// badly in cache.
struct weight_plan {
  conv_shape shape;
  sliding_window window;
  tiling tiles;
  index_t in_channels, out_channels, taps;           // per group
  bool one_run, panel; // a filter row is one run in the window; dy is always copied into a panel
  index_t blocks, parts;                             // blocks of output channels of all groups; parts of the sums
  index_t sum_cells, bias_cells, panel_cells, cells; // of one part; cells: the whole workspace
};

// Pixels a multiple of this many cells apart share few of the L1 cache's sets. A walk over pixels that
// reads a line of each would evict its own lines.
enum { conflict_cells = 128 };

// Aims for tiles of few channels: a window in the L1 cache.
enum { weight_tile_cells = 4096, weight_tile_pixels = 64 };

// With many channels the sums come from outer caches for every tile, so a tile has more pixels: as many as
// leave a line of each of them, and of dy's panel, in the L1 cache. The window is copied in blocks of
// channels that fill register blocks and leave room in the L2 cache.
// With few outputs that copy would not pay.
enum { weight_wide_channels = 128, weight_wide_outputs = 32, weight_wide_pixels = 128 };
enum { weight_pixel_block = 384, weight_filter_block = 96 };

// choose_window decides how many channels a window holds, and where its pixels lie. An odd number of lines
// between copied pixels uses all sets of the cache.
static void choose_window(weight_plan *p) {
  sliding_window &v = p->window;
  if (p->shape.groups == 1 && v.c >= weight_wide_channels && p->out_channels >= weight_wide_outputs) {
    v.c = min_index(v.c, p->taps == 1 ? weight_pixel_block : weight_filter_block);
    v.pitch = (line_up(v.c) / line_cells | 1) * line_cells;
    v.direct = false;
    p->tiles = make_tiling(v, 0, weight_wide_pixels);
    return;
  }
  if (!v.direct && v.c % conflict_cells == 0) v.pitch = v.c + line_cells;
  index_t skipped = v.direct ? v.pixel / v.c : 1; // what lies between pixels takes part of the sets too
  p->tiles = make_tiling(v, weight_tile_cells / skipped, weight_tile_pixels);
}

static weight_plan make_weight_plan(const conv_shape &s) {
  weight_plan p = {};
  p.shape = s, p.window = forward_window(s);
  p.in_channels = s.c / s.groups, p.out_channels = s.k / s.groups, p.taps = s.r * s.s;
  p.sum_cells = line_up(s.groups * p.taps * p.in_channels * round_up(p.out_channels, VW));
  p.bias_cells = line_up(round_up(s.k, VW));
  choose_window(&p);
  index_t pixel = p.window.direct ? p.window.pixel : p.window.pitch;
  p.one_run = s.groups == 1 && p.window.c == s.c && pixel == s.c;
  p.panel = rounds(s) || s.k % conflict_cells == 0;
  if (p.panel || p.out_channels % VW) p.panel_cells = line_up(p.tiles.images * p.tiles.rows * s.ow * max_vectors * VW);
  p.blocks = s.groups * ceil_div(p.out_channels, max_vectors * VW);
  p.parts = sum_parts(p.sum_cells, s.n * s.oh * s.ow, tile_count(p.window, p.tiles));
  p.cells = p.parts * (p.sum_cells + p.bias_cells) + p.panel_cells + buffer_cells(p.window, p.tiles) + line_cells;
  return p;
}

// A block of output channels: `lanes` of them from channel `first` of group `group` on, and where their packed
// sums lie.
struct weight_channel_block {
  index_t group, first, lanes, sums;
};

BS_INLINE weight_channel_block block_at(const weight_plan &p, index_t i) {
  index_t blocks = p.blocks / p.shape.groups, g = i / blocks, k = i % blocks * max_vectors * VW;
  return {g, k, min_index(p.out_channels - k, max_vectors * VW),
          (g * round_up(p.out_channels, VW) + k) * p.taps * p.in_channels};
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

// What the next tile reads.
struct weight_prefetch {
  prefetch_range x, dy;
};

// What is added to the sums at a time: input channels [first, first + count) of every tap, or all of them.
struct weight_part {
  index_t first, count;
  bool fresh; // the first tile's
  weight_prefetch *ahead;
};

// weight_channels adds a tile's products with one block of output channels to the sums.
static void weight_channels(const weight_plan &p, const window_tile &tile, const weight_part &part, const float *x,
                            const float *dy, const weight_walk &walk, int vectors, float *sums) {
  index_t runs = p.one_run ? 1 : p.shape.s, len = p.one_run ? p.shape.s * p.in_channels : part.count;
  index_t blocks = ceil_div(len, block_size(vectors)), small = len / blocks, larger = len % blocks;
  index_t width = vectors * VW, run_cells = p.shape.s / runs * p.in_channels * width;
  weight_fn small_fn = choose_weight((int)small, vectors, pairs(p.shape));
  weight_fn large_fn = choose_weight((int)small + 1, vectors, pairs(p.shape));
  sums += part.first * width;
  for (index_t r = 0; r < p.shape.r; r++) {
    for (index_t s = 0; s < runs; s++, sums += run_cells) {
      const float *at = x + r * tile.row + s * tile.pixel;
      float *to = sums;
      for (index_t b = 0; b < blocks; b++) {
        index_t size = small + (b < larger);
        prefetch_step(&part.ahead->x);
        prefetch_step(&part.ahead->dy);
        (b < larger ? large_fn : small_fn)(at, dy, walk, to);
        at += size, to += size * width;
      }
    }
  }
}

// walk_tile is the walk over a tile's pixels, the rows joined as far as they are even.
static weight_walk walk_tile(const weight_plan &p, const window_tile &tile, index_t y_pixel) {
  const conv_shape &s = p.shape;
  weight_walk w = {};
  w.images = tile.images, w.rows = tile.rows, w.cols = s.ow;
  w.x_image = tile.image, w.x_row = tile.row * p.window.step_h, w.x_pixel = tile.pixel * p.window.step_w;
  w.y_pixel = y_pixel, w.y_row = s.ow * y_pixel, w.y_image = tile.rows * w.y_row;
  if (join_rows(&w)) join_rows(&w);
  return w;
}

// narrow_window rounds a tile's window in its buffer; pairs are of neighbours in the walk.
static void narrow_window(const weight_plan &p, const window_tile &tile, float *buffer) {
  if (!pairs(p.shape)) return round_cells(buffer, tile.images * tile.image, p.shape.precision);
  pair_pixels(buffer, tile.images * tile.image, walk_tile(p, tile, p.shape.k).x_pixel);
}

// narrow_panel packs rounded channels of dy, and returns the walk over the panel.
static weight_walk narrow_panel(const conv_shape &s, weight_walk w, const float *dy, int lanes, int width,
                                float *panel) {
  if (!pairs(s)) {
    pack_lanes(dy, s.k, w.images * w.rows * w.cols, lanes, width, panel);
    round_cells(panel, w.images * w.rows * w.cols * width, s.precision);
    return w;
  }
  pair_panel(dy, w.images * w.rows, w.cols, s.k, lanes, width, panel);
  w.y_row = ceil_div(w.cols, 2) * width, w.y_image = w.rows * w.y_row;
  w.odd = w.cols % 2 != 0, w.cols /= 2, w.x_pixel *= 2;
  return w;
}

// weight_tile adds a tile's products to the sums of the blocks of output channels. dy points to the tile's first
// pixel.
static void weight_tile(const weight_plan &p, const window_tile &tile, const weight_part &part, range blocks,
                        const float *dy, float *panel, float *sums) {
  const conv_shape &s = p.shape;
  index_t pixels = tile.images * tile.rows * s.ow;
  for (index_t i = blocks.first; i < blocks.end; i++) {
    weight_channel_block b = block_at(p, i);
    int lanes = (int)b.lanes, vectors = lanes > VW ? 2 : 1;
    const float *from = dy + b.group * p.out_channels + b.first;
    bool packed = p.panel || lanes % VW;
    weight_walk walk = walk_tile(p, tile, packed ? vectors * VW : s.k);
    walk.fresh = part.fresh;
    if (rounds(s)) walk = narrow_panel(s, walk, from, lanes, vectors * VW, panel);
    else if (packed) pack_lanes(from, s.k, pixels, lanes, vectors * VW, panel);
    weight_channels(p, tile, part, tile.at + b.group * p.in_channels, packed ? panel : from, walk, vectors,
                    sums + b.sums);
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

// add_sums adds a member's share of the packed sums to dw [k][r][s][c/groups].
static void add_sums(const bs_cpu_member &m, const weight_plan &p, const float *sums, float *dw) {
  index_t elements = p.taps * p.in_channels;
  range mine = share_of(m, p.blocks);
  for (index_t i = mine.first; i < mine.end; i++) {
    weight_channel_block b = block_at(p, i);
    add_transposed(sums + b.sums, b.lanes > VW ? 2 * VW : VW, elements, b.lanes, elements,
                   dw + (b.group * p.out_channels + b.first) * elements);
  }
}

// add_bias adds the parts of the bias's sums, `stride` cells apart, to dbias: the first member's work.
static void add_bias(const bs_cpu_member &m, index_t parts, index_t stride, const float *bias, index_t channels,
                     float *dbias) {
  if (!dbias || m.index > 0) return;
  for (index_t k = 0; k < channels; k++) {
    float total = bias[k];
    for (index_t part = 1; part < parts; part++) total += bias[part * stride + k];
    dbias[k] += total;
  }
}

// prefetch_tile covers what the tile after (n0, row0) reads of x and dy.
static weight_prefetch prefetch_tile(const weight_plan &p, index_t n0, index_t row0, const float *x, const float *dy) {
  index_t calls = p.shape.groups * p.taps * ceil_div(p.in_channels, wide_block);
  calls *= ceil_div(p.out_channels, max_vectors * VW);
  weight_prefetch ahead = {prefetch_window(p.window, p.tiles, n0, row0, x, calls), {}};
  if (!next_tile(p.window, p.tiles, &n0, &row0)) return ahead;
  index_t images = min_index(p.tiles.images, p.shape.n - n0), rows = min_index(p.tiles.rows, p.shape.oh - row0);
  const float *from = dy + (n0 * p.shape.oh + row0) * p.shape.ow * p.shape.k;
  ahead.dy = make_prefetch(from, from + images * rows * p.shape.ow * p.shape.k, calls);
  return ahead;
}

// open_part opens the window of a tile for a block of channels from c on. It rounds what it copied.
static weight_part open_part(const weight_plan &p, index_t n0, index_t row0, index_t c, bool fresh, const float *x,
                             float *buffer, window_tile *tile) {
  sliding_window window = p.window;
  window.c = min_index(p.shape.c - c, p.window.c);
  *tile = open_tile(window, p.tiles, n0, row0, x + c, buffer);
  if (rounds(p.shape)) narrow_window(p, *tile, buffer);
  return {c, min_index(window.c, p.in_channels), fresh, NULL};
}

// A member's work on the sums: tiles and blocks of output channels, where the sums lie, and those of the bias,
// which are NULL where they are not its own to compute.
struct weight_share {
  range tiles, blocks;
  float *sums, *bias;
};

// sum_tiles computes a share. panel and buffer are the member's own.
static void sum_tiles(const weight_plan &p, const weight_share &share, const float *x, const float *dy, float *panel,
                      float *buffer) {
  const conv_shape &s = p.shape;
  if (share.bias) memset(share.bias, 0, sizeof(float) * p.bias_cells);
  for (index_t i = share.tiles.first; i < share.tiles.end; i++) {
    index_t n0, row0;
    tile_origin(p.window, p.tiles, i, &n0, &row0);
    window_tile tile = {};
    const float *dy_tile = dy + (n0 * s.oh + row0) * s.ow * s.k;
    weight_prefetch ahead = prefetch_tile(p, n0, row0, x, dy);
    for (index_t c = 0; c < s.c; c += p.window.c) {
      weight_part part = open_part(p, n0, row0, c, i == share.tiles.first, x, buffer, &tile);
      part.ahead = &ahead;
      weight_tile(p, tile, part, share.blocks, dy_tile, panel, share.sums);
    }
    if (share.bias) bias_tile(dy_tile, tile.images * tile.rows * s.ow, s.k, share.bias);
  }
}

// weight_gradient adds to dw and, where it is not NULL, to dbias. Workspace: the parts of the sums and of the
// bias's, and of each member a panel and a buffer.
static void weight_gradient(const bs_cpu_member &m, const weight_plan &p, const float *x, const float *dy, float *dw,
                            float *dbias, float *work) {
  float *sums = work, *bias = sums + p.parts * p.sum_cells, *panel = own_cells(m, bias + p.parts * p.bias_cells);
  float *buffer = panel + p.panel_cells;
  index_t tiles = tile_count(p.window, p.tiles);
  if (p.parts == 1) {
    weight_share share = {{0, tiles}, share_of(m, p.blocks), sums, dbias && m.index == 0 ? bias : NULL};
    if (share.blocks.first < share.blocks.end || share.bias) sum_tiles(p, share, x, dy, panel, buffer);
  } else {
    range mine = share_of(m, p.parts);
    for (index_t i = mine.first; i < mine.end; i++) {
      weight_share share = {part_of(tiles, i, p.parts), {0, p.blocks}, sums + i * p.sum_cells,
                            dbias ? bias + i * p.bias_cells : NULL};
      sum_tiles(p, share, x, dy, panel, buffer);
    }
  }
  meet(m);
  add_parts(m, p.parts, p.sum_cells, sums);
  add_sums(m, p, sums, dw);
  add_bias(m, p.parts, p.bias_cells, bias, p.shape.k, dbias);
}
