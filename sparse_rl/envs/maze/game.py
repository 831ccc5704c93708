"""What happens in a maze, and what is seen of it: minimax's dynamics (``maze.py``, Apache-2.0)."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.envs.contract import Env, Levels, Step
from sparse_rl.envs.maze import level as levels
from sparse_rl.envs.maze.design import design
from sparse_rl.envs.maze.drawn import draw
from sparse_rl.envs.maze.held_out import own, sets
from sparse_rl.envs.maze.level import DIRECTIONS, STEPS, Level
from sparse_rl.envs.maze.seen import CODES, EMPTY, GOAL, WALL
from sparse_rl.envs.maze.solver import shortest
from sparse_rl.settings.envs import MazeConfig

LEFT, RIGHT, FORWARD = range(3)
"""Actions; those after them (pickup, drop, toggle, done in the published seven) do nothing."""
VIEW = 5
"""Side of what the agent sees: itself at the middle of the lower edge, looking up."""
PICTURE = (VIEW, VIEW, CODES.shape[1])
LOST = 0.9
"""Of the reward, 1, what an episode of full length loses."""
LEAST_SIZE, MOST_SIZE = 3, 101


class Playing(NamedTuple):
    """An episode in a level."""

    level: Level
    position: Array
    """int32 ``[2]``: of the agent."""
    direction: Array
    """int32 scalar."""
    time: Array
    """int32 scalar: frames so far."""


def observe(state: Playing) -> Array:
    """What the agent sees, float32 ``[VIEW² · 3 + 4]``: a picture, row by row, and its direction.

    Walls hide nothing; what is outside of the grid is wall. The agent's own cell is shown empty.
    """
    walls, (rows, columns) = state.level.walls, state.level.walls.shape
    forward, right = (jnp.asarray(STEPS)[(state.direction + turn) % DIRECTIONS] for turn in (0, 1))
    ahead, aside = np.arange(VIEW)[::-1, None, None], np.arange(VIEW)[:, None] - VIEW // 2
    places = state.position + ahead * forward + aside * right  # [VIEW, VIEW, 2]
    x, y = places[..., 0], places[..., 1]
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    blocked = ~inside | walls[jnp.clip(y, 0, rows - 1), jnp.clip(x, 0, columns - 1)]
    kind = jnp.where(blocked, WALL, EMPTY)
    kind = jnp.where(jnp.all(places == state.level.goal, axis=-1), GOAL, kind)
    kind = kind.at[VIEW - 1, VIEW // 2].set(EMPTY)
    beside = jnp.arange(DIRECTIONS) == state.direction
    return jnp.concatenate([jnp.asarray(CODES)[kind].reshape(-1), beside.astype(jnp.float32)])


def begin(level: Level) -> tuple[Playing, Array]:
    """The first state of an episode in a level of any size, and what is seen of it."""
    state = Playing(level, level.agent, level.direction, jnp.int32(0))
    return state, observe(state)


def paid(frames: Array, episode_length: int) -> Array:
    """The reward of a solution by so many actions; of one that comes after an episode's length (where
    something is held out for longer) the least."""
    share = jnp.minimum(frames, episode_length).astype(jnp.float32) / episode_length
    return 1.0 - LOST * share


def step(key: Array, state: Playing, action: Array, episode_length: int) -> tuple[Playing, Step]:
    """One frame: a turn, or a step that walls, edges and the goal block; the goal ends the episode."""
    del key
    level, (rows, columns) = state.level, state.level.walls.shape
    turn = (action == RIGHT).astype(jnp.int32) - (action == LEFT)
    moves = action == FORWARD
    most = jnp.array([columns - 1, rows - 1])
    ahead = jnp.clip(state.position + jnp.asarray(STEPS)[state.direction], 0, most)
    solved = moves & jnp.all(ahead == level.goal)
    walks = moves & ~level.walls[ahead[1], ahead[0]] & ~solved
    time = state.time + 1
    after = Playing(
        level,
        jnp.where(walks, ahead, state.position),
        (state.direction + turn) % DIRECTIONS,
        time,
    )
    reward = jnp.where(solved, paid(time, episode_length), 0.0)
    return after, Step(observe(after), reward, solved)


def describe(level: Level) -> dict[str, Array]:
    """A level's ``walls``, whether it is ``solvable``, and its ``shortest`` solution in actions; NaN
    where there is none."""
    actions = shortest(level)
    solvable = actions > 0
    return {
        "walls": jnp.sum(level.walls).astype(jnp.float32),
        "solvable": solvable.astype(jnp.float32),
        "shortest": jnp.where(solvable, actions, jnp.nan).astype(jnp.float32),
    }


def best(level: Level, episode_length: int) -> Array:
    """The return of the shortest solution, whatever time it takes; 0 where there is none."""
    actions = shortest(level)
    return jnp.where(actions > 0, paid(actions, episode_length), 0.0)


def size_of(task: str) -> int:
    """The side of the grid that a task names.

    Raises:
        ValueError: it names none.
    """
    if task not in map(str, range(LEAST_SIZE, MOST_SIZE + 1)):
        raise ValueError(
            f"maze task {task!r} is unknown; give the side of its grid, {LEAST_SIZE} to {MOST_SIZE}"
        )
    return int(task)


def make(
    task: str,
    walls: int | None = None,
    actions: int = MazeConfig.actions,
    episode_length: int = levels.PUBLISHED_FRAMES,
) -> Env:
    """Build the maze.

    Args:
        task: the side of its grid: ``13`` as published.
        walls: draws of a random level; ``None``: as dense as the published 60.
        actions: seven as published, or the three of them that do something.
        episode_length: frames of an episode, 250 as published. Rewards fall over it.

    Raises:
        ValueError: there is no such grid, or it has no room for so many walls.
    """
    size = size_of(task)
    walls = levels.walls_of(size) if walls is None else walls
    if walls > size**2 - 2:
        raise ValueError(
            f"env.walls={walls} leaves no room for agent and goal in a maze of {size}×{size}; "
            f"give at most {size**2 - 2}"
        )
    sample = functools.partial(levels.sample, size=size, walls=walls)
    return Env(
        name=f"maze/{task}",
        observation_size=int(np.prod(PICTURE)) + DIRECTIONS,
        action_size=actions,
        episode_length=episode_length,
        discrete=True,
        picture=PICTURE,
        beside=DIRECTIONS,
        reset=lambda key: begin(sample(key)),
        step=functools.partial(step, episode_length=episode_length),
        levels=Levels(
            sample=sample,
            begin=begin,
            mutate=levels.mutate,
            describe=describe,
            best=functools.partial(best, episode_length=episode_length),
            solved=lambda episode_return: episode_return > 0,
            sets=sets(size, walls, episode_length),
            watched=("random", own(size), *(("rooms",) if size == levels.PUBLISHED_SIZE else ())),
            design=design(size, walls),
            draw=lambda state: draw(state.level, state.position, state.direction),
            place=lambda state: state.position,
        ),
    )
