"""Levels of the maze as data: drawn at random, edited, and written as text.

Places are (x, y): column and row, from the upper left. Directions are 0 right, 1 down, 2 left, 3 up.
Draws and edits are those of minimax's ``maze.py`` and ``maze_mutators.py`` (Apache-2.0).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.settings.envs import MazeConfig

STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], np.int32)
"""Direction → what a step that way adds to (x, y); turning right is the next one."""
DIRECTIONS = len(STEPS)
ARROWS = ">v<^"
"""Direction → the agent in a written level."""
PUBLISHED_SIZE, PUBLISHED_WALLS, PUBLISHED_FRAMES = 13, 60, MazeConfig.episode_length
"""Of the published maze: its side, draws of walls and frames of an episode."""
EDITS = 3
"""Kinds of them, each as likely as the others: none, a wall that comes or goes, a goal that moves."""


class Level(NamedTuple):
    """Where an episode begins. Neither agent nor goal is in a wall, nor one where the other is."""

    walls: Array
    """bool ``[H, W]``; outside of the grid there are nothing but walls."""
    goal: Array
    """int32 ``[2]``."""
    agent: Array
    """int32 ``[2]``."""
    direction: Array
    """int32 scalar: which way the agent looks."""


def walls_of(size: int) -> int:
    """Draws of walls in a grid of this side, as dense as the published: 60 at 13."""
    return round(PUBLISHED_WALLS * size**2 / PUBLISHED_SIZE**2)


def place_of(cell: Array, width: int) -> Array:
    """A cell's number, row by row → its place, int32 ``[2]``."""
    return jnp.stack([cell % width, cell // width]).astype(jnp.int32)


def at(place: Array, shape: tuple[int, ...]) -> Array:
    """bool ``[H, W]``: true at the place, nowhere if that is outside."""
    rows, columns = jnp.arange(shape[0])[:, None], jnp.arange(shape[1])
    return (columns == place[0]) & (rows == place[1])


def any_of(key: Array, cells: Array) -> Array:
    """One of the true ones of bool ``[n]``, each as likely: an int32 scalar; n if there is none."""
    chosen = jax.random.randint(key, (), 0, jnp.maximum(jnp.sum(cells), 1))
    return jnp.sum(jnp.cumsum(cells) <= chosen)


def sample(key: Array, size: int, walls: int) -> Level:
    """A random level: cells drawn with replacement are walls; the rest is uniform on what is free.

    Args:
        key: of the draws.
        size: side of the grid.
        walls: draws, at most two less than there are cells.
    """
    keys = jax.random.split(key, 4)
    drawn = jax.random.randint(keys[0], (walls,), 0, size**2)
    taken = jnp.zeros(size**2, bool).at[drawn].set(True)
    agent = any_of(keys[1], ~taken)
    goal = any_of(keys[2], ~taken.at[agent].set(True))
    direction = jax.random.randint(keys[3], (), 0, DIRECTIONS)
    return Level(taken.reshape(size, size), place_of(goal, size), place_of(agent, size), direction)


def mutate(key: Array, level: Level) -> Level:
    """minimax's edit: nothing, or one cell (not the agent's, nor the goal's) becomes a wall or ceases to
    be one, or the goal moves to another cell that is free. The agent stays."""
    shape = level.walls.shape
    kind, where = jax.random.split(key)
    edit = jax.random.randint(kind, (), 0, EDITS)
    others = ~(at(level.agent, shape) | at(level.goal, shape))
    flips, moves = edit == 1, edit == 2
    free = jnp.where(moves, others & ~level.walls, others)
    cell = any_of(where, free.reshape(-1))
    place = place_of(cell, shape[1])
    walls = level.walls ^ (at(place, shape) & flips)
    goal = jnp.where(moves & (cell < free.size), place, level.goal)
    return level._replace(walls=walls, goal=goal)


def parse(text: str) -> Level:
    """A level from lines of ``.`` free, ``#`` wall, ``G`` goal and one of :data:`ARROWS`; numpy's."""
    rows = text.split()
    cells = np.array([list(row) for row in rows])
    (looking,) = (arrow for arrow in ARROWS if (cells == arrow).any())
    agent, goal = (np.argwhere(cells == what)[0][::-1].astype(np.int32) for what in (looking, "G"))
    return Level(cells == "#", goal, agent, np.int32(ARROWS.index(looking)))  # type: ignore[arg-type]


def stack(levels: Sequence[Level]) -> Level:
    """Levels of one shape, each leaf with a leading M; numpy's."""
    return Level(*(np.stack(leaves) for leaves in zip(*levels, strict=True)))  # type: ignore[arg-type]
