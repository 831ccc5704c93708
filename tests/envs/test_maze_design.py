"""How a teacher makes a maze, beside what minimax's design environment recorded."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mazes import picture_of

from sparse_rl import envs
from sparse_rl.envs import Env
from sparse_rl.envs.contract import Design

KEY = jax.random.key(12)
DESIGNS = Path(__file__).parents[1] / "data" / "maze_designs.json"


def design_of(size: int, walls: int) -> Design:
    env = envs.make("maze", str(size), walls=walls)
    assert isinstance(env, Env)
    assert env.levels is not None
    assert env.levels.design is not None
    return env.levels.design


def made(design: Design, actions: Any, key: Any = KEY) -> tuple[Any, Any]:
    """The level of these actions, and what was seen before each."""
    noise = jnp.arange(1.0, 51.0)

    def one(level: Any, now: Any) -> Any:
        time, action, key = now
        return design.place(key, level, time, action), design.observe(level, time, noise)

    count = len(actions)
    now = (jnp.arange(count), jnp.asarray(actions), jax.random.split(key, count))
    return jax.lax.scan(one, design.blank(), now)


@pytest.mark.parametrize("number", range(6))
def test_levels_and_what_is_seen_of_them_are_minimax_s(number: int) -> None:
    """Walls on walls, and goals and agents on walls, among them."""
    recorded = json.loads(DESIGNS.read_text())[number]
    size, walls = recorded["size"], recorded["walls"]
    design = design_of(size, walls)
    level, seen = jax.jit(lambda actions: made(design, actions))(jnp.array(recorded["actions"]))
    assert ["".join(".#"[int(c)] for c in row) for row in level.walls] == recorded["level"]
    assert level.goal.tolist() == recorded["goal"]
    assert level.agent.tolist() == recorded["agent"]
    cells = (size + 2) ** 2 * 3
    pictures = [picture_of(text) for text in recorded["pictures"]]
    np.testing.assert_array_equal(seen[:, :cells], pictures)
    np.testing.assert_array_equal(seen[:, cells:-50], np.eye(walls + 2))
    np.testing.assert_array_equal(seen[:, -50:], np.tile(np.arange(1.0, 51.0), (walls + 2, 1)))


def test_sizes_are_the_published_ones() -> None:
    design = design_of(13, 60)
    assert (design.steps, design.action_size, design.picture) == (62, 169, (15, 15, 3))
    assert (design.beside, design.noise) == (62 + 50, 50)


def test_an_agent_on_the_goal_comes_to_any_free_cell_and_looks_anywhere() -> None:
    """Of 3×3 with walls in two cells and the goal in a third: six are free."""
    design, n = design_of(3, 2), 6000
    keys = jax.random.split(KEY, n)
    levels = jax.jit(jax.vmap(lambda key: made(design, jnp.array([1, 5, 6, 6]), key)[0]))(keys)
    shares = np.bincount(np.asarray(3 * levels.agent[:, 1] + levels.agent[:, 0]), minlength=9) / n
    assert shares[[1, 5, 6]].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(shares[[0, 2, 3, 4, 7, 8]], 1 / 6, atol=4 * (5 / 36 / n) ** 0.5)
    directions = np.bincount(np.asarray(levels.direction)) / n
    np.testing.assert_allclose(directions, 1 / 4, atol=4 * (3 / 16 / n) ** 0.5)
    cells = np.asarray(3 * levels.agent[:, 1] + levels.agent[:, 0])
    assert abs(np.corrcoef(cells, levels.direction)[0, 1]) < 4 / n**0.5
    np.testing.assert_array_equal(levels.goal, np.tile([0, 2], (n, 1)))
    np.testing.assert_array_equal(levels.walls.sum(axis=(1, 2)), np.full(n, 2))


def test_whatever_a_teacher_does_the_level_can_be_begun() -> None:
    design, n = design_of(4, 14), 400
    actions = jax.random.randint(KEY, (n, design.steps), 0, design.action_size)
    keys = jax.random.split(KEY, n)
    levels = jax.jit(jax.vmap(lambda a, key: made(design, a, key)[0]))(actions, keys)
    rows = np.arange(n)
    for place in (np.asarray(levels.goal), np.asarray(levels.agent)):
        assert place.min() == 0
        assert place.max() == 3
        assert not np.asarray(levels.walls)[rows, place[:, 1], place[:, 0]].any()
    assert (levels.goal != levels.agent).any(axis=1).all()
