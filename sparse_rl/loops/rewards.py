"""What is made of a rollout's rewards before they are learned from."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.experience import normaliser as norm
from sparse_rl.loops.rollout import Rollout, ended
from sparse_rl.settings.envs import EnvConfig, TeamConfig
from sparse_rl.settings.on_policy import OnPolicyConfig


class RewardScale(NamedTuple):
    """Statistics of discounted returns, by whose deviation rewards may be divided."""

    running: Array
    """float32 ``[N]``: Σ γ^k r over each actor's episode so far."""
    statistics: norm.Normaliser
    """Of that number, over all actors and steps."""


def take_rewards(scale: RewardScale, rollout: Rollout, rewards: Array, discount: float) -> RewardScale:
    """Take a rollout's discounted returns into the statistics (Engstrom et al. 2020, app. A)."""

    def step(running: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, done = now
        running = discount * running + reward
        return jnp.where(done, 0.0, running), running

    done = ended(rollout)
    running, returns = jax.lax.scan(step, scale.running, (rewards, done))
    weight = None if rollout.view.weight is None else rollout.view.weight.reshape(-1)
    return RewardScale(running, norm.update(scale.statistics, returns.reshape(-1, 1), weight))


def shaping_weight(settings: EnvConfig, env_steps: Any) -> Array:
    """What shaping is worth after so many env steps, a float32 scalar: a share that falls linearly to 0,
    where it is to.

    Args:
        settings: of the environment.
        env_steps: a float: long runs have more than int32 counts.
    """
    if not isinstance(settings, TeamConfig):
        return jnp.float32(0.0)
    weight: Any = settings.shaping
    if settings.shaping_steps is not None:
        weight *= jnp.maximum(1.0 - env_steps / float(settings.shaping_steps), 0.0)
    return jnp.asarray(weight, jnp.float32)


def shaped(settings: EnvConfig, rollout: Rollout, env_steps: Any) -> Array:
    """The rewards to learn from, float32 ``[T, N]``: the environment's own, and what shapes them.

    Args:
        settings: of the environment.
        rollout: T steps.
        env_steps: before it.
    """
    if rollout.shaping is None or not isinstance(settings, TeamConfig) or not settings.shaping:
        return rollout.reward
    return rollout.reward + shaping_weight(settings, env_steps) * rollout.shaping


def scaled(settings: OnPolicyConfig, scale: RewardScale, rewards: Array) -> Array:
    """Rewards as they are learned from, of any shape."""
    if settings.normalise_rewards:
        rewards = norm.bounded(rewards / norm.deviation(scale.statistics))
    limit = settings.reward_clip
    return rewards if limit is None else jnp.clip(rewards, -limit, limit)
