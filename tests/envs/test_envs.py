"""The environment contract: truncation apart from termination, true successors, real libraries."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import envs
from sparse_rl.envs import vector

KEY = jax.random.key(3)


def test_truncation_keeps_the_true_successor_and_restarts() -> None:
    env = envs.make("probe", "truncation")
    state = vector.reset(env, KEY, 2)
    for i in range(5):
        state, seen = vector.step(env, KEY, state, jnp.zeros((2, 1)), 1)
        assert not seen.terminated.any()
        np.testing.assert_array_equal(seen.truncated, [i == 4] * 2)
        np.testing.assert_allclose(seen.episode_return, i + 1.0)
    np.testing.assert_array_equal(state.elapsed, [0, 0])
    np.testing.assert_array_equal(state.episode_return, [0.0, 0.0])


def test_termination_returns_the_final_observation_before_the_reset() -> None:
    env = envs.make("probe", "discount")  # shows the time; ends after two steps
    state = vector.reset(env, KEY, 1)
    state, seen = vector.step(env, KEY, state, jnp.zeros((1, 1)), 1)
    np.testing.assert_array_equal(state.observation, [[1.0]])
    state, seen = vector.step(env, KEY, state, jnp.zeros((1, 1)), 1)
    assert seen.terminated.all()
    assert not seen.truncated.any()
    np.testing.assert_array_equal(seen.next_observation, [[2.0]])
    np.testing.assert_array_equal(state.observation, [[0.0]])


def test_only_ended_environments_restart() -> None:
    env = envs.make("probe", "discount")
    state = vector.reset(env, KEY, 2)
    ended, _ = vector.step(env, KEY, state, jnp.zeros((2, 1)), 1)
    mixed = jax.tree.map(lambda a, b: jnp.stack([a[0], b[1]]), state, ended)
    after, seen = vector.step(env, KEY, mixed, jnp.zeros((2, 1)), 1)
    np.testing.assert_array_equal(seen.terminated, [False, True])
    np.testing.assert_array_equal(after.observation[:, 0], [1.0, 0.0])


def test_action_repeat_sums_rewards_and_stops_at_a_termination() -> None:
    env = envs.make("probe", "discount")  # rewards 0, 1, then terminated
    state = vector.reset(env, KEY, 1)
    _, seen = vector.step(env, KEY, state, jnp.zeros((1, 1)), 4)
    np.testing.assert_array_equal(seen.reward, [1.0])
    np.testing.assert_array_equal(seen.next_observation, [[2.0]])
    assert seen.terminated.all()


def test_gymnax_is_the_librarys_own_pendulum() -> None:
    env = envs.make("gymnax", "Pendulum-v1")
    source, params = gymnax.make("Pendulum-v1")
    state, _ = env.reset(KEY)
    assert (env.observation_size, env.action_size, env.episode_length) == (3, 1, 200)
    theirs, _, reward, _, _ = source.step_env(KEY, state, jnp.array([-1.0]), params)
    _, seen = env.step(KEY, state, jnp.array([-0.5]))  # [−1, 1] is rescaled to ±2
    np.testing.assert_allclose(seen.observation, theirs)
    np.testing.assert_allclose(seen.reward, reward)
    assert not seen.terminated


def test_a_whole_pendulum_episode_is_truncated_at_200_frames() -> None:
    env = envs.make("gymnax", "Pendulum-v1")

    def run(state: vector.VectorState, key: jax.Array) -> tuple[vector.VectorState, jax.Array]:
        state, seen = vector.step(env, key, state, jnp.zeros((3, 1)), 1)
        return state, seen.truncated

    start = vector.reset(env, KEY, 3)
    _, truncated = jax.jit(lambda s: jax.lax.scan(run, s, jax.random.split(KEY, 401)))(start)
    ends = np.flatnonzero(np.asarray(truncated)[:, 0])
    np.testing.assert_array_equal(ends, [199, 399])


@pytest.mark.parametrize(
    ("task", "size", "actions", "length", "picture"),
    [
        ("CartPole-v1", 4, 2, 500, None),
        ("Acrobot-v1", 6, 3, 500, None),
        ("Breakout-MinAtar", 400, 3, 1000, (10, 10, 4)),
        ("SpaceInvaders-MinAtar", 600, 4, 1000, (10, 10, 6)),
        ("Asterix-MinAtar", 400, 5, 1000, (10, 10, 4)),
        ("Freeway-MinAtar", 700, 3, 2500, (10, 10, 7)),
    ],
)
def test_discrete_tasks_of_gymnax_step_in_batches(
    task: str, size: int, actions: int, length: int, picture: tuple[int, int, int] | None
) -> None:
    env = envs.make("gymnax", task)
    assert env.discrete
    assert (env.observation_size, env.action_size, env.episode_length) == (size, actions, length)
    assert env.picture == picture

    def run(state: vector.VectorState, key: jax.Array) -> tuple[vector.VectorState, jax.Array]:
        action = jax.random.randint(key, (4,), 0, actions)
        state, seen = vector.step(env, key, state, action, 1)
        return state, seen.next_observation

    start = vector.reset(env, KEY, 4)
    assert start.observation.shape == (4, size)
    end, seen = jax.jit(lambda s: jax.lax.scan(run, s, jax.random.split(KEY, 20)))(start)
    assert seen.dtype == jnp.float32
    assert np.isfinite(seen).all()
    assert (end.elapsed <= 20).all()


def test_pictures_are_laid_out_row_by_row() -> None:
    env = envs.make("gymnax", "Breakout-MinAtar")
    source, params = gymnax.make("Breakout-MinAtar")
    theirs, _ = source.reset_env(KEY, params)
    _, observation = env.reset(KEY)
    assert env.picture is not None
    np.testing.assert_array_equal(observation.reshape(env.picture), theirs)


def test_a_time_limit_is_no_termination_in_minatar() -> None:
    """Freeway never terminates: 2500 frames, then a truncation."""
    env = envs.make("gymnax", "Freeway-MinAtar")
    state = vector.reset(env, KEY, 1)._replace(elapsed=jnp.array([2499]))
    _, seen = vector.step(env, KEY, state, jnp.zeros(1, jnp.int32), 1)
    assert seen.truncated.all()
    assert not seen.terminated.any()


def test_playground_runs_cartpole_swing_up() -> None:
    pytest.importorskip("mujoco_playground", reason="extra mjx is not installed")
    env = envs.make("playground", "CartpoleSwingup")
    assert (env.observation_size, env.action_size, env.episode_length) == (5, 1, 1000)
    state, observation = jax.jit(env.reset)(KEY)
    np.testing.assert_allclose(observation[1], -1.0, atol=1e-2)  # hanging
    _, seen = jax.jit(env.step)(KEY, state, jnp.array([1.0]))
    assert seen.observation.shape == (5,)
    assert 0.0 <= float(seen.reward) <= 1.0
    assert not seen.terminated


@pytest.mark.parametrize(
    ("source", "task", "listed"),
    [("gymnax", "Pong", "Pendulum-v1"), ("probe", "x", "constant"), ("doom", "Pong", "playground")],
)
def test_unknown_names_list_the_valid_ones(source: str, task: str, listed: str) -> None:
    with pytest.raises(ValueError, match=listed):
        envs.make(source, task)
