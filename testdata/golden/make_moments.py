"""Writes the golden vectors of methods that compare micro-batches: vrsgd.json, clars.json, bigbatch-armijo.json and
bigbatch-bb.json, by PyTorch in float64.

  python3 make_moments.py [--out DIR]

A linear classifier of 4x4 grey pixels is trained for some updates, all on the same samples in the same order. The samples
come in leaves of 4; leaf i is part of micro-batch i mod 8, so that with 11 leaves micro-batches differ in size.
README.md states the formats. Running it again on the same machine gives the same bytes.
"""

import argparse
import json
import pathlib

import torch
from torch.nn import functional as F

import fills

LEAF, LANES, LEAVES, CLASSES, SIDE, UPDATES = 4, 8, 11, 3, 4, 5
MOMENTUM, DECAY = 0.9, 0.01


def samples():
    """Images as multiples of 1/255, and labels."""
    count = LEAF * LEAVES
    pixels = [i * i * 7 % 251 + i % 5 for i in range(count * SIDE * SIDE)]
    labels = [7 * i % CLASSES for i in range(count)]
    return torch.tensor(pixels, dtype=torch.float64).view(count, -1) / 255, torch.tensor(labels)


def parameters():
    """Weight and bias, filled by their names."""
    bound = (3 / SIDE**2) ** 0.5
    weight = fills.fill("fc.weight", [CLASSES, SIDE**2], -bound, bound)
    bias = fills.fill("fc.bias", [CLASSES], -0.1, 0.1)
    return [t.double().requires_grad_() for t in (weight, bias)]


def micro_batches(w):
    """Sizes of the micro-batches, and the mean gradients of each for every parameter."""
    x, y = samples()
    sizes, gradients = [], []
    for lane in range(min(LANES, LEAVES)):
        rows = [i for i in range(len(x)) if i // LEAF % LANES == lane]
        loss = F.cross_entropy(F.linear(x[rows], w[0], w[1]), y[rows])
        sizes.append(len(rows))
        gradients.append(torch.autograd.grad(loss, w))
    return sizes, gradients


def weighted_mean(sizes, values):
    return sum(n * v for n, v in zip(sizes, values)) / sum(sizes)


def train(rate, direction):
    """Makes updates with SGD, momentum and weight decay; direction(w, gradients, sizes) gives d and its factor."""
    w = parameters()
    velocity = [torch.zeros_like(t) for t in w]
    for _ in range(UPDATES):
        sizes, gradients = micro_batches(w)
        with torch.no_grad():
            for k, t in enumerate(w):
                d, factor = direction(k, t, [g[k] for g in gradients], sizes)
                velocity[k] = MOMENTUM * velocity[k] + d
                t -= rate * factor * velocity[k]
    return w


def vrsgd(gamma):
    def direction(_, w, micro, sizes):
        g = weighted_mean(sizes, micro)
        ratio = g**2 / (weighted_mean(sizes, [m**2 for m in micro]) - g**2)
        return (ratio / ratio.mean()).clamp(gamma, 1) * g + DECAY * w, 1.0

    return direction


def clars(coefficient, most):
    def direction(k, w, micro, sizes):
        d = weighted_mean(sizes, micro) + DECAY * w
        if k == 1:  # biases take the learning rate as it is
            return d, 1.0
        norm = weighted_mean(sizes, [m.norm() for m in micro])
        return d, min(most, float(coefficient * w.norm() / (norm + 1e-6)))

    return direction


def mean_loss(w):
    x, y = samples()
    return F.cross_entropy(F.linear(x, w[0], w[1]), y)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def big_batch(step, rate, training_samples):
    """Plain SGD that finds its steps: by backtracking (armijo), or from a suggested one (bb). Returns w and the steps."""
    w, rates, count = parameters(), [], LEAF * LEAVES
    for _ in range(UPDATES):
        loss = mean_loss(w)
        g = torch.autograd.grad(loss, w)
        square = flat(g).square().sum()

        def there(a):
            return [(t - a * d).detach().requires_grad_() for t, d in zip(w, g)]

        while mean_loss(there(rate)) > loss - 0.1 * rate * square + 1e-6:
            rate /= 2
        after = there(rate)
        rates.append(rate)
        if step == "bb":
            sizes, gradients = micro_batches(w)
            spread = sum(n * flat(m).square().sum() for n, m in zip(sizes, gradients))
            variance = (spread - count * square) / (len(sizes) - 1)
            moved = flat(after) - flat(w)
            turned = flat(torch.autograd.grad(mean_loss(after), after)) - flat(g)
            curvature = turned @ moved / (moved @ moved)
            signal, share = 1 - variance / (count * square), count / training_samples
            if curvature > 0 and signal > 0:
                rate = (1 - share) * rate + share * float((signal / curvature).detach())
        w = after
    return w, rates


def listed(w):
    """Weight and bias, one after the other, with 13 significant digits."""
    return [float(f"{v:.12e}") for t in w for v in t.flatten()]


def write(path, rate, options, w, **more):
    record = {
        "leaf": LEAF, "lanes": LANES, "leaves": LEAVES, "classes": CLASSES, "side": SIDE, "updates": UPDATES,
        "momentum": MOMENTUM, "weight_decay": DECAY, "lr": rate, "options": options,
        "start": listed(parameters()), "end": listed(w),
    } | more
    path.write_text(json.dumps(record, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    write(out / "vrsgd.json", 0.5, {"gamma": 0.1}, train(0.5, vrsgd(0.1)))
    # A coefficient above the default, at which some updates are below the largest ratio and some above.
    write(out / "clars.json", 1.0, {"coefficient": 0.02, "max_ratio": 0.081}, train(1.0, clars(0.02, 0.081)))
    # Both begin with a step that is much too long. The training set of bb is larger than its batch; of its updates the
    # first and the last have more noise than signal, so that the step stays.
    for step, rate, leaves in (("armijo", 100.0, LEAVES), ("bb", 14.0, 2 * LEAVES)):
        w, rates = big_batch(step, rate, LEAF * leaves)
        more = {"momentum": 0, "weight_decay": 0, "set": leaves, "rates": rates}
        write(out / f"bigbatch-{step}.json", rate, {"step": step}, w, **more)


if __name__ == "__main__":
    main()
