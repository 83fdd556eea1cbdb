/*
 * broadside.h: the C ABI of Broadside's kernels.
 *
 * A kernel is a plain function behind a table (bs_kernels). Every backend (cpu, cuda) fills the
 * same table; kernels/ref states what each kernel computes, in Go and float64, and the conformance
 * suite holds every table to it.
 *
 * Conventions
 *   - Activations are NHWC, weights KRSC, both dense and row-major.
 *   - A cell is 4 bytes: a float, an int32_t or a uint32_t. Offsets and sizes count cells, except
 *     inside the image memory of `augment`, which is bytes.
 *   - A kernel takes its shape, its arguments (pointers, in the order listed below) and a stream. It
 *     allocates nothing, keeps no state between calls and returns its error from the same call.
 *   - An argument marked ? may be NULL. An argument marked += is added to; every other output is
 *     overwritten unless the shape's `accumulate` says otherwise.
 *   - The last argument of every kernel is its workspace: bs_kernels.workspace() cells of scratch.
 *   - The result of a kernel depends on its inputs only, never on threads or timing.
 *   - R{.} ("tangent") is the directional derivative of Pearlmutter (1994), the R-operator.
 */
#ifndef BROADSIDE_H
#define BROADSIDE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BS_ABI 4
#define BS_MAX_ARGS 20
#define BS_MAX_BASES 16

typedef enum bs_status {
  BS_OK = 0,
  BS_BAD_SHAPE = 1,    /* a size is zero, negative or inconsistent */
  BS_BAD_ARGUMENT = 2, /* a required pointer is NULL, or an index points outside */
  BS_UNSUPPORTED = 3,  /* this table has no such kernel */
  BS_DEVICE_ERROR = 4  /* the device failed */
} bs_status;

/* ---- shapes ------------------------------------------------------------------------------- */

/* Convolution; a linear layer is the case h = w = r = s = 1. Requires groups | c and groups | k.
 * Unless `precision` is BS_F32 both factors of every product (x and w, dy and w, x and dy) are first rounded;
 * products and sums stay float. Not rounded: bias, what is accumulated onto, and the dy that dbias sums.
 * Numbers beyond the range become infinite, infinity stays infinity and NaN NaN, save that to tf32 a signalling
 * NaN may round to an infinity; denormal numbers may count as 0.
 * With BS_F32, a 3x3 convolution of stride 1 may go through Winograd's F(2x2, 3x3) (Lavin and Gray 2016):
 * then rounding errors, and an infinity as NaN, reach the neighbouring pixels or taps. */
typedef enum bs_precision {
  BS_F32 = 0,  /* factors as they are */
  BS_BF16 = 1, /* to bfloat16: 7 bits of fraction, to nearest, ties to even */
  BS_TF32 = 2  /* to tf32: 10 bits of fraction, to nearest, ties away from zero (PTX cvt.rna.tf32.f32) */
} bs_precision;

typedef struct bs_conv2d {
  int32_t n, h, w, c;                      /* input   [n][h][w][c] */
  int32_t k, r, s;                         /* weights [k][r][s][c/groups] */
  int32_t stride_h, stride_w, pad_h, pad_w;
  int32_t groups;
  int32_t oh, ow;                          /* output  [n][oh][ow][k], oh = (h + 2 pad_h - r)/stride_h + 1 */
  int32_t relu;                            /* forward: y = max(0, y) after bias and accumulation */
  int32_t accumulate;                      /* forward, backward_input: add to the output */
  int32_t precision;                       /* a bs_precision: how the factors of products are rounded */
  int32_t reserved;
} bs_conv2d;

/* Ghost batch normalisation. A ghost is `ghost` consecutive samples (the last may be smaller);
 * ghosts = ceil(n / ghost). A ghost uses parameter set set[g] (set 0 where `set` is NULL; a negative one
 * is BS_BAD_ARGUMENT). Unless frozen or synced, a ghost with one value per channel has no variance: BS_BAD_SHAPE.
 *
 * Where several calls share statistics each pass is cut in two, with batchnorm_combine between the parts. Forward: a
 * synced call finds saved = mean, biased variance and writes nothing else (y may be NULL); a frozen one normalises by the
 * combined ones. Backward: a frozen call without dx and dresidual adds to dgamma and dbeta and finds sums; a synced
 * one is given the combined sums, and writes dx and dresidual only. There are no synced tangents: BS_BAD_SHAPE. */
