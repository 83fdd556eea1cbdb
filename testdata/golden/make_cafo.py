"""Writes the golden vectors of CaFo's closed form, cafo.json, by NumPy and PyTorch in float64.

  python3 make_cafo.py [--out DIR]

Two frozen blocks of convolution, ReLU, pooling and batch norm see a batch once, for the running statistics; their heads are
then fitted by NumPy's lstsq. README.md states the format. Running it again on the same machine gives the same bytes.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import fills
from make_sgs import listed, pixels

SAMPLES, SIDE, CLASSES, RIDGE = 48, 8, 4, 0.05


def block(name, channels, k):
    conv = nn.Conv2d(channels, k, 3, padding=1).double()
    bound = (3 / (9 * channels)) ** 0.5
    conv.weight.data = fills.fill(f"{name}.conv.weight", [k, channels, 3, 3], -bound, bound).double()
    conv.bias.data = fills.fill(f"{name}.conv.bias", [k], -0.1, 0.1).double()
    return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(k).double())


def fit(x, y):
    """The weight [class][feature] of ridge least squares, by rows that stand for the ridge."""
    n, features = x.shape
    rows = np.vstack([x, np.sqrt(n * RIDGE) * np.eye(features)])
    return np.linalg.lstsq(rows, np.vstack([y, np.zeros((features, CLASSES))]), rcond=None)[0].T


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    x, labels = torch.tensor(pixels(SAMPLES, SIDE, SIDE, 2)), torch.arange(SAMPLES) * 7 // 3 % CLASSES
    blocks = [block("block1", 2, 3), block("block2", 3, 5)]
    start = {f"block{i}.conv.{n}": listed(p.detach()) for i, b in enumerate(blocks, 1) for n, p in b[0].named_parameters()}
    votes, weights, errors = 0, {}, {}
    with torch.no_grad():
        h = x
        for b in blocks:
            h = b(h)  # in train mode: the running statistics take in the batch
        for i, b in enumerate(blocks, 1):
            x = b.eval()(x)
            y = np.eye(CLASSES)[labels]
            w = fit(x.flatten(1).numpy(), y)
            out = x.flatten(1).numpy() @ w.T
            votes = votes + F.softmax(torch.tensor(out), 1)
            weights[f"head{i}.weight"], errors[f"head{i}.weight"] = listed(w), float(((out - y) ** 2).mean())
    record = {"samples": SAMPLES, "side": SIDE, "classes": CLASSES, "ridge": RIDGE, "labels": labels.tolist(), "start": start,
              "weights": weights, "mse": errors, "correct": int((votes.argmax(1) == labels).sum())}
    (parser.parse_args().out / "cafo.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
