"""Probe environments: so small that what an agent must learn is known exactly.

The idea is Andy Jones' ("Debugging RL, Without the Agonizing Pain", 2021). Each isolates one part of
an agent: a wrong value loss, discount, observation, action or policy gradient fails one of them.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import Env, Step
from sparse_rl.envs.levers import levers
from sparse_rl.envs.recall import RECALL


class ProbeState(NamedTuple):
    """Frames since the reset (int32) and the sign shown to the agent (float32, −1 or 1)."""

    time: Array
    sign: Array


def _probe(
    task: str,
    length: int,
    shows: Callable[[ProbeState], Array],
    reward: Callable[[ProbeState, Array], Array],
    *,
    terminates: bool = True,
    choices: int | None = None,
    legal: Callable[[ProbeState], Array] | None = None,
) -> Env:
    def reset(key: Array) -> tuple[ProbeState, Array]:
        sign = jnp.where(jax.random.bernoulli(key), 1.0, -1.0)
        state = ProbeState(jnp.int32(0), sign)
        return state, shows(state)[None]

    def step(key: Array, state: ProbeState, action: Array) -> tuple[ProbeState, Step]:
        del key
        value = jnp.asarray(reward(state, jnp.ravel(action)[0]), jnp.float32)
        state = state._replace(time=state.time + 1)
        ended = (state.time >= length) & terminates
        return state, Step(shows(state)[None], value, ended)

    return Env(
        name=f"probe/{task}",
        observation_size=1,
        action_size=choices or 1,
        episode_length=length,
        reset=reset,
        step=step,
        discrete=choices is not None,
        legal_actions=legal,
    )


def _nothing(state: ProbeState) -> Array:
    return jnp.zeros_like(state.sign)


def _sign(state: ProbeState) -> Array:
    return state.sign


def _time(state: ProbeState) -> Array:
    return jnp.asarray(state.time, jnp.float32)


def _picture() -> Env:
    """Two steps: the first picture is bright on the side of the sign, the second one is dark. Both are
    seen when the reward is given, −(a − sign/2)² at the second: the best action is half the sign."""
    side, frames = 16, 2
    right = jnp.arange(side) >= side // 2

    def draw(state: ProbeState) -> Array:
        bright = (right == (state.sign > 0)) & (state.time == 0)
        return jnp.broadcast_to(jnp.where(bright, 255, 0), (side, side))[..., None].astype(jnp.uint8)

    def reward(state: ProbeState, action: Array) -> Array:
        return jnp.where(state.time == 1, -((action - 0.5 * state.sign) ** 2), 0.0)

    shape = (side, side, frames)
    base = _probe("picture", 2, _nothing, reward)
    return dataclasses.replace(
        base, observation_size=side * side * frames, picture=shape, frames=frames, draw=draw
    )


PROBES: dict[str, Callable[[], Env]] = {
    # one step, reward 1: the value is 1
    "constant": lambda: _probe("constant", 1, _nothing, lambda s, a: jnp.float32(1.0)),
    # one step, reward = sign: the value is the observation
    "observation": lambda: _probe("observation", 1, _sign, lambda s, a: s.sign),
    # two steps, reward 1 at the second: the first value is the discount
    "discount": lambda: _probe("discount", 2, _time, lambda s, a: (s.time == 1) * 1.0),
    # one step, reward −(a − 0.5)²: the best action is 0.5
    "action": lambda: _probe("action", 1, _nothing, lambda s, a: -((a - 0.5) ** 2)),
    # one step, reward −(a − sign/2)²: the best action is half the observation
    "policy": lambda: _probe("policy", 1, _sign, lambda s, a: -((a - 0.5 * s.sign) ** 2)),
    # never terminates, truncated after five steps, reward 1: the value is 1/(1 − γ), not 5
    "truncation": lambda: _probe(
        "truncation", 5, _nothing, lambda s, a: jnp.float32(1.0), terminates=False
    ),
    # two steps, seen as pictures: the best second action is half the sign that the first one showed
    "picture": _picture,
    # a team of two, one step, ten choices: the same one of nine pays 1, the last 0.9
    "levers": levers,
    # one step, three choices, reward 1 for the last: the best action is 2
    "choice": lambda: _probe("choice", 1, _nothing, lambda s, a: (a == 2) * 1.0, choices=3),
    # one step, two choices, reward 1 for the one shown: the best action is the observation's sign
    "discrete_policy": lambda: _probe(
        "discrete_policy", 1, _sign, lambda s, a: (a == (s.sign > 0)) * 1.0, choices=2
    ),
    # one step, three choices, reward 0, 1 and 2, the last of them not allowed: the best action is 1
    "legal": lambda: _probe(
        "legal",
        1,
        _nothing,
        lambda s, a: jnp.asarray(a, jnp.float32),
        choices=3,
        legal=lambda s: jnp.array([True, True, False]),
    ),
}


def _with_choices(task: str) -> Env:
    return dataclasses.replace(
        PROBES[task](), name=f"probe/discrete_{task}", discrete=True, action_size=2
    )


# The same where actions are choices: for those probes in which an action changes nothing.
PROBES |= {
    f"discrete_{task}": functools.partial(_with_choices, task)
    for task in ("constant", "observation", "discount", "truncation")
}


DELAY = 8
"""Steps over which those that need memory ask for it, if nothing else is said."""


def make(task: str, delay: int | None = None) -> Env:
    """Build the probe ``task``.

    Raises:
        ValueError: ``task`` is not one of :data:`PROBES` and :data:`~sparse_rl.envs.recall.RECALL`, or
            it has no ``delay``.
    """
    if task in RECALL:
        return RECALL[task](DELAY if delay is None else delay)
    if task not in PROBES:
        known = ", ".join((*PROBES, *RECALL))
        raise ValueError(f"probe {task!r} is unknown; choose one of {known}")
    if delay is not None:
        raise ValueError(f"env.delay={delay} is of {', '.join(RECALL)}, and not of {task}")
    return PROBES[task]()
