"""Held-out levels: who solves them within how many frames, with a policy that is known."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig, on_policy

from sparse_rl import envs
from sparse_rl.agents import View
from sparse_rl.envs.maze import Level, parse
from sparse_rl.kernels.keys import key_of
from sparse_rl.loops import held_out
from sparse_rl.loops.held_out import Attempts, attempt, worst

FORWARD = 2


def mazes(*texts: str) -> Any:
    return jax.tree.map(lambda *x: jnp.stack(x), *(parse(text) for text in texts))


def forward(view: View, memory: Any, key: jax.Array) -> Any:
    """Goes on and on, and counts in its memory."""
    return jnp.full(len(view.observation), FORWARD), memory + 1


def corridor(cells: int, width: int = 7) -> Level:
    """From the left edge to a goal so many cells to the right."""
    return Level(jnp.zeros((width, width), bool), jnp.int32([cells, 3]), jnp.int32([0, 3]), jnp.int32(0))


def test_frames_are_counted_until_the_goal_and_a_turn_away_never_gets_there() -> None:
    env = envs.make("maze", "7", episode_length=20)
    away = corridor(4)._replace(direction=jnp.int32(1))
    levels = jax.tree.map(lambda *x: jnp.stack(x), corridor(2), corridor(6), away)
    got = attempt(env, levels, 33, forward, jnp.zeros(3), key_of(0))
    # facing it one step before, the next step forward is into the goal
    assert got.frames.tolist() == [2, 6, 33]
    assert got.solved.tolist() == [True, True, False]
    np.testing.assert_allclose(got.episode_return, [1 - 0.9 * 2 / 20, 1 - 0.9 * 6 / 20, 0], rtol=1e-6)
    assert got.within(5).tolist() == [True, False, False]
    assert got.within(6).tolist() == [True, True, False]


def test_it_stops_when_the_last_episode_ended() -> None:
    env, seen = envs.make("maze", "7", episode_length=20), []

    def watched(view: View, memory: Any, key: jax.Array) -> Any:
        jax.debug.callback(lambda m: seen.append(float(m[0])), memory)
        return forward(view, memory, key)

    levels = jax.tree.map(lambda *x: jnp.stack(x), corridor(2), corridor(4))
    jax.block_until_ready(attempt(env, levels, 20_000, watched, jnp.zeros(2), key_of(0)))
    jax.effects_barrier()
    assert sorted(seen) == [0.0, 1.0, 2.0, 3.0]


def test_the_worst_levels_are_ranked_by_other_episodes() -> None:
    ranked, again = jnp.float32([0.9, 0.1, 0.5, 0.2, 0.7]), jnp.float32([0.0, 0.6, 0.4, 0.8, 1.0])
    assert float(worst(ranked, again, 0.4)) == pytest.approx(0.7)  # the second and the fourth
    assert float(worst(ranked, again, 0.01)) == pytest.approx(0.6)
    assert float(worst(ranked, again, 1.0)) == pytest.approx(np.mean(again))


def test_regret_is_what_the_shortest_way_would_have_brought_more() -> None:
    env = envs.make("maze", "7", episode_length=20)
    assert env.levels is not None
    levels = jax.tree.map(lambda *x: jnp.stack(x), corridor(2), corridor(6))
    held = envs.HeldOut(("near", "far"), levels, (20,))
    returns = jnp.float32([[0.91, 0.5], [0.0, 0.2]])
    got = held_out.regret(env.levels, held, Attempts(returns > 0, returns, returns))
    np.testing.assert_allclose(got, [0.91 - 0.705, 0.73 - 0.1], rtol=1e-5)


def test_a_run_in_a_maze_is_tried_on_its_own_sets(make_config: MakeConfig) -> None:
    config = make_config(
        agent={"name": "ppo", "memory": "gru", "num_envs": 4, "num_steps": 8, "minibatches": 1},
        env={"source": "maze", "task": "5", "episode_length": 12},
        env_steps=64, log_every=32, eval_every=32,
    )  # fmt: skip
    loop, inputs = on_policy(config)
    state = jax.jit(loop.init)(inputs)
    evaluate = jax.jit(loop.evaluate)
    row, again = evaluate(jnp.int32(8), state), evaluate(jnp.int32(8), state)
    assert loop.env.levels is not None
    assert set(loop.env.levels.watched) == {"random", "perfect5"}
    for name in ("random", "perfect5"):
        rate = float(row[f"solve_rate/{name}"])
        assert 0 < rate < 1
        assert rate == float(again[f"solve_rate/{name}"])
        assert math.isclose(rate * 100, round(rate * 100), abs_tol=1e-4)  # of 100 levels
    other = evaluate(jnp.int32(16), state)
    rates = [[float(r[f"solve_rate/{n}"]) for n in ("random", "perfect5")] for r in (row, other)]
    assert rates[0] != rates[1]
