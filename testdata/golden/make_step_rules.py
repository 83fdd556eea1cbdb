"""Writes step_rules.json: what step rules and clips of the gradient do to three small tensors in four steps, in float64.

The rules are written from their equations, on torch tensors; momentum is torch.optim.SGD's and the clip of the norm
torch.nn.utils.clip_grad_norm_, where the equations allow.
"""

import json
import math
import os

import torch

torch.set_default_dtype(torch.float64)

STEPS, SAMPLES = 4, 4
# Powers of two, which the engine's float32 cells hold exactly.
RATES = [0.5, 0.5, 0.25, 0.125]
MOMENTUM, DECAY = 0.875, 0.0625
SHAPES = {"layer.weight": [4, 6], "layer.bias": [4], "bn.weight": [4], "fc.weight": [3, 4], "fc.bias": [3]}
PLAIN = {"layer.bias", "bn.weight", "fc.bias"}


def start():
    """Weights, and the gradient sums of SAMPLES samples for each step. Everything is a float32."""
    g = torch.Generator().manual_seed(7)
    draw = lambda shape, scale: (scale * torch.randn(shape, generator=g)).float().double()
    weights = {n: draw(s, 1.0) for n, s in SHAPES.items()}
    weights["layer.weight"][1] *= 1e-4  # a unit below AGC's floor
    weights["fc.bias"].zero_()
    grads = [{n: draw(s, SAMPLES * 0.5) for n, s in SHAPES.items()} for _ in range(STEPS)]
    for g in grads:
        g["layer.weight"][2] *= 2.0**-10  # a unit that AGC leaves alone
    return weights, grads


def norm(x):
    return float(torch.linalg.vector_norm(x))


def lars(variant, nesterov=False, larc=False):
    """One of the published forms of LARS. The coefficient is 1/16, so that ratios matter in four steps."""
    coefficient = 0.0625
    eps = {"tf": 0.0, "tpu": 1e-5, "timm": 1e-8, "slowbull": 1e-6}[variant]
    velocity = {}

    def ratio(name, w, d):
        if name in PLAIN:
            return 1.0
        g = norm(d + DECAY * w) if variant == "slowbull" else norm(d)
        below = g + eps if variant == "slowbull" else g + DECAY * norm(w) + eps
        r = coefficient * norm(w) / below if norm(w) > 0 and g > 0 else 1.0
        return min(r, 50.0) if variant == "tpu" else r

    def step(weights, grads, lr):
        for n, w in weights.items():
            g = grads[n].clamp(-1.0, 1.0) if variant == "tpu" else grads[n]
            r = ratio(n, w, g)
            if larc and n not in PLAIN:
                r = min(r / lr, 1.0)
            decay = 0.0 if n in PLAIN and variant != "slowbull" else DECAY
            d = g + decay * w
            inside, outside = {"tf": (lr * r, 1), "tpu": (lr * r, 1), "timm": (r, lr), "slowbull": (1, lr * r)}[variant]
            velocity[n] = MOMENTUM * velocity.get(n, 0) + inside * d
            w -= outside * (inside * d + MOMENTUM * velocity[n] if nesterov else velocity[n])

    return step


def lamb(bounded=False, phi=math.inf, clip=1.0):
    beta1, beta2, eps = 0.9, 0.999, 1e-6
    m, v, count = {}, {}, 0

    def step(weights, grads, lr):
        nonlocal count
        count += 1
        total = norm(torch.stack([torch.linalg.vector_norm(g) for g in grads.values()]))
        scale = min(1.0, clip / total)
        for n, w in weights.items():
            g = scale * grads[n]
            m[n] = beta1 * m.get(n, 0) + (1 - beta1) * g
            v[n] = beta2 * v.get(n, 0) + (1 - beta2) * g * g
            u = m[n] / (1 - beta1**count) / ((v[n] / (1 - beta2**count)).sqrt() + eps)
            r = 1.0
            if n not in PLAIN:
                u = u + DECAY * w
                if norm(w) > 0 and norm(u) > 0:
                    r = min(norm(w), phi) / norm(u)
            w -= lr * (min(r, 1.0) if bounded and n not in PLAIN else r) * u

    return step


