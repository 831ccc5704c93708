"""Batches of environments beside the same in plain Python: three observations, two actions, several
environments, action repeat 2, and episodes that end at different times."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tides

from sparse_rl.envs import Env, Step, vector

KEY = jax.random.key(8)
N, T, REPEAT = 12, 14, 2


@pytest.fixture(scope="module")
def history() -> list[tuple[np.ndarray, np.ndarray, vector.VectorState, vector.VectorStep]]:
    """What was seen and done, the state after it and what the interaction brought; of random actions."""
    env, rng = tides.tides(), np.random.default_rng(3)
    step = jax.jit(lambda key, state, action: vector.step(env, key, state, action, REPEAT))
    state, found = vector.reset(env, KEY, N), []
    for t in range(T):
        seen, action = np.asarray(state.observation), rng.uniform(-1, 1, (N, 2)).astype(np.float32)
        state, brought = step(jax.random.fold_in(KEY, t), state, action)
        found.append((seen, action, *jax.tree.map(np.asarray, (state, brought))))
    return found


def test_a_batch_steps_as_its_environments_would_alone(history: list[Any]) -> None:
    """Rewards of several frames, ends of both kinds amid an interaction, and what follows them."""
    observations, actions, states, steps = zip(*history, strict=True)
    found = tides.played(observations, actions, REPEAT)
    kinds = set()
    for t, (state, step) in enumerate(zip(states, steps, strict=True)):
        for n, brought in enumerate(found[t]):
            done = brought.terminated or brought.truncated
            assert (step.terminated[n], step.truncated[n]) == (brought.terminated, brought.truncated)
            np.testing.assert_allclose(step.next_observation[n], brought.observation, rtol=1e-5)
            assert step.reward[n] == pytest.approx(brought.reward, rel=1e-5)
            assert step.episode_return[n] == pytest.approx(brought.total, rel=1e-5)
            assert step.elapsed[n] == brought.elapsed
            assert state.elapsed[n] == (0 if done else brought.elapsed)
            goes_on = 0.0 if done else brought.total
            assert state.episode_return[n] == pytest.approx(goes_on, rel=1e-5)
            if not done:
                np.testing.assert_array_equal(state.observation[n], step.next_observation[n])
            kinds.add((brought.terminated, brought.truncated, brought.elapsed))
    assert len(kinds) == 6  # either end after five frames, terminations before, and going on


def test_no_two_episodes_begin_alike(history: list[Any]) -> None:
    """Neither of one batch, nor after ends, of one moment or of several."""
    observations = np.stack([seen for seen, *_ in history])
    levels = observations[observations[..., 1] == 0.0][:, 0]
    assert len(levels) > 4 * N
    assert len(np.unique(levels)) == len(levels)
    assert 2.0 < levels.min() < 2.2 < 3.8 < levels.max() < 4.0
    ages = observations[3:8, :, 1]
    assert (ages.min(axis=1) < ages.max(axis=1)).any()


def test_a_reset_draws_from_the_whole_distribution() -> None:
    """Levels are uniform on [2, 4], and six lengths as frequent as each other, whatever the level."""
    n = 6000
    seen = np.asarray(jax.jit(lambda key: vector.reset(tides.tides(), key, n))(KEY).observation, float)
    assert abs(seen[:, 0].mean() - 3.0) < 4 * (2 / np.sqrt(12)) / np.sqrt(n)
    assert seen[:, 0].std() == pytest.approx(2 / np.sqrt(12), rel=0.03)
    shares = np.unique(seen[:, 2], return_counts=True)[1] / n
    np.testing.assert_allclose(shares, [1 / 6] * 6, atol=4 * np.sqrt(5 / 36 / n))
    assert abs(np.corrcoef(seen[:, 0], seen[:, 2])[0, 1]) < 4 / np.sqrt(n)


def noisy() -> Env:
    """Each frame draws a number; shown are the last three, and the reward is their sum."""

    def step(key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        state = jnp.concatenate([state[1:], jax.random.normal(key, (1,))])
        return state, Step(state, jnp.sum(state), jnp.bool_(False))

    def reset(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = jax.vmap(jax.random.normal)(jax.random.split(key, 3))  # as frames draw theirs
        return first, first

    return Env(name="noisy", observation_size=3, action_size=1, episode_length=6, reset=reset, step=step)


def test_every_frame_of_every_environment_draws_anew() -> None:
    """3 frames of 4 environments, two interactions, the second of which ends all episodes."""
    env = noisy()
    step = jax.jit(lambda key, state: vector.step(env, key, state, jnp.zeros((4, 1)), 3))
    state = jax.jit(lambda key: vector.reset(env, key, 4))(KEY)
    drawn = [state.observation]
    for t in range(2):
        state, seen = step(jax.random.fold_in(KEY, t), state)
        drawn.append(seen.next_observation)
    assert seen.truncated.all()
    drawn.append(state.observation)
    assert len(np.unique(np.stack(drawn))) == 4 * 4 * 3


def test_what_is_just_too_large_is_broken_and_what_is_just_small_enough_is_not() -> None:
    """The bound is MuJoCo's, 1e10, on either side of zero."""

    def step(key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        return state, Step(action, jnp.float32(3.0), jnp.bool_(False))

    env = Env(
        name="echo", observation_size=2, action_size=2, episode_length=9,
        reset=lambda key: (jnp.zeros(()), jnp.zeros(2)), step=step,
    )  # fmt: skip
    shown = jnp.array([[0.2, 0.9e10], [-0.9e10, 0.2], [0.2, 1.1e10], [-1.1e10, 0.2]])
    state, seen = vector.step(env, KEY, vector.reset(env, KEY, 4), shown, 1)
    np.testing.assert_array_equal(seen.terminated, [False, False, True, True])
    np.testing.assert_array_equal(seen.reward, [3.0, 3.0, 0.0, 0.0])
    np.testing.assert_array_equal(state.episode_return, [3.0, 3.0, 0.0, 0.0])
