// conv2d_winograd.h: 3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3) (Lavin and Gray 2016).
//
// A tile of 2x2 outputs is A' [(G g G') * (B' d B)] A, with d the 4x4 inputs it sees, g the filter and
// * the product of their 16 elements: 16 multiplications where the definition takes 36. Summed over
// channels, the products are 16 matrix products, one for each element:
//
//   B' = 1  0 -1  0    G = 1    0   0    A' = 1 1  1  0
//        0  1  1  0        1/2  1/2 1/2       0 1 -1 -1
//        0 -1  1  0        1/2 -1/2 1/2
//        0  1  0 -1        0    0   1
//
// All constants are exact in binary, so small whole numbers give exact results. The input gradient is
// the same with the filter turned round; the weight gradient goes the way backwards,
// dw = G' [sum (B' d B) * (A dy A')] G.
//
// A block of tiles passes through all three stages before the next begins, so that its transforms stay
// in cache. Infinities and NaN spread over their tile, as sums of inputs stand in for single ones.

enum { winograd_elements = 16 };

// A correlation of a zero-padded tensor [n][h][w][c] with 3x3 filters, to a tensor [n][oh][ow][k].
// Row i of the outputs sees the rows i - pad_h to i - pad_h + 2 of the tensor.
struct winograd {
  index_t n, h, w, c, oh, ow, k, pad_h, pad_w;
  index_t rows, cols, tiles; // tiles of an image: rows x cols; of all images
  index_t block;             // tiles of a block
  index_t in_pitch;          // from tile to tile of the transformed inputs
  index_t out_channels;      // k in whole vectors
  index_t in_plane, out_plane, filter_plane; // from element to element of a block's transforms, and of the filters
};

// A small block's transforms stay in the L1 and L2 caches; a large one is worth it where the filters have to
// come from outer caches for each block.
enum { winograd_small_block = 24, winograd_large_block = 192, winograd_large_filters = 2097152 };

// make_winograd completes n, h, w, c, oh, ow, k and the padding. Filters of more than large_filters
// cells are large.
static winograd make_winograd(winograd p, index_t large_filters) {
  p.rows = ceil_div(p.oh, 2), p.cols = ceil_div(p.ow, 2), p.tiles = p.n * p.rows * p.cols;
  p.in_pitch = round_up(p.c, VW), p.out_channels = round_up(p.k, VW);
  if (p.in_pitch % conflict_cells == 0) p.in_pitch += line_cells;
  p.filter_plane = p.c * p.out_channels;
  bool large = winograd_elements * p.filter_plane > large_filters;
  p.block = min_index(large ? winograd_large_block : winograd_small_block, round_up(p.tiles, max_block));
  // A line more, or the elements of a tile would share a set of the L1 cache where planes are 4 KB apart.
  p.in_plane = p.block * p.in_pitch + line_cells;
  p.out_plane = p.block * p.out_channels + line_cells;
  return p;
}

static winograd winograd_forward(const conv_shape &s) {
  winograd p = {};
  p.n = s.n, p.h = s.h, p.w = s.w, p.c = s.c, p.oh = s.oh, p.ow = s.ow, p.k = s.k;
  p.pad_h = s.pad_h, p.pad_w = s.pad_w;
  return make_winograd(p, winograd_large_filters);
}

static winograd winograd_backward(const conv_shape &s) {
  winograd p = {};
  p.n = s.n, p.h = s.oh, p.w = s.ow, p.c = s.k, p.oh = s.h, p.ow = s.w, p.k = s.c;
  p.pad_h = 2 - s.pad_h, p.pad_w = 2 - s.pad_w;
  return make_winograd(p, winograd_large_filters);
}

// winograd_pays tells for which convolutions the transforms cost less than the multiplications they
// save: enough channels on both sides, and not too many outputs of tiles outside the image.
static bool winograd_pays(const conv_shape &s) {
  if (rounds(s)) return false; // transforms would be rounded, not factors
  if (s.r != 3 || s.s != 3 || s.stride_h != 1 || s.stride_w != 1 || s.groups != 1) return false;
  if (s.pad_h > 2 || s.pad_w > 2 || s.c < 16 || s.k < 16) return false;
  index_t tiles = ceil_div(s.oh, 2) * ceil_div(s.ow, 2), back = ceil_div(s.h, 2) * ceil_div(s.w, 2);
  return 3 * tiles <= s.oh * s.ow && 3 * back <= s.h * s.w;
}

