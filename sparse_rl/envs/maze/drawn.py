"""Mazes as pictures, for people."""

import numpy as np
from jax import Array
from jax import numpy as jnp

from sparse_rl.envs.maze.level import DIRECTIONS, Level, at

SIDE = 9
"""Pixels of a cell; odd, so that an arrow has a tip."""
FREE, WALL, GOAL, AGENT = np.array(
    [(236, 236, 231), (64, 64, 72), (44, 160, 84), (196, 58, 49)], np.uint8
)


def _arrows() -> np.ndarray:
    """Where a cell is red, bool ``[DIRECTIONS, SIDE, SIDE]``: a triangle whose tip looks ahead."""
    down, along = np.mgrid[:SIDE, :SIDE]
    right = (np.abs(down - SIDE // 2) <= (SIDE - 1 - along) // 2) & (along > 0)
    return np.stack([np.rot90(right, -turn) for turn in range(DIRECTIONS)])


ARROWS = _arrows()


def draw(level: Level, position: Array, direction: Array) -> Array:
    """A maze with its agent, uint8 ``[H · SIDE, W · SIDE, 3]``."""
    shape = level.walls.shape
    cells = jnp.where(level.walls[..., None], WALL, FREE)
    cells = jnp.where(at(level.goal, shape)[..., None], GOAL, cells)
    large = jnp.repeat(jnp.repeat(cells, SIDE, axis=0), SIDE, axis=1)
    here = jnp.repeat(jnp.repeat(at(position, shape), SIDE, axis=0), SIDE, axis=1)
    arrow = jnp.tile(jnp.asarray(ARROWS)[direction], shape)
    return jnp.where((here & arrow)[..., None], AGENT, large).astype(jnp.uint8)
