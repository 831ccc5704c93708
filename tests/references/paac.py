"""PAAC (Clemente et al. 2017, arXiv 1705.04862, algorithm 1, eq. 10 and 11), as its public code has it:
one step on the whole rollout, the gradient clipped by its norm, and TensorFlow's RMSProp, whose mean of
squares begins at 1 and whose ε stands inside the root.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from references.arithmetic import Weights, below, clipped, gradients, norm
from references.on_policy import Samples, entropy, log_prob, value


class Settings(NamedTuple):
    """c of the critic's loss, β of the entropy, and the optimiser's."""

    value_coefficient: float
    entropy_coefficient: float
    loss_scale: float
    max_grad_norm: float
    decay: float
    epsilon: float


class Learner(NamedTuple):
    weights: Weights
    squares: Weights
    """Running means of squared gradients."""


def begin(weights: Weights) -> Learner:
    """Before the first step."""
    return Learner(weights, {path: torch.ones_like(w) for path, w in weights.items()})


def loss(weights: Weights, batch: Samples, settings: Settings) -> tuple[Tensor, dict[str, float]]:
    """scale · (−E[A log π(a|s) + β H(π)] + c · ½ E[(R − V)²]), and what is recorded of it."""
    bonus, estimate = entropy(weights, batch.observation), value(weights, batch.observation)
    reinforced = (batch.advantage * log_prob(weights, batch.observation, batch.action)).mean()
    critic = ((batch.target - estimate) ** 2).mean() / 2
    actor = -(reinforced + settings.entropy_coefficient * bonus.mean())
    said = {
        "loss/actor": -reinforced,
        "loss/critic": critic,
        "entropy": bonus.mean(),
        "value_mean": estimate.mean(),
    }
    total = settings.loss_scale * (actor + settings.value_coefficient * critic)
    return total, {name: float(number.detach()) for name, number in said.items()}


def update(
    learner: Learner, batch: Samples, masks: Weights, settings: Settings, rate: float
) -> tuple[Learner, dict[str, float]]:
    """One step, and what it said."""
    told: dict[str, float] = {}

    def of(weights: Weights) -> Tensor:
        total, numbers = loss(weights, batch, settings)
        told.update(numbers)
        return total

    grads, _ = gradients(of, learner.weights, masks)
    told |= {f"grad_norm/{name}": norm(below(grads, name)) for name in ("actor", "critic")}
    grads = clipped(grads, settings.max_grad_norm)
    keep = settings.decay
    squares = {p: keep * learner.squares[p] + (1 - keep) * g * g for p, g in grads.items()}
    weights = {
        path: w - rate * grads[path] / torch.sqrt(squares[path] + settings.epsilon)
        for path, w in learner.weights.items()
    }
    return Learner(weights, squares), told