// ---- filters

// transform_filter: u = G g G', element by element of a vector. g and u are row-major.
BS_INLINE void transform_filter(const vf *g, vf *u) {
  vf t[4][3];
  for (int j = 0; j < 3; j++) {
    vf sum = 0.5f * (g[j] + g[6 + j]), mid = 0.5f * g[3 + j];
    t[0][j] = g[j], t[1][j] = sum + mid, t[2][j] = sum - mid, t[3][j] = g[6 + j];
  }
  for (int i = 0; i < 4; i++) {
    vf sum = 0.5f * (t[i][0] + t[i][2]), mid = 0.5f * t[i][1];
    u[4 * i] = t[i][0], u[4 * i + 1] = sum + mid, u[4 * i + 2] = sum - mid, u[4 * i + 3] = t[i][2];
  }
}

// Where filters lie: element `tap` of the filter from input channel c to output channel k is
// at[k k_step + c c_step + tap tap_step]. Either k_step or c_step is 1.
struct filter_layout {
  index_t k_step, c_step, tap_step;
};

// read_filters reads one element of up to VW x VW filters: out[c] has the output channels as lanes.
static void read_filters(const filter_layout &f, const float *at, index_t ks, index_t cs, vf (&out)[VW]) {
  if (f.k_step != 1) return load_square(at, f.k_step, ks, cs, out);
  for (index_t c = 0; c < cs; c++) out[c] = load_partial(at + c * f.c_step, (int)ks);
}

// pack_square transforms up to VW x VW filters; `packed` is where input channel 0 of their output channels
// goes, a vector of `width`.
static void pack_square(const winograd &p, const filter_layout &f, const float *at, index_t ks, index_t cs,
                        index_t width, float *packed) {
  vf square[9][VW];
  for (int tap = 0; tap < 9; tap++) read_filters(f, at + tap * f.tap_step, ks, cs, square[tap]);
  for (index_t c = 0; c < cs; c++) {
    vf g[9], u[winograd_elements];
    for (int tap = 0; tap < 9; tap++) g[tap] = square[tap][c];
    transform_filter(g, u);
    for (int e = 0; e < winograd_elements; e++) store(packed + e * p.filter_plane + c * width, u[e]);
  }
}

// A square of the filters: output channels from k on, input channels from c on, at most VW of each. It lies in
// the block of output channels from k0 on.
struct filter_square {
  index_t k, c, k0, width;
};

// Squares of all filters, and the i-th.
BS_INLINE index_t filter_squares(const winograd &p) { return p.out_channels / VW * ceil_div(p.c, VW); }
BS_INLINE filter_square square_at(const winograd &p, index_t i) {
  index_t inputs = ceil_div(p.c, VW), k = i / inputs * VW, k0 = k / (max_vectors * VW) * (max_vectors * VW);
  return {k, i % inputs * VW, k0, min_index(p.out_channels - k0, max_vectors * VW)};
}

// pack_winograd transforms a member's share of the filters: [element][block of channels][input channel][lane],
// blocks of two vectors and the last of one or two.
static void pack_winograd(const bs_cpu_member &m, const winograd &p, const float *w, const filter_layout &f,
                          float *packed) {
  range mine = share_of(m, filter_squares(p));
  for (index_t i = mine.first; i < mine.end; i++) {
    filter_square q = square_at(p, i);
    pack_square(p, f, w + q.k * f.k_step + q.c * f.c_step, min_index(p.k - q.k, VW), min_index(p.c - q.c, VW), q.width,
                packed + q.k0 * p.c + q.c * q.width + q.k - q.k0);
  }
}

// ---- tiles of inputs and outputs

// A run of tiles in one row of tiles of one image.
struct tile_run {
  index_t image, row, col, count;
};

