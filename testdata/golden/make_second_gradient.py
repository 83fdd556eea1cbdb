"""Trains a small network with methods that compute an update's gradient twice, in plain PyTorch and float64.

Writes second_gradient.json: the data, the parameters at the start and, for every case, the mean training loss, the
parameters and the running statistics after one pass over the data.

A batch is a run of leaves, leaf i belongs to lane i mod LANES, and a ghost is a run of samples that share batch
normalisation statistics. Running statistics fold in the order of the samples, in the first pass of an update only.
"""

import json
import pathlib
import re

import torch
import torch.nn.functional as F

SAMPLES, BATCH, LEAF, GHOST, LANES = 160, 40, 8, 4, 4
LR, MOMENTUM, WEIGHT_DECAY, SMOOTHING = 0.3, 0.9, 0.01, 0.1
CLASSES = 4
SHAPE = (2, 4, 4)
CASES = {
    "sgd": "",
    "sam": "sam: {rho: 0.3}",
    "sam every second update": "sam: {rho: 0.3, interval: 2}",
    "asam": "sam: {rho: 0.8, adaptive: true}",
    "extrap": "extrap: {inner_rate: 1.5}",
    "sam per lane": "sam: {rho: 0.3, per_lane: true}",
    "asam per lane": "sam: {rho: 0.8, adaptive: true, per_lane: true}",
}


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(SHAPE[0], 5, 3, padding=1, bias=False)
        self.bn = torch.nn.BatchNorm2d(5)
        self.fc = torch.nn.Linear(5, CLASSES)

    def forward(self, x):
        return self.fc(F.relu(self.bn(self.conv(x))).mean((2, 3)))


def gradient(model, parameters, x, y, fold):
    """Gradient of the summed loss at `parameters`, and the loss; `fold` updates the running statistics."""
    parameters = {k: v.detach().clone().requires_grad_() for k, v in parameters.items()}
    buffers = {k: v.clone() for k, v in model.named_buffers()}
    loss = 0
    for xs, ys in zip(x.split(GHOST), y.split(GHOST)):
        logits = torch.func.functional_call(model, {**parameters, **buffers}, (xs,))
        loss = loss + F.cross_entropy(logits, ys, reduction="sum", label_smoothing=SMOOTHING)
    if fold:
        for k, v in model.named_buffers():
            v.copy_(buffers[k])
    grads = torch.autograd.grad(loss, list(parameters.values()))
    return dict(zip(parameters, grads)), loss.item()


def norm(tensors):
    return torch.sqrt(sum((t**2).sum() for t in tensors.values()))


def ascent(w, g, rho):
    """SAM's place: w + rho g/(|g| + 1e-12)."""
    scale = rho / (norm(g) + 1e-12)
    return {k: w[k] + scale * g[k] for k in w}


def adaptive_ascent(w, g, rho):
    """ASAM's place: w + rho w^2 g/(| |w| g | + 1e-12)."""
    scale = rho / (norm({k: w[k].abs() * g[k] for k in w}) + 1e-12)
    return {k: w[k] + scale * w[k] ** 2 * g[k] for k in w}


def lanes_gradient(model, w, x, y, place_of):
    """The gradients of every lane's samples at a place of the lane's own, which depends on its mean gradient: for
    Extrap-SGD a step down it, for SAM with m-sharpness an ascent."""
    total = {k: torch.zeros_like(v) for k, v in w.items()}
    for lane in range(LANES):
        own = [i for i in range(BATCH) if i // LEAF % LANES == lane]
        g, _ = gradient(model, w, x[own], y[own], fold=False)
        place = place_of({k: v / len(own) for k, v in g.items()})
        g, _ = gradient(model, place, x[own], y[own], fold=False)
        total = {k: total[k] + g[k] for k in w}
    return total


def second_gradient(case, update, model, w, g, x, y):
    """The summed gradient that the step of an update is made with."""
    mean = {k: v / BATCH for k, v in g.items()}
    if case == "sgd" or case == "sam every second update" and update % 2 == 1:
        return g
    if case == "extrap":
        return lanes_gradient(model, w, x, y, lambda g: {k: w[k] - 1.5 * LR * g[k] for k in w})
    if case == "sam per lane":
        return lanes_gradient(model, w, x, y, lambda g: ascent(w, g, 0.3))
    if case == "asam per lane":
        return lanes_gradient(model, w, x, y, lambda g: adaptive_ascent(w, g, 0.8))
    place = adaptive_ascent(w, mean, 0.8) if case == "asam" else ascent(w, mean, 0.3)
    return gradient(model, place, x, y, fold=False)[0]


def train(case, start, x, y):
    model = Network().double().train()
    model.load_state_dict(start)
    w = {k: v.detach().clone() for k, v in model.named_parameters()}
    velocity = {k: torch.zeros_like(v) for k, v in w.items()}
    total = 0.0
    for update, (xs, ys) in enumerate(zip(x.split(BATCH), y.split(BATCH)), 1):
        g, loss = gradient(model, w, xs, ys, fold=True)
        total += loss
        g = second_gradient(case, update, model, w, g, xs, ys)
        for k in w:
            velocity[k] = MOMENTUM * velocity[k] + g[k] / BATCH + WEIGHT_DECAY * w[k]
            w[k] = w[k] - LR * velocity[k]
    running = {k: v for k, v in model.named_buffers() if not k.endswith("num_batches_tracked")}
    return {"method": CASES[case], "train_loss": digits(total / SAMPLES),
            "tensors": {k: listed(v) for k, v in {**w, **running}.items()}}


def digits(value):
    return float(f"{float(value):.12e}")


def listed(tensor):
    return [digits(v) for v in tensor.flatten()]


def problem():
    """Images as bytes, labels and the parameters and running statistics at the start."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    images = torch.randint(0, 256, (SAMPLES, *SHAPE))
    labels = (images.double().mean((1, 2, 3)) * 3).long() % CLASSES
    start = Network().state_dict()
    start["bn.weight"].uniform_(0.5, 1.5)
    start["bn.bias"].uniform_(-0.3, 0.3)
    return images, labels, start


def write(name, images, labels, start, cases):
    tensors = {k: v for k, v in start.items() if not k.endswith("num_batches_tracked")}
    result = {
        "batch": BATCH, "leaf": LEAF, "ghost": GHOST, "lanes": LANES, "lr": LR, "momentum": MOMENTUM,
        "weight_decay": WEIGHT_DECAY, "label_smoothing": SMOOTHING, "shape": list(SHAPE), "classes": CLASSES,
        "images": bytes(images.permute(0, 2, 3, 1).flatten().tolist()).hex(),  # height, width, channels
        "labels": labels.tolist(),
        "shapes": {k: list(v.shape) for k, v in tensors.items()},
        "start": {k: [float(f) for f in v.flatten()] for k, v in tensors.items()},
        "cases": cases,
    }
    text = json.dumps(result, indent=1)
    text = re.sub(r"\[[^\[\]{}]*\]", lambda m: re.sub(r"\s+", "", m[0]), text)
    (pathlib.Path(__file__).parent / name).write_text(text + "\n")


def main():
    images, labels, start = problem()
    write("second_gradient.json", images, labels, start, {case: train(case, start, images.double() / 255, labels) for case in CASES})


if __name__ == "__main__":
    main()
