/* check.h: what every table refuses: bad shapes, and calls that lack a required argument. */
#ifndef BROADSIDE_CHECK_H
#define BROADSIDE_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "broadside.h"

static inline bool bs_bad_conv_axis(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t out) {
  if (in <= 0 || kernel <= 0 || stride <= 0 || pad < 0 || out <= 0 || in + 2 * pad < kernel) return true;
  return out != (in + 2 * pad - kernel) / stride + 1;
}

static inline bool bs_bad_conv2d(const bs_conv2d *s) {
  if (s->n <= 0 || s->c <= 0 || s->k <= 0 || s->groups <= 0 || s->c % s->groups || s->k % s->groups) return true;
  if (s->precision < BS_F32 || s->precision > BS_TF32) return true;
  return bs_bad_conv_axis(s->h, s->r, s->stride_h, s->pad_h, s->oh) ||
         bs_bad_conv_axis(s->w, s->s, s->stride_w, s->pad_w, s->ow);
}

/* The ghosts of a good shape, and the samples of its last one. */
static inline int32_t bs_ghosts(const bs_batchnorm *s) { return (int32_t)(((int64_t)s->n + s->ghost - 1) / s->ghost); }
static inline int32_t bs_last_ghost(const bs_batchnorm *s) {
  return (int32_t)(s->n - (int64_t)(bs_ghosts(s) - 1) * s->ghost);
}

/* Training on a ghost with one value per channel is refused too: it has no variance. */
static inline bool bs_bad_batchnorm(const bs_batchnorm *s, bool tangent) {
  if (s->n <= 0 || s->hw <= 0 || s->c <= 0 || s->ghost <= 0 || !(s->eps >= 0)) return true;
  if (s->synced) return s->synced != 1 || s->frozen || tangent;
  return !s->frozen && (int64_t)bs_last_ghost(s) * s->hw < 2;
}

static inline bool bs_bad_combine(const bs_combine *s) {
  return s->parts <= 0 || s->c <= 0 || s->blocks <= 0 || s->stride < 2 * (int64_t)s->c || s->values <= 0 ||
         (s->variances && s->parts * s->values < 2);
}

/* Refuses a window without an element of the image. The output may be rounded up. */
static inline bool bs_bad_pool_axis(int64_t size, int64_t window, int64_t stride, int64_t pad, int64_t out) {
  if (size <= 0 || window <= 0 || stride <= 0 || out <= 0 || pad < 0 || pad >= window) return true;
  return (out - 1) * stride - pad >= size;
}

static inline bool bs_bad_pool(const bs_pool *s) {
  return s->n <= 0 || s->c <= 0 || (int64_t)s->h * s->w > 0x7fffffff ||
         bs_bad_pool_axis(s->h, s->r, s->stride_h, s->pad_h, s->oh) ||
         bs_bad_pool_axis(s->w, s->s, s->stride_w, s->pad_w, s->ow);
}

static inline bool bs_bad_dropout(const bs_dropout *s) {
  return s->n <= 0 || s->per <= 0 || s->layer < 0 || s->layer >= 65536 || !(s->p >= 0 && s->p < 1);
}

static inline bool bs_bad_softmax(const bs_softmax *s) {
  return s->n <= 0 || s->classes <= 0 || !(s->smoothing >= 0 && s->smoothing <= 1);
}

static inline bool bs_bad_augment(const bs_augment *s) {
  return s->n <= 0 || s->h <= 0 || s->w <= 0 || s->c <= 0 || s->pad < 0 || s->pad > 1 << 20 || s->cutout < 0 || s->images <= 0;
}

static inline bool bs_bad_philox(const bs_philox *s) {
  return s->count <= 0 || s->count / 4 > 0xffffffffLL || s->distribution < BS_BITS || s->distribution > BS_RADEMACHER;
}

static inline bool bs_bad_trust(const bs_trust *s) {
  return s->count <= 0 || s->form < BS_TRUST_ONE || s->form > BS_TRUST_CURVATURE || s->place < BS_TRUST_GAIN_LR ||
         s->place > BS_TRUST_LR || !(s->weight_decay >= 0) || !(s->eps >= 0) || !(s->low >= 0) || !(s->high >= s->low) ||
         !(s->w_high >= 0);
}

static inline bool bs_bad_adam(const bs_adam *s) {
  return s->count <= 0 || !(s->beta1 >= 0 && s->beta1 < 1) || !(s->beta2 >= 0 && s->beta2 < 1) || !(s->eps >= 0);
}

