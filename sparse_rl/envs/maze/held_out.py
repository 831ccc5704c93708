"""Mazes that nobody trains on: drawn by hand, or by generators from seeds of their own.

Layouts and generators are facts of minimax (Jiang et al. 2023; ``maze_ood.py`` at d053054, Apache-2.0);
the first eight are JaxUED's too (Coward et al. 2024, arXiv 2403.13091; ``level.py`` at 0f8f128,
Apache-2.0), cell for cell. Most came from Dennis et al. 2020 and Jiang et al. 2021 (arXiv 2110.02439).
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import Array

from sparse_rl.envs.contract import HeldOut
from sparse_rl.envs.maze.layouts import CORRIDORS, ROOMS
from sparse_rl.envs.maze.level import (
    DIRECTIONS,
    PUBLISHED_FRAMES,
    PUBLISHED_SIZE,
    STEPS,
    Level,
    parse,
    sample,
    stack,
)
from sparse_rl.envs.maze.solver import shortest
from sparse_rl.kernels.keys import key_of

SEED = 20260
"""Of everything that is drawn here."""
DRAWN, DRAWN_LARGE = 100, 10
"""Levels of a set that a generator draws; mazes of 101×101."""
CANDIDATES = 4
"""Random levels drawn for each that is kept, of those that can be solved."""
LARGE = (19, 101)
"""Sides of perfect mazes that every maze is tried on, beside the published and its own."""
ROOMS_SIZE, CROSSING_SIZE, CROSSINGS = 17, 9, 5


def horizon(size: int, times: int = 2) -> int:
    """minimax's time for a maze of this side: twice as many frames as cells, its border among them."""
    return times * (size + 2) ** 2


def perfect(random: np.random.Generator, size: int) -> Level:
    """A maze in which one way leads from any free cell to any other: cells at even places are joined by
    a search in depth, from any of them.

    Args:
        random: draws.
        size: its side, odd.
    """
    half = size // 2 + 1
    walls, seen = np.ones((size, size), bool), np.zeros((half, half), bool)
    stack_ = [tuple(random.integers(half, size=2))]
    seen[stack_[0]] = True
    walls[2 * stack_[0][0], 2 * stack_[0][1]] = False
    while stack_:
        row, column = stack_[-1]
        near = [(row + dy, column + dx) for dx, dy in STEPS]
        new = [(r, c) for r, c in near if 0 <= r < half and 0 <= c < half and not seen[r, c]]
        if not new:
            stack_.pop()
            continue
        r, c = new[random.integers(len(new))]
        seen[r, c] = True
        walls[2 * r, 2 * c] = walls[row + r, column + c] = False
        stack_.append((r, c))
    return _with_ends(random, walls, ~walls)


def _with_ends(random: np.random.Generator, walls: np.ndarray, free: np.ndarray) -> Level:
    """The level with goal, agent and direction uniform on what is free, bool ``[H, W]``."""
    goal, agent = random.permutation(np.argwhere(free))[:2, ::-1].astype(np.int32)
    return Level(walls, goal, agent, np.int32(random.integers(DIRECTIONS)))  # type: ignore[arg-type]


def four_rooms(random: np.random.Generator) -> Level:
    """Four rooms with a door between any two neighbours, anywhere in their wall."""
    size, middle = ROOMS_SIZE, ROOMS_SIZE // 2
    walls = np.zeros((size, size), bool)
    walls[middle] = walls[:, middle] = True
    free = ~walls
    for first in (0, middle + 1):
        walls[middle, first + random.integers(middle)] = False
        walls[first + random.integers(middle), middle] = False
    return _with_ends(random, walls, free)