// next_run cuts the run that starts with tile `first` and ends before tile `end` or with its row.
BS_INLINE tile_run next_run(const winograd &p, index_t first, index_t end) {
  index_t line = first / p.cols, col = first % p.cols;
  return {line / p.rows, line % p.rows, col, min_index(p.cols - col, end - first)};
}

// input_column loads 4 pixels of column x and transforms them by B'.
BS_INLINE void input_column(const winograd &p, const float *const *row, index_t x, int lanes, vf *out) {
  if (x < 0 || x >= p.w) {
    for (int i = 0; i < 4; i++) out[i] = zero();
    return;
  }
  vf d[4];
  for (int i = 0; i < 4; i++) d[i] = load_partial(row[i] + x * p.c, lanes);
  out[0] = d[0] - d[2], out[1] = d[1] + d[2], out[2] = d[2] - d[1], out[3] = d[1] - d[3];
}

// transform_input writes B' d B of a run of tiles to v. `zeros` is a row of zeros.
static void transform_input(const winograd &p, const tile_run &run, const float *x, const float *zeros, float *v) {
  const float *row[4];
  for (index_t c = 0; c < p.c; c += VW) {
    int lanes = (int)min_index(p.c - c, VW);
    for (int i = 0; i < 4; i++) {
      index_t y = 2 * run.row - p.pad_h + i;
      row[i] = y < 0 || y >= p.h ? zeros : x + (run.image * p.h + y) * p.w * p.c + c;
    }
    index_t left = 2 * run.col - p.pad_w;
    vf d[4][4]; // [column][row]
    input_column(p, row, left, lanes, d[0]);
    input_column(p, row, left + 1, lanes, d[1]);
    float *to = v + c;
    for (index_t tile = 0; tile < run.count; tile++, to += p.in_pitch) {
      left += 2;
      input_column(p, row, left, lanes, d[2]);
      input_column(p, row, left + 1, lanes, d[3]);
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) {
        float *element = to + 4 * i * p.in_plane;
        store(element, d[0][i] - d[2][i]);
        store(element + p.in_plane, d[1][i] + d[2][i]);
        store(element + 2 * p.in_plane, d[2][i] - d[1][i]);
        store(element + 3 * p.in_plane, d[1][i] - d[3][i]);
        d[0][i] = d[2][i], d[1][i] = d[3][i];
      }
    }
  }
}

// transform_inputs transforms the tiles [first, end).
static void transform_inputs(const winograd &p, index_t first, index_t end, const float *x, const float *zeros,
                             float *v) {
  for (index_t at = first; at < end;) {
    tile_run run = next_run(p, at, end);
    transform_input(p, run, x, zeros, v + (at - first) * p.in_pitch);
    at += run.count;
  }
}

// Transformed outputs of a block: [element][block of channels][tile][lane].

// transform_output writes A' m A of a run of tiles to the output channels [k, k + lanes), one vector.
static void transform_output(const winograd &p, const tile_run &run, const float *m, index_t width,
                             const block_output &out, float *y, index_t k) {
  vf bias = out.bias ? load_partial(out.bias + k, out.lanes) : zero();
  index_t top = 2 * run.row;
  y += ((run.image * p.oh + top) * p.ow + 2 * run.col) * p.k + k;
  for (index_t tile = 0; tile < run.count; tile++, m += width, y += 2 * p.k) {
    vf t[2][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      vf a = load(m + j * p.out_plane), b = load(m + (4 + j) * p.out_plane);
      vf c = load(m + (8 + j) * p.out_plane), d = load(m + (12 + j) * p.out_plane);
      t[0][j] = a + b + c, t[1][j] = b - c - d;
    }
    bool right = 2 * (run.col + tile) + 1 < p.ow;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
      if (top + i >= p.oh) break;
      vf pair[2] = {t[i][0] + t[i][1] + t[i][2], t[i][1] - t[i][2] - t[i][3]};
#pragma GCC unroll 2
      for (int j = 0; j < 2; j++) {
        if (j == 1 && !right) break;
        float *to = y + i * p.ow * p.k + j * p.k;
        vf sum = pair[j] + bias;
        if (out.add) sum += load_partial(to, out.lanes);
        if (out.relu) sum = vmax(zero(), sum);
        store_partial(to, sum, out.lanes);
      }
    }
  }
}

