"""What adapters share: one array for what differently made agents see, sizes that are measured, states
whose types do not change."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

Task = TypeVar("Task")
NEVER = 2**30
"""A time limit that is none."""


def find(source: str, name: str, tasks: Mapping[str, Task]) -> Task:
    """The task of this name; raises :class:`ValueError`, naming all, if there is none."""
    if name not in tasks:
        raise ValueError(f"{source} task {name!r} is unknown; choose one of {', '.join(tasks)}")
    return tasks[name]


@contextmanager
def needing(package: str) -> Iterator[None]:
    """While a library of this name, which is the source's, is imported; if it is missing, the error says
    how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise ModuleNotFoundError(
            f"env.source={package} needs the package {package}: pip install 'sparse_rl[teams]'",
            name=package,
        ) from None


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


def all_see(observation: Array) -> Array:
    """What a central critic sees where a simulator tells nothing: what all see, ``[A, A · o]``."""
    return for_all(observation.reshape(-1), len(observation))


def for_all(numbers: Array, agents: int) -> Array:
    """The same numbers for each agent, ``[A, s]``."""
    return jnp.broadcast_to(numbers, (agents, *numbers.shape))


def allowed_of(choices: Sequence[int]) -> np.ndarray:
    """bool ``[A, a]``: the actions that each agent has at all."""
    return np.arange(max(choices))[None] < np.array(choices)[:, None]


def settled(state: Any, like: Any) -> Any:
    """The state in the types of ``like``, none of them weak: a program that feeds what it returned back
    is then compiled once, and a state that was read from disk fits."""
    return jax.tree.map(lambda x, to: jnp.asarray(x, to.dtype), state, like)
