"""What adapters share: one array for what differently made agents see, sizes that are measured, states
whose types do not change."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Reset = Callable[[Array], tuple[Any, Any]]


def sizes_of(seen: Mapping[str, Any], names: Sequence[str]) -> list[int]:
    """Numbers that each agent sees.

    Args:
        seen: name → shape of its observation.
        names: of the agents, in order.
    """
    return [math.prod(seen[name].shape) for name in names]


def kinds_of(seen: Sequence[int], choices: Sequence[int]) -> tuple[int, ...]:
    """The kind of each agent: those who see and do as many things are of one, numbered as they come."""
    found: dict[tuple[int, int], int] = {}
    return tuple(found.setdefault(both, len(found)) for both in zip(seen, choices, strict=True))


def together(seen: Mapping[str, Array], names: Sequence[str], size: int) -> Array:
    """What all agents see, float32 ``[A, size]``: vectors, with zeros after what is shorter."""
    flat = [jnp.asarray(seen[name], jnp.float32).reshape(-1) for name in names]
    return jnp.stack([jnp.pad(x, (0, size - len(x))) for x in flat])


def allowed_of(choices: Sequence[int]) -> np.ndarray:
    """bool ``[A, a]``: the actions that each agent has at all."""
    return np.arange(max(choices))[None] < np.array(choices)[:, None]


def settled(state: Any, like: Any) -> Any:
    """The state in the types of ``like``, none of them weak: a program that feeds what it returned back
    is then compiled once, and a state that was read from disk fits."""
    return jax.tree.map(lambda x, to: jnp.asarray(x, to.dtype), state, like)
