// conv2d_plan.h: what the convolution kernels share: checked shapes, tiles, and zero-padded windows.

// Cells are counted and indexed in 64 bits.
typedef int64_t index_t;

// A convolution in 64-bit sizes; see bs_conv2d.
struct conv_shape {
  index_t n, h, w, c, k, r, s, stride_h, stride_w, pad_h, pad_w, groups, oh, ow;
  int32_t precision; // of factors, see conv2d_round.h
};

// rounds tells whether factors are rounded.
static inline bool rounds(const conv_shape &s) { return s.precision != BS_F32; }

BS_INLINE index_t min_index(index_t a, index_t b) { return a < b ? a : b; }
BS_INLINE index_t max_index(index_t a, index_t b) { return a > b ? a : b; }
BS_INLINE index_t ceil_div(index_t a, index_t b) { return (a + b - 1) / b; }
BS_INLINE index_t round_up(index_t a, index_t b) { return ceil_div(a, b) * b; }

// Sizes within a workspace are whole cache lines of 16 cells, and aligned_cells adds the slack that
// align_cells may skip.
enum { line_cells = 16 };
BS_INLINE index_t line_up(index_t cells) { return round_up(cells, line_cells); }
BS_INLINE float *align_cells(void *p) { return (float *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

// conv_shape_of takes a good shape. A 1x1 convolution without stride and padding, and so a linear layer,
// becomes one image of n h w rows of one pixel.
static conv_shape conv_shape_of(const bs_conv2d &b) {
  conv_shape s = {b.n,        b.h,        b.w,     b.c,     b.k,      b.r,  b.s,
                  b.stride_h, b.stride_w, b.pad_h, b.pad_w, b.groups, b.oh, b.ow, b.precision};
  if (s.h == s.oh && s.w == s.ow && s.r == 1 && s.s == 1 && s.pad_h == 0 && s.pad_w == 0) {
    s.h = s.oh = s.n * s.h * s.w;
    s.n = s.w = s.ow = s.stride_h = s.stride_w = 1;
  }
  return s;
}

// A window slides over the images of a tensor: n images of h rows of w pixels of c channels, `image`,
// `row` and `pixel` cells apart. Position (i, j) of rows x cols positions sees the extent_h x extent_w
// pixels from row top + step_h i and column left + step_w j; pixels outside the image are zeros. Where
// there are none (direct) the tensor is read in place, else a tile of positions is first copied into a
// zero-padded buffer with `pitch` cells from pixel to pixel.
struct sliding_window {
  index_t n, h, w, c, image, row, pixel;
  index_t rows, cols, top, left, step_h, step_w, extent_h, extent_w;
  index_t pitch;
  bool direct;
};

BS_INLINE bool axis_inside(index_t first, index_t positions, index_t step, index_t extent, index_t size) {
  return first >= 0 && first + (positions - 1) * step + extent <= size;
}

// finish_window fills in the distances of a dense tensor, and whether it can be read in place.
static void finish_window(sliding_window *v) {
  v->pixel = v->pitch = v->c, v->row = v->w * v->pixel, v->image = v->h * v->row;
  v->direct = axis_inside(v->top, v->rows, v->step_h, v->extent_h, v->h) &&
              axis_inside(v->left, v->cols, v->step_w, v->extent_w, v->w);
}

// skip_pixels makes the pixels between the positions of a window of one pixel, without padding, part of
// the distances: they are then never copied.
static void skip_pixels(sliding_window *v) {
  v->row *= v->step_h, v->pixel *= v->step_w;
  v->h = v->rows, v->w = v->cols;
  v->step_h = v->step_w = 1;
}

// forward_window is the window of the forward pass over its input.
static sliding_window forward_window(const conv_shape &s) {
  sliding_window v = {};
  v.n = s.n, v.h = s.h, v.w = s.w, v.c = s.c;
  v.rows = s.oh, v.cols = s.ow, v.top = -s.pad_h, v.left = -s.pad_w;
  v.step_h = s.stride_h, v.step_w = s.stride_w, v.extent_h = s.r, v.extent_w = s.s;
  finish_window(&v);
  if (s.r == 1 && s.s == 1 && s.pad_h == 0 && s.pad_w == 0) skip_pixels(&v);
  if (rounds(s)) v.direct = false; // the copy is rounded
  return v;
}

BS_INLINE index_t buffer_cols(const sliding_window &v) { return (v.cols - 1) * v.step_w + v.extent_w; }
BS_INLINE index_t buffer_rows(const sliding_window &v, index_t rows) {
  return (rows - 1) * v.step_h + v.extent_h;
}

// Tiles: `images` whole images, or one image's `rows` rows of positions.
struct tiling {
  index_t images, rows;
};

// make_tiling aims at windows of at most `cells` cells, but tiles of at least `pixels` positions.
static tiling make_tiling(const sliding_window &v, index_t cells, index_t pixels) {
  index_t row_cells = buffer_cols(v) * v.pitch;
  index_t fit = (cells / row_cells - v.extent_h) / v.step_h + 1;
  index_t rows = max_index(max_index(fit, 1), ceil_div(pixels, v.cols));
  if (rows < v.rows) return {1, ceil_div(v.rows, ceil_div(v.rows, rows))};
  index_t image_cells = buffer_rows(v, v.rows) * row_cells;
  index_t images = max_index(cells / image_cells, ceil_div(pixels, v.rows * v.cols));
  return {min_index(max_index(images, 1), v.n), v.rows};
}

// How many tiles there are, in the order of the kernels, and where the i-th begins.
BS_INLINE index_t tile_count(const sliding_window &v, const tiling &t) {
  return ceil_div(v.n, t.images) * ceil_div(v.rows, t.rows);
}
BS_INLINE void tile_origin(const sliding_window &v, const tiling &t, index_t i, index_t *n0, index_t *row0) {
  index_t tiles = ceil_div(v.rows, t.rows); // of the same images
  *n0 = i / tiles * t.images, *row0 = i % tiles * t.rows;
}

static index_t buffer_cells(const sliding_window &v, const tiling &t) {
  if (v.direct) return 0;
  return line_up(t.images * buffer_rows(v, t.rows) * buffer_cols(v) * v.pitch);
}

// A tile of positions: images [n0, n0 + images), rows [row0, row0 + rows), and where its window
// lies in memory: the first pixel, and the distances between pixels, rows and images.
struct window_tile {
  index_t n0, images, row0, rows;
  const float *at;
  index_t pixel, row, image;
};

// copy_pixels copies pixels into a buffer row.
static void copy_pixels(const sliding_window &v, const float *from, index_t pixels, float *to) {
  if (v.pitch == v.c && v.pixel == v.c) {
    memcpy(to, from, sizeof(float) * pixels * v.c);
    return;
  }
  for (index_t i = 0; i < pixels; i++) memcpy(to + i * v.pitch, from + i * v.pixel, sizeof(float) * v.c);
}

// copy_image_window copies rows [top, top + rows) of one image with the window's left and right margin.
static void copy_image_window(const sliding_window &v, const float *image, index_t top, index_t rows, float *to) {
  index_t cols = buffer_cols(v), row_cells = cols * v.pitch;
  index_t first = min_index(max_index(-v.left, 0), cols);
  index_t last = max_index(min_index(v.w - v.left, cols), first);
  for (index_t i = 0; i < rows; i++, to += row_cells) {
    index_t y = top + i;
    if (y < 0 || y >= v.h || first == last) {
      memset(to, 0, sizeof(float) * row_cells);
      continue;
    }
    memset(to, 0, sizeof(float) * first * v.pitch);
    copy_pixels(v, image + y * v.row + (v.left + first) * v.pixel, last - first, to + first * v.pitch);
    memset(to + last * v.pitch, 0, sizeof(float) * (cols - last) * v.pitch);
  }
}

// open_tile makes the window of a tile readable, through the buffer if need be.
static window_tile open_tile(const sliding_window &v, const tiling &t, index_t n0, index_t row0, const float *tensor,
                             float *buffer) {
  window_tile tile = {};
  tile.n0 = n0, tile.row0 = row0;
  tile.images = min_index(t.images, v.n - n0), tile.rows = min_index(t.rows, v.rows - row0);
  index_t top = v.top + row0 * v.step_h;
  if (v.direct) {
    tile.pixel = v.pixel, tile.row = v.row, tile.image = v.image;
    tile.at = tensor + n0 * v.image + top * v.row + v.left * v.pixel;
    return tile;
  }
  index_t rows = buffer_rows(v, tile.rows);
  tile.pixel = v.pitch, tile.row = buffer_cols(v) * v.pitch, tile.image = rows * tile.row;
  tile.at = buffer;
  for (index_t i = 0; i < tile.images; i++)
    copy_image_window(v, tensor + (n0 + i) * v.image, top, rows, buffer + i * tile.image);
  return tile;
}

// A piece of memory that the next tile needs, fetched towards the L2 cache in `step` bytes at a time
// while this tile is computed: a tile that starts cold waits for memory at every new line.
struct prefetch_range {
  const char *at, *end;
  index_t step;
};

// make_prefetch spreads [from, to) over so many calls of prefetch_step.
static prefetch_range make_prefetch(const float *from, const float *to, index_t calls) {
  const char *at = (const char *)from, *end = (const char *)to;
  return {at, end, at < end ? round_up(ceil_div(end - at, max_index(calls, 1)), 64) : 0};
}

BS_INLINE void prefetch_step(prefetch_range *r) {
  const char *stop = r->end - r->at < r->step ? r->end : r->at + r->step;
  for (; r->at < stop; r->at += 64) __builtin_prefetch(r->at, 0, 2);
}

// next_tile is the tile after one, in the order of the kernels; false behind the last.
static bool next_tile(const sliding_window &v, const tiling &t, index_t *n0, index_t *row0) {
  *row0 += t.rows;
  if (*row0 >= v.rows) *row0 = 0, *n0 += t.images;
  return *n0 < v.n;
}

// prefetch_window covers the pixels of a tensor that the tile after (n0, row0) reads, less what this one
// does. A window that skips pixels would fetch mostly what nobody reads.
static prefetch_range prefetch_window(const sliding_window &v, const tiling &t, index_t n0, index_t row0,
                                      const float *tensor, index_t calls) {
  if (v.row != v.w * v.pixel || !next_tile(v, t, &n0, &row0)) return {};
  index_t images = min_index(t.images, v.n - n0), rows = min_index(t.rows, v.rows - row0);
  index_t top = v.top + row0 * v.step_h, overlap = row0 > 0 ? max_index(v.extent_h - v.step_h, 0) : 0;
  index_t first = min_index(max_index(top + overlap, 0), v.h), last = min_index(top + buffer_rows(v, rows), v.h);
  const float *from = tensor + n0 * v.image + first * v.row;
  return make_prefetch(from, tensor + (n0 + images - 1) * v.image + last * v.row, calls);
}
