// conv2d.h: the convolution kernels of the table: forward, and the gradients to input and weights.
//
// 3x3 convolutions of stride 1 go through Winograd's transforms where that pays. All others are an
// implicit GEMM: no im2col buffer, only a zero-padded copy of a cache-sized tile of the input. The members
// of a team share the packing of weights, and then the tiles; weight gradients as in conv2d_weight.h.

#include "conv2d_plan.h"
#include "conv2d_round.h"
#include "conv2d_transpose.h"
#include "conv2d_correlate.h"
#include "conv2d_weight.h"
#include "conv2d_depthwise.h"
#include "conv2d_winograd.h"
#include "conv2d_winograd_weight.h"

// Aims for tiles of the correlations: window cells, and at least so many positions that reading the
// packed weights costs little.
enum { correlate_tile_cells = 32768, correlate_tile_pixels = 128 };

// choose_phase returns what computes a phase's outputs in a tile.
typedef void (*phase_fn)(const correlation &c, const phase &ph, const window_tile &tile, const float *weights,
                         float *y, block_output out, prefetch_range *ahead);

static phase_fn choose_phase(const correlation &c) { return c.depthwise ? depthwise_phase : correlate_phase; }

// ---- forward

static correlation forward_correlation(const conv_shape &s) {
  correlation c = {};
  c.window = forward_window(s);
  c.tiles = make_tiling(c.window, correlate_tile_cells, correlate_tile_pixels);
  c.out_h = s.oh, c.out_w = s.ow, c.out_c = s.k;
  c.groups = s.groups, c.in_channels = s.c / s.groups, c.out_channels = s.k / s.groups;
  c.out_step_h = c.out_step_w = 1;
  if (depthwise(s)) use_depthwise(&c);
  c.weight_cells = line_up(c.groups * group_weight_cells(c, s.r * s.s));
  return c;
}

static phase forward_phase(const conv_shape &s) {
  phase ph = {};
  ph.taps_h = s.r, ph.taps_w = s.s, ph.last_h = s.oh, ph.last_w = s.ow;
  return ph;
}

// pack_blocks packs a member's share of the blocks of output channels.
static void pack_blocks(const bs_cpu_member &m, const conv_shape &s, const float *w, float *packed) {
  index_t channels = s.k / s.groups, len = s.r * s.s * (s.c / s.groups), blocks = ceil_div(channels, max_vectors * VW);
  range mine = share_of(m, s.groups * blocks);
  for (index_t i = mine.first; i < mine.end; i++) {
    index_t g = i / blocks, k = i % blocks * max_vectors * VW, lanes = min_index(channels - k, max_vectors * VW);
    pack_transposed(w + (g * channels + k) * len, len, lanes, len, round_up(lanes, VW),
                    packed + (g * round_up(channels, VW) + k) * len);
  }
}

// packs_alone tells which weights the first member packs alone: narrowing moves them in their place, and
// depthwise ones are few.
static bool packs_alone(const conv_shape &s) { return rounds(s) || depthwise(s); }

// pack_forward packs the weights, rounded where the factors are. All may read them when it returns.
static void pack_forward(const bs_cpu_member &m, const conv_shape &s, const correlation &c, const float *w,
                         float *packed) {
  if (!packs_alone(s)) {
    pack_blocks(m, s, w, packed);
  } else if (m.index == 0) {
    if (depthwise(s)) pack_transposed(w, s.r * s.s, s.c, s.r * s.s, round_up(s.c, VW), packed);
    else pack_blocks(alone, s, w, packed);
    if (rounds(s)) narrow_weights(s, c, s.r * s.s, packed);
  }
  meet(m);
}

// ---- backward to the input
//
// dx[y] sums dy[(y + pad - r) / stride] w[r] over the r that divide evenly. Write y + pad = stride j + a:
// for each a, the phase, that is a correlation of dy at rows j - t with the taps r = a + stride t, a
// convolution of stride 1 whose outputs lie stride rows apart. Columns likewise.

// phase_taps counts the taps a, a + stride, ... of a filter.
BS_INLINE index_t phase_taps(index_t kernel, index_t stride, index_t a) {
  return a < kernel ? ceil_div(kernel - a, stride) : 0;
}

