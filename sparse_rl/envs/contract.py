"""The environment contract: what every source gives, and nothing more."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax import Array


class Step(NamedTuple):
    """What one simulated frame returns. No automatic reset has happened yet."""

    observation: Array
    """float32 ``[observation_size]``: the state after the action."""
    reward: Array
    """float32 scalar."""
    terminated: Array
    """bool scalar: the task ended by itself (never because time ran out)."""


@dataclass(frozen=True)
class Env:
    """One environment with continuous actions in ``[-1, 1]``, as pure functions that ``vmap``.

    Time limits are not the environment's business: ``episode_length`` says after how many frames an
    episode is truncated, and :mod:`sparse_rl.envs.vector` does it.
    """

    name: str
    observation_size: int
    action_size: int
    episode_length: int
    """Frames before truncation."""
    reset: Callable[[Array], tuple[Any, Array]]
    """``key → (state, float32 [observation_size])``."""
    step: Callable[[Array, Any, Array], tuple[Any, Step]]
    """``(key, state, float32 [action_size] in [-1, 1]) → (state, Step)``: one frame."""
