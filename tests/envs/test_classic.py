"""Classic control whose physics are a level, beside gymnax's own and by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import envs
from sparse_rl.envs import Env
from sparse_rl.envs.classic import TASKS, Physics

KEY = jax.random.key(7)
every_task = pytest.mark.parametrize("task", list(TASKS))


def classic(task: str) -> Env:
    env = envs.make("classic", task)
    assert isinstance(env, Env)
    return env


def play(env: Env, state: Any, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    def one(state: Any, action: Any) -> Any:
        state, seen = env.step(KEY, state, action)
        return state, seen

    seen = jax.jit(lambda s, a: jax.lax.scan(one, s, a)[1])(state, actions)
    return np.asarray(seen.observation), np.asarray(seen.reward), np.asarray(seen.terminated)


@every_task
def test_where_nothing_is_changed_it_is_gymnax_s(task: str) -> None:
    library = envs.make("gymnax", TASKS[task].library)
    assert isinstance(library, Env)
    env, steps = classic(task), 40
    state, first = library.reset(KEY)
    start = jnp.array([getattr(state, name) for name in TASKS[task].state])
    assert env.levels is not None
    begun, seen = env.levels.begin(Physics(jnp.zeros(4), start))
    np.testing.assert_allclose(seen, first, rtol=1e-6)
    actions = (
        jax.random.randint(KEY, (steps,), 0, 2)
        if env.discrete
        else jax.random.uniform(KEY, (steps, 1), minval=-1.0)
    )
    for one, two in zip(play(env, begun, actions), play(library, state, actions), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)
    shape = (env.observation_size, env.action_size, env.episode_length, env.discrete)
    assert shape == (
        library.observation_size, library.action_size, library.episode_length, library.discrete
    )  # fmt: skip


def test_a_pole_of_other_physics_falls_as_its_equations_say() -> None:
    """Barto et al. 1983 with gravity 14, cart 0.7, pole 0.15 and half length 0.8; pushed to the left."""
    g, cart, pole, half = 14.0, 0.7, 0.15, 0.8
    powers = np.log2([g / 9.8, cart / 1.0, pole / 0.1, half / 0.5])
    x, speed, angle, turning = start = np.array([0.3, -0.4, 0.12, 0.5])
    env = classic("cartpole")
    assert env.levels is not None
    state, _ = env.levels.begin(
        Physics(jnp.asarray(powers, jnp.float32), jnp.asarray(start, jnp.float32))
    )
    _, seen = env.step(KEY, state, jnp.int32(0))
    push = (-10.0 + pole * half * turning**2 * np.sin(angle)) / (cart + pole)
    falls = (g * np.sin(angle) - np.cos(angle) * push) / (
        half * (4 / 3 - pole * np.cos(angle) ** 2 / (cart + pole))
    )
    rolls = push - pole * half * falls * np.cos(angle) / (cart + pole)
    expected = [x + 0.02 * speed, speed + 0.02 * rolls, angle + 0.02 * turning, turning + 0.02 * falls]
    np.testing.assert_allclose(seen.observation, expected, rtol=1e-5)


def test_a_pendulum_of_other_physics_swings_as_its_equation_says() -> None:
    """Gravity 12, mass 0.8, length 1.3, and 0.7 of the greatest torque, 2.5."""
    g, m, length, torque = 12.0, 0.8, 1.3, 2.5
    powers = np.log2([g / 10.0, m, length, torque / 2.0])
    env, angle, turning = classic("pendulum"), 0.4, -0.3
    assert env.levels is not None
    state, seen = env.levels.begin(
        Physics(jnp.asarray(powers, jnp.float32), jnp.array([angle, turning]))
    )
    np.testing.assert_allclose(seen, [np.cos(angle), np.sin(angle), turning], rtol=1e-6)
    _, step = env.step(KEY, state, jnp.array([0.7]))
    u = 0.7 * torque
    after = turning + 0.05 * (1.5 * g / length * np.sin(angle) + 3.0 / (m * length**2) * u)
    there = angle + 0.05 * after
    np.testing.assert_allclose(step.observation, [np.cos(there), np.sin(there), after], rtol=1e-5)
    assert float(step.reward) == pytest.approx(-(angle**2 + 0.1 * turning**2 + 0.001 * u**2), rel=1e-5)


@every_task
def test_levels_are_uniform_in_their_range(task: str) -> None:
    env, n, half = classic(task), 4000, {"cartpole": 1.0, "pendulum": 0.5}[task]
    assert env.levels is not None
    levels = jax.jit(jax.vmap(env.levels.sample))(jax.random.split(KEY, n))
    starts = np.array([[0.05] * 4, [np.pi, 1.0]][task == "pendulum"])
    uniform = np.concatenate([levels.powers / half, levels.start / starts], axis=1)
    assert np.abs(uniform).max() <= 1.0
    np.testing.assert_allclose(uniform.mean(axis=0), 0.0, atol=4 / (3 * n) ** 0.5)
    np.testing.assert_allclose(uniform.std(axis=0), 3**-0.5, rtol=0.04)
    across = np.corrcoef(uniform.T) - np.eye(uniform.shape[1])
    assert np.abs(across).max() < 4.5 / n**0.5


@every_task
def test_an_edit_changes_one_parameter_and_stays_in_the_range(task: str) -> None:
    env, n, half = classic(task), 4000, {"cartpole": 1.0, "pendulum": 0.5}[task]
    assert env.levels is not None
    level = Physics(half * jnp.array([0.0, 0.98, -0.3, 0.2]), jnp.arange(2.0))
    mutate = env.levels.mutate
    edited = jax.jit(jax.vmap(lambda key: mutate(key, level)))(jax.random.split(KEY, n))
    change = np.asarray(edited.powers - level.powers) / half
    assert ((change != 0).sum(axis=1) <= 1).all()
    assert float(jnp.abs(edited.powers).max()) == pytest.approx(half)
    np.testing.assert_allclose((change != 0).mean(axis=0)[[0, 2, 3]], 0.25, atol=4 * (3 / 16 / n) ** 0.5)
    moved = change[:, 0][change[:, 0] != 0]
    assert moved.std() == pytest.approx(0.25, rel=0.15)
    np.testing.assert_array_equal(edited.start, np.tile(level.start, (n, 1)))


@every_task
def test_held_out_levels_lie_at_the_corners_and_outside(task: str) -> None:
    env, half = classic(task), {"cartpole": 1.0, "pendulum": 0.5}[task]
    assert env.levels is not None
    sets = {name: made() for name, made in env.levels.sets.items()}
    assert set(sets) == {"corners", "outside"}
    for held, count in ((sets["corners"], 16), (sets["outside"], 8)):
        assert held.horizons == (env.episode_length,)
        assert len(held.names) == len(set(held.names)) == len(held.levels.powers) == count
        assert len(np.unique(held.levels.start, axis=0)) == count
        assert (np.abs(held.levels.start) <= TASKS[task].starts).all()
    np.testing.assert_allclose(np.abs(sets["corners"].levels.powers), half)
    assert len(np.unique(sets["corners"].levels.powers, axis=0)) == 16
    outside = sets["outside"].levels.powers / half
    assert sorted(outside[outside != 0].tolist()) == [-1.5] * 4 + [1.5] * 4
    np.testing.assert_array_equal((outside != 0).sum(axis=0), [2] * 4)


def test_what_is_told_of_a_level() -> None:
    env = classic("cartpole")
    assert env.levels is not None
    level = Physics(jnp.array([1.0, -1.0, 0.5, 0.0]), jnp.zeros(4))
    told = {name: float(x) for name, x in env.levels.describe(level).items()}
    assert told == pytest.approx(
        {"gravity": 19.6, "masscart": 0.5, "masspole": 0.1 * 2**0.5, "length": 0.5, "solvable": 1.0}
    )
    assert float(env.levels.best(level)) == 500.0
    assert env.levels.solved(jnp.array([474.0, 475.0])).tolist() == [False, True]
    env = classic("pendulum")
    assert env.levels is not None
    assert float(env.levels.best(level)) == 0.0
    assert env.levels.solved(jnp.array([-301.0, -299.0])).tolist() == [False, True]


def test_a_task_that_is_none_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"classic task 'x' is unknown; choose one of cartpole, pendulum"
    ):
        envs.make("classic", "x")


@every_task
def test_velocities_can_be_hidden(task: str) -> None:
    env = envs.make("classic", task, hidden="velocities")
    assert isinstance(env, Env)
    assert env.levels is not None
    start = jnp.array([0.01, 0.02, 0.03, 0.04]) if task == "cartpole" else jnp.array([0.3, 0.7])
    _, seen = env.levels.begin(Physics(jnp.zeros(4), start))
    expected = [0.01, 0.03] if task == "cartpole" else [np.cos(0.3), np.sin(0.3)]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
