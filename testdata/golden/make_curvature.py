"""Writes curvature.json: what plain PyTorch in float64 finds of the Hessian, for Broadside's tests.

  python3 make_curvature.py

Two kinds of cases, each with BN in eval mode and with each ghost's own statistics. The loss is the mean
cross-entropy without weight decay.

matrix      Small networks whose Hessian is computed whole: all its eigenvalues, its trace, of every tensor's diagonal
            block the top eigenvalue and products with a direction, and for the random signs that Broadside draws
            z'Hz and the moments z'H^k z / n.
checkpoint  quickstart.safetensors on the first bundled training images: the three eigenvalues of largest
            magnitude, z'Hz, the nodes and weights of stochastic Lanczos quadrature (Yao et al. 2020) from the
            signs that Broadside draws, and the loss along one eigenvector and over the plane of two.
"""

import json
import pathlib
import types

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import fills
from check_checkpoint import load_data, load_model
from make_golden import digits, dump

HERE = pathlib.Path(__file__).parent
EIGENVECTOR_START, TRACE_PROBE, LANCZOS_START = 0, 1, 2  # uses of random vectors
PROBE = 5  # the purpose of random numbers for curvature
SEED = 1


# ---- random vectors, as Broadside draws them -------------------------------------------------


def philox(key, blocks, low):
    """The words [blocks, 4] of Philox4x32-10 (Salmon et al. 2011) at counters (0..blocks-1, *low)."""
    mask = np.uint64(0xFFFFFFFF)
    counter = [np.arange(blocks, dtype=np.uint64)] + [np.full(blocks, v, np.uint64) for v in low]
    key = list(key)
    for _ in range(10):
        first, second = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = [(second >> np.uint64(32)) ^ counter[1] ^ np.uint64(key[0]), second & mask,
                   (first >> np.uint64(32)) ^ counter[3] ^ np.uint64(key[1]), first & mask]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return np.stack(counter, 1)


def random_vector(parameters, use, number, distribution):
    """A vector over all parameters; weights of convolutions are drawn in the order [K][R][S][C]."""
    parts = []
    for i, p in enumerate(parameters):
        words = philox((SEED, 0), -(-p.numel() // 4), (i, 0, PROBE << 24 | number << 8 | use))
        z = torch.from_numpy(distribution(words)[: p.numel()])
        if p.dim() == 4:
            k, c, r, s = p.shape
            z = z.view(k, r, s, c).permute(0, 3, 1, 2)
        parts.append(z.flatten())
    return torch.cat(parts)


def signs(words):
    return 1.0 - 2.0 * (words.reshape(-1) >> np.uint64(31)).astype(np.float64)


def normals(words):
    """Box-Muller on the pairs of words of a block."""
    u = ((words >> np.uint64(8)).astype(np.float64) + 0.5) * 2.0**-24
    radius, angle = np.sqrt(-2 * np.log(u[:, ::2])), 2 * np.pi * u[:, 1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2).reshape(-1)


# ---- the Hessian ------------------------------------------------------------------------------


def mean_loss(model, x, y, ghost):
    """The mean loss; `ghost` samples share their BN statistics, 0 means the running ones."""
    model.train(ghost > 0)
    return F.cross_entropy(torch.cat([model(part) for part in x.split(ghost or len(x))]), y)


def operator(model, x, y, ghost):
    """The product with the Hessian on flat vectors."""
    parameters = list(model.parameters())
    gradient = torch.autograd.grad(mean_loss(model, x, y, ghost), parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradient])

    def product(v):
        return torch.cat([h.flatten() for h in torch.autograd.grad(flat, parameters, v, retain_graph=True)])

    return product


def lanczos(product, start, steps):
    """The basis and the tridiagonal matrix, with full re-orthogonalisation."""
    basis, alphas, betas = [start / start.norm()], [], []
    for j in range(steps):
        w = product(basis[j])
        alphas.append(float(w @ basis[j]))
        for _ in range(2):
            stacked = torch.stack(basis)
            w = w - stacked.T @ (stacked @ w)
        if j + 1 < steps:
            betas.append(float(w.norm()))
            basis.append(w / w.norm())
    return torch.stack(basis), np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1), float(w.norm())


def top_eigenvectors(product, parameters, count, steps):
    """Eigenvalues of largest magnitude, and eigenvectors with the sign that a power iteration from
    Broadside's start vectors gives them, which takes them to be positive."""
    basis, matrix, rest = lanczos(product, random_vector(parameters, LANCZOS_START, 9, signs), steps)
    values, vectors = np.linalg.eigh(matrix)
    order = np.argsort(-np.abs(values))[:count]
    assert np.all(values[order] > 0)
    assert np.all(rest * np.abs(vectors[-1, order]) < 1e-8 * values[order])  # residuals
    found = []
    for number, at in enumerate(order):
        u = basis.T @ torch.from_numpy(vectors[:, at])
        start = random_vector(parameters, EIGENVECTOR_START, number, normals)
        found.append(u * torch.sign(start @ u))
    return values[order], found