typedef struct bs_batchnorm {
  int32_t n, hw, c; /* activations [n][hw][c] */
  int32_t ghost;
  int32_t frozen;     /* 1: normalise by the running statistics (eval mode); they are constants */
  int32_t relu;       /* 1: y = max(0, ...) after the residual add; backward masks by y > 0 */
  int32_t accumulate; /* backward passes: bit 0 adds to dx (tdx), bit 1 adds to dresidual (tdresidual) */
  int32_t synced;     /* 1: one part of a pass whose statistics several calls share; not with frozen */
  double eps;
} bs_batchnorm;

/* Pooling windows; positions in the padding are skipped by max and count as zeros for average
 * (PyTorch's count_include_pad). The padding is smaller than the window, and the last window begins
 * inside the image. */
typedef struct bs_pool {
  int32_t n, h, w, c, r, s, stride_h, stride_w, pad_h, pad_w, oh, ow;
  int32_t accumulate; /* backward: add to dx */
  int32_t reserved;
} bs_pool;

/* n samples of `per` elements each. */
typedef struct bs_dropout {
  int32_t n, per, layer, reserved; /* layer < 65536: tells the random streams of layers apart */
  double p;                        /* probability of dropping; kept values are scaled by 1/(1-p) */
} bs_dropout;

typedef struct bs_softmax {
  int32_t n, classes;
  double smoothing; /* target = (1-smoothing) one-hot + smoothing/classes */
} bs_softmax;

/* Gathers and augments n images [h][w][c]. */
typedef struct bs_augment {
  int32_t n, h, w, c;
  int32_t pad;    /* random crop after zero-padding by this many pixels; 0: none */
  int32_t flip;   /* 1: mirror horizontally with probability 1/2 */
  int32_t cutout; /* side of the square set to 0 (after normalising), centred at random; 0: none */
  int32_t images; /* images in memory: an index outside [0, images) is BS_BAD_ARGUMENT */
} bs_augment;

/* `count` elements, with scalars. */
typedef struct bs_vector {
  int64_t count;
  double a, b;
} bs_vector;

/* Projected sign-gradient step (Goodfellow et al. 2015; Madry et al. 2018). */
typedef struct bs_pgd {
  int64_t count;
  double step, eps; /* ascend with step > 0, descend with step < 0 */
} bs_pgd;

typedef struct bs_sgd {
  int64_t count;
  int32_t nesterov, reserved;
  double momentum, weight_decay;
} bs_sgd;

/* Step sizes of their own for `count` tensors (LARS: You et al. 2017; LAMB: You et al. 2020). */
typedef enum bs_trust_form {
  BS_TRUST_ONE = 0,      /* ratio = 1, and nothing of what follows */
  BS_TRUST_NORMS = 1,    /* ratio = coefficient min(w, w_high) / (g + weight_decay w + eps); 1 where w or g is 0 */
  BS_TRUST_CURVATURE = 2 /* ratio = coefficient / (g + weight_decay + eps) */
} bs_trust_form;

typedef enum bs_trust_place {
  BS_TRUST_GAIN_LR = 0, /* the velocity sums steps: learning rate 1, gain = learning rate * ratio */
  BS_TRUST_GAIN = 1,    /* gain = ratio */
  BS_TRUST_LR = 2       /* learning rate * ratio, gain 1 */
} bs_trust_place;

typedef struct bs_trust {
  int32_t count;
  int32_t form, place;   /* a bs_trust_form and a bs_trust_place */
  int32_t mean;          /* 1: g is the mean gradient's as it stands; else it is multiplied by the gradient scale */
  int32_t larc;          /* 1: at last, ratio = min(ratio / learning rate, 1) */
  int32_t reserved;
  double coefficient, weight_decay, eps;
  double low, high;      /* the ratio is kept between these */
  double w_high;
} bs_trust;

typedef struct bs_clip {
  double max, eps;
} bs_clip;

/* Adaptive gradient clipping of `units` rows of `fan` weights each (Brock et al. 2021). */
typedef struct bs_agc {
  int32_t units, fan;
  double lambda, floor;
} bs_agc;

/* Adam's direction (Kingma and Ba 2015), with decoupled weight decay. */
typedef struct bs_adam {
  int64_t count;
  double beta1, beta2, eps, weight_decay;
} bs_adam;

