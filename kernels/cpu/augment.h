// augment.h: gathers byte images by index, crops, mirrors, normalises and cuts out.

// The random choices for one image.
struct augment_draw {
  int crop_row, crop_col; // source offset of the output's corner, in [-pad, pad]
  bool flip;
  int cut_row, cut_col; // first row and column of the cutout
};

// draw_below returns a number in [0, m) from 32 random bits.
static int draw_below(uint32_t word, int m) { return (int)(((uint64_t)word * (uint32_t)m) >> 32); }

static augment_draw draw_augment(const bs_augment &s, const uint32_t *key, int32_t sample) {
  uint32_t words[8];
  philox_blocks<2>(sample_stream(key, sample, 1, 0), 0, words);
  augment_draw d;
  d.crop_row = draw_below(words[0], 2 * s.pad + 1) - s.pad;
  d.crop_col = draw_below(words[1], 2 * s.pad + 1) - s.pad;
  d.flip = s.flip && words[2] >> 31;
  d.cut_row = draw_below(words[4], s.h) - s.cutout / 2;
  d.cut_col = draw_below(words[5], s.w) - s.cutout / 2;
  return d;
}

// byte_table fills table [c][256] with (byte/255 - mean) * inverse deviation.
static void byte_table(const float *normal, int c, float *table) {
  for (int k = 0; k < c; k++)
    for (int byte = 0; byte < 256; byte++)
      table[k * 256 + byte] = (float)((byte / 255.0 - (double)normal[k]) * (double)normal[c + k]);
}

// augment_row writes output row [w][c] from source row `from` (NULL: outside the image, byte 0).
static void augment_row(const bs_augment &s, const augment_draw &d, const uint8_t *from, const float *table,
                        float *to) {
  for (int x = 0; x < s.w; x++, to += s.c) {
    int column = (d.flip ? s.w - 1 - x : x) + d.crop_col;
    bool inside = from && column >= 0 && column < s.w;
    const uint8_t *pixel = inside ? from + (int64_t)column * s.c : nullptr;
    for (int k = 0; k < s.c; k++) to[k] = table[k * 256 + (inside ? pixel[k] : 0)];
  }
}

// cut_out sets the square of the draw to 0 in image [h][w][c].
static void cut_out(const bs_augment &s, const augment_draw &d, float *image) {
  int top = d.cut_row < 0 ? 0 : d.cut_row, left = d.cut_col < 0 ? 0 : d.cut_col;
  int bottom = d.cut_row + s.cutout < s.h ? d.cut_row + s.cutout : s.h;
  int right = d.cut_col + s.cutout < s.w ? d.cut_col + s.cutout : s.w;
  if (right <= left) return;
  for (int y = top; y < bottom; y++)
    memset(image + ((int64_t)y * s.w + left) * s.c, 0, sizeof(float) * (size_t)(right - left) * (size_t)s.c);
}

static int64_t augment_workspace(const bs_augment &s) { return 256 * (int64_t)s.c; }

static bs_status augment(const bs_shape *shape, void *const *arg, void *) {
  bs_status status = bs_check(BS_AUGMENT, shape, arg, true);
  if (status != BS_OK) return status;
  const bs_augment &s = shape->augment;
  const uint8_t *images = arg_at<const uint8_t>(arg, 0);
  const int32_t *labels = arg_at<const int32_t>(arg, 1), *index = arg_at<const int32_t>(arg, 2);
  const uint32_t *key = arg_at<const uint32_t>(arg, 3);
  float *x = arg_at<float>(arg, 5), *table = arg_at<float>(arg, 7);
  int32_t *label = arg_at<int32_t>(arg, 6);
  for (int i = 0; i < s.n; i++)
    if (index[i] < 0 || index[i] >= s.images) return BS_BAD_ARGUMENT;
  byte_table(arg_at<const float>(arg, 4), s.c, table);
  int64_t row = (int64_t)s.w * s.c, size = row * s.h;
  for (int i = 0; i < s.n; i++) {
    const uint8_t *image = images + index[i] * size;
    float *to = x + i * size;
    augment_draw d = draw_augment(s, key, index[i]);
    for (int y = 0; y < s.h; y++) {
      int from = y + d.crop_row;
      augment_row(s, d, from >= 0 && from < s.h ? image + from * row : nullptr, table, to + y * row);
    }
    if (s.cutout) cut_out(s, d, to);
    label[i] = labels[index[i]];
  }
  return BS_OK;
}
