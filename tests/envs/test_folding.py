"""Teams folded into actors: who is who, whose reward is whose, and how an episode ends for all."""

import dataclasses
from typing import Any

import crew
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl.envs import named, vector
from sparse_rl.loops.rollout import successor_view, view_of

KEY, E = jax.random.key(5), 6


@pytest.mark.parametrize("tail", [(), (4,), (2, 3)])
def test_folding_is_undone_and_keeps_a_team_together(tail: tuple[int, ...]) -> None:
    env = crew.crew()
    teams = jnp.arange(E * crew.AGENTS * int(np.prod(tail))).reshape(E, crew.AGENTS, *tail)
    actors = vector.join(env, teams)
    np.testing.assert_array_equal(actors[2 * crew.AGENTS + 1], teams[2, 1])  # n = e · A + a
    np.testing.assert_array_equal(vector.split(env, actors), teams)
    each = vector.to_each(env, jnp.arange(E))
    np.testing.assert_array_equal(vector.split(env, each), np.arange(E)[:, None].repeat(3, axis=1))
    np.testing.assert_array_equal(vector.of_each(env, each), np.arange(E))


@pytest.mark.parametrize("shared", [False, True])
def test_teams_step_as_their_twins(shared: bool) -> None:
    """Rewards of each, one end for all, returns of the team; resets by team, and at different times."""
    env = crew.crew(shared)
    state = vector.reset(env, KEY, E)
    step = jax.jit(lambda key, state, action: vector.step(env, key, state, action, 1))
    first = np.asarray(vector.split(env, state.observation))
    np.testing.assert_array_equal(first[..., 0] % 10, np.arange(3)[None].repeat(E, axis=0))
    twins, ends, rng = [crew.Twin(x, shared) for x in first], set(), np.random.default_rng(0)
    for t in range(20):
        action = rng.integers(0, crew.ACTIONS, E * crew.AGENTS).astype(np.int32)
        state, now = step(jax.random.fold_in(KEY, t), state, jnp.asarray(action))
        shown = np.asarray(vector.split(env, state.observation))
        for e, twin in enumerate(twins):
            mine = slice(e * crew.AGENTS, (e + 1) * crew.AGENTS)
            told = twin.step(action[mine])
            for name, value in told.items():
                np.testing.assert_allclose(getattr(now, name)[mine], value, rtol=1e-6, err_msg=name)
            np.testing.assert_array_equal(now.shaping[mine], [0.0, -1.0, -2.0])
            # the true successor, and what a central critic sees of it: all but the first, and the time
            np.testing.assert_allclose(now.next_observation[mine][:, 1], twin.time)
            central = [10 * twin.secret + 1, 10 * twin.secret + 2, twin.time]
            state_seen = successor_view(env, now).critic_observation
            assert state_seen is not None
            np.testing.assert_allclose(state_seen[mine], [central] * crew.AGENTS)
            if told["terminated"] or told["truncated"]:
                ends.add((told["terminated"], twin.time))
                twins[e] = crew.Twin(shown[e], shared)
                np.testing.assert_array_equal(shown[e][:, 1], 0.0)
                assert float(state.elapsed[e]) == float(state.episode_return[e]) == 0.0
    assert ends == {(True, 3), (True, 4), (False, 4)}


def test_who_is_dead_or_waits_weighs_nothing() -> None:
    env = crew.crew()
    state = vector.reset(env, KEY, 2)
    weights = []
    for t in range(3):
        weight = view_of(env, state).weight
        assert weight is not None
        weights.append(np.asarray(vector.split(env, weight))[0].tolist())
        state, _ = vector.step(env, jax.random.fold_in(KEY, t), state, jnp.zeros(6, jnp.int32), 1)
    assert weights == [[1, 1, 1], [0, 1, 1], [1, 1, 0]]
    # where nobody says what is legal, the dead are told from the living all the same
    silent = dataclasses.replace(env, legal_actions=None)
    weight = view_of(silent, state._replace(env=state.env._replace(time=jnp.full(2, 2)))).weight
    np.testing.assert_array_equal(weight, [1, 1, 0] * 2)


def test_names_come_last_and_a_central_critic_sees_them_too() -> None:
    env = named(crew.crew())
    assert (env.observation_size, env.critic_size, env.names) == (5, 6, 3)
    state = vector.reset(env, KEY, 2)
    view = view_of(env, state)
    np.testing.assert_array_equal(state.observation[:, 2:], np.tile(np.eye(3), (2, 1)))
    assert view.critic_observation is not None
    np.testing.assert_array_equal(view.critic_observation[:, 3:], np.tile(np.eye(3), (2, 1)))
    own = np.asarray(state.observation[:, 0]).reshape(2, 3)
    np.testing.assert_array_equal(view.critic_observation[::3, :2], own[:, 1:])
    _, now = vector.step(env, KEY, state, jnp.zeros(6, jnp.int32), 1)
    after = successor_view(env, now).critic_observation
    assert after is not None
    np.testing.assert_array_equal(after[:, 3:], np.tile(np.eye(3), (2, 1)))


def test_an_action_that_is_repeated_adds_up_for_each() -> None:
    """Rewards and shaping of two frames; nothing after the end."""
    env = crew.crew()
    state: Any = vector.reset(env, KEY, 8)
    action = jnp.tile(jnp.array([1, 2, 0], jnp.int32), 8)
    state, one = vector.step(env, KEY, state, action, 2)
    np.testing.assert_allclose(one.reward, np.tile([2.0, 2.0, 0.0], 8))
    assert one.shaping is not None
    np.testing.assert_allclose(one.shaping, np.tile([0.0, -2.0, -4.0], 8))
    _, two = vector.step(env, KEY, state, action, 2)
    frames = np.where(np.asarray(one.next_observation[:, 0]) // 10 == 0, 1, 2)  # the secret is 0: three
    np.testing.assert_allclose(two.reward, frames * np.tile([1.0, 1.0, 0.0], 8))
    assert two.shaping is not None
    np.testing.assert_allclose(two.shaping, frames * np.tile([0.0, -1.0, -2.0], 8))
