// augment.cu: gathers byte images by index, crops, mirrors, normalises and cuts out.
#include "each.cuh"
#include "kernels.cuh"
#include "philox.cuh"

namespace bs {
namespace cuda {
namespace {

constexpr int threads = 256, per_thread = 16; // elements

// The random choices for one image.
struct augment_draw {
  int crop_row, crop_col; // source offset of the output's corner, in [-pad, pad]
  bool flip;
  int cut_row, cut_col; // first row and column of the cutout
};

// draw_below returns a number in [0, m) from 32 random bits.
__device__ int draw_below(uint32_t word, int m) { return (int)__umulhi(word, (uint32_t)m); }

__device__ augment_draw draw_augment(const bs_augment &s, const uint32_t *key, int32_t sample) {
  philox_stream stream = sample_stream(key, sample, 1, 0);
  uint4 first = philox_block(stream, 0), second = philox_block(stream, 1);
  augment_draw d;
  d.crop_row = draw_below(first.x, 2 * s.pad + 1) - s.pad;
  d.crop_col = draw_below(first.y, 2 * s.pad + 1) - s.pad;
  d.flip = s.flip && first.z >> 31;
  d.cut_row = draw_below(second.x, s.h) - s.cutout / 2;
  d.cut_col = draw_below(second.y, s.w) - s.cutout / 2;
  return d;
}

// inside reports whether first <= i < first + size, where the sum may be large.
__device__ bool inside(int i, int first, int size) { return i >= first && (int64_t)i < (int64_t)first + size; }

// unit is byte / 255, rounded like that division, for every byte: the quotient by the reciprocal, corrected. The
// division itself checks for numbers out of range, which costs registers.
__device__ __forceinline__ float unit(float byte) {
  const float reciprocal = 1.0f / 255;
  float quotient = byte * reciprocal;
  return __fmaf_rn(__fmaf_rn(-quotient, 255, byte), reciprocal, quotient);
}

// augmented is pixel (y, x) of the augmented image in channel k.
__device__ float augmented(const bs_augment &s, const augment_draw &d, const uint8_t *image, const float *normal, int y,
                           int x, int k) {
  if (inside(y, d.cut_row, s.cutout) && inside(x, d.cut_col, s.cutout)) return 0;
  int row = y + d.crop_row, column = (d.flip ? s.w - 1 - x : x) + d.crop_col;
  bool there = inside(row, 0, s.h) && inside(column, 0, s.w);
  float byte = there ? image[((int64_t)row * s.w + column) * s.c + k] : 0;
  return (unit(byte) - normal[k]) * normal[s.c + k];
}

struct augment_args {
  const uint8_t *images;
  const int32_t *labels, *index;
  const uint32_t *key;
  const float *normal;
  float *x;
  int32_t *label, *fault;
};

// `parts` blocks share an image.
__global__ void __launch_bounds__(threads) augment_kernel(bs_augment s, int64_t parts, augment_args a) {
  int64_t n = blockIdx.x / parts, part = blockIdx.x - n * parts, size = (int64_t)s.h * s.w * s.c;
  int32_t from = a.index[n];
  if (from < 0 || from >= s.images) {
    if (threadIdx.x == 0) *a.fault = BS_BAD_ARGUMENT;
    return;
  }
  if (part == 0 && threadIdx.x == 0) a.label[n] = a.labels[from];
  augment_draw d = draw_augment(s, a.key, from);
  for (int64_t i = part * threads + threadIdx.x; i < size; i += parts * threads) {
    int64_t pixel = divide(i, s.c);
    int y = (int)divide(pixel, s.w), x = (int)(pixel - (int64_t)y * s.w), k = (int)(i - pixel * s.c);
    a.x[n * size + i] = augmented(s, d, a.images + from * size, a.normal, y, x, k);
  }
}

} // namespace

bs_status augment(const bs_shape *shape, void *const *arg, void *stream) {
  bs_status status = check(BS_AUGMENT, shape, arg);
  if (status != BS_OK) return status;
  const bs_augment &s = shape->augment;
  augment_args a = {arg_at<const uint8_t>(arg, 0),  arg_at<const int32_t>(arg, 1), arg_at<const int32_t>(arg, 2),
                    arg_at<const uint32_t>(arg, 3), arg_at<const float>(arg, 4),   arg_at<float>(arg, 5),
                    arg_at<int32_t>(arg, 6),        queue_of(stream).fault};
  int64_t parts = ceil_div((int64_t)s.h * s.w * s.c, (int64_t)(threads * per_thread));
  return launch(stream, augment_kernel, dim3((unsigned)(s.n * parts)), dim3(threads), 0, s, parts, a);
}

} // namespace cuda
} // namespace bs
