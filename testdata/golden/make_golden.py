"""Writes the golden vectors: JSON files of float64 results computed by PyTorch.

  python3 make_golden.py [--out DIR] [MODEL ...]     write the files (all models by default)
  python3 make_golden.py --report [MODEL ...]        print how float32 differs, and distances to kinks

README.md states the format.  Running it again on the same machine gives the same bytes.
"""

import argparse
import json
import pathlib
import re
import sys

import torch
from torch.nn import functional as F

import fills
import models

# Per model: batch size, height and width of the images, their fill name, learning rate of the ten
# SGD steps.
#
# The fill names were searched for: among a few hundred they keep the inputs of all ReLUs and the
# runners-up of all max-pool windows farthest from a kink, so that float32 takes the same branches.
# Small images have fewer of both.  The learning rates keep ten steps at so small a batch from
# amplifying rounding.  A model without one has derivatives only, of fewer modes and samples: what its
# own layers need, at a fraction of the size.
CASES = {
    "c1": {"batch": 4, "size": 32, "images": "images286", "lr": 0.002},
    "f1": {"batch": 8, "size": 28, "images": "images27", "lr": 0.005},
    "resnet8": {"batch": 4, "size": 16, "images": "images118", "lr": 0.01},
    "resnet20": {"batch": 4, "size": 16, "images": "images139", "lr": 0.001},
    "wrn16-2": {"batch": 4, "size": 16, "images": "images78", "lr": 0.001},
    "2conv3dense": {"batch": 4, "size": 32, "images": "images31"},
    "alexnet-cifar": {"batch": 8, "size": 32, "images": "images15"},
    "alexnet-reduced": {"batch": 16, "size": 32, "images": "images231"},
    "nf-resnet8": {"batch": 4, "size": 16, "images": "images87"},
    "nf-resnet50": {"batch": 2, "size": 32, "images": "images13"},
    "resnet9": {"batch": 4, "size": 16, "images": "images2"},
    "squeezenext7": {"batch": 8, "size": 16, "images": "images142"},
    "vgg11-cifar": {"batch": 4, "size": 32, "images": "images93"},
}
SAMPLES = 16
FEW_SAMPLES = 4
PROJECTIONS = 4
SGD = {"steps": 10, "batch": 4, "momentum": 0.9, "weight_decay": 5e-4}


def build(name, dtype):
    """The filled model; parameters in `dtype`, whose values are exact float32s."""
    return fills.fill_model(models.build(name)).to(dtype)


def input_shape(name):
    """Shape [channels, height, width] of the golden images."""
    size = CASES[name]["size"]
    return (models.input_shape(name)[0], size, size)


def batch(name, count, dtype):
    """The first `count` images and labels."""
    return fills.images(CASES[name]["images"], count, input_shape(name)).to(dtype), fills.labels(count)


def digits(value):
    """Rounds to 13 significant digits: more than a comparison needs, and shorter to store."""
    return float(f"{float(value):.12e}")


def listed(tensor):
    return [digits(v) for v in tensor.flatten()]


