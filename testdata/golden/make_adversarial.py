"""Writes adversarial.json: attacks and adversarial training as PyTorch computes them, in float64.

  python3 make_adversarial.py [--out DIR]

All of it is on the golden images of resnet8.  README.md states the format.
"""

import argparse
import copy
import pathlib

import torch
from torch import nn
from torch.nn import functional as F

import fills
import make_golden as golden

MODEL, COUNT = "resnet8", 4
MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.125)
TARGETS = torch.tensor([3, 1, 4, 1])

# The keys are those of the engine's attacks; `train` normalises by the batch's own statistics.
ATTACKS = {
    "absa": {"eps": 0.03, "step": 0.02, "iterations": 3, "clamp": "samples"},
    "batch statistics": {"eps": 0.03, "step": 0.02, "iterations": 2, "clamp": "none", "train": True},
    "pixels": {"eps": 0.03, "step": 0.02, "iterations": 3, "clamp": "box", "pixels": True, "random_start": True},
    "targeted": {"eps": 0.03, "step": 0.03, "iterations": 1, "clamp": "box", "pixels": True, "random_start": True,
                 "targeted": True, "train": True},
}
DISADV = {"eps": 0.03, "step": 0.03, "iterations": 1, "clamp": "box", "pixels": True, "targeted": True, "train": True}
# Rates are exact in float32, so that float64 programs agree.
SGD = {"steps": 4, "lr": 1 / 128, "momentum": 0.9, "weight_decay": 5e-4}
FREE = {"eps": 0.03, "step": 0.02, "replays": 4}


def channels(values):
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)


def to_pixels(x):
    return x * channels(STD) + channels(MEAN)


def to_inputs(pixels):
    return (pixels - channels(MEAN)) / channels(STD)


def attack(model, x, y, eps, step, iterations, clamp, train=False, pixels=False, random_start=False, targeted=False):
    """The attacked inputs.  The model's running statistics stay as they are."""
    model = copy.deepcopy(model).train(train)
    to, back = (to_inputs, to_pixels) if pixels else (lambda v: v, lambda v: v)
    low, high = {"box": (0, 1), "samples": (x.min(), x.max()), "none": (-float("inf"), float("inf"))}[clamp]
    clean = back(x)
    if clamp == "box":
        clean = clean.clamp(low, high)
    project = lambda v: (clean + (v - clean).clamp(-eps, eps)).clamp(low, high)
    moved = clean
    if random_start:
        moved = project(clean + fills.fill("start", x.shape, -eps, eps).double())
    for _ in range(iterations):
        at = moved.detach().requires_grad_()
        loss = F.cross_entropy(model(to(at)), TARGETS if targeted else y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, at)
        moved = project(moved + (-step if targeted else step) * gradient.sign())
    return to(moved).detach()


def with_further_set(model):
    """A model of the same convolutions and linear layers, with batch normalisations of its own."""
    other = copy.deepcopy(model)
    for name, module in model.named_modules():
        own = other.get_submodule(name)
        if isinstance(module, nn.BatchNorm2d):
            for key, value in own.state_dict().items():
                if key != "num_batches_tracked":
                    full = f"{name}_adv.{key}"
                    value.copy_(fills.fill(full, value.shape, *fills.tensor_range(full, value.shape)))
        else:
            for key, value in module.named_parameters(recurse=False):
                setattr(own, key, value)
    return other


def tensors_of(model, other, named):
    """Tensors of both sets; those of the further one are named as if a layer bn1 were bn1_adv."""
    result = dict(named(model))
    for name, value in named(other):
        layer, _, key = name.rpartition(".")
        if isinstance(other.get_submodule(layer), nn.BatchNorm2d):
            result[f"{layer}_adv.{key}"] = value
    return result


def disadv():
    """SGD steps on four images and their adversarial twins, which count the same."""
    model = golden.build(MODEL, torch.float64).train()
    other = with_further_set(model).train()
    parameters = tensors_of(model, other, lambda m: m.named_parameters())
    optimizer = torch.optim.SGD(parameters.values(), SGD["lr"], SGD["momentum"], weight_decay=SGD["weight_decay"])
    x, y = golden.batch(MODEL, COUNT, torch.float64)
    clean, adversarial = [], []
    for _ in range(SGD["steps"]):
        attacked = attack(other, x, y, **DISADV)
        losses = F.cross_entropy(model(x), y), F.cross_entropy(other(attacked), y)
        optimizer.zero_grad()
        (sum(losses) / 2).backward()
        optimizer.step()
        clean.append(golden.digits(losses[0].item()))
        adversarial.append(golden.digits(losses[1].item()))
    running = tensors_of(model, other, lambda m: golden.running_statistics(m).items())
    return {"clean": clean, "adversarial": adversarial, "parameters": parameters, "running": running}


def free():
    """Updates on the same images with a perturbation that goes on, plain SGD."""
    model = golden.build(MODEL, torch.float64).train()
    x, y = golden.batch(MODEL, COUNT, torch.float64)
    pixels = to_pixels(x).clamp(0, 1)
    delta = torch.zeros_like(pixels)
    optimizer = torch.optim.SGD(model.parameters(), SGD["lr"])
    losses = []
    for _ in range(FREE["replays"]):
        delta.requires_grad_()
        loss = F.cross_entropy(model(to_inputs((pixels + delta).clamp(0, 1))), y)
        optimizer.zero_grad()
        (gradient,) = torch.autograd.grad(loss, delta, retain_graph=True)
        loss.backward()
        optimizer.step()
        delta = (delta.detach() + FREE["step"] * gradient.sign()).clamp(-FREE["eps"], FREE["eps"])
        losses.append(golden.digits(loss.item()))
    return {"losses": losses, "delta": delta, "parameters": dict(model.named_parameters())}


def results():
    x, y = golden.batch(MODEL, COUNT, torch.float64)
    model = golden.build(MODEL, torch.float64)
    attacks = {name: {**a, "inputs": golden.compact("images", attack(model, x, y, **a))} for name, a in ATTACKS.items()}
    trained, replayed = disadv(), free()
    named = {**trained["parameters"], **trained["running"], "images": x}
    for part in (trained, replayed):
        for key in ("parameters", "running"):
            if key in part:
                part[key] = golden.compact_all(part[key])
    replayed["delta"] = golden.compact("images", replayed["delta"])
    return {
        "sample_index": {k: golden.sample_index(v.numel(), golden.SAMPLES) for k, v in named.items()},
        "mean": MEAN,
        "std": STD,
        "targets": TARGETS.tolist(),
        "attacks": attacks,
        "sgd": SGD,
        "disadv": {**DISADV, **trained},
        "free": {**FREE, **replayed},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    (options.out / "adversarial.json").write_text(golden.dump(results()))


if __name__ == "__main__":
    main()