def crossing(random: np.random.Generator) -> Level:
    """Walls from edge to edge, five on average, with an opening each on one way from corner to corner.

    How many lie across follows minimax to the letter: of ``down`` ones among five drawn, doubled and
    shuffled over twice the places, those that fall on the first of each two count.
    """
    size, places = CROSSING_SIZE, CROSSING_SIZE // 2
    down = int(random.permutation(np.repeat([0, 1], places))[:CROSSINGS].sum())
    walls = np.zeros((size, size), bool)
    for along, count in ((walls, down), (walls.T, CROSSINGS - down)):
        drawn = random.permutation(np.repeat(np.arange(places) < count, 2))
        along[1:-1:2] |= drawn[1::2, None]
    x = y = 0
    last, through = (1, 0), False
    while (x, y) != (size - 1, size - 1):
        step = last if through else (1, 0) if random.integers(2) == 0 else (0, 1)
        if max(x + step[0], y + step[1]) == size:
            step = step[::-1]
        last, x, y = step, x + step[0], y + step[1]
        through, walls[y, x] = bool(walls[y, x]), False
    ends = (np.array([size - 1] * 2, np.int32), np.zeros(2, np.int32), np.int32(0))
    return Level(walls, *ends)  # type: ignore[arg-type]


def _numbered(name: str, levels: Level, *horizons: int) -> HeldOut:
    """Levels that have no names of their own."""
    return HeldOut(tuple(f"{name}{i}" for i in range(len(levels.direction))), levels, horizons)


def _drawn(name: str, count: int, made: Callable[..., Level], *of: Any) -> Level:
    """Levels of a generator, the i-th from a seed of its own."""
    return stack([made(np.random.default_rng([SEED, *name.encode(), i]), *of) for i in range(count)])


@functools.cache
def solvable(size: int, walls: int, count: int) -> Level:
    """Random levels that can be solved, at most so many; numpy's. Every program of a process that is
    traced asks for the same: to compile what draws them takes seconds."""

    def tried(key: Array) -> tuple[Level, Array]:
        level = sample(key, size, walls)
        return level, shortest(level) > 0

    keys = jax.random.split(key_of(SEED), CANDIDATES * count)
    found, can_be = jax.tree.map(np.asarray, jax.jit(jax.vmap(tried))(keys))
    return Level(*(leaf[can_be][:count] for leaf in found))


def _drawn_set(name: str, count: int, horizon: int, made: Callable[..., Level], *of: Any) -> HeldOut:
    """A set of a generator's levels, the i-th from a seed of its own."""
    return _numbered(name, _drawn(name, count, made, *of), horizon)


def _corridor(name: str) -> HeldOut:
    """A maze whose goal is in one of several places."""
    text, goals = CORRIDORS[name]
    level = parse(text)
    ends = [level._replace(goal=np.array(goal, np.int32)) for goal in goals]  # type: ignore[arg-type]
    return _numbered(name, stack(ends), horizon(len(level.walls)))


def own(size: int) -> str:
    """The set of perfect mazes of a side, or nearly of an even one."""
    return f"perfect{size - 1 + size % 2}"


def sets(size: int, walls: int, episode_length: int) -> dict[str, Callable[[], HeldOut]]:
    """Everything a maze of this side is tried on: random levels as those it is trained on, perfect mazes
    of its side, and what is published.

    Args:
        size: side of its grid.
        walls: draws of its random levels.
        episode_length: frames in which it is.
    """
    both = (PUBLISHED_FRAMES, horizon(PUBLISHED_SIZE))
    sides = {int(own(size).removeprefix("perfect")), PUBLISHED_SIZE, *LARGE}
    counts = {side: DRAWN if side < max(LARGE) else DRAWN_LARGE for side in sorted(sides)}
    return {
        "random": lambda: _numbered("random", solvable(size, walls, DRAWN), episode_length),
        "rooms": lambda: HeldOut(tuple(ROOMS), stack([parse(x) for x in ROOMS.values()]), both),
        **{name: functools.partial(_corridor, name) for name in CORRIDORS},
        "four_rooms": lambda: _drawn_set("four_rooms", DRAWN, PUBLISHED_FRAMES, four_rooms),
        "crossing": lambda: _drawn_set("crossing", DRAWN, horizon(CROSSING_SIZE, 4), crossing),
        **{
            f"perfect{side}": functools.partial(
                _drawn_set, f"perfect{side}", count, horizon(side), perfect, side
            )
            for side, count in counts.items()
        },
    }