def landscape(model, x, y, ghost, directions, offsets):
    """Losses [j][i] at w + offsets[i] first + offsets[j] second; in one dimension a single row."""
    parameters = list(model.parameters())
    centre = nn.utils.parameters_to_vector(parameters).detach()
    rows = []
    for second in offsets if len(directions) == 2 else [0]:
        row = []
        for first in offsets:
            moved = centre + float(first) * directions[0] + float(second) * directions[-1]
            nn.utils.vector_to_parameters(moved, parameters)
            with torch.no_grad():
                row.append(digits(mean_loss(model, x, y, ghost)))
        rows.append(row)
    nn.utils.vector_to_parameters(centre, parameters)
    return rows


# ---- the cases --------------------------------------------------------------------------------


class Small(nn.Module):
    """linear 16 -> 7, BN, ReLU or nothing, linear -> 4."""

    def __init__(self, activation):
        super().__init__()
        self.fc1, self.bn, self.fc2 = nn.Linear(16, 7), nn.BatchNorm1d(7), nn.Linear(7, 4)
        self.activation = activation

    def forward(self, x):
        return self.fc2(self.activation(self.bn(self.fc1(x.flatten(1)))))


def tensors(model, matrix):
    """Of each parameter l: the eigenvalue of largest magnitude of its block H_ll, and for the direction d named "d." and
    the parameter d_l d_l, d_l (Hd)_l and d_l H_ll d_l."""
    named = {name: p.numel() for name, p in model.named_parameters()}
    d = torch.cat([fills.fill("d." + name, (n,), -1, 1) for name, n in named.items()]).double()
    out, at = {}, 0
    for name, n in named.items():
        own = slice(at, at + n)
        values = torch.linalg.eigvalsh(matrix[own, own])
        out[name] = {
            "top": digits(values[values.abs().argmax()]),
            "square": digits(d[own] @ d[own]),
            "product": digits(d[own] @ (matrix @ d)[own]),
            "block": digits(d[own] @ matrix[own, own] @ d[own]),
        }
        at += n
    return out


def matrix_case(activation, ghost, samples, probes, starts, moments):
    model = fills.fill_model(Small(activation)).double()
    pixels = (fills.images("curvature", samples, (4, 4)) * 256).floor()
    x, y = pixels.double() / 255, torch.arange(samples) * 7 % 4
    parameters = list(model.parameters())
    product = operator(model, x, y, ghost)
    size = sum(p.numel() for p in parameters)
    matrix = torch.stack([product(row) for row in torch.eye(size, dtype=torch.float64)])
    assert (matrix - matrix.T).abs().max() < 1e-12
    z = [random_vector(parameters, TRACE_PROBE, i, signs) for i in range(probes)]
    moment = []
    for i in range(starts):
        start = power = random_vector(parameters, LANCZOS_START, i, signs)
        of_start = []
        for _ in range(moments):
            power = matrix @ power
            of_start.append(digits(start @ power / size))
        moment.append(of_start)
    return {
        "ghost": ghost,
        "tensors": tensors(model, matrix),
        "eigenvalues": [digits(v) if abs(v) > 1e-12 else 0 for v in torch.linalg.eigvalsh(matrix)],
        "trace": digits(matrix.trace()),
        "trace_samples": [digits(v @ matrix @ v) for v in z],
        "moments": moment,
    }


def checkpoint_case(ghost, samples, probes, starts, steps, top):
    model = load_model(HERE / "quickstart.safetensors", "resnet8", 10).double()
    data = types.SimpleNamespace(set="fashion-mnist", data=HERE.parent / "fashion_mnist_small", normalize="none")
    x, y = load_data(data, train=True, limit=samples)
    x, parameters = x.double(), list(model.parameters())
    product = operator(model, x, y, ghost)
    values, vectors = top_eigenvectors(product, parameters, top, 60)
    density = []
    for i in range(starts):
        _, matrix, _ = lanczos(product, random_vector(parameters, LANCZOS_START, i, signs), steps)
        nodes, components = np.linalg.eigh(matrix)
        density.append({"nodes": [digits(v) for v in nodes], "weights": [digits(v) for v in components[0] ** 2]})
    z = [random_vector(parameters, TRACE_PROBE, i, signs) for i in range(probes)]
    offsets = np.linspace(-0.5, 0.5, 5)
    return {
        "ghost": ghost,
        "eigenvalues": [digits(v) for v in values],
        "trace_samples": [digits(v @ product(v)) for v in z],
        "density": density,
        "line": landscape(model, x, y, ghost, vectors[:1], offsets),
        "plane": landscape(model, x, y, ghost, vectors[:2], offsets),
    }


def main():
    samples = {"matrix": 56, "checkpoint": 12}
    result = {
        "seed": SEED,
        "samples": samples,
        "matrix": {
            name: [matrix_case(activation, ghost, samples["matrix"], 20, 2, 4) for ghost in (0, 16)]
            for name, activation in (("mlp", F.relu), ("smooth", lambda x: x))
        },
        "checkpoint": [checkpoint_case(ghost, samples["checkpoint"], 4, 2, 10, 3) for ghost in (0, 6)],
    }
    (HERE / "curvature.json").write_text(dump(result))


if __name__ == "__main__":
    main()
