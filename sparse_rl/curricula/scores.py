"""What a level is worth: scores over the episodes that ended in a rollout."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.settings.curricula import Score


class Played(NamedTuple):
    """What a rollout of N levels left; each field float32 ``[T, N]`` unless said."""

    ended: Array
    """bool: whether the step ended an episode, in whatever way."""
    episode_return: Array
    """Up to this step."""
    value: Array
    """V(s)."""
    advantage: Array
    """Generalised advantage estimates."""
    solved: Array
    """bool: whether the episode's return so far solves it."""
    highest: Array
    """float32 ``[N]``: the highest return that each level ever had, this rollout's episodes included;
    −inf where none ended yet."""
    best: Array
    """float32 ``[N]``: the highest that can be had; NaN where it is not asked for."""


def per_episode(ended: Array, numbers: Array) -> Array:
    """Mean over the episodes that ended of their means over time, float32 ``[N]``; NaN where none did.

    Args:
        ended: bool ``[T, N]``.
        numbers: float32 ``[T, N]``.
    """

    def step(carry: Any, now: tuple[Array, Array]) -> tuple[Any, None]:
        total, steps, means, episodes = carry
        number, over = now
        total, steps = total + number, steps + 1.0
        means = means + jnp.where(over, total / steps, 0.0)
        keep = 1.0 - over
        return (total * keep, steps * keep, means, episodes + over), None

    start = (jnp.zeros(ended.shape[1]),) * 4
    (_, _, means, episodes), _ = jax.lax.scan(step, start, (numbers, ended))
    return means / episodes


def over_episodes(ended: Array, at_end: Array) -> Array:
    """Mean of what episodes end with, float32 ``[N]``; NaN where none ended. Both ``[T, N]``."""
    return jnp.sum(jnp.where(ended, at_end, 0.0), axis=0) / jnp.sum(ended, axis=0)


def highest_return(ended: Array, episode_return: Array) -> Array:
    """The highest return of the episodes that ended, float32 ``[N]``; −inf where none did. It may be
    negative: it is not counted from 0."""
    return jnp.max(jnp.where(ended, episode_return, -jnp.inf), axis=0)


def max_mc(played: Played) -> Array:
    """The highest return of a level less what is expected of it (Jiang et al. 2021, arXiv 2110.02439,
    §4): E[R_max − V(s)]."""
    return per_episode(played.ended, played.highest - played.value)


def positive_value_loss(played: Played) -> Array:
    """E[max(A, 0)] (Jiang et al. 2021, arXiv 2110.02439, §4)."""
    return per_episode(played.ended, jnp.maximum(played.advantage, 0.0))


def l1_value_loss(played: Played) -> Array:
    """E[|A|] (Jiang et al. 2021, *Prioritized level replay*, arXiv 2010.03934, eq. 2)."""
    return per_episode(played.ended, jnp.abs(played.advantage))


def learnability(played: Played) -> Array:
    """p (1 − p) of the share p of episodes that were solved (Rutherford et al. 2024, arXiv
    2408.15099)."""
    solved = over_episodes(played.ended, played.solved.astype(jnp.float32))
    return solved * (1.0 - solved)


def regret(played: Played) -> Array:
    """The highest return that can be had, less the mean of those that were: others guess the first.
    As exact as the environment's ``best``."""
    return played.best - over_episodes(played.ended, played.episode_return)


SCORES: dict[Score, Callable[[Played], Array]] = {
    "max_mc": max_mc,
    "positive_value_loss": positive_value_loss,
    "l1_value_loss": l1_value_loss,
    "learnability": learnability,
    "regret": regret,
}


def score(name: Score, played: Played) -> Array:
    """float32 ``[N]``; −inf where no episode ended: such a level is not kept."""
    ended = jnp.any(played.ended, axis=0)
    return jnp.where(ended, SCORES[name](played), -jnp.inf)
