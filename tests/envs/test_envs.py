"""The environment contract: truncation apart from termination, true successors, real libraries."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import envs
from sparse_rl.envs import Env, Step, vector

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


HUGE = np.array([np.nan, np.inf, -np.inf, 1e25], np.float32)


class Fragile(NamedTuple):
    """An environment that breaks at its third frame."""

    time: jax.Array
    value: jax.Array
    """What breaks it; what a reset begins is sound."""


def fragile(where: str = "", draws: bool = False) -> Env:
    """Shows and rewards the time, 1 to 10; ``where`` is the value at the third frame."""

    def reset(key: jax.Array) -> tuple[Fragile, jax.Array]:
        return Fragile(jnp.int32(0), jnp.float32(3.0)), jnp.zeros(1)

    def number(state: Fragile, what: str) -> jax.Array:
        return jnp.where((state.time == 3) & (what == where), state.value, state.time)

    def step(key: jax.Array, state: Fragile, action: jax.Array) -> tuple[Fragile, Step]:
        state = state._replace(time=state.time + 1)
        seen = number(state, "observation")[None]
        return state, Step(seen, number(state, "reward"), jnp.bool_(False))

    def draw(state: Fragile) -> jax.Array:
        return state.time.astype(jnp.uint8).reshape(1, 1, 1)

    frames = 2 if draws else 1
    return Env(
        name="probe/fragile",
        observation_size=frames,
        action_size=1,
        episode_length=10,
        reset=reset,
        step=step,
        physics=lambda state: number(state, "physics")[None],
        draw=draw if draws else None,
        picture=(1, 1, frames) if draws else None,
        frames=frames,
    )


def playing(env: Env, values: np.ndarray, repeat: int) -> Iterator[tuple[Any, vector.VectorStep]]:
    """What environments with these values are and bring, interaction after interaction."""
    n = len(values)
    program = jax.jit(lambda state: vector.step(env, KEY, state, jnp.zeros((n, 1)), repeat))
    state = vector.reset(env, KEY, n)
    state = state._replace(env=state.env._replace(value=jnp.asarray(values)))
    while True:
        state, seen = program(state)
        yield state, jax.tree.map(np.asarray, seen)


@pytest.mark.parametrize("where", ["observation", "reward", "physics"])
def test_a_simulation_that_breaks_ends_with_what_was_seen_before(where: str) -> None:
    """It is a termination without a reward; 9e9 is a sound number, and one of those here."""
    values = np.append(HUGE, np.float32(9e9))
    *_, (after, seen) = itertools.islice(playing(fragile(where), values, 1), 3)
    np.testing.assert_array_equal(seen.terminated, [True] * 4 + [False])
    assert not seen.truncated.any()
    np.testing.assert_array_equal(seen.next_observation[:4, 0], [2.0] * 4)
    np.testing.assert_array_equal(seen.reward[:4], [0.0] * 4)
    np.testing.assert_array_equal(seen.episode_return[:4], [3.0] * 4)
    np.testing.assert_array_equal(after.observation[:4, 0], [0.0] * 4)
    last = {"observation": seen.next_observation[4, 0], "reward": seen.reward[4]}
    assert last == {"observation": 3.0, "reward": 3.0} | (
        {where: np.float32(9e9)} if where in last else {}
    )


@pytest.mark.parametrize(("where", "repeat"), [("observation", 3), ("reward", 3), ("reward", 5)])
def test_an_interaction_of_several_frames_that_breaks_is_left_out(where: str, repeat: int) -> None:
    """At its last frame, or amid them: what was seen before stands, here the first observation."""
    _, seen = next(playing(fragile(where), HUGE, repeat))
    assert seen.terminated.all()
    assert not seen.truncated.any()
    for field in (seen.next_observation[:, 0], seen.reward, seen.episode_return):
        np.testing.assert_array_equal(field, [0.0] * 4)


def test_where_nothing_sound_can_be_drawn_the_last_pictures_stand() -> None:
    *_, (_, seen) = itertools.islice(playing(fragile("physics", draws=True), HUGE, 1), 3)
    assert seen.terminated.all()
    np.testing.assert_array_equal(seen.next_observation, [[1, 2]] * 4)


def test_the_cartpole_of_pixels_may_break() -> None:
    env = envs.make("pixels", "cartpole_swingup", size=16)
    state = vector.reset(env, KEY, 1)
    far = state._replace(env=state.env._replace(x=jnp.float32([np.inf])))
    _, seen = jax.jit(lambda state: vector.step(env, KEY, state, jnp.zeros((1, 1)), 1))(far)
    assert seen.terminated[0]
    assert seen.reward[0] == 0.0
    np.testing.assert_array_equal(seen.next_observation, state.observation)


@pytest.mark.parametrize(("repeat", "frames"), [(3, [3, 3, 3, 1]), (7, [7, 3]), (15, [10]), (5, [5, 5])])
def test_an_episode_stops_at_its_limit_whatever_the_action_repeat(
    repeat: int, frames: list[int]
) -> None:
    """Ten frames that reward 1, 2, …, 10: 55 in all, and what is seen at the end is the tenth."""
    steps = itertools.islice(playing(fragile(), HUGE[:2], repeat), len(frames))
    for i, (_, seen) in enumerate(steps):
        so_far = [sum(frames[: i + 1])] * 2
        np.testing.assert_array_equal(seen.elapsed, so_far)
        np.testing.assert_array_equal(seen.next_observation[:, 0], so_far)
        np.testing.assert_array_equal(seen.truncated, [i == len(frames) - 1] * 2)
        assert not seen.terminated.any()
    np.testing.assert_array_equal(seen.episode_return, [55.0] * 2)