typedef enum bs_distribution {
  BS_BITS = 0,      /* uint32 */
  BS_UNIFORM = 1,   /* (bits >> 8) * 2^-24, in [0, 1) */
  BS_NORMAL = 2,    /* Box-Muller on pairs (u1, u2) of one block: u = ((bits >> 8) + 0.5) * 2^-24,
                       z0 = sqrt(-2 ln u1) cos(2 pi u2), z1 = sqrt(-2 ln u1) sin(2 pi u2) */
  BS_RADEMACHER = 3 /* bit 31 set: -1, else +1 */
} bs_distribution;

/* Element i is word i%4 of philox4x32-10 (Salmon et al. 2011) with key (key0, key1) and counter
 * (i/4, ctr1, ctr2, ctr3). */
typedef struct bs_philox {
  int64_t count;
  int32_t distribution, reserved;
  uint32_t key0, key1, ctr1, ctr2, ctr3, reserved2;
} bs_philox;

/* Folds `ghosts` statistics of c channels into running statistics, in order. */
typedef struct bs_fold {
  int32_t ghosts, c;
  double momentum; /* running = (1-momentum) running + momentum * statistic */
} bs_fold;

/* Combines the batch norm statistics of `parts` calls, each over `values` values per channel, in the order of the parts.
 * They lie in `blocks` blocks and are dealt to them in turn: part i is row i / blocks of block i % blocks. A block has
 * ceil(parts / blocks) rows, `stride` >= 2c cells apart; a row's first cells are [2][c]. */
typedef struct bs_combine {
  int32_t parts, c, blocks, stride;
  int64_t values;
  int32_t variances; /* 1: a row is mean, biased variance; 0: two means */
  int32_t reserved;
} bs_combine;

typedef union bs_shape {
  bs_conv2d conv2d;
  bs_batchnorm batchnorm;
  bs_pool pool;
  bs_dropout dropout;
  bs_softmax softmax;
  bs_augment augment;
  bs_vector vector;
  bs_pgd pgd;
  bs_sgd sgd;
  bs_trust trust;
  bs_clip clip;
  bs_agc agc;
  bs_adam adam;
  bs_philox philox;
  bs_fold fold;
  bs_combine combine;
} bs_shape;

/* ---- kernels ------------------------------------------------------------------------------
 * X(NAME, name, shape, number of arguments without the workspace)
 *
 * key: uint32[4] = {seed low, seed high, epoch, copy < 256}; every random draw of sample i comes from
 * philox4x32-10 with key (seed low, seed high) and counter
 *   (block, sample, epoch, purpose << 24 | layer << 8 | copy).
 *   purpose 1 augment (layer 0): block 0 word 0 = crop row, word 1 = crop column, word 2 bit 31 = flip;
 *     block 1 word 0 = cutout row, word 1 = cutout column; a draw in [0, m) is (word * m) >> 32
 *     on 64 bits. Crop offset d in [0, 2 pad] reads source row y + d - pad, outside: byte 0. Flip is applied
 *     after the crop. Cutout covers rows [cy - cutout/2, cy - cutout/2 + cutout), clipped, same for columns.
 *   purpose 2 dropout: element e of the sample (NHWC order) uses word e%4 of block e/4;
 *     dropped where uniform < p.
 *   purpose 12 forward_gradient: element e of the sample uses word e%4 of block e/4; bit 31 set: -1, else +1.
 *
 * batchnorm: saved [ghosts][2][c] = mean, 1/sqrt(biased variance + eps);
 *   stats [ghosts][2][c] = mean, unbiased variance (what the running statistics fold in; not written if frozen);
 *   running [sets][2][c] = mean, variance (read only if frozen); gamma, beta and their kin [sets][c];
 *   sums [ghosts][2][c] = mean of g, mean of g xhat, where g = dy masked by y > 0 if relu;
 *   tsaved [ghosts][2][c] = mean of R{x}, mean of xhat R{x} (zeros if frozen).
 *   xhat = (x - mean) rstd, y = gamma xhat + beta + residual. See ref for the tangent formulae.
 */
