"""Evaluates a Broadside checkpoint with plain PyTorch, independently of Broadside.

  python3 check_checkpoint.py CHECKPOINT.safetensors --data DIR --model resnet20 [--json]

Prints the test accuracy and mean loss, and the Hessian's eigenvalue of largest magnitude (mean
cross-entropy without weight decay, BN in eval mode) on the first training images, un-augmented.
DIR holds CIFAR-10's binary files or MNIST-like IDX files, plain, .gz or .xz.
`broadside eval` and `broadside curvature` must agree.
"""

import argparse
import gzip
import json
import lzma
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import models

# Mean and standard deviation of pixels in [0, 1], as published training code uses them.
STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
}
IGNORED_PREFIX = "broadside."


def read_bytes(folder, *stems):
    """The contents of the first of the files that exists, unpacked."""
    for stem in stems:
        for suffix, opener in (("", open), (".gz", gzip.open), (".xz", lzma.open)):
            path = folder / (stem + suffix)
            if path.exists():
                with opener(path, "rb") as file:
                    return np.frombuffer(file.read(), np.uint8)
    sys.exit(f"{folder} has none of {', '.join(stems)} (plain, .gz or .xz)")


def cifar10(folder, train, limit):
    """Images uint8 [n, 3, 32, 32] and labels; limit 0 means all."""
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
    records = []
    for name in names:
        records.append(read_bytes(folder, name).reshape(-1, 3073))
        if limit and sum(map(len, records)) >= limit:
            break
    records = np.concatenate(records)[: limit or None]
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def idx(folder, train, limit):
    """Images uint8 [n, 1, h, w] and labels; limit 0 means all."""
    stem = "train" if train else "t10k"
    pixels = read_bytes(folder, f"{stem}-images-idx3-ubyte", f"{stem}-images.idx3-ubyte")
    count, height, width = (int(v) for v in pixels[4:16].view(">u4"))
    targets = read_bytes(folder, f"{stem}-labels-idx1-ubyte", f"{stem}-labels.idx1-ubyte")[8:]
    images = pixels[16:].reshape(count, 1, height, width)
    return images[: limit or None], targets[: limit or None]


def load_data(options, train, limit=0):
    """Images float32 [n, c, h, w], normalised as asked, and labels."""
    images, targets = (cifar10 if options.set == "cifar10" else idx)(options.data, train, limit)
    x = torch.from_numpy(images.astype(np.float32)) / 255
    if options.normalize == "dataset":
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in STATISTICS[options.set])
        x = (x - mean) / std
    return x, torch.from_numpy(targets.astype(np.int64))


def load_model(path, name, classes):
    """The model with the checkpoint's weights; a missing or unknown key is an error."""
    state = load_file(path)
    model = models.build(name, classes)
    first = getattr(model, "conv1", None)
    if first is not None and state["conv1.weight"].shape[1] != first.in_channels:  # grey images
        model.conv1 = torch.nn.Conv2d(state["conv1.weight"].shape[1], first.out_channels, first.kernel_size,
                                      first.stride, first.padding, bias=first.bias is not None)
    model.load_state_dict({k: v for k, v in state.items() if not k.startswith(IGNORED_PREFIX)}, strict=True)
    return model.eval()


def evaluate(model, x, y, batch):
    """Returns (number of correct predictions, mean loss)."""
    correct, loss = 0, 0.0
    with torch.no_grad():
        for images, targets in zip(x.split(batch), y.split(batch)):
            logits = model(images)
            correct += int((logits.argmax(1) == targets).sum())
            loss += float(F.cross_entropy(logits.double(), targets, reduction="sum"))
    return correct, loss / len(x)


def top_eigenvalue(model, x, y, dtype, tolerance, limit, seed):
    """Power iteration on the Hessian of the mean loss: (signed Rayleigh quotient, products, residual).

    Stops when the relative residual |Hv - lambda v| / |lambda| is below the tolerance; a symmetric
    matrix then has an eigenvalue that close to lambda.
    """
    model = model.to(dtype)
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(F.cross_entropy(model(x.to(dtype)), y), parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradient])
    v = torch.randn(len(flat), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    v /= v.norm()  # v stays in float64: a norm of a million float32s loses four digits
    for products in range(1, limit + 1):
        hv = torch.autograd.grad(flat, parameters, v.to(dtype), retain_graph=True)
        hv = torch.cat([h.flatten() for h in hv]).double()
        value = torch.dot(v, hv)
        residual = float((hv - value * v).norm() / value.abs())
        if residual < tolerance:
            break
        v = hv / hv.norm()
    return {"value": float(value), "products": products, "residual": residual, "converged": residual < tolerance}


def eigenvectors(model, x, y, path):
    """What PyTorch finds of eigenvectors that Broadside wrote: (Rayleigh quotient, relative residual) of each."""
    model = model.double()
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(F.cross_entropy(model(x.double()), y), parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradient])
    for v in torch.from_numpy(np.load(path)).double():
        hv = torch.cat([h.flatten() for h in torch.autograd.grad(flat, parameters, v, retain_graph=True)])
        value = torch.dot(v, hv) / torch.dot(v, v)
        yield {"value": float(value), "residual": float((hv - value * v).norm() / value.abs())}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--model", required=True, help="a name that models.build knows")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--set", choices=STATISTICS, help="default: cifar10 if DIR has its files, else fashion-mnist")
    parser.add_argument("--normalize", choices=["none", "dataset"], default="none")
    parser.add_argument("--batch", type=int, default=500, help="evaluation batch (no effect on the result)")
    parser.add_argument("--samples", type=int, default=128, help="training images of the Hessian; 0 skips it")
    parser.add_argument("--dtype", choices=["float32", "float64", "both"], default="both", help="of the power iteration")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="relative residual at which to stop")
    parser.add_argument("--max-products", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--eigenvectors", type=pathlib.Path, metavar="FILE", help="what `broadside curvature --eigenvectors` wrote")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.set is None:
        options.set = "cifar10" if any(options.data.glob("test_batch.bin*")) else "fashion-mnist"
    return options


def main():
    options = parse()
    model = load_model(options.checkpoint, options.model, options.classes)
    x, y = load_data(options, train=False)
    correct, loss = evaluate(model, x, y, options.batch)
    result = {"test_accuracy": correct / len(x), "correct": correct, "total": len(x), "test_loss": loss}
    if options.samples:
        x, y = load_data(options, train=True, limit=options.samples)
        result["top_eigenvalue"] = {
            name: top_eigenvalue(model, x, y, getattr(torch, name), options.tolerance, options.max_products, options.seed)
            for name in (["float32", "float64"] if options.dtype == "both" else [options.dtype])
        }
        if options.eigenvectors:
            result["eigenvectors"] = list(eigenvectors(model, x, y, options.eigenvectors))
    if options.json:
        print(json.dumps(result))
        return
    print(f"test accuracy {result['test_accuracy']:.4f} ({correct}/{result['total']})"
          f"  loss {loss:.6f}")
    for name, e in result.get("top_eigenvalue", {}).items():
        print(f"top eigenvalue ({name}, {options.samples} samples) {e['value']:.6g}  products {e['products']}"
              f"  relative residual {e['residual']:.1e}{'' if e['converged'] else '  NOT CONVERGED'}")
    for i, e in enumerate(result.get("eigenvectors", []), 1):
        print(f"eigenvector {i}: Rayleigh quotient {e['value']:.6g}, relative residual {e['residual']:.1e}")


if __name__ == "__main__":
    main()
