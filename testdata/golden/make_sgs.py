"""Writes the golden vectors of spatial gradient scaling, sgs.json, by NumPy and PyTorch in float64.

  python3 make_sgs.py [--out DIR]

`maps` are factors measured on feature maps that a formula gives. `training` is three updates of a small network, each by
factors measured just before it. README.md states the formats. Running it again on the same machine gives the same bytes.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import fills

MARGIN = 1e-6  # least distance of a value from the edge of a bin, as a share of the range


def pixels(count, height, width, channels):
    """A ramp through every image with a little noise, bytes over 255: [count][channels][height][width]."""
    s, y, x, c = np.meshgrid(*map(np.arange, (count, height, width, channels)), indexing="ij")
    e = ((s * height + y) * width + x) * channels + c
    v = (11 * s + 17 * c + 3 * y + 5 * x + 7 * e * e % 251 % 13) % 54
    return v.transpose(0, 3, 1, 2) * 4 / 255


def entropy(counts):
    p = counts[counts > 0] / counts.sum()
    return -(p * np.log2(p)).sum()


def check_margin(values, low, high, bins):
    """Rounding must not take a value to another bin."""
    inner = values[(values > low) & (values < high)]
    at = (inner - low) / (high - low) * bins
    assert inner.size == 0 or np.abs(at - np.round(at)).min() > MARGIN * bins, "a value at the edge of a bin"


def nmik(x, y, k, drop):
    if drop:
        keep = (x != 0) & (y != 0)
        x, y = x[keep], y[keep]
        if x.size == 0:
            return 0.0
    bins = 1 + int(np.ceil(np.log2(x.size)))
    ranges = [(v.min(), v.max() + 1e-12) for v in (x, y)]
    for v in (x, y):
        check_margin(v, v.min(), v.max(), bins)
    counts = np.histogram2d(x, y, bins=bins, range=ranges)[0]
    if drop:
        np.fill_diagonal(counts, 0)
    joint = entropy(counts) if counts.any() else 0.0
    if joint == 0:
        return 0.0 if drop else np.nan
    nmi = (entropy(counts.sum(0)) + entropy(counts.sum(1)) - joint) / joint
    return k * nmi / ((k - 1) * nmi + 1)


def shifted(plane, dy, dx):
    """The pixels of [n][h][w] that have a neighbour at (dy, dx), and these neighbours."""
    h, w = plane.shape[1:]
    own = plane[:, max(0, -dy) : h - max(0, dy), max(0, -dx) : w - max(0, dx)]
    other = plane[:, max(0, dy) : h - max(0, -dy), max(0, dx) : w - max(0, -dx)]
    return own.ravel(), other.ravel()


def factors(maps, kernel, padding, k=5.0, drop=False):
    """The k x k matrix S for inputs [n][c][h][w] of a convolution, every place measured on its own."""
    (r, s), (py, px) = kernel, padding
    maps = np.pad(maps, ((0, 0), (0, 0), (py, py), (px, px)))
    d = np.ones((maps.shape[1], r, s))
    for c, y, x in np.ndindex(*d.shape):
        if (y, x) != (r // 2, s // 2):
            d[c, y, x] = nmik(*shifted(maps[:, c], y - r // 2, x - s // 2), k, drop)
    mean = np.nanmean(d, axis=0)
    return mean / mean.mean()


def golden_maps():
    """Inputs of 20 samples of 7x6 pixels in 4 channels, of which the third is cut below 0.25 and the last is constant."""
    x = pixels(20, 7, 6, 4)
    x[:, 2] = np.maximum(x[:, 2] - 0.25, 0)
    x[:, 3] = 0
    out = []
    for kernel, padding, k, drop in [((3, 3), (1, 1), 5, False), ((5, 3), (2, 1), 5, False), ((3, 5), (0, 0), 1, False), ((3, 3), (1, 1), 5, True)]:
        s = factors(x, kernel, padding, k, drop)
        out.append({"kernel": kernel, "padding": padding, "k": k, "drop_diagonal": drop, "scales": listed(s)})
    return {"samples": 20, "height": 7, "width": 6, "channels": 4, "cases": out}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 4, (5, 3), padding=(2, 1), bias=False)
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        self.inputs = [x]
        x = F.relu(self.bn(self.conv1(x)))
        self.inputs.append(x)
        return self.fc(F.relu(self.conv2(x)).mean((2, 3)))


SAMPLES, SIDE, UPDATES, LR, MOMENTUM, DECAY = 16, 6, 3, 0.5, 0.9, 0.01


def golden_training():
    net = Net().double()
    for name, p in net.named_parameters():
        if name.startswith("bn"):
            continue
        bound = (3 * p.shape[0] / p.numel()) ** 0.5
        p.data = fills.fill(name, list(p.shape), -bound, bound).double()
    start = {name: listed(p.detach()) for name, p in net.named_parameters()}
    x = torch.tensor(pixels(SAMPLES, SIDE, SIDE, 2))
    y = torch.arange(SAMPLES) % 4
    rule = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    scales = []
    for _ in range(UPDATES):
        net.eval()
        with torch.no_grad():
            net(x)
        by = {}
        for conv, v in zip((net.conv1, net.conv2), net.inputs):
            by[conv] = factors(v.numpy(), conv.kernel_size, conv.padding)
        scales.append({"conv1.weight": listed(by[net.conv1]), "conv2.weight": listed(by[net.conv2])})
        net.train()
        rule.zero_grad()
        F.cross_entropy(net(x), y).backward()
        for conv, s in by.items():
            conv.weight.grad *= torch.tensor(s)
        rule.step()
    end = {name: listed(p.detach()) for name, p in net.named_parameters()}
    return {"samples": SAMPLES, "side": SIDE, "updates": UPDATES, "lr": LR, "momentum": MOMENTUM, "weight_decay": DECAY,
            "scales": scales, "start": start, "end": end}


def listed(v):
    """All elements with 13 significant digits."""
    return [float(f"{e:.12e}") for e in np.asarray(v).ravel()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    record = {"maps": golden_maps(), "training": golden_training()}
    (parser.parse_args().out / "sgs.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
