"""Mazes that nobody trains on, beside facts of the published ones."""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import AS_FOR_USERS
from mazes import bfs, each

from sparse_rl import envs
from sparse_rl.envs import Env
from sparse_rl.envs.contract import HeldOut
from sparse_rl.envs.maze import Level, shortest
from sparse_rl.envs.maze.held_out import crossing, four_rooms, perfect
from sparse_rl.envs.maze.level import stack

KEY = jax.random.key(6)
PUBLISHED: dict[str, tuple[int, str, tuple[int, int], tuple[int, int], int]] = {
    "SixteenRooms": (46, "2fe7daef55e6", (11, 11), (1, 1), 0),
    "SixteenRooms2": (53, "c602810a2e18", (11, 11), (1, 1), 0),
    "Labyrinth": (72, "ddc00324974a", (6, 6), (0, 12), 0),
    "LabyrinthFlipped": (72, "cee4310db322", (6, 6), (12, 12), 2),
    "Labyrinth2": (72, "d7e874da78c3", (6, 6), (0, 0), 0),
    "StandardMaze": (73, "378ffdcef7b1", (6, 12), (6, 0), 0),
    "StandardMaze2": (72, "06c1c79bf323", (12, 4), (0, 6), 0),
    "StandardMaze3": (71, "62a8dc8efd35", (12, 6), (3, 0), 0),
}
"""Walls, the digest of their bits, goal, agent and direction, read from minimax's own arrays."""
HORIZONS = {
    "random": (250,), "rooms": (250, 450), "small_corridor": (450,), "large_corridor": (882,),
    "four_rooms": (250,), "crossing": (484,), "perfect13": (450,), "perfect19": (882,),
    "perfect101": (21218,),
}  # fmt: skip
"""Frames of each set, JaxUED's and minimax's."""
Made = Callable[[np.random.Generator], Level]


def held_out(task: str, **options: Any) -> dict[str, HeldOut]:
    env = envs.make("maze", task, **options)
    assert isinstance(env, Env)
    assert env.levels is not None
    return {name: made() for name, made in env.levels.sets.items()}


@pytest.fixture(scope="module")
def sets() -> dict[str, HeldOut]:
    return held_out("13")


def digest(walls: np.ndarray) -> str:
    return hashlib.sha256(np.packbits(walls).tobytes()).hexdigest()[:12]


def test_the_eight_rooms_are_the_published_ones(sets: dict[str, HeldOut]) -> None:
    names, levels, _ = sets["rooms"]
    for name, level in zip(names, each(levels), strict=True):
        places = (tuple(level.goal.tolist()), tuple(level.agent.tolist()), int(level.direction))
        assert (int(level.walls.sum()), digest(np.asarray(level.walls)), *places) == PUBLISHED[name]
        assert bfs(level) > 0
    assert names == tuple(PUBLISHED)


def test_corridors_have_their_goal_in_each_dead_end(sets: dict[str, HeldOut]) -> None:
    for name, walls, bits, rows, last, agent in (
        ("small_corridor", 71, "83bd1dc246b0", (5, 7), 10, (0, 6)),
        ("large_corridor", 161, "9db618d3705d", (8, 10), 16, (0, 9)),
    ):
        names, levels, _ = sets[name]
        goals = [(x, y) for y in rows for x in range(2, last + 1, 2)]
        assert [tuple(goal) for goal in levels.goal.tolist()] == goals
        assert len(names) == len(set(names)) == len(goals)
        for level in each(levels):
            assert (int(level.walls.sum()), digest(np.asarray(level.walls))) == (walls, bits)
            assert (tuple(level.agent.tolist()), int(level.direction)) == (agent, 0)
            (x, y) = level.goal
            around = [(x + dx, y + dy) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))]
            assert sum(bool(level.walls[b, a]) for a, b in around) == 3


def test_every_set_has_its_horizons_and_its_levels_can_be_solved_in_them(
    sets: dict[str, HeldOut],
) -> None:
    assert {name: held.horizons for name, held in sets.items()} == HORIZONS
    for name, (names, levels, horizons) in sets.items():
        assert len(names) == len(set(names)) == len(levels.walls)
        assert len(names) == {"rooms": 8, "small_corridor": 10, "large_corridor": 16}.get(
            name, 10 if name == "perfect101" else 100
        )
        solve = jax.jit(jax.vmap(shortest), compiler_options=AS_FOR_USERS)
        actions = np.asarray(solve(levels))
        assert (actions > 0).all()
        assert (actions <= horizons[0]).all()
        one = next(iter(each(levels)))
        assert actions[0] == bfs(one)
        kinds = [leaf.dtype for leaf in jax.tree.leaves(levels)]
        assert kinds == [np.bool_, np.int32, np.int32, np.int32]


def test_drawn_levels_differ_and_are_the_same_every_time(sets: dict[str, HeldOut]) -> None:
    again = held_out("13")
    for name, held in sets.items():
        for one, two in zip(jax.tree.leaves(held), jax.tree.leaves(again[name]), strict=True):
            np.testing.assert_array_equal(one, two)
        levels = {str([leaf.tolist() for leaf in level]) for level in each(held.levels)}
        assert len(levels) == len(held.names)
    directions = sets["perfect13"].levels.direction
    assert np.bincount(directions).min() > 100 / 4 - 4 * (100 * 3 / 16) ** 0.5


