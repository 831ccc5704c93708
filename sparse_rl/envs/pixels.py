"""Tasks seen through a camera, simulated and drawn in pure jnp: agents of pixels train as one compiled
program, anywhere. No rendering library is needed."""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from sparse_rl.envs import cartpole
from sparse_rl.envs.cartpole import CartPole
from sparse_rl.envs.contract import Env, Step
from sparse_rl.envs.drawing import Canvas
from sparse_rl.settings.envs import Colour

HALF_VIEW = 4.0 * math.tan(math.radians(22.5))
"""Metres from the rail's centre to the picture's edge, as of DM Control's camera: 4 m away, 45° high. At
a stop an edge of the cart shows, and within 0.65 m of the centre a whole turn of the pole."""
POLE_RADIUS = 0.045
CART = (0.2, 0.1)
"""Half the sides of DM Control's cart, metres."""
PAINTS: dict[Colour, dict[str, tuple[float, ...]]] = {
    "grey": {"background": (0.1,), "rail": (0.3,), "cart": (0.55,), "pole": (1.0,)},
    "rgb": {
        "background": (0.1, 0.15, 0.25),
        "rail": (0.35, 0.35, 0.35),
        "cart": (0.2, 0.5, 0.8),
        "pole": (0.9, 0.75, 0.3),
    },
}

TASKS = ("cartpole_swingup",)


def draw_cartpole(state: CartPole, size: int, colour: Colour) -> Array:
    """The rail, the cart and the pole from the side: uint8 ``[size, size, channels]``."""
    paint, zero = PAINTS[colour], jnp.float32(0)
    canvas = Canvas(size, HALF_VIEW, paint["background"])
    canvas.box(zero, zero, (cartpole.STOP + CART[0], 0.02), paint["rail"])
    canvas.box(state.x, zero, CART, paint["cart"])
    reach = 2 * cartpole.CENTRE
    tip = state.x + reach * jnp.sin(state.angle), reach * jnp.cos(state.angle)
    canvas.rod((state.x, zero), tip, POLE_RADIUS, paint["pole"])
    return canvas.picture()


def make(task: str, *, size: int = 48, colour: Colour = "grey", frames: int = 3) -> Env:
    """Build a task seen through a camera.

    Args:
        task: of :data:`TASKS`.
        size: pixels of a side.
        colour: one channel or three.
        frames: pictures in an observation, the newest last.

    Raises:
        ValueError: ``task`` is unknown.
    """
    if task not in TASKS:
        raise ValueError(f"pixels task {task!r} is unknown; choose one of {', '.join(TASKS)}")
    unseen = jnp.zeros(0)  # what is seen is drawn

    def reset(key: Array) -> tuple[CartPole, Array]:
        return cartpole.reset(key), unseen

    def step(key: Array, state: CartPole, action: Array) -> tuple[CartPole, Step]:
        del key  # deterministic between resets
        control = jnp.clip(action[0], -1.0, 1.0)
        state = cartpole.step(state, control)
        return state, Step(unseen, cartpole.reward(state, control), jnp.bool_(False))

    def draw(state: Any) -> Array:
        return draw_cartpole(state, size, colour)

    channels = len(PAINTS[colour]["pole"]) * frames
    return Env(
        name=f"pixels/{task}",
        observation_size=size * size * channels,
        action_size=1,
        episode_length=cartpole.EPISODE_LENGTH,
        picture=(size, size, channels),
        frames=frames,
        reset=reset,
        step=step,
        draw=draw,
        physics=lambda state: jnp.stack(state),
    )
