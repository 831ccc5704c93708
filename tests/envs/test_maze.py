"""The maze beside the published one's transcripts, beside a search in plain Python, and by hand."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mazes import SHOWN, bfs, each, picture_of

from sparse_rl import envs
from sparse_rl.envs import Env, vector
from sparse_rl.envs.maze import Level, mutate, parse, sample, shortest

KEY = jax.random.key(11)
TRANSCRIPTS = Path(__file__).parents[1] / "data" / "maze_transcripts.json"


def maze(**options: Any) -> Env:
    env = envs.make("maze", "13", **options)
    assert isinstance(env, Env)
    return env


def play(env: Env, level: Level, actions: str) -> tuple[list[Any], np.ndarray]:
    """The states and rewards of these actions, and all that was seen, the first look too."""
    assert env.levels is not None
    step = jax.jit(env.step)
    state, seen = env.levels.begin(level)
    history, looks = [], [seen]
    for action in actions:
        state, brought = step(KEY, state, jnp.int32(action))
        history.append((state, float(brought.reward), bool(brought.terminated)))
        looks.append(brought.observation)
    return history, np.asarray(jnp.stack(looks))


@pytest.mark.parametrize("number", range(6))
def test_episodes_are_those_that_minimax_recorded(number: int) -> None:
    """Places, directions, pictures, the end and its reward; grids that are not square among them."""
    recorded = json.loads(TRANSCRIPTS.read_text())[number]
    level = parse("\n".join(recorded["level"]))
    history, looks = play(maze(), level, recorded["actions"])
    assert [tuple(state.position.tolist()) for state, *_ in history] == list(
        zip(recorded["x"], recorded["y"], strict=True)
    )
    directions = [int(level.direction), *map(int, recorded["direction"])]
    assert [int(state.direction) for state, *_ in history] == directions[1:]
    pictures = [recorded["first"], *recorded["pictures"]]
    assert looks.shape == (len(pictures), 79)
    np.testing.assert_array_equal(looks[:, :75], [picture_of(text) for text in pictures])
    np.testing.assert_array_equal(looks[:, 75:], np.eye(4)[directions])
    *before, (_, reward, ended) = history
    assert not any(paid or over for _, paid, over in before)
    assert ended == (recorded["reward"] > 0)
    assert reward == pytest.approx(recorded["reward"], abs=1e-6)


def test_what_is_seen_by_hand() -> None:
    """Looking down from (1, 0): the lower edge of the picture is the row it stands in, and its left hand
    points right. Beyond the grid is wall."""
    level = parse("""
        .v..#
        .....
        .#.G.
    """)
    _, looks = play(maze(), level, "")
    shown = looks[0, :75].reshape(5, 5, 3)
    expected = np.array([list(row) for row in ("#####", "#####", "G.#.#", "....#", "....#")])
    for cell, numbers in SHOWN.items():
        where = expected == cell
        np.testing.assert_allclose(shown[where], np.tile(numbers, (where.sum(), 1)), rtol=1e-6)
    np.testing.assert_array_equal(looks[0, 75:], [0, 1, 0, 0])


def test_edges_walls_and_the_goal_block_and_only_the_goal_pays() -> None:
    level = parse("""
        >G.#.
        .....
    """)
    assert np.asarray(level.goal).tolist() == [1, 0]
    history, _ = play(maze(episode_length=40), level, "0211223456")
    places = [tuple(state.position.tolist()) for state, *_ in history]
    assert places == [(0, 0)] * 4 + [(0, 1)] * 6  # up against the edge, then down, and down again
    ways = [int(state.direction) for state, *_ in history]
    assert ways == [3, 3, 0, 1, 1, 1, 1, 1, 1, 1]
    history, _ = play(maze(episode_length=40), level, "332")
    assert [over for *_, over in history] == [False, False, True]
    assert history[-1][1] == pytest.approx(1 - 0.9 * 3 / 40)
    assert history[-1][0].position.tolist() == [0, 0]


def test_a_solution_after_an_episodes_length_pays_the_least() -> None:
    history, _ = play(maze(episode_length=4), parse(">G...."), "00002")
    assert history[-1][1] == pytest.approx(0.1)
    env = maze(episode_length=4)
    assert env.levels is not None
    assert env.levels.solved(jnp.array([0.0, 0.1])).tolist() == [False, True]


def test_the_vector_layer_ends_what_takes_too_long() -> None:
    """The environment itself never says that time ran out."""
    env = maze(episode_length=3, actions=3)
    assert (env.action_size, env.episode_length, env.discrete) == (3, 3, True)
    state = jax.jit(lambda key: vector.reset(env, key, 5))(KEY)
    step = jax.jit(lambda state: vector.step(env, KEY, state, jnp.zeros(5, jnp.int32), 1))
    for t in range(3):
        state, seen = step(state)
        assert seen.truncated.tolist() == [t == 2] * 5
        assert not seen.terminated.any()


@pytest.mark.parametrize(("size", "walls"), [(13, 60), (7, 17), (5, 3)])
def test_the_solver_is_a_search_in_plain_python(size: int, walls: int) -> None:
    levels = jax.jit(jax.vmap(lambda key: sample(key, size, walls)))(jax.random.split(KEY, 150))
    found = jax.jit(jax.vmap(shortest))(levels).tolist()
    assert found == [bfs(level) for level in each(levels)]
    assert len(set(found)) > 5


def test_solutions_by_hand() -> None:
    """Two turns to look back are two actions; the goal is entered, so that the last step counts."""
    assert int(shortest(parse(">.G"))) == 2
    assert int(shortest(parse("<.G"))) == 4
    assert int(shortest(parse("..\n>#\nG."))) == 2
    assert int(shortest(parse(">#G"))) == -1
    long = parse(">...\n###.\n.G#.\n....")
    assert int(shortest(long)) == 3 + 1 + 3 + 1 + 2 + 1 + 1


def test_a_level_is_described_and_its_best_return_is_the_solvers() -> None:
    env = maze(episode_length=50)
    assert env.levels is not None
    open_, closed = parse("<.G#"), parse("<#G")
    told = {name: float(x) for name, x in env.levels.describe(open_).items()}
    assert told == {"walls": 1.0, "solvable": 1.0, "shortest": 4.0}
    assert float(env.levels.best(open_)) == pytest.approx(1 - 0.9 * 4 / 50)
    told = {name: float(x) for name, x in env.levels.describe(closed).items()}
    assert (told["walls"], told["solvable"]) == (1.0, 0.0)
    assert np.isnan(told["shortest"])
    assert float(env.levels.best(closed)) == 0.0
    history, _ = play(env, open_, "0022")
    assert history[-1][1] == pytest.approx(float(env.levels.best(open_)))


@pytest.mark.parametrize(
    ("walls", "distinct", "unsolvable", "middle"), [(60, 50.7, 0.154, 14), (25, 23.3, 0.004, 11)]
)
def test_random_levels_are_as_they_were_measured_in_the_published_maze(
    walls: int, distinct: float, unsolvable: float, middle: int
) -> None:
    env = maze(walls=walls)
    assert env.levels is not None
    tried = env.levels
    told = jax.jit(jax.vmap(lambda key: tried.describe(tried.sample(key))))(jax.random.split(KEY, 5000))
    n = np.asarray(told["walls"], float)
    assert abs(n.mean() - distinct) < 0.1
    assert n.mean() == pytest.approx(169 * (1 - (168 / 169) ** walls), abs=4 * n.std() / 5000**0.5)
    assert abs(1.0 - float(told["solvable"].mean()) - unsolvable) < (0.01 if walls == 60 else 0.004)
    assert abs(float(jnp.nanmedian(told["shortest"])) - middle) <= 1


def test_agent_goal_and_direction_are_uniform_on_what_is_free() -> None:
    """In a grid of 3×3 with two walls drawn: all nine places, and never in a wall or on each other."""
    n = 9000
    levels = jax.jit(jax.vmap(lambda key: sample(key, 3, 2)))(jax.random.split(KEY, n))
    walls, goal, agent, direction = map(np.asarray, levels)
    rows = np.arange(n)
    for place in (goal, agent):
        assert not walls[rows, place[:, 1], place[:, 0]].any()
        shares = np.bincount(3 * place[:, 1] + place[:, 0], minlength=9) / n
        np.testing.assert_allclose(shares, 1 / 9, atol=4 * (8 / 81 / n) ** 0.5)
    assert (goal != agent).any(axis=1).all()
    np.testing.assert_allclose(np.bincount(direction) / n, 0.25, atol=4 * (3 / 16 / n) ** 0.5)
    np.testing.assert_allclose(walls.mean(axis=0), 1 - (8 / 9) ** 2, atol=0.02)
    assert abs(np.corrcoef(goal[:, 0], direction)[0, 1]) < 4 / n**0.5
    assert abs((walls.sum(axis=(1, 2)) == 1).mean() - 1 / 9) < 4 * (8 / 81 / n) ** 0.5


def test_where_the_goal_is_does_not_depend_on_where_the_agent_is() -> None:
    """Of 3×3 without a wall all 72 pairs are as likely as each other."""
    n = 14400
    levels = jax.jit(jax.vmap(lambda key: sample(key, 3, 0)))(jax.random.split(KEY, n))
    cells = [np.asarray(3 * place[:, 1] + place[:, 0]) for place in (levels.goal, levels.agent)]
    pairs = np.bincount(9 * cells[0] + cells[1], minlength=81).reshape(9, 9)
    assert not np.diag(pairs).any()
    each_ = pairs[~np.eye(9, dtype=bool)]
    np.testing.assert_allclose(each_, n / 72, atol=4.5 * (n / 72) ** 0.5)


def test_an_edit_is_nothing_or_a_wall_or_another_goal_each_a_third_of_the_time() -> None:
    level, n = parse(".#..\n.>.#\nG..."), 6000
    edited = jax.jit(jax.vmap(lambda key: mutate(key, level)))(jax.random.split(KEY, n))
    walls, goal, agent, direction = map(np.asarray, edited)
    flipped = walls != level.walls
    moved = (goal != level.goal).any(axis=1)
    counts = flipped.sum(axis=(1, 2))
    assert set(counts) == {0, 1}
    assert not (moved & (counts > 0)).any()
    tolerance = 4 * (2 / 9 / n) ** 0.5
    assert abs(counts.mean() - 1 / 3) < tolerance
    assert abs(moved.mean() - 1 / 3) < tolerance
    # ten cells are neither the agent's nor the goal's; eight of them are free
    shares = flipped.mean(axis=0)
    assert shares[1, 1] == shares[2, 0] == 0.0
    others = np.delete(shares.reshape(-1), [5, 8])
    np.testing.assert_allclose(others, 1 / 30, atol=4 * (1 / 30 / n) ** 0.5)
    goals = np.zeros((3, 4))
    np.add.at(goals, (goal[moved][:, 1], goal[moved][:, 0]), 1 / n)
    assert goals[1, 1] == goals[2, 0] == goals[0, 1] == goals[1, 3] == 0.0
    np.testing.assert_allclose(goals[goals > 0], np.full(8, 1 / 24), atol=4 * (1 / 24 / n) ** 0.5)
    assert (agent == level.agent).all()
    assert (direction == level.direction).all()


def test_a_goal_without_another_free_cell_stays() -> None:
    level = parse(">G\n##")
    goals = jax.jit(jax.vmap(lambda key: mutate(key, level).goal))(jax.random.split(KEY, 60))
    np.testing.assert_array_equal(goals, np.tile([1, 0], (60, 1)))


@pytest.mark.parametrize(("size", "expected"), [("13", 60), ("9", 29), ("7", 17)])
def test_walls_are_as_dense_in_every_size(size: str, expected: int) -> None:
    env, cells = envs.make("maze", size), int(size) ** 2
    assert isinstance(env, Env)
    assert env.levels is not None
    levels = jax.jit(jax.vmap(env.levels.sample))(jax.random.split(KEY, 2000))
    assert levels.walls.shape == (2000, int(size), int(size))
    mean = cells * (1 - (1 - 1 / cells) ** expected)
    assert float(levels.walls.sum(axis=(1, 2)).mean()) == pytest.approx(mean, abs=0.2)


@pytest.mark.parametrize("task", ["2", "102", "x", "-9", "9.5", "09", "٣"])
def test_a_size_that_is_none_is_refused(task: str) -> None:
    with pytest.raises(ValueError, match=rf"maze task '{task}' is unknown; give the side of its grid"):
        envs.make("maze", task)


def test_walls_leave_room_for_agent_and_goal() -> None:
    env = envs.make("maze", "5", walls=23)
    assert isinstance(env, Env)
    assert env.levels is not None
    levels = jax.jit(jax.vmap(env.levels.sample))(jax.random.split(KEY, 50))
    assert bool((levels.goal != levels.agent).any(axis=1).all())
    with pytest.raises(ValueError, match=r"env.walls=24 leaves no room .* give at most 23"):
        envs.make("maze", "5", walls=24)


def test_a_reset_is_the_begin_of_a_random_level() -> None:
    env = maze()
    assert env.levels is not None
    begin, draw = env.levels.begin, env.levels.sample
    state, seen = jax.jit(env.reset)(KEY)
    begun, look = jax.jit(lambda key: begin(draw(key)))(KEY)
    for one, two in zip(jax.tree.leaves((state, seen)), jax.tree.leaves((begun, look)), strict=True):
        np.testing.assert_array_equal(one, two)
