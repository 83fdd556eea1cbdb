// conv2d_winograd_weight.h: the weight gradient of the convolutions of conv2d_winograd.h.
//
// dw = G' [sum over tiles of (B' d B) * (A dy A')] G: 16 matrix products of transformed inputs and
// transformed output gradients, whose sums stay transformed until the last tile. The last row of A is
// taken with the opposite sign, which saves a negation per tile, and so is the last row of G.

// Sums of more cells than this come from outer caches for each block of tiles, so it pays to have large ones.
enum { winograd_large_sums = 131072 };

static winograd winograd_weight(const conv_shape &s) {
  winograd p = {};
  p.n = s.n, p.h = s.h, p.w = s.w, p.c = s.c, p.oh = s.oh, p.ow = s.ow, p.k = s.k;
  p.pad_h = s.pad_h, p.pad_w = s.pad_w;
  return make_winograd(p, winograd_large_sums);
}

// How many parts the sums have (conv2d_weight.h), and their cells.
static index_t winograd_parts(const winograd &p) {
  return sum_parts(winograd_elements * p.filter_plane, 4 * p.tiles, ceil_div(p.tiles, p.block));
}
BS_INLINE index_t winograd_sum_cells(const winograd &p) { return line_up(winograd_elements * p.filter_plane); }

// gradient_pixel loads a vector of dy at (y, x), or zeros outside.
BS_INLINE vf gradient_pixel(const winograd &p, const float *image, index_t y, index_t x, int lanes) {
  return y < p.oh && x < p.ow ? load_partial(image + (y * p.ow + x) * p.k, lanes) : zero();
}

// transform_gradient writes A dy A' of a run of tiles, for one vector of channels; dy points to them.
static void transform_gradient(const winograd &p, const tile_run &run, const float *dy, int lanes, index_t width,
                               float *z) {
  const float *image = dy + run.image * p.oh * p.ow * p.k;
  index_t y = 2 * run.row, x = 2 * run.col;
  for (index_t tile = 0; tile < run.count; tile++, x += 2, z += width) {
    vf t[4][2];
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
      vf a = gradient_pixel(p, image, y, x + j, lanes), b = gradient_pixel(p, image, y + 1, x + j, lanes);
      t[0][j] = a, t[1][j] = a + b, t[2][j] = a - b, t[3][j] = b;
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      float *element = z + 4 * i * p.out_plane;
      store(element, t[i][0]);
      store(element + p.out_plane, t[i][0] + t[i][1]);
      store(element + 2 * p.out_plane, t[i][0] - t[i][1]);
      store(element + 3 * p.out_plane, t[i][1]);
    }
  }
}

// transform_gradients transforms the tiles [first, end) of the block that begins with tile `block`:
// [element][block of channels][tile][lane].
static void transform_gradients(const winograd &p, index_t block, index_t first, index_t end, const float *dy,
                                float *z) {
  for (index_t at = first; at < end;) {
    tile_run run = next_run(p, at, end);
    for (index_t k0 = 0; k0 < p.k; k0 += max_vectors * VW) {
      index_t width = min_index(p.out_channels - k0, max_vectors * VW);
      float *to = z + k0 * p.block + (at - block) * width;
      for (index_t k = k0; k < k0 + width; k += VW)
        transform_gradient(p, run, dy + k, (int)min_index(p.k - k, VW), width, to + k - k0);
    }
    at += run.count;
  }
}

// A block's products: one for each element and block of output channels.
BS_INLINE index_t gradient_products(const winograd &p) {
  return winograd_elements * ceil_div(p.out_channels, max_vectors * VW);
}

// multiply_gradients adds some of a block's products to the sums: [element][block of channels][input channel][lane].
// fresh: the sums hold nothing yet.
static void multiply_gradients(const winograd &p, range products, index_t tiles, bool fresh, const float *v,
                               const float *z, float *sums) {
  index_t channel_blocks = gradient_products(p) / winograd_elements;
  for (index_t i = products.first; i < products.end; i++) {
    index_t e = i / channel_blocks, k0 = i % channel_blocks * max_vectors * VW;
    index_t width = min_index(p.out_channels - k0, max_vectors * VW);
    int vectors = (int)(width / VW);
    weight_walk walk = {1, 1, tiles, 0, 0, p.in_pitch, 0, 0, width};
    walk.fresh = fresh;
    index_t blocks = ceil_div(p.c, block_size(vectors)), small = p.c / blocks, larger = p.c % blocks;
    weight_fn small_fn = choose_weight((int)small, vectors), large_fn = choose_weight((int)small + 1, vectors);
    const float *at = v + e * p.in_plane, *dy = z + e * p.out_plane + k0 * p.block;
    float *to = sums + e * p.filter_plane + k0 * p.c;
    for (index_t b = 0; b < blocks; b++) {
      index_t size = small + (b < larger);
      (b < larger ? large_fn : small_fn)(at, dy, walk, to);
      at += size, to += size * width;
    }
  }
}

