"""The shortest solution of a maze, exactly: in actions, turns among them."""

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.maze.level import DIRECTIONS, STEPS, Level, at


def _moved(cells: Array, direction: int) -> Array:
    """bool ``[H, W]``: the cells a step further that way; what leaves the grid is gone."""
    (x, y), (rows, columns) = STEPS[direction], cells.shape
    wide = jnp.pad(cells, 1)
    return wide[1 - y : 1 - y + rows, 1 - x : 1 - x + columns]


def shortest(level: Level) -> Array:
    """Actions of the shortest solution, an int32 scalar; −1 if there is none.

    From what n actions can reach, bool ``[4, H, W]`` (direction and cell), what n + 1 can: by a turn
    either way, or a step into what is no wall. It ends before a step into the goal, the last action.
    """
    shape = level.walls.shape
    goal = at(level.goal, shape)
    # a step from here solves it
    before = jnp.stack([_moved(goal, (d + 2) % DIRECTIONS) for d in range(DIRECTIONS)])
    start = at(level.agent, shape) & (jnp.arange(DIRECTIONS) == level.direction)[:, None, None]

    def goes_on(carry: tuple[Array, Array, Array]) -> Array:
        reached, _, grew = carry
        return grew & ~jnp.any(reached & before)

    def act(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        reached, actions, _ = carry
        stepped = jnp.stack([_moved(reached[d], d) & ~level.walls for d in range(DIRECTIONS)])
        more = reached | jnp.roll(reached, 1, axis=0) | jnp.roll(reached, -1, axis=0) | stepped
        return more, actions + 1, jnp.any(more != reached)

    reached, actions, _ = jax.lax.while_loop(goes_on, act, (start, jnp.int32(0), jnp.bool_(True)))
    return jnp.where(jnp.any(reached & before), actions + 1, -1)
