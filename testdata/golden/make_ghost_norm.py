"""Trains the small network of make_second_gradient.py by the three rules for running statistics of ghost batch norm.

Writes ghost_norm.json, in the format of second_gradient.json. All arithmetic of batch norm is PyTorch's own module, which
each rule gives one ghost after the other: with its momentum (sequential), with the momentum divided by the number of ghosts
of an update (scaled), or as a plain average, which it keeps without a momentum, that the statistics move towards (mean).
"""

import copy

import torch
import torch.nn.functional as F

from make_second_gradient import BATCH, GHOST, LR, MOMENTUM, SAMPLES, SMOOTHING, WEIGHT_DECAY, Network, digits, listed, problem, write

RULES = ["sequential", "scaled", "mean"]
FOLD = 0.1


def forward(model, ghosts):
    """The summed loss of the ghosts, each by its own statistics."""
    return sum(F.cross_entropy(model(x), y, reduction="sum", label_smoothing=SMOOTHING) for x, y in ghosts)


def mean_statistics(model, ghosts):
    """The averages over ghosts of their mean and unbiased variance."""
    other = copy.deepcopy(model)
    other.bn.reset_running_stats()
    other.bn.momentum = None  # PyTorch's cumulative average
    with torch.no_grad():
        forward(other, ghosts)
    return other.bn.running_mean, other.bn.running_var


def update(model, rule, ghosts):
    """The loss of an update's ghosts, its gradients, and the running statistics folded by the rule."""
    before = model.bn.running_mean.clone(), model.bn.running_var.clone()
    model.bn.momentum = FOLD / len(ghosts) if rule == "scaled" else FOLD
    means = mean_statistics(model, ghosts)
    loss = forward(model, ghosts)
    (loss / BATCH).backward()
    if rule == "mean":
        for running, old, mean in zip((model.bn.running_mean, model.bn.running_var), before, means):
            running.copy_((1 - FOLD) * old + FOLD * mean)
    return loss.item()


def train(rule, start, x, y):
    model = Network().double().train()
    model.load_state_dict(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    total = 0.0
    for xs, ys in zip(x.split(BATCH), y.split(BATCH)):
        optimizer.zero_grad()
        total += update(model, rule, list(zip(xs.split(GHOST), ys.split(GHOST))))
        optimizer.step()
    tensors = {k: listed(v) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    return {"running": rule, "train_loss": digits(total / SAMPLES), "tensors": tensors}


def main():
    images, labels, start = problem()
    write("ghost_norm.json", images, labels, start, {rule: train(rule, start, images.double() / 255, labels) for rule in RULES})


if __name__ == "__main__":
    main()
