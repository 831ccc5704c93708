"""Environments in pure jax: first states, rewards and pictures worked by hand."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparse_rl import envs
from sparse_rl.envs import Env, cartpole, probe
from sparse_rl.envs.cartpole import CartPole
from sparse_rl.envs.drawing import Canvas
from sparse_rl.envs.lqr import cost_matrix
from sparse_rl.envs.pixels import HALF_VIEW, draw_cartpole
from sparse_rl.simulators import plants

KEY = jax.random.key(12)


def test_a_mass_is_pushed_by_five_newtons_and_pays_for_what_it_does() -> None:
    """x = (0.2, −0.4), 0.3 of the force: −0.1 s · (0.04 + 0.16 + 1.5²) = −0.245. Spring and damper pull
    with 2 each: after 0.1 s of 1.5 N the speed has changed by about 0.1 · (1.5 − 0.4 + 0.8)."""
    env = envs.make("lqr", "chain_discrete", masses=1)
    assert isinstance(env, Env)
    assert env.episode_length == 100
    x, seen = env.step(KEY, jnp.array([0.2, -0.4]), jnp.array([0.3]))
    assert float(seen.reward) == pytest.approx(-0.245, rel=1e-6)
    t = np.linspace(0.0, 0.1, 20_001)
    at = np.array([0.2, -0.4])
    for h in np.diff(t):
        at = at + h * np.array([at[1], -2 * at[0] - 2 * at[1] + 1.5])
    np.testing.assert_allclose(x, at, atol=1e-5)
    assert not seen.terminated


def test_chains_begin_anywhere() -> None:
    """x0 ~ N(0, I)."""
    env = envs.make("lqr", "chain", masses=3)
    assert isinstance(env, Env)
    starts = np.asarray(jax.jit(jax.vmap(lambda key: env.reset(key)[1]))(jax.random.split(KEY, 2000)))
    assert starts.shape == (2000, 6)
    np.testing.assert_allclose(starts.mean(0), 0.0, atol=4 / np.sqrt(2000))
    np.testing.assert_allclose(np.cov(starts.T), np.eye(6), atol=4 * np.sqrt(2 / 2000))


def test_the_slope_of_any_part_of_the_cost_is_that_of_differences() -> None:
    """Of P's entries one by one, so that no symmetry hides a mistake; both kinds of time, in float64."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        weight = jnp.asarray(rng.normal(size=(4, 4)))
        for task in plants.PLANTS:
            plant = plants.PLANTS[task](2)

            def part(gain: Any, plant: Any = plant) -> Any:
                return jnp.sum(weight * cost_matrix(plant, gain)[0])

            gain = jnp.asarray(0.3 * rng.normal(size=(2, 4)))
            slope, way = jax.grad(part)(gain), jnp.asarray(rng.normal(size=(2, 4)))
            ahead, back = part(gain + 1e-5 * way), part(gain - 1e-5 * way)
            assert float(jnp.sum(slope * way)) == pytest.approx(float(ahead - back) / 2e-5, rel=1e-5)


def test_a_cart_begins_at_the_centre_with_its_pole_hanging() -> None:
    """Each of four numbers with a deviation of 0.01."""
    n = 3000
    states = jax.jit(jax.vmap(cartpole.reset))(jax.random.split(KEY, n))
    for values, centre in zip(states, (0.0, math.pi, 0.0, 0.0), strict=True):
        assert abs(np.mean(values) - centre) < 4 * 0.01 / np.sqrt(n)
        assert np.std(values) == pytest.approx(0.01, rel=4 / np.sqrt(2 * n))
    assert abs(np.corrcoef(states.x, states.spin)[0, 1]) < 4 / np.sqrt(n)


def test_the_reward_is_of_the_state_that_the_action_leads_to() -> None:
    """A pole near upright with much spin; pixels give what the physics say after the frame."""
    env = envs.make("pixels", "cartpole_swingup", size=16)
    assert isinstance(env, Env)
    state = CartPole(*map(jnp.float32, (0.3, 0.4, -0.5, 6.0)))
    after, seen = jax.jit(env.step)(KEY, state, jnp.array([0.7]))
    upright, centred = (1 + math.cos(after.angle)) / 2, (1 + 0.1 ** ((float(after.x) / 2) ** 2)) / 2
    spin = (1 + 0.1 ** ((float(after.spin) / 5) ** 2)) / 2
    expected = upright * centred * spin * (4 + 1 - 0.7**2) / 5
    assert float(seen.reward) == pytest.approx(expected, rel=1e-5)
    assert abs(float(cartpole.reward(state, jnp.float32(0.7))) - expected) > 1e-3
    _, most = jax.jit(env.step)(KEY, state, jnp.array([3.0]))
    _, full = jax.jit(env.step)(KEY, state, jnp.array([1.0]))
    assert float(most.reward) == float(full.reward)  # beyond the range is its end


