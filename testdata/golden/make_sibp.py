"""Writes the golden vectors of semi-implicit back-propagation, sibp.json, by NumPy in float64.

  python3 make_sibp.py [--out DIR]

Two updates of a small network of three linear layers, fitted unit by unit as Liu and Zhang describe it; and the weights of
a last layer whose fit is taken to the end, by NumPy's lstsq. README.md states the format. Running it again on the same
machine gives the same bytes.
"""

import argparse
import json
import pathlib

import numpy as np

SIZES, SAMPLES, RATE, LAMBDA, ITERATIONS = [6, 5, 4, 3], 9, 0.3, 0.7, 3


def relu(z):
    return np.maximum(z, 0)


def objective(w, old, x, shift, target, act):
    return np.sum((act(x @ w + shift) - target) ** 2) + LAMBDA * np.sum((w - old) ** 2)


def minimise(old, x, shift, target, act):
    """Conjugate gradients of Fletcher and Reeves with Armijo's rule for one unit."""
    w, d, before = old.copy(), None, None
    for _ in range(ITERATIONS):
        z = x @ w + shift
        slope = np.ones_like(z) if act is not relu else (z > 0).astype(float)
        g = 2 * x.T @ (slope * (act(z) - target)) + 2 * LAMBDA * (w - old)
        if np.linalg.norm(g) < 1e-4:
            break
        d = -g if d is None else -g + (g @ g) / (before @ before) * d
        if g @ d >= 0:
            d = -g
        here = objective(w, old, x, shift, target, act)
        for m in range(50):
            step = 0.6**m
            if objective(w + step * d, old, x, shift, target, act) < here + 0.4 * step * (g @ d):
                w = w + step * d
                break
        before = g
    return w


def update(x, labels, weights, biases):
    layers = len(weights)
    inputs = [x]
    for w, b in zip(weights[:-1], biases[:-1]):
        inputs.append(relu(inputs[-1] @ w.T + b))
    z = inputs[-1] @ weights[-1].T + biases[-1]
    p = np.exp(z - z.max(1, keepdims=True))
    errors = p / p.sum(1, keepdims=True) - np.eye(SIZES[-1])[labels]
    target = z - RATE * errors
    for i in reversed(range(layers)):
        act = relu if i < layers - 1 else lambda v: v
        for k in range(len(biases[i])):
            weights[i][k] = minimise(weights[i][k], inputs[i], np.full(SAMPLES, biases[i][k]), target[:, k], act)
            biases[i][k] = minimise(biases[i][k : k + 1], np.ones((SAMPLES, 1)), inputs[i] @ weights[i][k], target[:, k], act)[0]
        errors = errors @ weights[i]
        target = inputs[i] - RATE * errors
        errors = errors * (inputs[i] > 0)
    return weights, biases


def layers(weights, biases):
    return [{"weights": w.tolist(), "biases": b.tolist()} for w, b in zip(weights, biases)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out
    rng = np.random.default_rng(7)
    x = rng.normal(size=(SAMPLES, SIZES[0])).round(3)
    labels = rng.integers(0, SIZES[-1], SAMPLES)
    weights = [rng.normal(size=(k, n)).round(3) * 0.7 for n, k in zip(SIZES, SIZES[1:])]
    biases = [rng.normal(size=k).round(3) * 0.1 for k in SIZES[1:]]
    case = {"rate": RATE, "lambda": LAMBDA, "iterations": ITERATIONS, "x": x.tolist(), "labels": labels.tolist(), "start": layers(weights, biases), "updates": []}
    for _ in range(2):
        weights, biases = update(x, labels, [w.copy() for w in weights], [b.copy() for b in biases])
        case["updates"].append(layers(weights, biases))
    target, old, shift = rng.normal(size=SAMPLES).round(3), rng.normal(size=SIZES[0]).round(3), 0.25
    rows = np.vstack([x, np.sqrt(LAMBDA) * np.eye(SIZES[0])])
    exact = np.linalg.lstsq(rows, np.concatenate([target - shift, np.sqrt(LAMBDA) * old]), rcond=None)[0]
    case["exact"] = {"target": target.tolist(), "old": old.tolist(), "shift": shift, "weights": exact.tolist()}
    (out / "sibp.json").write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    main()
