"""Deterministic tensor contents that another language can reproduce bit for bit.

All arithmetic on hashes is on unsigned 64-bit integers and wraps.

  fnv1a64(s)    = 64-bit FNV-1a of the UTF-8 bytes of s: h = 0xcbf29ce484222325; for each byte b:
                  h = (h xor b) * 0x100000001b3
  splitmix64(x) : x += 0x9e3779b97f4a7c15; x = (x xor x >> 30) * 0xbf58476d1ce4e5b9;
                  x = (x xor x >> 27) * 0x94d049bb133111eb; x = x xor x >> 31
  h(name, i)    = splitmix64(fnv1a64(name) + i)

Element i (in PyTorch's layout, row-major: OIHW, NCHW) of the tensor `name`, uniform in [lo, hi]:

  value = float32(lo + (hi - lo) * (h(name, i) >> 40) * 2^-24)

evaluated from left to right in float64 without fused multiply-add, then rounded once to float32
(nearest even).  That float32 value is used in both precisions.
"""

import numpy as np
import torch


def fnv1a64(text):
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def hashes(name, count):
    """h(name, 0..count-1) as uint64."""
    x = np.uint64(fnv1a64(name)) + np.arange(count, dtype=np.uint64)
    x += np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def fill(name, shape, lo, hi):
    """The tensor `name`, uniform in [lo, hi], as float32."""
    unit = (hashes(name, int(np.prod(shape))) >> np.uint64(40)).astype(np.float64)
    values = lo + (hi - lo) * unit * 2.0**-24
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def signs(name, count):
    """+1 or -1 per element: -1 where bit 63 of h(name, i) is set."""
    return torch.from_numpy(1.0 - 2.0 * (hashes(name, count) >> np.uint64(63)).astype(np.float64))


# Half-width of a weight's range is sqrt(WEIGHT_GAIN / fan_in).
WEIGHT_GAIN = 3.0


def tensor_range(name, shape):
    """The range [lo, hi] of a parameter or buffer, told by its name and shape."""
    if name.endswith(".running_mean"):
        return -0.2, 0.2
    if name.endswith(".running_var"):
        return 0.5, 1.5
    if name.endswith(".bias"):
        return -0.1, 0.1
    if len(shape) == 1:  # the scale of a batch normalisation
        return 0.5, 1.5
    bound = float(np.sqrt(WEIGHT_GAIN / np.prod(shape[1:])))
    return -bound, bound


def fill_model(model):
    """Fills every parameter and running statistic of the model, in place."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not name.endswith(".num_batches_tracked"):
                value.copy_(fill(name, value.shape, *tensor_range(name, value.shape)))
    return model


def images(name, count, shape):
    """`count` images [count, channels, height, width] in [0, 1]; the first k do not depend on count."""
    return fill(name, (count, *shape), 0.0, 1.0)


def labels(count):
    """Label of image i: 7 i mod 10."""
    return torch.arange(count) * 7 % 10


def direction(model):
    """The direction v: one tensor in [-1, 1] per parameter, filled under the name "v." + name."""
    return {name: fill("v." + name, p.shape, -1.0, 1.0) for name, p in model.named_parameters()}
