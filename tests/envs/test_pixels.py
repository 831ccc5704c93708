"""A task seen through a camera: its physics beside MuJoCo's, and what its pictures show."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import envs
from sparse_rl.envs import cartpole, vector
from sparse_rl.envs.cartpole import CartPole
from sparse_rl.envs.contract import Env

KEY = jax.random.key(0)
HALF_VIEW = 1.6568542
"""Metres that DM Control's camera shows on each side: 4 tan 22.5°."""
DM_CONTROL = """
<mujoco><option timestep="0.01" integrator="RK4"><flag contact="disable"/></option><worldbody>
  <body name="cart" pos="0 0 1">
    <joint type="slide" limited="true" axis="1 0 0" range="-1.8 1.8" solreflimit=".08 1" damping="5e-4"/>
    <geom type="box" size="0.2 0.15 0.1" mass="1"/>
    <body><joint name="hinge" type="hinge" axis="0 1 0" damping="2e-6"/>
      <geom type="capsule" fromto="0 0 0 0 0 1" size="0.045" mass="0.1"/></body>
  </body></worldbody>
  <actuator><motor joint="hinge" gear="0"/></actuator></mujoco>
""".replace('<joint type="slide"', '<joint name="slider" type="slide"').replace(
    '<motor joint="hinge" gear="0"/>', '<motor joint="slider" gear="10" ctrlrange="-1 1"/>'
)
"""The model of ``dm_control``'s cart-pole, without what is only looked at."""


def state_of(x: float = 0.0, angle: float = 0.0, speed: float = 0.0, spin: float = 0.0) -> CartPole:
    return CartPole(*map(jnp.float32, (x, angle, speed, spin)))


@functools.cache
def pixels(**options: object) -> Env:
    """The environment, its drawing compiled once."""
    env = envs.make("pixels", "cartpole_swingup", **options)
    assert env.draw is not None
    return dataclasses.replace(env, draw=jax.jit(env.draw))


def stepper(env: Env, repeat: int) -> Callable[..., Any]:
    """``(state, action) → (state, step)``, compiled."""
    return jax.jit(lambda state, action: vector.step(env, KEY, state, action, repeat))


def trajectory(state: CartPole, controls: jax.Array) -> jax.Array:
    """Positions and speeds after each frame: ``[frames, 4]``."""

    def one(state: CartPole, control: jax.Array) -> tuple[CartPole, jax.Array]:
        state = cartpole.step(state, control)
        return state, jnp.stack(state)

    return jax.lax.scan(one, state, controls)[1]


def test_physics_are_mujocos_stops_included() -> None:
    """Three hundred frames: a swing, and a constant push that runs into the stop and stays there."""
    mujoco = pytest.importorskip("mujoco", reason="extra mjx is not installed")
    model = mujoco.MjModel.from_xml_string(DM_CONTROL)
    swing = np.random.default_rng(0).uniform(-1, 1, 300).astype(np.float32)
    for controls in (swing, np.ones(300, np.float32)):
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = (0.01, math.pi - 0.02), (0.0, 0.01)
        expected = []
        for control in controls:
            data.ctrl[:] = control
            mujoco.mj_step(model, data)
            expected.append([*data.qpos, *data.qvel])

        begin = state_of(0.01, math.pi - 0.02, 0.0, 0.01)
        found = jax.jit(trajectory)(begin, jnp.asarray(controls))
        np.testing.assert_allclose(found, expected, atol=2e-4)
    assert np.max(expected) > cartpole.STOP  # the stop was reached


@pytest.mark.parametrize(
    ("state", "control", "expected"),
    [
        (state_of(), 0.0, 1.0),
        (state_of(angle=math.pi), 0.0, 0.0),
        (state_of(), 1.0, 0.8),  # (4 + 0)/5
        (state_of(angle=math.pi / 2), 0.0, 0.5),
        (state_of(x=2.0), 0.0, 0.55),  # (1 + 0.1)/2
        (state_of(spin=5.0), 0.5, 0.55 * 4.75 / 5),
    ],
)
def test_rewards_by_hand(state: CartPole, control: float, expected: float) -> None:
    assert float(cartpole.reward(state, jnp.float32(control))) == pytest.approx(expected, abs=1e-6)


def pole_angle(picture: np.ndarray, x: float) -> float:
    """The angle to the right of up of what is brighter than cart and rail, seen from the hinge."""
    size = len(picture)
    bright = np.clip(picture[..., 0].astype(float) - 160, 0, None)
    rows, columns = np.mgrid[:size, :size]
    pixel = 2 * HALF_VIEW / size
    right = ((columns + 0.5) * pixel - HALF_VIEW - x) * bright
    up = (HALF_VIEW - (rows + 0.5) * pixel) * bright
    return math.atan2(right.sum(), up.sum())


@pytest.mark.parametrize("size", [48, 84])
@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0, -1.2, -2.8])
def test_the_poles_angle_is_seen(size: int, angle: float) -> None:
    env = pixels(size=size)
    assert env.draw is not None
    picture = np.asarray(env.draw(state_of(x=0.4, angle=angle)))
    assert picture.shape == (size, size, 1)
    assert picture.dtype == np.uint8
    assert pole_angle(picture, 0.4) == pytest.approx(angle, abs=math.radians(4))


def test_movements_of_a_fifth_of_a_pixel_show() -> None:
    env = pixels()
    assert env.draw is not None
    still, moved = (np.asarray(env.draw(state_of(x=x)), int) for x in (0.0, 0.4 * HALF_VIEW / 48))
    assert np.abs(still - moved).max() > 10


def test_observations_are_the_last_pictures_one_per_interaction() -> None:
    env = pixels(size=24, colour="rgb")
    assert env.draw is not None
    assert (env.picture, env.frames, env.observation_size) == ((24, 24, 9), 3, 24 * 24 * 9)

    def stack(state: vector.VectorState) -> np.ndarray:
        return np.asarray(state.observation).reshape(24, 24, 3, 3)  # row, column, picture, colour

    state, drawn, step = vector.reset(env, KEY, 1), [], stepper(env, 2)
    assert state.observation.dtype == jnp.uint8
    for i in range(4):
        drawn.append(np.asarray(jax.vmap(env.draw)(state.env))[0])
        seen = [drawn[max(i - 2, 0)], drawn[max(i - 1, 0)], drawn[i]]
        np.testing.assert_array_equal(stack(state), np.stack(seen, axis=2))
        state, seen_now = step(state, jnp.ones((1, 1)))
        assert seen_now.elapsed[0] == 2 * (i + 1)
    assert (drawn[3] != drawn[2]).any()


def test_an_episode_that_ends_is_seen_to_its_end_and_begins_with_one_picture() -> None:
    env = pixels(size=16)
    state = vector.reset(env, KEY, 2)
    step = stepper(env, 1)
    state, _ = step(state, jnp.ones((2, 1)))
    state = state._replace(elapsed=jnp.array([999, 5]))
    after, seen = step(state, jnp.ones((2, 1)))
    np.testing.assert_array_equal(seen.truncated, [True, False])
    assert not seen.terminated.any()
    last, first = (
        np.asarray(x).reshape(2, 16, 16, 3) for x in (seen.next_observation, after.observation)
    )
    np.testing.assert_array_equal(
        last[0][..., :2], np.asarray(state.observation).reshape(2, 16, 16, 3)[0][..., 1:]
    )
    np.testing.assert_array_equal(first[0][..., 0], first[0][..., 2])
    np.testing.assert_array_equal(first[1], last[1])


def test_an_unknown_task_lists_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="cartpole_swingup"):
        envs.make("pixels", "walker_walk")