/* bs_bad_shape reports a shape that the kernel refuses. */
static inline bool bs_bad_shape(int32_t kernel, const bs_shape *shape) {
  switch (kernel) {
  case BS_CONV2D_FORWARD:
  case BS_CONV2D_BACKWARD_INPUT:
  case BS_CONV2D_BACKWARD_WEIGHT:
    return bs_bad_conv2d(&shape->conv2d);
  case BS_BATCHNORM_FORWARD:
  case BS_BATCHNORM_BACKWARD:
    return bs_bad_batchnorm(&shape->batchnorm, false);
  case BS_BATCHNORM_TANGENT_FORWARD:
  case BS_BATCHNORM_TANGENT_BACKWARD:
    return bs_bad_batchnorm(&shape->batchnorm, true);
  case BS_BATCHNORM_FOLD:
    return shape->fold.ghosts <= 0 || shape->fold.c <= 0;
  case BS_BATCHNORM_COMBINE:
    return bs_bad_combine(&shape->combine);
  case BS_RELU_BACKWARD:
    return shape->vector.count <= 0 || (shape->vector.b != 0 && shape->vector.b != 1);
  case BS_RELU_FORWARD:
  case BS_AXPBY:
  case BS_ADD:
  case BS_DOT:
  case BS_NORM:
  case BS_MINMAX:
  case BS_MULADD:
    return shape->vector.count <= 0;
  case BS_MEDIAN:
    return shape->vector.count <= 0 || !(shape->vector.a >= 0);
  case BS_SNR:
    return shape->vector.count <= 0 || !(shape->vector.a >= 2) || !(shape->vector.b >= 0 && shape->vector.b <= 1);
  case BS_MAXPOOL_FORWARD:
  case BS_MAXPOOL_BACKWARD:
  case BS_MAXPOOL_TANGENT:
  case BS_AVGPOOL_FORWARD:
  case BS_AVGPOOL_BACKWARD:
    return bs_bad_pool(&shape->pool);
  case BS_DROPOUT:
  case BS_FORWARD_GRADIENT:
    return bs_bad_dropout(&shape->dropout);
  case BS_SOFTMAX_XENT:
  case BS_SOFTMAX_XENT_TANGENT:
    return bs_bad_softmax(&shape->softmax);
  case BS_AUGMENT:
    return bs_bad_augment(&shape->augment);
  case BS_PGD_STEP:
    return shape->pgd.count <= 0 || !(shape->pgd.eps >= 0);
  case BS_SGD:
    return shape->sgd.count <= 0;
  case BS_PHILOX:
    return bs_bad_philox(&shape->philox);
  case BS_CLIP:
    return !(shape->clip.max > 0) || !(shape->clip.eps >= 0);
  case BS_AGC:
    return shape->agc.units <= 0 || shape->agc.fan <= 0 || !(shape->agc.lambda > 0) || !(shape->agc.floor >= 0);
  case BS_TRUST:
    return bs_bad_trust(&shape->trust);
  case BS_ADAM:
    return bs_bad_adam(&shape->adam);
  }
  return true;
}

/* bs_optional returns the arguments that may be NULL, argument i as bit i. */
static inline uint32_t bs_optional(int32_t kernel, const bs_shape *shape) {
  switch (kernel) {
  case BS_CONV2D_FORWARD:
    return 1u << 2; /* bias */
  case BS_CONV2D_BACKWARD_WEIGHT:
    return 1u << 3; /* dbias */
  case BS_BATCHNORM_FORWARD: /* residual, set, running, y, stats */
    return 1u << 3 | 1u << 4 | (shape->batchnorm.frozen ? 0 : 1u << 5) | (shape->batchnorm.synced ? 1u << 6 : 0) | 1u << 8;
  case BS_BATCHNORM_BACKWARD: /* y, set, dx, dresidual, dgamma, dbeta */
    return (shape->batchnorm.relu ? 0 : 1u << 1) | 1u << 4 | 1u << 6 | 1u << 7 | 1u << 8 | 1u << 9;
  case BS_BATCHNORM_TANGENT_FORWARD: /* y, set, tresidual */
    return (shape->batchnorm.relu ? 0 : 1u << 1) | 1u << 3 | 1u << 8;
  case BS_BATCHNORM_TANGENT_BACKWARD: /* y, set, tdx, tdresidual */
    return (shape->batchnorm.relu ? 0 : 1u << 1) | 1u << 4 | 1u << 11 | 1u << 12;
  case BS_BATCHNORM_COMBINE:
    return 1u << 2; /* stats */
  case BS_SOFTMAX_XENT:
    return 1u << 2 | 1u << 6; /* weight, dlogits */
  case BS_SOFTMAX_XENT_TANGENT:
    return 1u << 1; /* weight */
  case BS_PGD_STEP:
    return 1u << 3; /* bounds */
  case BS_SGD:
    return shape->sgd.momentum != 0 ? 0 : 1u << 2; /* velocity */
  case BS_TRUST: /* w, g, dot */
    return (shape->trust.form == BS_TRUST_NORMS ? 0 : 1u << 0) | (shape->trust.form == BS_TRUST_ONE ? 1u << 1 : 0) | 1u << 2;
  }
  return 0;
}

/* bs_check refuses a bad shape, then a missing argument. workspace: this table's kernel needs one. */
static inline bs_status bs_check(int32_t kernel, const bs_shape *shape, void *const *arg, bool workspace) {
#define BS_ARGS(NAME, name, shape, args) args,
  static const int8_t args[] = {BS_KERNELS(BS_ARGS)};
#undef BS_ARGS
  if (bs_bad_shape(kernel, shape)) return BS_BAD_SHAPE;
  uint32_t optional = bs_optional(kernel, shape);
  for (int i = 0; i < args[kernel]; i++)
    if (!arg[i] && !(optional >> i & 1)) return BS_BAD_ARGUMENT;
  return workspace && !arg[args[kernel]] ? BS_BAD_ARGUMENT : BS_OK;
}

#endif
