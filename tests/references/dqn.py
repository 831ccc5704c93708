"""n-step Q-learning on parallel actors (Mnih et al. 2016, arXiv 1602.01783, algorithm S2; Clemente et
al. 2017, §3): ε falls linearly, an n-step return goes on from the largest value of a target network, one
step of Adam on the whole rollout, and the target is a moving average.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from references.arithmetic import (
    Moments,
    Weights,
    adam,
    averaged,
    below,
    clipped,
    dense,
    gradients,
    norm,
    trunk,
)
from references.on_policy import Samples


class Settings(NamedTuple):
    """The optimiser's, τ of the target network, and where and when exploration ends."""

    max_grad_norm: float
    target_rate: float
    final_exploration: float
    exploration_share: float


class Learner(NamedTuple):
    weights: Weights
    """Paths begin with ``critic``."""
    target: Weights
    moments: Moments


def values(weights: Weights, observation: Tensor) -> Tensor:
    """Q(s, ·) ``[n, a]``."""
    critic = below(weights, "critic")
    return dense(critic, "value", trunk(critic, observation))


def greatest(weights: Weights, observation: Tensor) -> Tensor:
    """max_a Q(s, a) ``[n]``."""
    return values(weights, observation).max(-1).values


def exploration(settings: Settings, rollout: int, rollouts: int) -> float:
    """ε of one of so many rollouts."""
    over = rollout / rollouts / settings.exploration_share
    return max(1.0 - over, 0.0) + min(over, 1.0) * settings.final_exploration


def update(
    learner: Learner, batch: Samples, masks: Weights, settings: Settings, rate: float
) -> tuple[Learner, dict[str, float]]:
    """One step on ½ E[(R − Q(s, a))²], and what it said."""
    told: dict[str, float] = {}

    def of(weights: Weights) -> Tensor:
        taken = values(weights, batch.observation)[torch.arange(len(batch.action)), batch.action.long()]
        total = ((batch.target - taken) ** 2).mean() / 2
        told.update({"loss/critic": float(total.detach()), "value_mean": float(taken.detach().mean())})
        return total

    grads, _ = gradients(of, learner.weights, masks)
    told["grad_norm/critic"] = norm(grads)
    grads = clipped(grads, settings.max_grad_norm)
    weights, moments = adam(learner.weights, grads, learner.moments, rate)
    return Learner(weights, averaged(learner.target, weights, settings.target_rate), moments), told
