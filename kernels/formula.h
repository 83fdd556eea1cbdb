/* formula.h: what is computed once for a tensor or a row of one, by every table of C and C++ alike. */
#ifndef BROADSIDE_FORMULA_H
#define BROADSIDE_FORMULA_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "broadside.h"

#ifdef __CUDACC__
#define BS_FORMULA static inline __host__ __device__
#else
#define BS_FORMULA static inline
#endif

/* bs_double reads double i of cells, which need not be aligned to 8 bytes. */
BS_FORMULA double bs_double(const float *cells, int64_t i) {
  double v;
  memcpy(&v, cells + 2 * i, sizeof v);
  return v;
}

/* bs_trust_ratio: w, g and dot as the kernel trust has them; the hyper's learning rate and gradient scale. A NaN stays. */
BS_FORMULA double bs_trust_ratio(const bs_trust *s, double w, double g, const double *dot, double lr, double scale) {
  double decay = s->weight_decay, ratio;
  w = fabs(w), g = fabs(g);
  if (!s->mean) g *= scale;
  if (dot && s->form == BS_TRUST_NORMS) {
    double square = g * g + 2 * scale * decay * *dot + decay * decay * w * w;
    g = square <= 0 ? 0 : sqrt(square);
    decay = 0;
  }
  if (s->form == BS_TRUST_CURVATURE) ratio = s->coefficient / (g + decay + s->eps);
  else if (w == 0 || g == 0) ratio = 1;
  else ratio = s->coefficient * (w > s->w_high ? s->w_high : w) / (g + decay * w + s->eps);
  ratio = ratio < s->low ? s->low : ratio > s->high ? s->high : ratio;
  if (!s->larc) return ratio;
  return ratio > lr ? 1 : ratio / lr;
}

/* bs_trust_tensor writes the hyper of tensor i. */
BS_FORMULA void bs_trust_tensor(const bs_trust *s, int64_t i, const float *w, const float *g, const float *dot,
                                const float *hyper, float *out) {
  double lr = hyper[0], scale = hyper[1], ratio = 1, product = 0;
  if (s->form != BS_TRUST_ONE) {
    if (dot) product = bs_double(dot, i);
    ratio = bs_trust_ratio(s, w ? bs_double(w, i) : 1, bs_double(g, i), dot ? &product : NULL, lr, scale);
  }
  out[3 * i] = s->place == BS_TRUST_GAIN_LR ? 1 : (float)(s->place == BS_TRUST_LR ? lr * ratio : lr);
  out[3 * i + 1] = hyper[1];
  out[3 * i + 2] = s->place == BS_TRUST_LR ? 1 : (float)(s->place == BS_TRUST_GAIN_LR ? lr * ratio : ratio);
}

/* bs_clip_scale is the gradient scale that bounds scale * norm. A norm that is NaN leaves it as it is. */
BS_FORMULA float bs_clip_scale(const bs_clip *s, double norm, float scale) {
  double length = scale * norm + s->eps;
  return length > s->max ? (float)(scale * (s->max / length)) : scale;
}

/* bs_agc_factor is what a row of the gradient sum is multiplied by: 1 if it is short enough. */
BS_FORMULA float bs_agc_factor(const bs_agc *s, double w, double g, double scale) {
  double limit = s->lambda * (w > s->floor ? w : s->floor);
  g *= scale;
  return g > limit ? (float)(limit / (g > 1e-6 ? g : 1e-6)) : 1;
}

/* bs_snr_ratio is the squared mean over the variance of an element of so many micro gradients, negative if it has
 * no variance. */
BS_FORMULA double bs_snr_ratio(double groups, float sum, float square) {
  double mean = (double)sum * sum, variance = groups * square - mean;
  return variance > 0 ? mean / variance : -1;
}

/* bs_snr_factor is what a gradient with a ratio is multiplied by. */
BS_FORMULA float bs_snr_factor(double ratio, double mean, double least) {
  if (ratio < 0 || ratio >= mean) return 1;
  return (float)(ratio > least * mean ? ratio / mean : least);
}

/* bs_ratio_bits are the bits of |x| / (|z| + delta), which are in the order of the values; those of no number if a 0
 * does not count. */
BS_FORMULA uint32_t bs_ratio_bits(float x, float z, float delta, int zeros) {
  float ratio = fabsf(x) / (fabsf(z) + delta);
  uint32_t bits;
  if (x == 0 && !zeros) return 0xffffffffu;
  memcpy(&bits, &ratio, sizeof bits);
  return bits;
}

/* bs_is_finite tells the bits of a ratio that is finite. */
BS_FORMULA int bs_is_finite(uint32_t bits) { return bits < 0x7f800000u; }

/* bs_middle is the median of ratios of which these two are in the middle. */
BS_FORMULA double bs_middle(uint32_t lower, uint32_t upper) {
  float a, b;
  memcpy(&a, &lower, sizeof a);
  memcpy(&b, &upper, sizeof b);
  return ((double)a + b) / 2;
}

#endif