static void transform_outputs(const winograd &p, index_t first, index_t end, const float *m, block_output out,
                              float *y) {
  for (index_t at = first; at < end;) {
    tile_run run = next_run(p, at, end);
    for (index_t k0 = 0; k0 < p.k; k0 += max_vectors * VW) {
      index_t width = min_index(p.out_channels - k0, max_vectors * VW);
      const float *from = m + k0 * p.block + (at - first) * width;
      for (index_t v = 0; v < width && k0 + v < p.k; v += VW) {
        out.lanes = (int)min_index(p.k - k0 - v, VW);
        transform_output(p, run, from + v, width, out, y, k0 + v);
      }
    }
    at += run.count;
  }
}

// ---- products

// tile_product multiplies P tiles of one element, [P][pitch], with a panel of filters [len][NV VW] and
// writes [P][NV VW].
template <int P, int NV>
static void tile_product(const float *x, index_t pitch, const float *u, index_t len, float *m) {
  vf acc[P][NV];
#pragma GCC unroll 16
  for (int p = 0; p < P; p++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) acc[p][v] = zero();
  for (index_t i = 0; i < len; i++, u += NV * VW) {
    vf b[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) b[v] = load(u + v * VW);
#pragma GCC unroll 16
    for (int p = 0; p < P; p++) {
      vf a = set1(x[p * pitch + i]);
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) acc[p][v] = fmadd(a, b[v], acc[p][v]);
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; p++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) store(m + (p * NV + v) * VW, acc[p][v]);
}

// multiply_tiles multiplies a block's transformed inputs with the transformed filters. Tiles behind the
// last are computed from what lies there and never read.
static void multiply_tiles(const winograd &p, index_t tiles, const float *v, const float *filters, float *m) {
  for (index_t e = 0; e < winograd_elements; e++) {
    for (index_t k0 = 0; k0 < p.k; k0 += max_vectors * VW) {
      index_t width = min_index(p.out_channels - k0, max_vectors * VW);
      const float *x = v + e * p.in_plane, *u = filters + e * p.filter_plane + k0 * p.c;
      float *to = m + e * p.out_plane + k0 * p.block;
      if (width == VW) {
        for (index_t t = 0; t < tiles; t += narrow_block)
          tile_product<narrow_block, 1>(x + t * p.in_pitch, p.in_pitch, u, p.c, to + t * width);
        continue;
      }
      for (index_t t = 0; t < tiles; t += wide_block)
        tile_product<wide_block, 2>(x + t * p.in_pitch, p.in_pitch, u, p.c, to + t * width);
    }
  }
}

// Workspace: transformed filters; of each member a row of zeros, transformed inputs, transformed outputs.
BS_INLINE index_t winograd_zero_cells(const winograd &p) { return line_up(p.w * p.c + VW); }
static index_t winograd_cells(const winograd &p) {
  return line_up(winograd_elements * p.filter_plane) + winograd_zero_cells(p) +
         winograd_elements * (p.in_plane + p.out_plane) + line_cells;
}

// winograd_correlate computes a member's share of the tiles; the packed filters are at the start of the workspace.
static void winograd_correlate(const bs_cpu_member &team, const winograd &p, const float *x, const block_output &out,
                               float *y, float *work) {
  float *filters = work, *zeros = own_cells(team, filters + line_up(winograd_elements * p.filter_plane));
  float *v = zeros + winograd_zero_cells(p), *m = v + winograd_elements * p.in_plane;
  memset(zeros, 0, sizeof(float) * (winograd_zero_cells(p) + winograd_elements * p.in_plane));
  range mine = share_of(team, ceil_div(p.tiles, max_block));
  index_t last = min_index(mine.end * max_block, p.tiles);
  for (index_t first = mine.first * max_block; first < last; first += p.block) {
    index_t end = min_index(first + p.block, last);
    transform_inputs(p, first, end, x, zeros, v);
    multiply_tiles(p, end - first, v, filters, m);
    transform_outputs(p, first, end, m, out, y);
  }
}
