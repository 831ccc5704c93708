"""SAC (Haarnoja et al. 2018, arXiv 1812.05905) as SimBa has it (Lee et al. 2024, arXiv 2410.09754): the
actor, then the temperature, the critics, their targets, each seeing what came before."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from references.arithmetic import (
    Moments,
    Weights,
    adam,
    averaged,
    below,
    cut,
    dense,
    gradients,
    no_moments,
    norm,
    trunk,
)


class Settings(NamedTuple):
    discount: float
    rate: float
    decay: float
    """Of weights, critics' and actor's: AdamW."""
    target_rate: float
    target_entropy: float


class Batch(NamedTuple):
    observation: Tensor
    action: Tensor
    reward: Tensor
    next_observation: Tensor
    terminated: Tensor
    """1 where the task ended by itself."""


class State(NamedTuple):
    actor: Weights
    critic: Weights
    """Of all critics, below their names: ``0/…``, ``1/…``."""
    target: Weights
    log_temperature: Weights
    """One number, named ``log``."""
    moments: dict[str, Moments]
    masks: dict[str, Weights]


def start(
    actor: Weights, critic: Weights, masks: dict[str, Weights], log_temperature: float = 0.0
) -> State:
    """Before the first update: targets are copies, and Adam remembers nothing."""
    log = {"log": torch.tensor(log_temperature, dtype=torch.float64)}
    moments = {"actor": actor, "critic": critic, "temperature": log}
    return State(actor, critic, critic, log, {n: no_moments(w) for n, w in moments.items()}, masks)


def draw(actor: Weights, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh of a Gaussian, and its log density: ``[n, a]`` and ``[n]`` (app. C, eq. 20 and 21). The log
    deviation is kept in [−10, 2] by a tanh."""
    seen = trunk(actor, observation)
    mean, log_std = dense(actor, "mean", seen), -4 + 6 * torch.tanh(dense(actor, "log_std", seen))
    before = mean + torch.exp(log_std) * noise
    gaussian = torch.distributions.Normal(mean, torch.exp(log_std)).log_prob(before)
    slope = -2 * torch.log(torch.cosh(before))  # log(1 − tanh²)
    return torch.tanh(before), (gaussian - slope).sum(-1)


def value(critics: Weights, observation: Tensor, action: Tensor) -> list[Tensor]:
    """Q(s, a) of each critic: ``[n]``."""
    both = torch.cat([observation, action], -1)
    names = sorted({path.split("/")[0] for path in critics})
    each = [below(critics, name) for name in names]
    return [dense(one, "value", trunk(one, both))[:, 0] for one in each]


def least(values: list[Tensor]) -> Tensor:
    """Of one critic its value, of two the smaller (clipped double Q)."""
    return torch.stack(values).min(0).values


def step_critics(
    settings: Settings, state: State, batch: Batch, target: Tensor, metrics: dict[str, float]
) -> State:
    """AdamW on the critics' mean squared errors, summed over critics; then their moving average."""

    def loss(critics: Weights) -> Tensor:
        errors = [(q - target) ** 2 for q in value(critics, batch.observation, batch.action)]
        return sum(errors, torch.zeros_like(target)).mean()

    grads, found = gradients(loss, state.critic, state.masks["critic"])
    before = value(cut(state.critic, state.masks["critic"]), batch.observation, batch.action)
    metrics |= {"loss/critic": found, "grad_norm/critic": norm(grads)}
    metrics["value_mean"] = float(torch.stack(before).mean())
    critic, moments = adam(state.critic, grads, state.moments["critic"], settings.rate, settings.decay)
    return state._replace(
        critic=critic,
        target=averaged(state.target, critic, settings.target_rate),
        moments=state.moments | {"critic": moments},
    )


def update(
    settings: Settings, state: State, batch: Batch, noise: tuple[Tensor, Tensor]
) -> tuple[State, dict[str, float]]:
    """One update; the noise is that of the actor's loss, and of the targets."""
    critics = cut(state.critic, state.masks["critic"])
    temperature = math.exp(float(state.log_temperature["log"]))
    entropies = []

    def actor_loss(actor: Weights) -> Tensor:
        action, log_prob = draw(actor, batch.observation, noise[0])
        entropies.append(-float(log_prob.mean().detach()))
        return (temperature * log_prob - least(value(critics, batch.observation, action))).mean()

    grads, found = gradients(actor_loss, state.actor, state.masks["actor"])
    metrics = {"loss/actor": found, "grad_norm/actor": norm(grads), "entropy": entropies[0]}
    actor, of_actor = adam(state.actor, grads, state.moments["actor"], settings.rate, settings.decay)

    # J(α) = E[−α log π − α H̄] (eq. 18), by the gradient with respect to log α
    slope = {"log": torch.tensor(temperature * (entropies[0] - settings.target_entropy))}
    log, of_log = adam(state.log_temperature, slope, state.moments["temperature"], settings.rate)
    temperature = metrics["temperature"] = math.exp(float(log["log"]))
    moments = state.moments | {"actor": of_actor, "temperature": of_log}
    state = state._replace(actor=actor, log_temperature=log, moments=moments)

    following = batch.next_observation
    action, log_prob = draw(cut(actor, state.masks["actor"]), following, noise[1])
    worth = least(value(cut(state.target, state.masks["critic"]), following, action))
    soft = worth - temperature * log_prob
    target = batch.reward + settings.discount * (1 - batch.terminated) * soft
    return step_critics(settings, state, batch, target, metrics), metrics
