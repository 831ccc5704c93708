"""Sticky actions: what is repeated, how often, from where, and what stays as it was."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import MakeConfig

from sparse_rl import envs
from sparse_rl.envs import Env, Step, vector
from sparse_rl.envs.sticky import sticky
from sparse_rl.runs.pack import prepare_pack
from sparse_rl.settings.envs import build_env
from sparse_rl.settings.schema import ConfigError

KEY = jax.random.key(5)


def echo(discrete: bool = True, legal: Any = None) -> Env:
    """It shows what it did last, and its reward is a draw from its key."""

    def step(key: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        shown = jnp.asarray(action, jnp.float32).reshape(-1)
        return state + 1, Step(shown, jax.random.uniform(key), jnp.bool_(False))

    return Env(
        name="echo",
        observation_size=1 if discrete else 2,
        action_size=5000 if discrete else 2,
        episode_length=10_000,
        discrete=discrete,
        reset=lambda key: (jnp.int32(0), jnp.zeros(1 if discrete else 2)),
        step=step,
        legal_actions=legal,
    )


def play(env: Env, actions: jax.Array, repeat: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """What two copies show and are paid, ``[T, 2, …]``, when both are told ``actions``."""

    def one(state: vector.VectorState, given: Any) -> Any:
        key, action = given
        state, seen = vector.step(env, key, state, jnp.stack([action, action]), repeat)
        return state, (seen.next_observation, seen.reward)

    keys = jax.random.split(KEY, len(actions))
    _, seen = jax.lax.scan(one, vector.reset(env, KEY, 2), (keys, actions))
    return np.asarray(seen[0]), np.asarray(seen[1])


def test_a_quarter_of_the_frames_do_what_the_frame_before_did() -> None:
    told = jnp.arange(1, 3001)  # each action is given once, so what is shown tells when it was given
    shown, paid = play(sticky(echo(), 0.25), told)
    before = np.concatenate([np.zeros((1, 2)), shown[:-1, :, 0]])
    repeated = shown[:, :, 0] == before
    assert (repeated | (shown[:, :, 0] == np.asarray(told)[:, None])).all()
    np.testing.assert_allclose(repeated.mean(axis=0), 0.25, atol=0.03)
    assert (repeated[:, 0] != repeated[:, 1]).any()  # each copy draws for itself
    _, without = play(echo(), told)
    np.testing.assert_array_equal(paid, without)  # an environment's own draws stay what they were


def test_an_episode_begins_with_doing_nothing() -> None:
    shown, _ = play(sticky(echo(), 0.99), jnp.full(3, 7))
    np.testing.assert_array_equal(shown[0], 0.0)
    env = sticky(echo(discrete=False), 0.99)
    shown, _ = play(env, jnp.full((3, 2), 0.5))
    np.testing.assert_array_equal(shown[0], np.zeros((2, 2)))


def test_every_frame_of_a_repeated_action_draws_anew() -> None:
    """Told 7 for six frames and stuck with 0.5 on average half of the time, the last frame shows 7."""
    shown, _ = play(sticky(echo(), 0.5), jnp.full(1, 7), repeat=40)
    np.testing.assert_array_equal(shown[0], 7.0)


def test_what_is_not_allowed_any_more_is_not_repeated() -> None:
    only_new = sticky(echo(legal=lambda state: jnp.arange(5000) > state), 0.9)
    shown, _ = play(only_new, jnp.arange(1, 101))
    np.testing.assert_array_equal(shown[:, 0, 0], np.arange(1, 101))
    assert only_new.legal_actions is not None
    state, _ = only_new.reset(KEY)
    assert int(only_new.legal_actions(state).sum()) == 4999


def test_physics_that_break_are_still_seen() -> None:
    """What is asked of the state is asked of the one inside; it breaks in the third frame."""
    env = dataclasses.replace(echo(), physics=lambda state: jnp.where(state == 3, jnp.inf, 1.0)[None])
    state, ended = vector.reset(sticky(env, 0.5), KEY, 2), []
    for _ in range(4):
        state, seen = vector.step(sticky(env, 0.5), KEY, state, jnp.ones(2, jnp.int32), 1)
        ended.append(seen.terminated.tolist())
    assert ended == [[False, False], [False, False], [True, True], [False, False]]


def test_without_it_an_environment_is_what_it_was() -> None:
    env = echo()
    assert sticky(env, 0.0) is env
    plain, stuck = (envs.make("gymnax", "Freeway-MinAtar", **o) for o in ({}, {"sticky_actions": 0.1}))
    assert len(jax.tree.leaves(stuck.reset(KEY))) == len(jax.tree.leaves(plain.reset(KEY))) + 1


def test_it_is_an_option_of_every_compiled_source_and_of_no_other(make_config: MakeConfig) -> None:
    for source, task in (("pixels", "cartpole_swingup"), ("lqr", "chain"), ("probe", "constant")):
        options = build_env({"source": source, "task": task, "sticky_actions": 0.1}).options
        env = envs.make(source, task, **options)
        assert isinstance(env, Env)
        assert type(env.reset(KEY)[0]).__name__ == "Sticky"
    for source in ("dm_control", "dm_control_pixels", "gymnasium"):
        with pytest.raises(ConfigError, match=r"unknown key 'env.sticky_actions'"):
            build_env({"source": source, "task": "x", "sticky_actions": 0.1})
    config = make_config(
        agent={"name": "azopg"},
        width=2,
        env={"source": "lqr", "task": "chain", "sticky_actions": 0.1},
    )
    with pytest.raises(ConfigError, match=r"env.sticky_actions=0.1: agent=azopg has no actions"):
        prepare_pack([config])


def test_a_run_is_the_same_run_with_the_default_and_without_the_key(make_config: MakeConfig) -> None:
    plain, said = make_config(), make_config(env={"sticky_actions": 0})
    assert plain.run_id == said.run_id
    assert plain.run_id != make_config(env={"sticky_actions": 0.1}).run_id
