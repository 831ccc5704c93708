"""PPO (Schulman et al. 2017, arXiv 1707.06347, eq. 7 and 9), with the details of OpenAI's baselines
(``ppo2``): ½ in the value loss, advantages normalised per minibatch, one clipped gradient of both
networks, Adam with ε = 1e-5. The early stop is Spinning Up's (1.5 times the wanted KL), before the step.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from references.arithmetic import Moments, Weights, adam, below, clipped, gradients, norm
from references.on_policy import Samples, entropy, log_prob, value


class Settings(NamedTuple):
    """As the paper calls them: ε, c₁, c₂; and what the code adds."""

    clip: float
    value_coefficient: float
    entropy_coefficient: float
    max_grad_norm: float
    value_clip: float | None = None
    normalise: bool = True
    target_kl: float | None = None


class Learner(NamedTuple):
    weights: Weights
    moments: Moments


def loss(weights: Weights, batch: Samples, settings: Settings) -> tuple[Tensor, dict[str, float]]:
    """−L^CLIP + c₁ · ½ E[(V − V_target)²] − c₂ S, and what is recorded of it."""
    advantage = batch.advantage
    if settings.normalise:
        spread = torch.sqrt(((advantage - advantage.mean()) ** 2).mean())
        advantage = (advantage - advantage.mean()) / (spread + 1e-8)
    now, bonus = log_prob(weights, batch.observation, batch.action), entropy(weights, batch.observation)
    ratio = torch.exp(now - batch.log_prob)
    near = torch.clamp(ratio, 1 - settings.clip, 1 + settings.clip)
    objective = torch.minimum(ratio * advantage, near * advantage).mean()
    estimate = value(weights, batch.observation)
    error = (estimate - batch.target) ** 2
    if settings.value_clip is not None:
        moved = torch.clamp(estimate - batch.value, -settings.value_clip, settings.value_clip)
        error = torch.maximum(error, (batch.value + moved - batch.target) ** 2)
    critic = error.mean() / 2
    total = (
        -objective + settings.value_coefficient * critic - settings.entropy_coefficient * bonus.mean()
    )
    said = {
        "loss/actor": -objective,
        "loss/critic": critic,
        "entropy": bonus.mean(),
        "value_mean": estimate.mean(),
        "approx_kl": (ratio - 1 - (now - batch.log_prob)).mean(),
        "clip_fraction": ((ratio < 1 - settings.clip) | (ratio > 1 + settings.clip)).double().mean(),
    }
    return total, {name: float(number.detach()) for name, number in said.items()}


def update(
    learner: Learner, batches: list[Samples], masks: Weights, settings: Settings, rate: float
) -> tuple[Learner, list[dict[str, float]]]:
    """A step on each minibatch in turn; what each said, as far as steps were made."""
    said: list[dict[str, float]] = []
    for batch in batches:
        told: dict[str, float] = {}

        def of(weights: Weights, batch: Samples = batch, told: dict[str, float] = told) -> Tensor:
            total, numbers = loss(weights, batch, settings)
            told.update(numbers)
            return total

        grads, _ = gradients(of, learner.weights, masks)
        if settings.target_kl is not None and told["approx_kl"] > 1.5 * settings.target_kl:
            break
        told |= {f"grad_norm/{name}": norm(below(grads, name)) for name in ("actor", "critic")}
        grads = clipped(grads, settings.max_grad_norm)
        learner = Learner(*adam(learner.weights, grads, learner.moments, rate, epsilon=1e-5))
        said.append(told)
    return learner, said
