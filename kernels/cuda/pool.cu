// pool.cu: max and average pooling over NHWC. A thread takes one pixel of V channels; backward passes gather
// what the windows over a pixel give it, so that sums have a fixed order.
#include "each.cuh"
#include "kernels.cuh"

namespace bs {
namespace cuda {
namespace {

// Image n, row y, column x, first channel c.
struct pixel_place {
  int64_t n;
  int y, x, c;
};

// place_of is the i-th group of V channels of images of h x w pixels of c channels.
template <int V> __device__ __forceinline__ pixel_place place_of(int64_t i, int h, int w, int c) {
  int64_t pixel = divide(i, c / V), row = divide(pixel, w), n = divide(row, h);
  return {n, (int)(row - n * h), (int)(pixel - row * w), (int)(i - pixel * (c / V)) * V};
}

// A range of rows or columns.
struct span {
  int first, end;
};

// window_of is what output o sees of an axis.
__device__ __forceinline__ span window_of(int o, int window, int stride, int pad, int size) {
  int64_t first = (int64_t)o * stride - pad, end = first + window;
  return {first < 0 ? 0 : (int)first, end < size ? (int)end : size};
}

// windows_over are the outputs that see input i of an axis.
__device__ __forceinline__ span windows_over(int i, int window, int stride, int pad, int outputs) {
  int64_t reach = (int64_t)i + pad, first = reach < window ? 0 : (reach - window) / stride + 1, end = reach / stride + 1;
  return {(int)first, end < outputs ? (int)end : outputs};
}

// each_group runs op.at<V>(i) for all groups of V channels of pixels.
template <typename Op> bs_status each_group(void *stream, int64_t elements, int c, bool wide, Op op) {
  if (wide && c % 4 == 0) return each(stream, elements / 4, [=] __device__(int64_t i) { op.template at<4>(i); });
  return each(stream, elements, [=] __device__(int64_t i) { op.template at<1>(i); });
}

template <int V> __device__ __forceinline__ lanes<V> get(const float *p) { return load<V, true>(p); }
template <int V> __device__ __forceinline__ void put(float *p, const lanes<V> &r) { store<V, true>(p, r); }
template <int V> struct alignas(4 * V) indexes { int32_t v[V]; };

struct max_forward {
  bs_pool s;
  const float *x;
  float *y;
  int32_t *index;

  template <int V> __device__ void at(int64_t i) const {
    pixel_place o = place_of<V>(i, s.oh, s.ow, s.c);
    span rows = window_of(o.y, s.r, s.stride_h, s.pad_h, s.h), columns = window_of(o.x, s.s, s.stride_w, s.pad_w, s.w);
    const float *image = x + o.n * s.h * s.w * s.c + o.c;
    int start = rows.first * s.w + columns.first;
    lanes<V> best = get<V>(image + (int64_t)start * s.c);
    indexes<V> where;
    for (int k = 0; k < V; k++) where.v[k] = start;
    for (int row = rows.first; row < rows.end; row++)
      for (int column = columns.first; column < columns.end; column++) {
        int position = row * s.w + column;
        lanes<V> v = get<V>(image + (int64_t)position * s.c);
        for (int k = 0; k < V; k++)
          if (v.v[k] > best.v[k] || v.v[k] != v.v[k]) // a NaN wins, so that a diverging run is seen
            best.v[k] = v.v[k], where.v[k] = position;
      }
    put<V>(y + i * V, best);
    *(indexes<V> *)(index + i * V) = where;
  }
};

struct max_backward {
  bs_pool s;
  const float *dy;
  const int32_t *index;
  float *dx;
  int32_t *fault;

  template <int V> __device__ void at(int64_t i) const {
    pixel_place in = place_of<V>(i, s.h, s.w, s.c);
    span rows = windows_over(in.y, s.r, s.stride_h, s.pad_h, s.oh), columns = windows_over(in.x, s.s, s.stride_w, s.pad_w, s.ow);
    uint32_t position = (uint32_t)(in.y * s.w + in.x), pixels = (uint32_t)s.h * (uint32_t)s.w;
    lanes<V> sum = {};
    if (s.accumulate) sum = get<V>(dx + i * V);
    for (int row = rows.first; row < rows.end; row++)
      for (int column = columns.first; column < columns.end; column++) {
        int64_t out = ((in.n * s.oh + row) * s.ow + column) * s.c + in.c;
        indexes<V> where = *(const indexes<V> *)(index + out);
        lanes<V> d = get<V>(dy + out);
        for (int k = 0; k < V; k++) {
          if ((uint32_t)where.v[k] == position) sum.v[k] += d.v[k];
          if ((uint32_t)where.v[k] >= pixels) *fault = BS_BAD_ARGUMENT;
        }
      }
    put<V>(dx + i * V, sum);
  }
};

struct max_tangent {
  bs_pool s;
  const float *tx;
  const int32_t *index;
  float *ty;
  int32_t *fault;