#define BS_KERNELS(X)                                                                              \
  /* x, w, bias?, y */                                                                             \
  X(CONV2D_FORWARD, conv2d_forward, conv2d, 4)                                                     \
  /* dy, w, dx */                                                                                  \
  X(CONV2D_BACKWARD_INPUT, conv2d_backward_input, conv2d, 3)                                       \
  /* x, dy, dw +=, dbias? += */                                                                    \
  X(CONV2D_BACKWARD_WEIGHT, conv2d_backward_weight, conv2d, 4)                                     \
  /* x, gamma, beta, residual?, set?, running?, y, saved, stats? */                                \
  X(BATCHNORM_FORWARD, batchnorm_forward, batchnorm, 9)                                            \
  /* x, y?, dy, gamma, set?, saved, dx?, dresidual?, dgamma? +=, dbeta? +=, sums */                \
  X(BATCHNORM_BACKWARD, batchnorm_backward, batchnorm, 11)                                         \
  /* x, y?, gamma, set?, saved, tx, tgamma, tbeta, tresidual?, ty, tsaved */                       \
  X(BATCHNORM_TANGENT_FORWARD, batchnorm_tangent_forward, batchnorm, 11)                           \
  /* x, y?, dy, gamma, set?, saved, sums, tx, tsaved, tdy, tgamma, tdx?, tdresidual?, hgamma +=, hbeta += */ \
  X(BATCHNORM_TANGENT_BACKWARD, batchnorm_tangent_backward, batchnorm, 15)                         \
  /* stats [ghosts][2][c], running [2][c] (updated in place) */                                    \
  X(BATCHNORM_FOLD, batchnorm_fold, fold, 2)                                                       \
  /* rows, out [2][c] as a row; stats? [2][c] = mean, unbiased variance (not written without variances) */ \
  X(BATCHNORM_COMBINE, batchnorm_combine, combine, 3)                                              \
  /* x, y: y = max(0, x) */                                                                        \
  X(RELU_FORWARD, relu_forward, vector, 2)                                                         \
  /* y, dy, dx: dx = b dx + dy [y > 0], b in {0, 1}; dx may be dy. Also both tangents of ReLU. */  \
  X(RELU_BACKWARD, relu_backward, vector, 3)                                                       \
  /* x, y: y = a x + b y; with a = 0 x is not read, with b = 0 y is not */                          \
  X(AXPBY, axpby, vector, 2)                                                                       \
  /* x, z, y: y = a x + b z */                                                                     \
  X(ADD, add, vector, 3)                                                                           \
  /* x, z, out double: out = sum x z */                                                            \
  X(DOT, dot, vector, 3)                                                                           \
  /* x, out double: out = sqrt(sum x^2) */                                                         \
  X(NORM, norm, vector, 2)                                                                         \
  /* x, out[2]: smallest, largest */                                                               \
  X(MINMAX, minmax, vector, 2)                                                                     \
  /* x, y, index int32 (h*w position of the maximum in its image; the first in row order if tied) */ \
  X(MAXPOOL_FORWARD, maxpool_forward, pool, 3)                                                     \
  /* dy, index, dx */                                                                              \
  X(MAXPOOL_BACKWARD, maxpool_backward, pool, 3)                                                   \
  /* tx, index, ty: ty = tx at the maxima */                                                       \
  X(MAXPOOL_TANGENT, maxpool_tangent, pool, 3)                                                     \
  /* x, y; linear, so also its own tangent */                                                      \
  X(AVGPOOL_FORWARD, avgpool_forward, pool, 2)                                                     \
  /* dy, dx */                                                                                     \
  X(AVGPOOL_BACKWARD, avgpool_backward, pool, 2)                                                   \
  /* x, sample int32[n], key, y; linear, so also its own backward and tangents; y may be x */      \
  X(DROPOUT, dropout, dropout, 4)                                                                  \
  /* dy, sample int32[n], key, dx (may be dy): dx = (sum dy u) u for each sample, its p is not read: the forward gradient \
     of Ren et al. (2023), with u of elements 1 and -1 */                                          \
  X(FORWARD_GRADIENT, forward_gradient, dropout, 4)                                                \
  /* logits, label int32[n], weight? [n], loss[n], correct[n] (1 or 0), prob, dlogits?             \
     loss and dlogits of sample i are scaled by weight[i] (1 if NULL), never by 1/n */             \
  X(SOFTMAX_XENT, softmax_xent, softmax, 7)                                                        \
  /* prob, weight?, tlogits, tdlogits = weight prob (tlogits - sum prob tlogits) */                \
  X(SOFTMAX_XENT_TANGENT, softmax_xent_tangent, softmax, 4)                                        \
  /* images uint8, labels int32[images], index int32[n], key, normal float[2][c] = mean, 1/std     \
     in units of byte/255, x [n][h][w][c], label int32[n] */                                       \
  X(AUGMENT, augment, augment, 7)                                                                  \
  /* x, clean, grad, bounds? [2], out:                                                             \
     out = clamp(clean + clamp(x + step sign(grad) - clean, -eps, eps), bounds); out may be x;     \
     sign(0) = 0 */                                                                                \
  X(PGD_STEP, pgd_step, pgd, 5)                                                                    \
  /* w (updated), g, velocity? (updated; NULL if momentum is 0), hyper[3] = learning rate, gradient scale, gain: \
     d = gain (scale g + weight_decay w); v = momentum v + d; w -= lr (nesterov ? d + momentum v : v) */ \
  X(SGD, sgd, sgd, 4)                                                                              \
  /* out */                                                                                        \
  X(PHILOX, philox, philox, 1)                                                                     \
  /* x, z, y: y = a x z + b y; with b = 0 y is not read */                                         \
  X(MULADD, muladd, vector, 3)                                                                     \
  /* x, z, out double: the median of |x| / (|z| + a) among the elements where this is finite, and x not 0 unless b \
     is 0; the mean of the two in the middle if they are even in number, NaN if there are none */  \
  X(MEDIAN, median, vector, 3)                                                                     \
  /* g (updated), square: with a micro gradients' sum g and sum of squares, r = g^2 / (a square - g^2) is the squared \
     mean over the variance; g *= min(max(r / (mean of r), b), 1) (Jiang et al. 2023). An element without a variance \
     (it is 0 or less) is not in the mean and keeps its g. */                                      \
  X(SNR, snr, vector, 2)                                                                           \
  /* norm double, hyper[3] (updated): scale *= min(1, max / (scale norm + eps)) */                 \
  X(CLIP, clip, clip, 2)                                                                           \
  /* w, g (updated), hyper[3]: where scale |g_row| > limit = lambda max(|w_row|, floor),           \
     g_row *= limit / max(scale |g_row|, 1e-6) */                                                  \
  X(AGC, agc, agc, 3)                                                                              \
  /* w double[count], g double[count], dot? double[count], hyper[3], out [count][3]: the hyper of each tensor, for \
     sgd. w and g (of the gradient sum) are norms, or g is a curvature; with dot, the inner products of w and the \
     gradient sum, g is |gradient + weight_decay w| and the denominator's weight_decay is 0. What the form does not \
     need may be NULL. */                                                                          \
  X(TRUST, trust, trust, 5)                                                                        \
  /* w, g, m (updated), square (updated), hyper[3], correction[2], u: d = scale g;                 \
     m = beta1 m + (1-beta1) d; square = beta2 square + (1-beta2) d^2;                             \
     u = correction[0] m / (correction[1] sqrt(square) + eps) + weight_decay w; u may be g */      \
  X(ADAM, adam, adam, 7)