// first_position is the j of the first rows of dx, and end_position one behind the last, of any phase.
BS_INLINE index_t first_position(index_t stride, index_t pad) { return pad / stride; }
BS_INLINE index_t end_position(index_t size, index_t stride, index_t pad) { return (size - 1 + pad) / stride + 1; }

static sliding_window backward_window(const conv_shape &s) {
  sliding_window v = {};
  v.n = s.n, v.h = s.oh, v.w = s.ow, v.c = s.k;
  index_t first_h = first_position(s.stride_h, s.pad_h), first_w = first_position(s.stride_w, s.pad_w);
  v.rows = end_position(s.h, s.stride_h, s.pad_h) - first_h;
  v.cols = end_position(s.w, s.stride_w, s.pad_w) - first_w;
  v.step_h = v.step_w = 1;
  v.extent_h = phase_taps(s.r, s.stride_h, 0), v.extent_w = phase_taps(s.s, s.stride_w, 0);
  v.top = first_h - (v.extent_h - 1), v.left = first_w - (v.extent_w - 1);
  finish_window(&v);
  if (rounds(s)) v.direct = false; // the copy is rounded
  return v;
}

static correlation backward_correlation(const conv_shape &s) {
  correlation c = {};
  c.window = backward_window(s);
  c.tiles = make_tiling(c.window, correlate_tile_cells,
                        ceil_div(correlate_tile_pixels, min_index(s.stride_h * s.stride_w, 4)));
  c.out_h = s.h, c.out_w = s.w, c.out_c = s.c;
  c.groups = s.groups, c.in_channels = s.k / s.groups, c.out_channels = s.c / s.groups;
  c.out_step_h = s.stride_h, c.out_step_w = s.stride_w;
  if (depthwise(s)) use_depthwise(&c);
  c.weight_cells = line_up(c.groups * group_weight_cells(c, s.r * s.s));
  return c;
}

// phase_axis fills in one axis of phase a: its taps and the positions whose outputs exist.
static void phase_axis(index_t size, index_t kernel, index_t stride, index_t pad, index_t a, index_t *taps,
                       index_t *skip, index_t *first, index_t *last, index_t *origin) {
  index_t base = first_position(stride, pad);
  *taps = phase_taps(kernel, stride, a);
  *skip = phase_taps(kernel, stride, 0) - *taps;
  *origin = stride * base + a - pad; // of position 0; lies in (-stride, stride)
  *first = *origin < 0 ? 1 : 0;
  *last = *origin < size ? (size - 1 - *origin) / stride + 1 : 0;
}

static phase backward_phase(const conv_shape &s, index_t a, index_t b) {
  phase ph = {};
  phase_axis(s.h, s.r, s.stride_h, s.pad_h, a, &ph.taps_h, &ph.skip_h, &ph.first_h, &ph.last_h, &ph.origin_h);
  phase_axis(s.w, s.s, s.stride_w, s.pad_w, b, &ph.taps_w, &ph.skip_w, &ph.first_w, &ph.last_w, &ph.origin_w);
  return ph;
}

// next_weights is where the weights of the phase after ph start.
static index_t next_weights(const correlation &c, const phase &ph) {
  return ph.weights + c.groups * group_weight_cells(c, ph.taps_h * ph.taps_w);
}

// pack_taps packs the weights of output channels [k0, k1) of group g: taps in reverse, input channels as lanes.
static void pack_taps(const conv_shape &s, const phase &ph, index_t a, index_t b, index_t g, index_t k0, index_t k1,
                      const float *w, float *packed) {
  index_t inputs = s.c / s.groups, outputs = s.k / s.groups, filter = s.r * s.s * inputs;
  index_t taps = ph.taps_h * ph.taps_w;
  for (index_t t = 0; t < taps; t++) {
    index_t i = ph.taps_h - 1 - t / ph.taps_w, j = ph.taps_w - 1 - t % ph.taps_w;
    index_t tap = (a + s.stride_h * i) * s.s + b + s.stride_w * j;
    for (index_t c = 0; c < inputs; c += max_vectors * VW) {
      index_t lanes = min_index(inputs - c, max_vectors * VW), width = round_up(lanes, VW);
      const float *from = w + (g * outputs + k0) * filter + tap * inputs + c;
      float *to = packed + taps * outputs * c + (t * outputs + k0) * width;
      pack_lanes(from, filter, k1 - k0, lanes, width, to);
    }
  }
}

