"""Tasks that ask for what was shown before, what hides components, and what stacks observations."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tides

from sparse_rl import envs
from sparse_rl.envs import Env, vector
from sparse_rl.envs.hiding import VELOCITIES
from sparse_rl.envs.recall import ANSWERS, SYMBOLS, cue, echo

KEY = jax.random.key(4)


def play(env: Env, answer: Any, episodes: int) -> tuple[np.ndarray, list[Any]]:
    """Returns of whole episodes, and what was seen, ``[T, N, o]``, from which ``answer`` answers."""
    state, seen = jax.vmap(env.reset)(jax.random.split(KEY, episodes))
    shown, total = [np.asarray(seen)], np.zeros(episodes)
    step = jax.jit(jax.vmap(env.step))
    for t in range(env.episode_length):
        keys = jax.random.split(jax.random.fold_in(KEY, t), episodes)
        state, now = step(keys, state, jnp.asarray(answer(shown)))
        total += np.asarray(now.reward)
        shown.append(np.asarray(now.observation))
        assert bool(now.terminated.all()) == (t == env.episode_length - 1)
        assert not bool(now.terminated.any()) or bool(now.terminated.all())
    return total, shown


@pytest.mark.parametrize("delay", [1, 3, 6])
def test_echo_asks_for_what_was_shown_so_many_steps_ago(delay: int) -> None:
    def remembers(shown: list[Any]) -> Any:
        return shown[max(0, len(shown) - 1 - delay)].argmax(-1)

    total, shown = play(echo(delay), remembers, 5)
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)
    assert len(shown) - 1 == delay + ANSWERS
    total, shown = play(echo(delay), lambda shown: shown[-1].argmax(-1), 200)
    error = np.sqrt(0.25 * 0.75 / (200 * ANSWERS))
    assert total.mean() == pytest.approx(1 / SYMBOLS, abs=4 * error)
    counts = np.sum(shown, axis=(0, 1))
    assert np.abs(counts / counts.sum() - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / counts.sum())


@pytest.mark.parametrize("delay", [1, 7])
def test_a_cue_is_shown_once_and_asked_for_at_the_end(delay: int) -> None:
    env = cue(delay)
    total, shown = play(env, lambda shown: shown[0][:, :SYMBOLS].argmax(-1), 9)
    np.testing.assert_array_equal(total, 1.0)
    np.testing.assert_array_equal(shown[0][:, :SYMBOLS].sum(-1), 1.0)
    for t in range(1, delay + 1):
        np.testing.assert_array_equal(shown[t][:, :SYMBOLS], 0.0)
        np.testing.assert_array_equal(shown[t][:, SYMBOLS], float(t == delay))
    wrong, _ = play(env, lambda shown: (shown[0][:, :SYMBOLS].argmax(-1) + 1) % SYMBOLS, 9)
    np.testing.assert_array_equal(wrong, 0.0)


def test_a_memory_chain_is_as_long_as_it_says() -> None:
    """The bit is shown as ±1 in the last component; the right answer at the end brings 1."""
    env = envs.make("gymnax", "MemoryChain-bsuite", delay=130)
    assert env.episode_length == 131
    total, shown = play(env, lambda shown: (shown[0][:, 2] > 0).astype(np.int32), 6)
    np.testing.assert_array_equal(total, 1.0)
    assert np.abs(shown[2][:, 2]).max() == 0.0


@pytest.mark.parametrize(
    ("source", "task"), [("gymnax", "CartPole-v1"), ("probe", "policy"), ("gymnax", "Breakout-MinAtar")]
)
def test_a_task_without_a_delay_refuses_one(source: Any, task: str) -> None:
    with pytest.raises(ValueError, match=r"env.delay=3 is of .*, and not of"):
        envs.make(source, task, delay=3)


POSITIONS: dict[str, tuple[tuple[str, ...], Any]] = {
    "gymnax/CartPole-v1": (("x_dot", "theta_dot"), lambda s: [s.x, s.theta]),
    "gymnax/Pendulum-v1": (("theta_dot",), lambda s: [jnp.cos(s.theta), jnp.sin(s.theta)]),
    "gymnax/MountainCarContinuous-v0": (("velocity",), lambda s: [s.position]),
    "gymnax/Acrobot-v1": (
        ("velocity_1", "velocity_2"),
        lambda s: [f(x) for x in (s.joint_angle1, s.joint_angle2) for f in (jnp.cos, jnp.sin)],
    ),
    "classic/cartpole": (("x_dot", "theta_dot"), lambda s: [s[0].x, s[0].theta]),
    "classic/pendulum": (("theta_dot",), lambda s: [jnp.cos(s[0].theta), jnp.sin(s[0].theta)]),
}
"""Task → velocities among the fields of its state, and what is left to see of a state."""


def test_every_task_with_velocities_is_among_these() -> None:
    assert set(POSITIONS) == set(VELOCITIES)


@pytest.mark.parametrize("task", POSITIONS)
def test_without_velocities_positions_are_left(task: str) -> None:
    """States that differ in velocities alone show the same now, and something else after a step."""
    source: Any
    source, name = task.split("/")
    whole, hidden = envs.make(source, name), envs.make(source, name, hidden="velocities")
    fields, positions = POSITIONS[task]
    (state, _), (_, seen) = whole.reset(KEY), hidden.reset(KEY)
    np.testing.assert_allclose(seen, positions(state), rtol=1e-6)
    assert hidden.observation_size == len(seen)
    own = state[0] if source == "classic" else state
    faster = own.replace(**{field: getattr(own, field) + 0.02 for field in fields})
    faster = (faster, state[1]) if source == "classic" else faster
    action = jnp.int32(0) if whole.discrete else jnp.zeros(1)
    shown = []
    for start in (state, faster):
        after, now = hidden.step(KEY, start, action)
        np.testing.assert_allclose(now.observation, positions(after), rtol=1e-6)
        shown.append(now.observation)
    assert float(jnp.abs(shown[0] - shown[1]).max()) > 1e-5


def test_what_is_not_known_is_not_hidden() -> None:
    with pytest.raises(ValueError, match="hidden=velocities is of gymnax/CartPole-v1"):
        envs.make("gymnax", "Breakout-MinAtar", hidden="velocities")


def test_stacked_observations_are_the_last_interactions_newest_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With two frames an interaction; a new episode begins with its first observation over and over."""
    plain = tides.tides()
    tides.install(monkeypatch, plain)
    env = envs.make("probe", "tides", stacked=3)
    assert (env.observation_size, env.frames) == (9, 3)
    state, alone = vector.reset(env, KEY, 4), vector.reset(plain, KEY, 4)
    history = [np.asarray(alone.observation)] * 3
    np.testing.assert_array_equal(state.observation, np.concatenate(history, axis=1))
    action = jnp.full((4, 2), 0.3)
    ends = 0
    for t in range(4):
        key = jax.random.fold_in(KEY, t)
        (state, seen), (alone, own) = (
            vector.step(e, key, s, action, 2) for e, s in ((env, state), (plain, alone))
        )
        history = [*history[1:], np.asarray(own.next_observation)]
        np.testing.assert_array_equal(seen.next_observation, np.concatenate(history, axis=1))
        ended = np.asarray(own.terminated | own.truncated)[:, None]
        ends += int(ended.sum())
        history = [np.where(ended, alone.observation, x) for x in history]
        np.testing.assert_array_equal(state.observation, np.concatenate(history, axis=1))
    assert ends > 2


def test_pictures_are_not_stacked_again() -> None:
    with pytest.raises(ValueError, match=r"env\.frames=4 is of vectors"):
        envs.make("gymnax", "Breakout-MinAtar", stacked=4)