def sample_index(count, samples):
    """Up to `samples` evenly spaced indices, the first and the last included."""
    if count <= samples:
        return list(range(count))
    return [j * (count - 1) // (samples - 1) for j in range(samples)]


def compact(name, tensor, samples=SAMPLES):
    """L2 norm, projections onto hashed signs, and sampled entries of a tensor."""
    x = tensor.detach().double().flatten()
    projections = [torch.dot(fills.signs(f"proj{k}{name}", len(x)), x) for k in range(PROJECTIONS)]
    return {
        "norm": digits(x.norm()),
        "projections": [digits(p) for p in projections],
        "samples": listed(x[sample_index(len(x), samples)]),
    }


def whole_norm(tensors):
    """L2 norm over all tensors together."""
    return torch.cat([t.flatten() for t in tensors.values()]).norm()


def without_noise(tensors):
    """Replaces tensors that are zero but for rounding by zeros.

    A bias in front of train-mode BN changes nothing: what PyTorch computes for its gradient and its
    HVP is noise that no other program reproduces.
    """
    limit = 1e-12 * whole_norm(tensors)
    return {k: t if t.norm() > limit else torch.zeros_like(t) for k, t in tensors.items()}


def compact_all(tensors, samples=SAMPLES):
    return {name: compact(name, tensor, samples) for name, tensor in tensors.items()}


def running_statistics(model):
    return {k: v for k, v in model.named_buffers() if not k.endswith(".num_batches_tracked")}


def derivatives(name, ghost, dtype):
    """Loss, logits, gradients and Hessian-vector product of the SUM loss of the batch.

    `ghost` samples share their BN statistics; None means eval mode.  Ghosts run in order, so the
    running statistics fold in order too.
    """
    model = build(name, dtype)
    model.train(ghost is not None)
    x, y = batch(name, CASES[name]["batch"], dtype)
    x.requires_grad_()
    chunk = ghost or len(x)
    logits = torch.cat([model(part) for part in x.split(chunk)])
    loss = F.cross_entropy(logits, y, reduction="sum")
    parameters = dict(model.named_parameters())
    v = {k: t.to(dtype) for k, t in fills.direction(model).items()}
    gradient = torch.autograd.grad(loss, [x, *parameters.values()], create_graph=True)
    slope = sum((g * t).sum() for g, t in zip(gradient[1:], v.values()))
    hvp = torch.autograd.grad(slope, list(parameters.values()))
    return {
        "loss": loss.detach(),
        "logits": logits.detach(),
        "correct": int((logits.argmax(1) == y).sum()),
        "slope": slope.detach(),
        "curvature": sum((h * t).sum() for h, t in zip(hvp, v.values())),
        "input_gradient": gradient[0].detach(),
        "gradient": dict(zip(parameters, (g.detach() for g in gradient[1:]))),
        "hvp": dict(zip(parameters, hvp)),
        "running": running_statistics(model),
    }


def samples_of(name):
    return SAMPLES if "lr" in CASES[name] else FEW_SAMPLES


def golden_mode(name, ghost):
    samples = samples_of(name)
    r = derivatives(name, ghost, torch.float64)
    mode = {
        "ghost": ghost or 0,
        "loss_sum": digits(r["loss"]),
        "loss_mean": digits(r["loss"] / CASES[name]["batch"]),
        "correct": r["correct"],
        "logits": [listed(row) for row in r["logits"]],
        "gradient_dot_v": digits(r["slope"]),
        "v_dot_hvp": digits(r["curvature"]),
        "input_gradient": compact("images", r["input_gradient"], samples),
        "gradient_norm": digits(whole_norm(r["gradient"])),
        "gradient": compact_all(without_noise(r["gradient"]), samples),
        "hvp_norm": digits(whole_norm(r["hvp"])),
        "hvp": compact_all(without_noise(r["hvp"]), samples),
    }
    if ghost:
        mode["running"] = compact_all(r["running"], samples)
    return mode


def hessian_operator(name, dtype):
    """Returns (Hv of the MEAN loss with BN in eval mode on flat vectors, number of parameters)."""
    model = build(name, dtype).eval()
    parameters = list(model.parameters())
    x, y = batch(name, CASES[name]["batch"], dtype)
    gradient = torch.autograd.grad(F.cross_entropy(model(x), y), parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradient])

    def product(v):
        hv = torch.autograd.grad(flat, parameters, v, retain_graph=True)
        return torch.cat([h.flatten() for h in hv])

    return product, len(flat)


def extreme_eigenvalues(name, steps=200, tolerance=1e-11):
    """Largest and smallest eigenvalue by Lanczos with full re-orthogonalisation.

    Stops when the residual bound of both is below `tolerance` times the larger magnitude.
    """
    product, size = hessian_operator(name, torch.float64)
    basis = torch.empty(steps + 1, size, dtype=torch.float64)
    start = fills.fill("lanczos", (size,), -1.0, 1.0).double()
    basis[0] = start / start.norm()
    tridiagonal = torch.zeros(steps, steps, dtype=torch.float64)
    for m in range(steps):
        w = product(basis[m])
        tridiagonal[m, m] = torch.dot(w, basis[m])
        for _ in range(2):  # the second pass removes what rounding left in the first
            w -= basis[: m + 1].T @ (basis[: m + 1] @ w)
        beta = w.norm()
        values, vectors = torch.linalg.eigh(tridiagonal[: m + 1, : m + 1])
        residual = beta * vectors[-1, [0, -1]].abs().max()
        if residual < tolerance * values.abs().max():
            return {"max": digits(values[-1]), "min": digits(values[0]), "lanczos_steps": m + 1}
        if m + 1 < steps:
            tridiagonal[m, m + 1] = tridiagonal[m + 1, m] = beta
        basis[m + 1] = w / beta
    raise RuntimeError(f"{name}: Lanczos did not converge in {steps} steps")


