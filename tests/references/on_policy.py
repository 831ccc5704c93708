"""What on-policy agents share: what a policy says of an action, returns, statistics of what was seen."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from references.arithmetic import Weights, below, dense, trunk

Floats = np.ndarray


class Rollout(NamedTuple):
    """T interactions of N actors; float64 and bool ``[T, N, …]``."""

    observation: Floats
    action: Floats
    log_prob: Floats
    reward: Floats
    terminated: Floats
    truncated: Floats
    following: Floats
    """What each action led to, before anything began anew."""


class Samples(NamedTuple):
    """What an update learns from, in the order (time, actor); ``[T · N, …]``."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    target: Tensor

    def some(self, which: Floats) -> "Samples":
        """Those at these places."""
        return Samples(*(field[torch.tensor(which)] for field in self))


class Seen(NamedTuple):
    """Everything that statistics are made of, since the run began."""

    observations: Floats
    """``[n, o]``."""
    returns: Floats
    """``[n]``: Σ γᵏ r of each actor's episode, at every step."""
    running: Floats
    """``[N]``: the same of the episodes that go on."""


def log_prob(weights: Weights, observation: Tensor, action: Tensor) -> Tensor:
    """log π(a|s): of a choice, or of a Gaussian whose deviation is the same everywhere."""
    actor = below(weights, "actor")
    if "log_std" not in actor:
        logits = dense(actor, "logits", trunk(actor, observation))
        each = logits - torch.logsumexp(logits, -1, keepdim=True)
        return each[torch.arange(len(action)), action.long()]
    mean, deviation = dense(actor, "mean", trunk(actor, observation)), torch.exp(actor["log_std"])
    density = torch.exp(-((action - mean) ** 2) / (2 * deviation**2)) / deviation
    return torch.log(density / math.sqrt(2 * math.pi)).sum(-1)


def entropy(weights: Weights, observation: Tensor) -> Tensor:
    """H(π(·|s)) ``[n]``."""
    actor = below(weights, "actor")
    if "log_std" not in actor:
        p = torch.softmax(dense(actor, "logits", trunk(actor, observation)), -1)
        return -(p * torch.log(p)).sum(-1)
    each = 0.5 * torch.log(2 * math.pi * math.e * torch.exp(actor["log_std"]) ** 2)
    return each.sum().expand(len(observation))


def value(weights: Weights, observation: Tensor) -> Tensor:
    """V(s) ``[n]``."""
    critic = below(weights, "critic")
    return dense(critic, "value", trunk(critic, observation))[:, 0]


def advantages(
    rollout: Rollout, rewards: Floats, values: Floats, after: Floats, discount: float, gae_lambda: float
) -> Floats:
    """Σ (γλ)ᵏ δ_{t+k} to the end of the episode or of the rollout (Schulman et al. 2016, eq. 16), with
    δ = r + γ V(s') − V(s): nothing is worth anything after a termination.

    Args:
        rewards, values, after: r, V(s), and V(s') of the true successor; ``[T, N]``.
    """
    found = np.zeros_like(rewards)
    for (t, n), _ in np.ndenumerate(rewards):
        for k in range(t, len(rewards)):
            worth = 0.0 if rollout.terminated[k, n] else after[k, n]
            delta = rewards[k, n] + discount * worth - values[k, n]
            found[t, n] += (discount * gae_lambda) ** (k - t) * delta
            if rollout.terminated[k, n] or rollout.truncated[k, n]:
                break
    return found


def normalised(observation: Floats, seen: Seen) -> Floats:
    """By mean and deviation of all that was seen before, within ±10."""
    if len(seen.observations) < 2:
        return np.clip(observation, -10.0, 10.0)
    mean, variance = seen.observations.mean(0), seen.observations.var(0)
    return np.clip((observation - mean) / np.sqrt(variance + 1e-8), -10.0, 10.0)


def remember(seen: Seen, rollout: Rollout, discount: float) -> Seen:
    """With what a rollout showed and brought (Engstrom et al. 2020, app. A)."""
    running, returns = seen.running, list(seen.returns)
    for t, reward in enumerate(rollout.reward):
        running = discount * running + reward
        returns += list(running)
        running = np.where(rollout.terminated[t] | rollout.truncated[t], 0.0, running)
    flat = rollout.observation.reshape(-1, rollout.observation.shape[-1])
    return Seen(np.concatenate([seen.observations, flat]), np.array(returns), running)


def scaled(reward: Floats, seen: Seen) -> Floats:
    """Rewards in deviations of the discounted returns, this rollout's included, within ±10."""
    return np.clip(reward / np.sqrt(seen.returns.var() + 1e-8), -10.0, 10.0)
