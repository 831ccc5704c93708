"""What the references share: networks, gradients, Adam, clipping, moving averages; all in float64."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Weights = dict[str, Tensor]
"""Path, as in ``trunk/dense_0/kernel`` → float64."""


def flat(tree: Mapping[str, Any], before: str = "") -> Weights:
    """A tree of arrays as ``path → float64 tensor``."""
    found: Weights = {}
    for name, part in tree.items():
        if isinstance(part, Mapping):
            found |= flat(part, f"{before}{name}/")
        elif part is not None:
            found[before + name] = torch.tensor(np.array(part, np.float64))
    return found


def below(weights: Weights, name: str) -> Weights:
    """The part of a tree below a name."""
    return {p.removeprefix(f"{name}/"): w for p, w in weights.items() if p.startswith(f"{name}/")}


def cut(weights: Weights, masks: Weights) -> Weights:
    """Weights as a network uses them: 0 where a mask is 0; a tensor without a mask is whole."""
    return {path: w * masks[path] if path in masks else w for path, w in weights.items()}


def gradients(
    loss: Callable[[Weights], Tensor], weights: Weights, masks: Weights
) -> tuple[Weights, float]:
    """Of a loss of the weights in use, and its value; nothing where a mask is 0."""
    leaves = {path: w.clone().requires_grad_() for path, w in weights.items()}
    value = loss(cut(leaves, masks))
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    grads = {
        path: torch.zeros_like(w) if grad is None else grad
        for (path, w), grad in zip(weights.items(), found, strict=True)
    }
    return grads, float(value.detach())


class Moments(NamedTuple):
    """What Adam remembers."""

    first: Weights
    second: Weights
    steps: int


def no_moments(weights: Weights) -> Moments:
    """Before the first step."""
    nothing = {path: torch.zeros_like(w) for path, w in weights.items()}
    return Moments(nothing, nothing, 0)


def adam(
    weights: Weights,
    grads: Weights,
    moments: Moments,
    rate: float,
    decay: float = 0.0,
    epsilon: float = 1e-8,
    rates: tuple[float, float] = (0.9, 0.999),
) -> tuple[Weights, Moments]:
    """One step (Kingma and Ba 2015, algorithm 1); with ``decay``, AdamW's (Loshchilov and Hutter 2019,
    algorithm 2): weights shrink beside the step, by the same rate, and gradients know nothing of it."""
    one, two = rates
    steps = moments.steps + 1
    first = {p: one * moments.first[p] + (1 - one) * g for p, g in grads.items()}
    second = {p: two * moments.second[p] + (1 - two) * g * g for p, g in grads.items()}
    stepped = {}
    for path, w in weights.items():
        mean = first[path] / (1 - one**steps)
        deviation = torch.sqrt(second[path] / (1 - two**steps))
        stepped[path] = w - rate * (mean / (deviation + epsilon) + decay * w)
    return stepped, Moments(first, second, steps)


def norm(tree: Weights) -> float:
    """√ of the sum of all squares."""
    return math.sqrt(sum(float((x * x).sum()) for x in tree.values()))


def clipped(grads: Weights, bound: float) -> Weights:
    """Gradients of at most this norm, in the same direction."""
    size = norm(grads)
    return grads if size <= bound else {p: g * (bound / size) for p, g in grads.items()}


def averaged(target: Weights, weights: Weights, rate: float) -> Weights:
    """The target network, moved by a rate towards the weights."""
    return {path: (1 - rate) * old + rate * weights[path] for path, old in target.items()}


def dense(weights: Weights, layer: str, x: Tensor) -> Tensor:
    """``x W + b``: ``[n, inputs]`` → ``[n, units]``."""
    return x @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]


def layer_norm(weights: Weights, layer: str, x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Over the units of each sample (Ba et al. 2016), with a scale and a shift."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + epsilon)
    return scaled * weights[f"{layer}/scale"] + weights[f"{layer}/bias"]


def mlp(weights: Weights, x: Tensor) -> Tensor:
    """All layers ``dense_0``, ``dense_1``, … of a trunk, each followed by a ReLU."""
    for i in range(sum(path.endswith("/kernel") for path in weights)):
        x = torch.relu(dense(weights, f"dense_{i}", x))
    return x


def simba(weights: Weights, x: Tensor) -> Tensor:
    """SimBa's trunk (Lee et al. 2024, §4): residual blocks of LayerNorm, ReLU layer and linear layer."""
    x = dense(weights, "embed", x)
    for i in range(sum(path.endswith("_expand/kernel") for path in weights)):
        inner = layer_norm(weights, f"block_{i}_norm", x)
        inner = torch.relu(dense(weights, f"block_{i}_expand", inner))
        x = x + dense(weights, f"block_{i}_project", inner)
    return layer_norm(weights, "norm", x)


def trunk(weights: Weights, x: Tensor) -> Tensor:
    """The trunk of a network, whichever it has."""
    own = below(weights, "trunk")
    return simba(own, x) if "embed/kernel" in own else mlp(own, x)
