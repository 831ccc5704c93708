"""How a teacher makes a maze: minimax's design environment (``maze_ued.py``, Apache-2.0), for PAIRED.

So many walls, then the goal, then the agent, each on any cell. A wall on a wall is one wall; goal and
agent clear the cell that they come to; an agent on the goal comes to any free cell. Where it looks is
drawn.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.envs.contract import Design
from sparse_rl.envs.maze.level import DIRECTIONS, Level, any_of, at, place_of
from sparse_rl.envs.maze.seen import CODES, EMPTY, GOAL, WALL

NOISE = 50
"""Numbers by which a teacher's levels differ."""
NOWHERE = -1
"""Both numbers of a place that is not known yet."""


def blank(size: int) -> Level:
    """A grid in which there is nothing, not even an agent and a goal."""
    nowhere = jnp.full(2, NOWHERE, jnp.int32)
    return Level(jnp.zeros((size, size), bool), nowhere, nowhere, jnp.int32(0))


def place(key: Array, level: Level, time: Array, action: Array, walls: int) -> Level:
    """The level after the ``time``-th action of ``walls`` + 2, the number of a cell, row by row."""
    shape = level.walls.shape
    where = place_of(action, shape[1])
    here, taken = at(where, shape), level.walls | at(level.goal, shape)
    builds, aims = time < walls, time == walls
    for_agent, for_direction = jax.random.split(key)
    elsewhere = place_of(any_of(for_agent, ~taken.reshape(-1)), shape[1])
    agent = jnp.where(jnp.all(where == level.goal), elsewhere, where)
    cleared = jnp.where(aims, here, at(agent, shape))
    direction = jax.random.randint(for_direction, (), 0, DIRECTIONS)
    enters = ~builds & ~aims
    return Level(
        jnp.where(builds, level.walls | here, level.walls & ~cleared),
        jnp.where(aims, where, level.goal),
        jnp.where(enters, agent, level.agent),
        jnp.where(enters, direction, level.direction),
    )


def observe(level: Level, time: Array, noise: Array, steps: int) -> Array:
    """The grid within a border of walls, float32 ``[(H + 2) · (W + 2) · 3]``; which of the ``steps``
    comes next, one-hot; and the noise. The agent enters last and is never seen.
    """
    kind = jnp.where(level.walls, WALL, EMPTY)
    kind = jnp.where(at(level.goal, level.walls.shape), GOAL, kind)
    kind = jnp.pad(kind, 1, constant_values=WALL)
    step = (jnp.arange(steps) == time).astype(jnp.float32)
    return jnp.concatenate([jnp.asarray(CODES)[kind].reshape(-1), step, noise])


def design(size: int, walls: int) -> Design:
    """The teacher's task for mazes of this side, with so many walls to place."""
    steps = walls + 2
    return Design(
        steps=steps,
        action_size=size**2,
        picture=(size + 2, size + 2, int(np.shape(CODES)[1])),
        beside=steps + NOISE,
        noise=NOISE,
        blank=functools.partial(blank, size),
        place=functools.partial(place, walls=walls),
        observe=functools.partial(observe, steps=steps),
    )