def test_a_smaller_maze_is_tried_on_its_own_size_too() -> None:
    sets = held_out("9", walls=20, episode_length=90)
    assert set(sets) == {*HORIZONS, "perfect9"}
    assert sets["perfect9"].horizons == (242,)
    assert sets["perfect9"].levels.walls.shape == (100, 9, 9)
    assert sets["random"].horizons == (90,)
    assert sets["random"].levels.walls.shape == (100, 9, 9)
    walls = sets["random"].levels.walls.sum(axis=(1, 2))
    assert walls.max() <= 20
    assert walls.mean() == pytest.approx(81 * (1 - (80 / 81) ** 20), abs=0.6)
    even = held_out("6")
    assert even["perfect5"].levels.walls.shape == (100, 5, 5)
    assert even["random"].levels.walls.shape == (100, 6, 6)


def test_any_held_out_level_can_be_played_whatever_its_size(sets: dict[str, HeldOut]) -> None:
    """By the environment of another size, which says the same of it."""
    env = envs.make("maze", "9", actions=3)
    assert isinstance(env, Env)
    assert env.levels is not None
    level = jax.tree.map(lambda leaf: leaf[3], sets["large_corridor"].levels)
    told = env.levels.describe(level)
    assert int(told["shortest"]) == bfs(level)
    state, seen = env.levels.begin(level)
    for action in (1, 2, 2, 2):  # looks down, and walks on along the edge
        state, step = env.step(KEY, state, jnp.int32(action))
    assert state.position.tolist() == [0, 12]
    assert seen.shape == step.observation.shape == (79,)
    assert float(env.levels.best(level)) == pytest.approx(1 - 0.9 * bfs(level) / 250)


def drawn(made: Made, n: int) -> tuple[list[Level], np.ndarray, np.ndarray]:
    """Levels, their numbers of walls, and their shortest solutions."""
    levels = [made(np.random.default_rng([5, i])) for i in range(n)]
    actions = np.asarray(jax.jit(jax.vmap(shortest), compiler_options=AS_FOR_USERS)(stack(levels)))
    return levels, np.array([level.walls.sum() for level in levels]), actions


def test_perfect_mazes_are_trees_that_reach_every_cell() -> None:
    """n² cells and n² − 1 ways between them, all of one piece; as long to solve as minimax's (2,000 of
    13×13: 34.0, deviation 22.1)."""
    levels, walls, actions = drawn(lambda random: perfect(random, 13), 1000)
    assert set(walls) == {169 - (2 * 49 - 1)}
    assert not np.any([level.walls[::2, ::2] for level in levels])
    for level in levels[:40]:
        ends = [(x, y) for y in range(13) for x in range(13) if not level.walls[y, x]]
        far = level._replace(agent=np.array(ends[0]), goal=np.array(ends[-1]))  # type: ignore[arg-type]
        assert bfs(far) > 0
    assert (actions > 0).all()
    assert abs(actions.mean() - 34.0) < 4 * 22.1 * (1 / 1000 + 1 / 2000) ** 0.5
    assert actions.std() == pytest.approx(22.1, rel=0.1)
    shares = np.mean([level.walls for level in levels], axis=0)
    np.testing.assert_allclose(shares, shares.T, atol=5 * 0.5 / 1000**0.5)  # no way is preferred


def test_a_perfect_maze_is_begun_anywhere() -> None:
    """And not on the diagonal alone."""
    begun = []

    class Watched(np.random.Generator):
        def integers(self, *of: Any, **options: Any) -> Any:
            found = super().integers(*of, **options)
            begun.append(found)
            return found

    first = []
    for i in range(200):
        begun.clear()
        perfect(Watched(np.random.PCG64(i)), 5)
        first.append(tuple(begun[0]))
    assert set(first) == {(row, column) for row in range(3) for column in range(3)}


def test_four_rooms_have_a_door_between_any_two_neighbours() -> None:
    """As long to solve as minimax's (4,000: 16.04, deviation 7.44)."""
    levels, walls, actions = drawn(four_rooms, 2000)
    assert set(walls) == {17 + 16 - 4}
    doors = np.array(
        [
            [np.flatnonzero(~line)[0] for line in (w[8, :8], w[8, 9:], w[:8, 8], w[9:, 8])]
            for w in (level.walls for level in levels)
        ]
    )
    for where in doors.T:
        np.testing.assert_allclose(np.bincount(where) / 2000, 1 / 8, atol=4 * (7 / 64 / 2000) ** 0.5)
    places = np.array([(*level.goal, *level.agent) for level in levels])
    assert not (places == 8).any()
    assert (places[:, :2] != places[:, 2:]).any(axis=1).all()
    assert abs(actions.mean() - 16.04) < 4 * 7.44 * (1 / 2000 + 1 / 4000) ** 0.5


def test_crossings_are_distributed_as_the_published_ones() -> None:
    """minimax's, 4,000: 34.34 walls, deviation 5.11, and 20.32 actions, deviation 1.57; of 9×9, from one
    corner to the other."""
    levels, walls, actions = drawn(crossing, 2000)
    assert abs(walls.mean() - 34.34) < 4 * 5.11 * (1 / 2000 + 1 / 4000) ** 0.5
    assert walls.std() == pytest.approx(5.11, rel=0.06)
    assert abs(actions.mean() - 20.32) < 4 * 1.57 * (1 / 2000 + 1 / 4000) ** 0.5
    assert actions.min() >= 17
    assert (
        np.array([(*level.agent, *level.goal, level.direction) for level in levels]) == [0, 0, 8, 8, 0]
    ).all()
    across = np.mean([level.walls.mean(axis=1) > 0.5 for level in levels], axis=0)
    along = np.mean([level.walls.mean(axis=0) > 0.5 for level in levels], axis=0)
    np.testing.assert_allclose(across, along, atol=0.07)
    assert (across[::2] < 0.2).all()