// Output channels packed together: as many streams as the processor reads ahead of, and each writes
// whole lines next to one another.
enum { pack_channels = 16 };

// pack_phase packs a member's share of the weights of a phase.
static void pack_phase(const bs_cpu_member &m, const conv_shape &s, const phase &ph, index_t a, index_t b,
                       const float *w, float *packed) {
  if (depthwise(s)) return pack_depthwise_taps(s, ph, a, b, w, packed);
  index_t outputs = s.k / s.groups;
  range mine = share_of(m, ceil_div(outputs, pack_channels));
  for (index_t g = 0; g < s.groups; g++) {
    for (index_t i = mine.first; i < mine.end; i++)
      pack_taps(s, ph, a, b, g, i * pack_channels, min_index((i + 1) * pack_channels, outputs), w, packed);
    packed += ph.taps_h * ph.taps_w * outputs * round_up(s.c / s.groups, VW);
  }
}

// pack_backward packs the weights of all phases, for the correlation `narrow` of rounded factors where they are.
// All may read them when it returns.
static void pack_backward(const bs_cpu_member &m, const conv_shape &s, const correlation &c, const correlation &narrow,
                          const float *w, float *packed) {
  index_t weights = 0;
  bool packs = m.index == 0 || !packs_alone(s);
  for (index_t a = 0; a < s.stride_h && packs; a++) {
    for (index_t b = 0; b < s.stride_w; b++) {
      phase ph = backward_phase(s, a, b);
      ph.weights = weights;
      pack_phase(packs_alone(s) ? alone : m, s, ph, a, b, w, packed + weights);
      if (rounds(s)) narrow_weights(s, c, ph.taps_h * ph.taps_w, packed + weights);
      weights = next_weights(narrow, ph);
    }
  }
  meet(m);
}

// clear_tile zeroes a tile's rows of dx: the outputs of phases without taps stay so, and the others are
// then written to cache, as stores several pixels apart would miss it one by one.
static void clear_tile(const conv_shape &s, const window_tile &tile, float *dx) {
  index_t top = tile.row0 * s.stride_h - s.pad_h % s.stride_h;
  index_t first = max_index(top, 0), last = min_index(top + tile.rows * s.stride_h, s.h);
  for (index_t n = tile.n0; n < tile.n0 + tile.images && first < last; n++)
    memset(dx + (n * s.h + first) * s.w * s.c, 0, sizeof(float) * (last - first) * s.w * s.c);
}

static void backward_tile(const correlation &c, const conv_shape &s, const window_tile &tile, const float *packed,
                          float *dx, const block_output &out, prefetch_range *ahead) {
  index_t weights = 0;
  if (!out.add && s.stride_h * s.stride_w > 1) clear_tile(s, tile, dx);
  for (index_t a = 0; a < s.stride_h; a++) {
    for (index_t b = 0; b < s.stride_w; b++) {
      phase ph = backward_phase(s, a, b);
      ph.weights = weights;
      weights = next_weights(c, ph);
      if (ph.taps_h > 0 && ph.taps_w > 0) choose_phase(c)(c, ph, tile, packed, dx, out, ahead);
    }
  }
}

// ---- the table's kernels

static index_t correlation_cells(const correlation &c) {
  return c.weight_cells + buffer_cells(c.window, c.tiles) + line_cells;
}

// correlate_tiles calls op(tile, ahead) for a member's share of the tiles, with their windows of `source` open in
// its buffer. ahead is what op may fetch for the next tile while it computes `phases` phases.
template <class Op>
BS_INLINE void correlate_tiles(const bs_cpu_member &m, const conv_shape &s, const correlation &c, index_t phases,
                               const float *source, float *buffer, const Op &op) {
  range mine = share_of(m, tile_count(c.window, c.tiles));
  for (index_t i = mine.first; i < mine.end; i++) {
    index_t n0, row0;
    tile_origin(c.window, c.tiles, i, &n0, &row0);
    window_tile tile = open_tile(c.window, c.tiles, n0, row0, source, buffer);
    if (rounds(s)) narrow_tile(s, c, &tile, buffer);
    prefetch_range ahead = prefetch_source(c, tile, phases, source);
    op(tile, &ahead);
  }
}