def test_a_box_covers_its_pixels_by_their_share() -> None:
    """Four pixels of 0.5 m: a box from x = −0.5 to 0.6 and y = 0 to 0.5 fills two of them, and a fifth
    of the next."""
    canvas = Canvas(4, 1.0, (0.58,))
    np.testing.assert_array_equal(canvas.picture(), np.full((4, 4, 1), 148))  # 147.9
    x, y = jnp.float32(0.05), jnp.float32(0.25)
    canvas.box(x, y, (0.55, 0.25), (1.0,))
    shown = np.asarray(canvas.picture())[..., 0].astype(float)
    shares = (shown - 147.9) / (255.0 - 147.9)
    # the row above the middle: centres at −0.75, −0.25, 0.25, 0.75, and 0.25 m from the edge above
    np.testing.assert_allclose(shares[1], [0.0, 1.0, 1.0, 0.2], atol=0.01)
    np.testing.assert_allclose(shares[[0, 2, 3]], 0.0, atol=0.01)


def test_a_rod_is_as_long_as_it_is_and_up_is_up() -> None:
    """An upright pole reaches 1 m above the cart, and a leaning one leans right."""
    size = 84
    picture = np.asarray(draw_cartpole(CartPole(*map(jnp.float32, (0.0, 0.0, 0.0, 0.0))), size, "grey"))
    pixel = 2 * HALF_VIEW / size
    row = [int((HALF_VIEW - up) / pixel) for up in (0.5, 0.93, 1.12, -0.5)]
    bright = picture[row, size // 2, 0]
    np.testing.assert_array_equal(bright > 200, [True, True, False, False])
    leans = np.asarray(draw_cartpole(CartPole(*map(jnp.float32, (0.0, 1.0, 0.0, 0.0))), size, "grey"))
    rows, columns = np.nonzero(leans[..., 0] > 200)
    assert columns.mean() > size / 2 > rows.mean()


@pytest.mark.parametrize(
    ("task", "observation", "time", "action", "reward", "ended"),
    [
        ("constant", 0.0, 0, 0.3, 1.0, True),
        ("observation", -1.0, 0, 0.3, -1.0, True),
        ("discount", 0.0, 0, 0.3, 0.0, False),
        ("discount", 1.0, 1, 0.3, 1.0, True),
        ("action", 0.0, 0, 0.3, -0.04, True),
        ("policy", -1.0, 0, 0.3, -0.64, True),
        ("truncation", 0.0, 4, 0.3, 1.0, False),
        ("choice", 0.0, 0, 2, 1.0, True),
        ("choice", 0.0, 0, 1, 0.0, True),
        ("discrete_policy", -1.0, 0, 0, 1.0, True),
        ("discrete_policy", -1.0, 0, 1, 0.0, True),
        ("legal", 0.0, 0, 1, 1.0, True),
        ("picture", 0.0, 0, 0.3, 0.0, False),
        ("picture", 0.0, 1, 0.3, -0.64, True),
    ],
)
def test_probes_reward_what_they_say(
    task: str, observation: float, time: int, action: float, reward: float, ended: bool
) -> None:
    """With the sign −1: half of it is 0.8 away from 0.3."""
    env = probe.make(task)
    state = probe.ProbeState(jnp.int32(time), jnp.float32(-1.0))
    given = jnp.int32(action) if env.discrete else jnp.array([action])
    _, seen = env.step(KEY, state, given)
    assert float(seen.reward) == pytest.approx(reward, abs=1e-6)
    assert bool(seen.terminated) == ended


def test_both_signs_are_shown_as_often() -> None:
    env, n = probe.make("observation"), 2000
    signs = np.asarray(jax.vmap(lambda key: env.reset(key)[1])(jax.random.split(KEY, n)))
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(signs.mean()) < 4 / np.sqrt(n)


def test_the_probe_of_pictures_shows_the_side_of_the_sign_at_first_only() -> None:
    env = probe.make("picture")
    assert env.draw is not None
    for sign, side in ((1.0, slice(8, 16)), (-1.0, slice(0, 8))):
        picture = np.asarray(env.draw(probe.ProbeState(jnp.int32(0), jnp.float32(sign))))
        expected = np.zeros((16, 16, 1))
        expected[:, side] = 255
        np.testing.assert_array_equal(picture, expected)
        assert not np.asarray(env.draw(probe.ProbeState(jnp.int32(1), jnp.float32(sign)))).any()
