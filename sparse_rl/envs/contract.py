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
    """One environment as pure functions that ``vmap``.

    An action is float32 ``[action_size]`` in ``[-1, 1]``, or, where actions are ``discrete``, an int32
    scalar in ``[0, action_size)``. An observation is one vector, whatever it was made from.

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
    """``(key, state, action) → (state, Step)``: one frame."""
    discrete: bool = False
    """Whether an action is a choice among ``action_size``."""
    legal_actions: Callable[[Any], Array] | None = None
    """``state → bool [action_size]``: the choices that are allowed now; ``None``: always all of them."""
    picture: tuple[int, int, int] | None = None
    """Height, width and channels, where the observation is a picture laid out as a vector."""