def train(name, dtype):
    """Ten SGD steps on two alternating batches; returns the mean losses, the hits and the model."""
    model = build(name, dtype).train()
    optimizer = torch.optim.SGD(
        model.parameters(), CASES[name]["lr"], SGD["momentum"], weight_decay=SGD["weight_decay"]
    )
    x, y = batch(name, 2 * SGD["batch"], dtype)
    losses, correct = [], []
    for step in range(SGD["steps"]):
        part = slice(step % 2 * SGD["batch"], (step % 2 + 1) * SGD["batch"])
        logits = model(x[part])
        loss = F.cross_entropy(logits, y[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        correct.append(int((logits.argmax(1) == y[part]).sum()))
    return losses, correct, model


def golden_training(name):
    losses, correct, model = train(name, torch.float64)
    return {
        **SGD,
        "lr": CASES[name]["lr"],
        "losses": [digits(v) for v in losses],
        "correct": correct,
        "parameters": compact_all(dict(model.named_parameters())),
        "running": compact_all(running_statistics(model)),
    }


def golden(name):
    model = models.build(name)
    n, samples = CASES[name]["batch"], samples_of(name)
    tensors = {k: v for k, v in model.state_dict().items() if not k.endswith(".num_batches_tracked")}
    index = {k: sample_index(v.numel(), samples) for k, v in tensors.items()}
    index["images"] = sample_index(batch(name, n, torch.float32)[0].numel(), samples)
    result = {
        "model": name,
        "classes": 10,
        "batch": n,
        "images": CASES[name]["images"],
        "input": list(input_shape(name)),
        "parameters": models.parameter_count(model),
        "shapes": {k: list(v.shape) for k, v in tensors.items()},
        "sample_index": index,
        "modes": {label: golden_mode(name, ghost) for label, ghost in modes(name)},
    }
    if "lr" in CASES[name]:
        result["hessian_eval_mean"] = extreme_eigenvalues(name)
        result["sgd"] = golden_training(name)
    return result


def modes(name):
    """The modes of a model: their names and ghosts, None for eval mode."""
    n = CASES[name]["batch"]
    if "lr" in CASES[name]:
        return [("eval", None), ("train", n), ("train_2_ghosts", n // 2)]
    if not running_statistics(models.build(name)):
        return [("eval", None)]
    return [("eval", None), ("train_2_ghosts", n // 2)]


def dump(value):
    """JSON with one line per list of numbers."""
    text = json.dumps(value, indent=1)
    return re.sub(r"\[[^\[\]{}]*\]", lambda m: re.sub(r"\s+", "", m[0]), text) + "\n"


def kink_margins(name, ghost):
    """Smallest |input of a ReLU| and smallest positive gap between a max-pool window's two largest."""
    relu, pool = [float("inf")], [float("inf")]
    real_relu, real_pool = F.relu, F.max_pool2d

    def watched_relu(x):
        relu.append(x.detach().abs().min().item())
        return real_relu(x)

    def watched_pool(x, size, stride=None, padding=0):
        padded = F.pad(x.detach(), [padding] * 4, value=float("-inf"))
        windows = padded.unfold(2, size, stride or size).unfold(3, size, stride or size).flatten(4)
        top = windows.topk(2).values
        gap = (top[..., 0] - top[..., 1]).flatten()
        pool.append(gap[gap > 0].min().item())
        return real_pool(x, size, stride, padding)

    F.relu, F.max_pool2d = watched_relu, watched_pool
    try:
        derivatives(name, ghost, torch.float64)
    finally:
        F.relu, F.max_pool2d = real_relu, real_pool
    return min(relu), min(pool)


def relative(a, b):
    """|a - b| / |b| over whole dictionaries or tensors."""
    if isinstance(a, dict):
        a, b = (torch.cat([t.double().flatten() for t in d.values()]) for d in (a, b))
    return float((a.double() - b.double()).norm() / b.double().norm())


def report(name):
    """Prints how far float32 is from float64: what a float32 engine can be held to."""
    n = CASES[name]["batch"]
    for label, ghost in modes(name):
        wide, narrow = (derivatives(name, ghost, d) for d in (torch.float64, torch.float32))
        for k in ("gradient", "hvp"):
            wide[k] = without_noise(wide[k])
        errors = {k: f"{relative(narrow[k], wide[k]):.1e}" for k in ("logits", "input_gradient", "gradient", "hvp")}
        worst = max((relative(narrow[k][t], wide[k][t]), f"{k} {t}") for k in ("gradient", "hvp") for t in wide[k]
                    if wide[k][t].any())
        relu, pool = kink_margins(name, ghost)
        print(f"{name} {label}: loss/sample {wide['loss'] / n:.3f}, correct {wide['correct']}, |gradient| "
              f"{whole_norm(wide['gradient']):.3g}, float32 off by {errors}, "
              f"worst tensor {worst[0]:.1e} {worst[1]}; relu margin {relu:.1e}, pool gap {pool:.1e}")
    if "lr" not in CASES[name]:
        return
    wide, narrow = train(name, torch.float64)[0], train(name, torch.float32)[0]
    print(f"{name} sgd: losses {[round(v, 4) for v in wide]}")
    print(f"{name} sgd: float32 off by {[f'{abs(a - b) / b:.0e}' for a, b in zip(narrow, wide)]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(CASES), metavar="MODEL", help=", ".join(CASES))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    parser.add_argument("--report", action="store_true", help="print float32 deviations instead of writing")
    options = parser.parse_args()
    unknown = set(options.models) - set(CASES)
    if unknown:
        parser.error(f"no golden vectors are defined for {', '.join(sorted(unknown))}")
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of additions must not depend on the machine's cores
    for name in options.models:
        if options.report:
            report(name)
            continue
        path = options.out / f"{name}.json"
        path.write_text(dump(golden(name)))
        print(f"{path}: {path.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
