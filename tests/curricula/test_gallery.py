"""Which levels of a buffer people are shown."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import envs
from sparse_rl.curricula import LevelBuffer, exhibits, gallery
from sparse_rl.envs import Levels
from sparse_rl.envs.maze import Level

EMPTY = -np.inf
SHORTEST = [7, 2, 1, 5, 4, 8, 6, 3]
"""Actions of the shortest solution in the corridors of :func:`corridors`."""


def maze(task: str) -> Levels:
    levels = envs.make("maze", task, episode_length=40).levels
    assert levels is not None
    return levels


def corridors() -> Level:
    """Eight empty grids of 9×9, agent at the left and looking right, goals so many steps away."""
    n = len(SHORTEST)
    goal = np.stack([SHORTEST, np.full(n, 4)], axis=1).astype(np.int32)
    agent = np.tile(np.array([0, 4], np.int32), (n, 1))
    return Level(np.zeros((n, 9, 9), bool), goal, agent, np.zeros(n, np.int32))  # type: ignore[arg-type]


def buffer_of(levels: Any, score: list[float], highest: list[float], edits: list[int]) -> LevelBuffer:
    n = len(score)
    parent = jnp.zeros((n, 2), jnp.uint32).at[jnp.array(edits, int), 1].set(3)
    return LevelBuffer(
        levels, jnp.zeros((n, 2), jnp.uint32), jnp.float32(score), jnp.array(highest, np.float32),
        jnp.zeros(n, jnp.int32), parent,
    )  # fmt: skip


def test_shown_are_the_highest_scores_and_the_longest_ways_that_were_solved() -> None:
    # 1 and 8 actions were never solved, the place of 7 is empty
    score = [EMPTY, 0.3, 0.1, 0.7, -0.2, 0.25, 0.6, 0.2]
    highest = [0.9, 0.95, 0.0, 0.3, 0.91, EMPTY, 0.6, 0.2]
    shown = gallery(maze("9"), buffer_of(corridors(), score, highest, edits=[3, 4]))
    wanted, hardest = shown["wanted"], shown["hardest"]
    assert wanted.score.tolist() == pytest.approx([0.7, 0.6, 0.3, 0.25, 0.2, 0.1])
    assert wanted.levels.goal[:, 0].tolist() == [5, 6, 2, 8, 3, 1]
    assert wanted.there.tolist() == [True] * 6
    assert wanted.edited.tolist() == [True, False, False, False, False, False]
    assert wanted.told["shortest"].tolist() == [5, 6, 2, 8, 3, 1]
    assert hardest.there.tolist() == [True] * 5 + [False]
    assert hardest.told["shortest"].tolist()[:5] == [6, 5, 4, 3, 2]
    assert hardest.highest.tolist()[:5] == pytest.approx([0.6, 0.3, 0.91, 0.2, 0.95])
    assert hardest.edited.tolist()[:5] == [False, True, True, False, False]


def test_where_all_have_one_bound_the_lowest_return_is_the_hardest() -> None:
    levels = envs.make("classic", "cartpole").levels
    assert levels is not None
    many = jax.vmap(levels.sample)(jax.random.split(jax.random.key(5), 3))
    # 475 solves a cart-pole
    shown = gallery(levels, buffer_of(many, [0.1, 0.3, 0.2], [490.0, 474.0, 480.0], edits=[]))
    hardest = shown["hardest"]
    assert hardest.there.tolist() == [True, True, False]  # there are three levels in all
    assert hardest.highest.tolist()[:2] == [480, 490]
    assert {"gravity", "length"} < set(hardest.told)


def test_of_what_a_teacher_makes_the_first_are_shown_and_nothing_is_scored() -> None:
    made = exhibits(maze("9"), corridors())["made"]
    assert made.told["shortest"].tolist() == SHORTEST[:6]
    assert made.there.all()
    assert not made.edited.any()
    assert np.isnan(made.score).all()
    assert np.isnan(made.highest).all()