// transform_sums: g = G' u G, element by element of a vector.
BS_INLINE void transform_sums(const vf *u, vf *g) {
  vf t[3][4];
  for (int j = 0; j < 4; j++) {
    vf sum = 0.5f * (u[4 + j] + u[8 + j]);
    t[0][j] = u[j] + sum, t[1][j] = 0.5f * (u[4 + j] - u[8 + j]), t[2][j] = sum - u[12 + j];
  }
  for (int i = 0; i < 3; i++) {
    vf sum = 0.5f * (t[i][1] + t[i][2]);
    g[3 * i] = t[i][0] + sum, g[3 * i + 1] = 0.5f * (t[i][1] - t[i][2]), g[3 * i + 2] = sum - t[i][3];
  }
}

// add_square adds the filters of up to VW x VW channels to dw [k][3][3][c].
static void add_square(const winograd &p, const float *sums, index_t width, index_t ks, index_t cs, float *dw) {
  vf square[9][VW] = {};
  for (index_t c = 0; c < cs; c++) {
    vf u[winograd_elements], g[9];
    for (int e = 0; e < winograd_elements; e++) u[e] = load(sums + e * p.filter_plane + c * width);
    transform_sums(u, g);
    for (int tap = 0; tap < 9; tap++) square[tap][c] = g[tap];
  }
  for (int tap = 0; tap < 9; tap++) {
    transpose_square(square[tap]);
    for (index_t k = 0; k < ks; k++) {
      float *to = dw + (k * 9 + tap) * p.c;
      store_partial(to, load_partial(to, (int)cs) + square[tap][k], (int)cs);
    }
  }
}

// add_winograd adds a member's share of the filters to dw.
static void add_winograd(const bs_cpu_member &m, const winograd &p, const float *sums, float *dw) {
  range mine = share_of(m, filter_squares(p));
  for (index_t i = mine.first; i < mine.end; i++) {
    filter_square q = square_at(p, i);
    add_square(p, sums + q.k0 * p.c + q.c * q.width + q.k - q.k0, q.width, min_index(p.k - q.k, VW),
               min_index(p.c - q.c, VW), dw + q.k * 9 * p.c + q.c);
  }
}

// Workspace: the parts of the sums, and of the bias's; a row of zeros, transformed inputs, transformed gradients.
static index_t winograd_weight_cells(const winograd &p) {
  index_t filters = winograd_sum_cells(p);
  return winograd_cells(p) - filters + winograd_parts(p) * (filters + line_up(p.out_channels));
}

// sum_part sets a part of the sums to those over a run of blocks.
static void sum_part(const winograd &p, range blocks, const float *x, const float *dy, const float *zeros, float *v,
                     float *z, float *sums) {
  for (index_t b = blocks.first; b < blocks.end; b++) {
    index_t first = b * p.block, end = min_index(first + p.block, p.tiles);
    transform_inputs(p, first, end, x, zeros, v);
    transform_gradients(p, first, first, end, dy, z);
    multiply_gradients(p, {0, gradient_products(p)}, end - first, b == blocks.first, v, z, sums);
  }
}

// sum_together sets the sums to those over all blocks: the members share each block's tiles, and meet, and then
// its products. v and z belong to all.
static void sum_together(const bs_cpu_member &m, const winograd &p, const float *x, const float *dy,
                         const float *zeros, float *v, float *z, float *sums) {
  for (index_t first = 0; first < p.tiles; first += p.block) {
    index_t tiles = min_index(p.block, p.tiles - first);
    range mine = share_of(m, tiles);
    transform_inputs(p, first + mine.first, first + mine.end, x, zeros, v + mine.first * p.in_pitch);
    transform_gradients(p, first, first + mine.first, first + mine.end, dy, z);
    meet(m);
    multiply_gradients(p, share_of(m, gradient_products(p)), tiles, first == 0, v, z, sums);
    meet(m);
  }
}

// winograd_weight_gradient adds to dw and, where it is not NULL, to dbias.
static void winograd_weight_gradient(const bs_cpu_member &m, const winograd &p, const float *x, const float *dy,
                                     float *dw, float *dbias, float *work) {
  index_t parts = winograd_parts(p), sum_cells = winograd_sum_cells(p), bias_cells = line_up(p.out_channels);
  float *sums = work, *bias = sums + parts * sum_cells, *behind = bias + parts * bias_cells;
  float *zeros = own_cells(m, behind), *v = (parts == 1 ? behind : zeros) + winograd_zero_cells(p);
  float *z = v + winograd_elements * p.in_plane;
  memset(zeros, 0, sizeof(float) * winograd_zero_cells(p));
  if (parts == 1) sum_together(m, p, x, dy, zeros, v, z, sums);
  range mine = share_of(m, parts);
  for (index_t i = mine.first; i < mine.end; i++) {
    if (parts > 1) sum_part(p, part_of(ceil_div(p.tiles, p.block), i, parts), x, dy, zeros, v, z, sums + i * sum_cells);
    if (!dbias) continue;
    float *part = bias + i * bias_cells;
    memset(part, 0, sizeof(float) * bias_cells);
    range images = part_of(p.n, i, parts);
    for (index_t n = images.first; n < images.end; n++) bias_tile(dy + n * p.oh * p.ow * p.k, p.oh * p.ow, p.k, part);
  }
  meet(m);
  add_parts(m, parts, sum_cells, sums);
  add_winograd(m, p, sums, dw);
  add_bias(m, parts, bias_cells, bias, p.k, dbias);
}