def mclr(secant=False):
    coefficient, delta, most = 0.0625, 1e-12, 1.0
    velocity, before = {}, {}

    def step(weights, grads, lr):
        for n, w in weights.items():
            r, decay = 1.0, 0.0
            if n not in PLAIN:
                decay = DECAY
                g0, w0 = before.get(n, (torch.zeros_like(w), torch.zeros_like(w))) if secant else (0, 0)
                quotients = ((grads[n] - g0).abs() / ((w - w0).abs() + delta)).flatten()
                r = min(coefficient / (float(quotients.quantile(0.5)) + decay), most)
            before[n] = grads[n].clone(), w.clone()
            velocity[n] = MOMENTUM * velocity.get(n, 0) + lr * r * (grads[n] + decay * w)
            w -= velocity[n]

    return step


def sgd(transform):
    """PyTorch's SGD after a transform of the gradients."""
    optimizer, state = None, {}

    def step(weights, grads, lr):
        nonlocal optimizer
        for n, w in weights.items():
            state.setdefault(n, torch.nn.Parameter(w)).grad = grads[n].clone()
        if optimizer is None:
            optimizer = torch.optim.SGD(list(state.values()), lr=lr, momentum=MOMENTUM, weight_decay=DECAY)
        optimizer.param_groups[0]["lr"] = lr
        transform(state)
        optimizer.step()

    return step


def agc(params):
    for n, p in params.items():
        if n.startswith("fc."):  # the head
            continue
        w, g = (t.reshape(len(t), -1) if t.dim() > 1 else t.reshape(1, -1) for t in (p.detach(), p.grad))
        limit = 0.25 * torch.linalg.vector_norm(w, dim=1, keepdim=True).clamp(min=1e-3)
        length = torch.linalg.vector_norm(g, dim=1, keepdim=True)
        p.grad = torch.where(length > limit, g * (limit / length.clamp(min=1e-6)), g).reshape(p.shape)


def clip(params):
    torch.nn.utils.clip_grad_norm_(params.values(), 1.0)


def both(params):
    agc(params)
    clip(params)


CASES = {
    "lars tf": lambda: lars("tf"), "lars tf nesterov": lambda: lars("tf", nesterov=True), "lars tpu": lambda: lars("tpu"),
    "lars timm": lambda: lars("timm"), "lars timm larc": lambda: lars("timm", larc=True), "lars slowbull": lambda: lars("slowbull"),
    "lamb": lambda: lamb(), "lamb bounded": lambda: lamb(bounded=True), "lamb phi": lambda: lamb(phi=0.5, clip=1e30),
    "mclr": lambda: mclr(), "cblr secant": lambda: mclr(secant=True),
    "agc": lambda: sgd(agc), "clip": lambda: sgd(clip), "agc clip": lambda: sgd(both),
}


def run(rule):
    weights, grads = start()
    for lr, g in zip(RATES, grads):
        with torch.no_grad():
            mean = {n: t / SAMPLES for n, t in g.items()}
        rule(weights, mean, lr)
    return {n: w.flatten().tolist() for n, w in weights.items()}


def main():
    weights, grads = start()
    flat = lambda tensors: {n: t.flatten().tolist() for n, t in tensors.items()}
    with torch.no_grad():
        results = {name: run(make()) for name, make in CASES.items()}
    out = {"samples": SAMPLES, "rates": RATES, "momentum": MOMENTUM, "weight_decay": DECAY, "shapes": SHAPES,
           "weights": flat(weights), "gradient_sums": [flat(g) for g in grads], "results": results}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "step_rules.json")
    with open(path, "w") as f:
        json.dump(out, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