  template <int V> __device__ void at(int64_t i) const {
    int64_t pixel = divide(i, s.c / V), n = pixel / ((int64_t)s.oh * s.ow), pixels = (int64_t)s.h * s.w;
    int c = (int)(i - pixel * (s.c / V)) * V;
    indexes<V> where = *(const indexes<V> *)(index + i * V);
    lanes<V> t;
    for (int k = 0; k < V; k++) {
      bool bad = where.v[k] < 0 || where.v[k] >= pixels;
      if (bad) *fault = BS_BAD_ARGUMENT;
      t.v[k] = bad ? 0 : tx[(n * pixels + where.v[k]) * s.c + c + k];
    }
    put<V>(ty + i * V, t);
  }
};

struct average_forward {
  bs_pool s;
  const float *x;
  float *y, size;

  template <int V> __device__ void at(int64_t i) const {
    pixel_place o = place_of<V>(i, s.oh, s.ow, s.c);
    span rows = window_of(o.y, s.r, s.stride_h, s.pad_h, s.h), columns = window_of(o.x, s.s, s.stride_w, s.pad_w, s.w);
    const float *image = x + o.n * s.h * s.w * s.c + o.c;
    lanes<V> sum = {};
    for (int row = rows.first; row < rows.end; row++)
      for (int column = columns.first; column < columns.end; column++) {
        lanes<V> v = get<V>(image + ((int64_t)row * s.w + column) * s.c);
        for (int k = 0; k < V; k++) sum.v[k] += v.v[k];
      }
    for (int k = 0; k < V; k++) sum.v[k] /= size;
    put<V>(y + i * V, sum);
  }
};

struct average_backward {
  bs_pool s;
  const float *dy;
  float *dx, size;

  template <int V> __device__ void at(int64_t i) const {
    pixel_place in = place_of<V>(i, s.h, s.w, s.c);
    span rows = windows_over(in.y, s.r, s.stride_h, s.pad_h, s.oh), columns = windows_over(in.x, s.s, s.stride_w, s.pad_w, s.ow);
    lanes<V> sum = {}, before = {};
    for (int row = rows.first; row < rows.end; row++)
      for (int column = columns.first; column < columns.end; column++) {
        lanes<V> d = get<V>(dy + ((in.n * s.oh + row) * s.ow + column) * s.c + in.c);
        for (int k = 0; k < V; k++) sum.v[k] += d.v[k];
      }
    if (s.accumulate) before = get<V>(dx + i * V);
    for (int k = 0; k < V; k++) sum.v[k] = before.v[k] + sum.v[k] / size;
    put<V>(dx + i * V, sum);
  }
};

int64_t inputs(const bs_pool &s) { return (int64_t)s.n * s.h * s.w * s.c; }
int64_t outputs(const bs_pool &s) { return (int64_t)s.n * s.oh * s.ow * s.c; }
float window_size(const bs_pool &s) { return (float)((int64_t)s.r * s.s); }

} // namespace

bs_status maxpool_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_MAXPOOL_FORWARD, shape, arg);
  if (status != BS_OK) return status;
  max_forward op = {shape->pool, arg_at<const float>(arg, 0), arg_at<float>(arg, 1), arg_at<int32_t>(arg, 2)};
  return each_group(stream, outputs(op.s), op.s.c, aligned(op.x, op.y, op.index), op);
}

bs_status maxpool_backward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_MAXPOOL_BACKWARD, shape, arg);
  if (status != BS_OK) return status;
  max_backward op = {shape->pool, arg_at<const float>(arg, 0), arg_at<const int32_t>(arg, 1), arg_at<float>(arg, 2),
                     queue_of(stream).fault};
  return each_group(stream, inputs(op.s), op.s.c, aligned(op.dy, op.index, op.dx), op);
}

bs_status maxpool_tangent(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_MAXPOOL_TANGENT, shape, arg);
  if (status != BS_OK) return status;
  max_tangent op = {shape->pool, arg_at<const float>(arg, 0), arg_at<const int32_t>(arg, 1), arg_at<float>(arg, 2),
                    queue_of(stream).fault};
  return each_group(stream, outputs(op.s), op.s.c, aligned(op.index, op.ty), op);
}

bs_status avgpool_forward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_AVGPOOL_FORWARD, shape, arg);
  if (status != BS_OK) return status;
  average_forward op = {shape->pool, arg_at<const float>(arg, 0), arg_at<float>(arg, 1), window_size(shape->pool)};
  return each_group(stream, outputs(op.s), op.s.c, aligned(op.x, op.y), op);
}

bs_status avgpool_backward(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_AVGPOOL_BACKWARD, shape, arg);
  if (status != BS_OK) return status;
  average_backward op = {shape->pool, arg_at<const float>(arg, 0), arg_at<float>(arg, 1), window_size(shape->pool)};
  return each_group(stream, inputs(op.s), op.s.c, aligned(op.dy, op.dx), op);
}

} // namespace cuda
} // namespace bs