static bs_status conv2d_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_CONV2D_FORWARD, shape, arg, true);
  if (status != BS_OK) return status;
  const bs_cpu_member &m = member_of(stream);
  conv_shape s = conv_shape_of(shape->conv2d);
  const float *x = (const float *)arg[0], *w = (const float *)arg[1], *bias = (const float *)arg[2];
  float *y = (float *)arg[3], *packed = align_cells(arg[4]);
  block_output out = {0, shape->conv2d.accumulate != 0, shape->conv2d.relu != 0, bias};
  if (winograd_pays(s)) {
    winograd p = winograd_forward(s);
    pack_winograd(m, p, w, {9 * s.c, 1, s.c}, packed);
    meet(m);
    winograd_correlate(m, p, x, out, y, packed);
    return BS_OK;
  }
  correlation c = forward_correlation(s);
  phase ph = forward_phase(s);
  correlation narrow = c; // what is multiplied
  if (pairs(s)) use_pairs(&narrow);
  pack_forward(m, s, c, w, packed);
  correlate_tiles(m, s, c, 1, x, own_cells(m, packed + c.weight_cells),
                  [&](const window_tile &tile, prefetch_range *ahead) {
                    choose_phase(narrow)(narrow, ph, tile, packed, y, out, ahead);
                  });
  return BS_OK;
}

static bs_status conv2d_backward_input(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_CONV2D_BACKWARD_INPUT, shape, arg, true);
  if (status != BS_OK) return status;
  const bs_cpu_member &m = member_of(stream);
  conv_shape s = conv_shape_of(shape->conv2d);
  const float *dy = (const float *)arg[0], *w = (const float *)arg[1];
  float *dx = (float *)arg[2], *packed = align_cells(arg[3]);
  block_output out = {0, shape->conv2d.accumulate != 0, false, NULL};
  if (winograd_pays(s)) { // with the filters turned round
    winograd p = winograd_backward(s);
    pack_winograd(m, p, w + 8 * s.c, {1, 9 * s.c, -s.c}, packed);
    meet(m);
    winograd_correlate(m, p, dy, out, dx, packed);
    return BS_OK;
  }
  correlation c = backward_correlation(s);
  correlation narrow = c; // what is multiplied
  if (pairs(s)) use_pairs(&narrow);
  pack_backward(m, s, c, narrow, w, packed);
  correlate_tiles(m, s, c, s.stride_h * s.stride_w, dy, own_cells(m, packed + c.weight_cells),
                  [&](const window_tile &tile, prefetch_range *ahead) {
                    backward_tile(narrow, s, tile, packed, dx, out, ahead);
                  });
  return BS_OK;
}

static bs_status conv2d_backward_weight(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = bs_check(BS_CONV2D_BACKWARD_WEIGHT, shape, arg, true);
  if (status != BS_OK) return status;
  const bs_cpu_member &m = member_of(stream);
  conv_shape s = conv_shape_of(shape->conv2d);
  const float *x = (const float *)arg[0], *dy = (const float *)arg[1];
  float *dw = (float *)arg[2], *dbias = (float *)arg[3], *work = align_cells(arg[4]);
  if (winograd_pays(s)) winograd_weight_gradient(m, winograd_weight(s), x, dy, dw, dbias, work);
  else if (depthwise(s)) depthwise_weight_gradient(m, make_depthwise_plan(s), x, dy, dw, dbias, work);
  else weight_gradient(m, make_weight_plan(s), x, dy, dw, dbias, work);
  return BS_OK;
}

// conv2d_workspace is the workspace function of the three kernels.
static int64_t conv2d_workspace(int32_t kernel, const bs_shape *shape) {
  conv_shape s = conv_shape_of(shape->conv2d);
  if (winograd_pays(s)) {
    if (kernel == BS_CONV2D_FORWARD) return winograd_cells(winograd_forward(s));
    if (kernel == BS_CONV2D_BACKWARD_INPUT) return winograd_cells(winograd_backward(s));
    return winograd_weight_cells(winograd_weight(s));
  }
  if (kernel == BS_CONV2D_FORWARD) return correlation_cells(forward_correlation(s));
  if (kernel == BS_CONV2D_BACKWARD_INPUT) return correlation_cells(backward_correlation(s));
  return depthwise(s) ? make_depthwise_plan(s).cells : make_weight_plan(s).cells;
}
