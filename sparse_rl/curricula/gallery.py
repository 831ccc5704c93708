"""The few levels of many that people are shown: those that a curriculum wants most, and the hardest that
were solved."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.curricula.buffer import LevelBuffer
from sparse_rl.envs import Levels

SHOWN = 6
"""Of each kind."""
WANTED, HARDEST, MADE = "wanted", "hardest", "made"
"""Kinds: of the highest score; solved, and of the lowest best return (the longest way, in mazes); made
by a teacher now."""


class Exhibits(NamedTuple):
    """K levels, the most remarkable first."""

    levels: Any
    """Each leaf with a leading K."""
    there: Array
    """bool ``[K]``: whether there is one, or too few are kept."""
    score: Array
    """float32 ``[K]``; NaN where nothing is scored."""
    highest: Array
    """float32 ``[K]``: the highest return of any episode so far; NaN where nothing is known."""
    edited: Array
    """bool ``[K]``: whether it is an edit of another level."""
    told: dict[str, Array]
    """What the environment tells of it, each float32 ``[K]``."""


def gallery(levels: Levels, buffer: LevelBuffer) -> dict[str, Exhibits]:
    """What is shown of a buffer: its highest scores, and the hardest that was ever solved.

    A level is the harder, the less its best solution returns (``best`` of the environment's levels);
    where all have the same bound, the less any episode returned.
    """
    count = min(SHOWN, len(buffer.score))
    solved = buffer.filled & levels.solved(buffer.highest)
    best = jax.vmap(levels.best)(buffer.levels)
    order = jnp.lexsort((buffer.highest, jnp.where(solved, best, jnp.inf)))
    chosen = {
        WANTED: (jax.lax.top_k(buffer.score, count)[1], buffer.filled),
        HARDEST: (order[:count], solved),
    }
    return {kind: _at(levels, buffer, place, there) for kind, (place, there) in chosen.items()}


def _at(levels: Levels, buffer: LevelBuffer, place: Array, there: Array) -> Exhibits:
    """What is kept at K places."""
    held = jax.tree.map(lambda x: x[place], buffer)
    edited = jnp.any(held.parent != 0, axis=1)
    told = jax.vmap(levels.describe)(held.levels)
    return Exhibits(held.levels, there[place], held.score, held.highest, edited, told)


def exhibits(levels: Levels, designs: Any) -> dict[str, Exhibits]:
    """The first of N levels that a teacher made, each leaf with a leading N."""
    few = jax.tree.map(lambda x: x[:SHOWN], designs)
    count = len(jax.tree.leaves(few)[0])
    unknown, none = jnp.full(count, jnp.nan), jnp.zeros(count, bool)
    return {MADE: Exhibits(few, ~none, unknown, unknown, none, jax.vmap(levels.describe)(few))}
