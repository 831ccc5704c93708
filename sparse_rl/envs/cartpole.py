"""Cart-pole swing-up: DM Control's task (Tassa et al. 2018, arXiv 1801.00690) in a page of jnp.

Constants, integration, the soft stops of the rail, first states and rewards are those of
``dm_control``'s ``cartpole-swingup`` on MuJoCo 3; it compiles in a second and needs no extra.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

CART_MASS, POLE_MASS = 1.0, 0.1
CENTRE = 0.5
"""Metres from the hinge to the pole's centre of mass; the pole is twice as long."""
POLE_INERTIA = 0.00942459
"""kg m² about the centre of mass: a capsule of radius 0.045 m."""
GRAVITY, GEAR, STEP = 9.81, 10.0, 0.01
SLIDE_DAMPING, HINGE_DAMPING = 5e-4, 2e-6
EPISODE_LENGTH = 1000
STOP = 1.8
"""Metres from the rail's centre to the soft stops."""
STOP_TIME, STOP_LEAST, STOP_MOST, STOP_DEPTH = 0.08, 0.9, 0.95, 1e-3
"""MuJoCo's ``solref`` and ``solimp``: time constant, impedances, and the depth between these."""
SLIDE_INVERSE_WEIGHT = 0.97335205
"""MuJoCo's ``dof_invweight0`` of the slider."""


class CartPole(NamedTuple):
    """float32 scalars: metres and radians (0: upright, growing to the right), and their rates."""

    x: Array
    angle: Array
    speed: Array
    spin: Array


def reset(key: Array) -> CartPole:
    """Hanging at the centre, each number with noise of deviation 0.01."""
    return CartPole(*(jnp.array([0.0, jnp.pi, 0.0, 0.0]) + 0.01 * jax.random.normal(key, (4,))))


def _stop_force(state: CartPole, pull: Array, mobility: Array) -> Array:
    """Newtons with which the stops push the cart, one constraint of MuJoCo's soft contact model in
    closed form.

    Args:
        state: now.
        pull: m/s², the cart's acceleration without stops.
        mobility: 1/kg, what a newton on the cart adds to it.
    """
    side = jnp.where(state.x < 0.0, 1.0, -1.0)  # away from the nearer stop
    depth = STOP - jnp.abs(state.x)
    into = jnp.clip(jnp.abs(depth) / STOP_DEPTH, 0.0, 1.0)
    bend = jnp.where(into < 0.5, 2.0 * into**2, 1.0 - 2.0 * (1.0 - into) ** 2)
    impedance = STOP_LEAST + bend * (STOP_MOST - STOP_LEAST)
    stiffness, damping = 1.0 / (STOP_MOST * STOP_TIME) ** 2, 2.0 / (STOP_MOST * STOP_TIME)
    wanted = -damping * side * state.speed - stiffness * impedance * depth
    softness = (1.0 - impedance) / impedance * SLIDE_INVERSE_WEIGHT
    push = jnp.maximum((wanted - side * pull) / (mobility + softness), 0.0)
    return jnp.where(depth < 0.0, side * push, 0.0)


def _rates(state: CartPole, control: Array) -> CartPole:
    """The time derivative under a control in [−1, 1]."""
    sine, cosine = jnp.sin(state.angle), jnp.cos(state.angle)
    arm = POLE_MASS * CENTRE
    total, coupling, turning = CART_MASS + POLE_MASS, arm * cosine, POLE_INERTIA + arm * CENTRE
    push = GEAR * control - SLIDE_DAMPING * state.speed + arm * sine * state.spin**2
    torque = arm * GRAVITY * sine - HINGE_DAMPING * state.spin
    determinant = total * turning - coupling**2
    pull = (turning * push - coupling * torque) / determinant
    push = push + _stop_force(state, pull, turning / determinant)
    return CartPole(
        state.speed,
        state.spin,
        (turning * push - coupling * torque) / determinant,
        (total * torque - coupling * push) / determinant,
    )


def _plus(state: CartPole, seconds: float, rates: CartPole) -> CartPole:
    return jax.tree.map(lambda value, rate: value + seconds * rate, state, rates)


def step(state: CartPole, control: Array) -> CartPole:
    """One frame of 0.01 s (Runge and Kutta, fourth order) under a control in [−1, 1]."""
    first = _rates(state, control)
    second = _rates(_plus(state, STEP / 2, first), control)
    third = _rates(_plus(state, STEP / 2, second), control)
    fourth = _rates(_plus(state, STEP, third), control)
    mean = jax.tree.map(lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, first, second, third, fourth)
    return _plus(state, STEP, mean)


def _near_zero(value: Array, margin: float) -> Array:
    """1 at zero, 0.1 at the margin: a Gaussian."""
    return jnp.exp(jnp.log(0.1) * jnp.square(value / margin))


def reward(state: CartPole, control: Array) -> Array:
    """In [0, 1]: upright, in the middle, with little control and little spin; ``state`` follows it."""
    upright = (1.0 + jnp.cos(state.angle)) / 2
    centred = (1.0 + _near_zero(state.x, 2.0)) / 2
    little_control = (4.0 + jnp.maximum(1.0 - control**2, 0.0)) / 5
    little_spin = (1.0 + _near_zero(state.spin, 5.0)) / 2
    return upright * centred * little_control * little_spin
