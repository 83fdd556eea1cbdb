// conv2d_transpose.h: transposes between tensors and packed panels, in vectors. Weights and their sums
// are megabytes in wide layers: moved cell by cell they cost as much as a tenth of the convolution.

// interleave_low returns a0 b0 a1 b1 ..., interleave_high the rest of that sequence.
BS_INLINE vf interleave_low(vf a, vf b) {
#if BS_VEC_BYTES == 64
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif BS_VEC_BYTES == 32
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}
BS_INLINE vf interleave_high(vf a, vf b) {
#if BS_VEC_BYTES == 64
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif BS_VEC_BYTES == 32
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}

// transpose_square transposes VW vectors: log2(VW) perfect shuffles.
BS_INLINE void transpose_square(vf (&row)[VW]) {
#pragma GCC unroll 4
  for (int stage = 1; stage < VW; stage *= 2) {
    vf next[VW];
#pragma GCC unroll 8
    for (int i = 0; i < VW / 2; i++) {
      next[2 * i] = interleave_low(row[i], row[i + VW / 2]);
      next[2 * i + 1] = interleave_high(row[i], row[i + VW / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) row[i] = next[i];
  }
}

// load_square reads `rows` x `cols` cells, each at most VW, and transposes them; the rest is zeros.
BS_INLINE void load_square(const float *src, index_t stride, index_t rows, index_t cols, vf (&square)[VW]) {
  if (rows >= VW && cols >= VW) {
#pragma GCC unroll 16
    for (int i = 0; i < VW; i++) square[i] = load(src + i * stride);
  } else {
    for (int i = 0; i < VW; i++) square[i] = i < rows ? load_partial(src + i * stride, (int)min_index(cols, VW)) : zero();
  }
  transpose_square(square);
}

// pack_transposed writes dst[col width + row] = src[row stride + col] for `cols` columns and all rows below
// `width`, a multiple of VW: zeros from row `rows` on.
static void pack_transposed(const float *src, index_t stride, index_t rows, index_t cols, index_t width, float *dst) {
  for (index_t col = 0; col < cols; col += VW) {
    for (index_t row = 0; row < width; row += VW) {
      vf square[VW];
      load_square(src + row * stride + col, stride, rows - row, cols - col, square);
      for (index_t i = 0; i < min_index(cols - col, VW); i++) store(dst + (col + i) * width + row, square[i]);
    }
  }
}

// add_transposed adds dst[col dst_stride + row] += src[row stride + col].
static void add_transposed(const float *src, index_t stride, index_t rows, index_t cols, index_t dst_stride, float *dst) {
  for (index_t row = 0; row < rows; row += VW) {
    int count = (int)min_index(rows - row, VW);
    for (index_t col = 0; col < cols; col += VW) {
      vf square[VW];
      load_square(src + row * stride + col, stride, count, cols - col, square);
      for (index_t i = 0; i < min_index(cols - col, VW); i++) {
        float *to = dst + (col + i) * dst_stride + row;
        store_partial(to, load_partial(to, count) + square[i], count);
      }
    }
  }
}

// pack_lanes copies `rows` rows of `lanes` cells, zero-padded to `width`, a multiple of VW.
static void pack_lanes(const float *src, index_t stride, index_t rows, index_t lanes, index_t width, float *dst) {
  for (index_t row = 0; row < rows; row++, src += stride, dst += width)
    for (index_t i = 0; i < width; i += VW) store(dst + i, load_partial(src + i, (int)min_index(lanes - i, VW)));
}