#define BS_ENUM(NAME, name, shape, args) BS_##NAME,
typedef enum bs_kernel_id { BS_KERNELS(BS_ENUM) BS_KERNEL_COUNT } bs_kernel_id;
#undef BS_ENUM

typedef bs_status (*bs_kernel)(const bs_shape *shape, void *const *arg, void *stream);

/* Where an argument lies: `offset` cells behind base pointer `base`; base < 0 is NULL. */
typedef struct bs_ref {
  int32_t base, reserved;
  int64_t offset;
} bs_ref;

typedef struct bs_call {
  int32_t kernel, args; /* args counts the workspace */
  bs_ref arg[BS_MAX_ARGS];
  bs_shape shape;
} bs_call;

typedef struct bs_kernels bs_kernels;
struct bs_kernels {
  uint32_t abi;     /* BS_ABI */
  uint32_t size;    /* sizeof(bs_kernels) */
  const char *name; /* "avx512", "avx2", "scalar", ... */
  bs_kernel kernel[BS_KERNEL_COUNT];
  /* Cells of workspace the kernel needs for the shape; 0 if none, negative for a bad shape. */
  int64_t (*workspace)(int32_t kernel, const bs_shape *shape);
  /* Runs n calls in order. On an error, *failed is the index of the call that returned it. */
  bs_status (*run)(const bs_kernels *table, const bs_call *call, int32_t n, void *const *base, void *stream,
                   int32_t *failed);
};

#ifdef __cplusplus
}
#endif
#endif
