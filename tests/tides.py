"""A probe environment that is not one-dimensional, and the same in plain Python.

Three observations, two actions (or three choices), rewards far from 1, episodes of two to five frames
that end by themselves or because time is up. What an environment will do can be told from what it shows.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from sparse_rl.envs import Env, Step, probe

LIMIT = 5
"""Frames of the longest episode; those that would end by themselves later are truncated."""
CHOICES = (-11.0, 3.0, 8.0)
"""What each choice brings."""


class Tide(NamedTuple):
    """A level, the frame after which the episode ends by itself, and frames so far."""

    level: Array
    lasts: Array
    time: Array


def _show(state: Tide) -> Array:
    return jnp.stack([state.level, 0.7 * state.time, -0.25 * state.lasts]).astype(jnp.float32)


def _legal(state: Tide) -> Array:
    """The middle choice in the first two frames only."""
    return jnp.array([True, False, True]) | (state.time < 2)


def tides(discrete: bool = False, legal: bool = False) -> Env:
    """The environment; ``legal``: not every choice is allowed all the time."""

    def reset(key: Array) -> tuple[Tide, Array]:
        level, lasts = jax.random.split(key)
        state = Tide(
            jax.random.uniform(level, minval=2.0, maxval=4.0),
            jax.random.randint(lasts, (), 2, 8),
            jnp.int32(0),
        )
        return state, _show(state)

    def step(key: Array, state: Tide, action: Array) -> tuple[Tide, Step]:
        del key
        gain = jnp.array(CHOICES)[action] if discrete else -11.0 * action[0] + 7.0 * action[1]
        push = action - 1.0 if discrete else action[0]
        reward = 30.0 * state.level + 4.0 * state.time + gain
        state = Tide(1.25 * state.level + 0.3 * push, state.lasts, state.time + 1)
        return state, Step(_show(state), reward.astype(jnp.float32), state.time >= state.lasts)

    return Env(
        name="probe/tides",
        observation_size=3,
        action_size=3 if discrete else 2,
        episode_length=LIMIT,
        reset=reset,
        step=step,
        discrete=discrete,
        legal_actions=_legal if legal else None,
    )


class Brought(NamedTuple):
    """What an interaction brought, by plain arithmetic."""

    observation: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    total: float
    """Of the episode so far."""
    elapsed: int


@dataclass
class Twin:
    """One of the environments in plain Python, from what it shows at its start."""

    level: float
    lasts: int
    time: int = 0
    total: float = 0.0

    @classmethod
    def seen(cls, observation: Any) -> "Twin":
        level, time, lasts = (float(x) for x in observation)
        assert time == 0.0
        return cls(level, round(lasts / -0.25))

    def interact(self, action: Any, repeat: int) -> Brought:
        """``repeat`` frames, or as many as the episode has left."""
        reward, began = 0.0, self.time
        while self.time < min(began + repeat, LIMIT, self.lasts):
            if np.ndim(action):
                gain, push = -11.0 * action[0] + 7.0 * action[1], action[0]
            else:
                gain, push = CHOICES[int(action)], int(action) - 1
            reward += 30.0 * self.level + 4.0 * self.time + gain
            self.level, self.time = 1.25 * self.level + 0.3 * push, self.time + 1
        self.total += reward
        terminated = self.time >= self.lasts
        return Brought(
            np.array([self.level, 0.7 * self.time, -0.25 * self.lasts]),
            reward,
            terminated,
            self.time >= LIMIT and not terminated,
            self.total,
            min(began + repeat, LIMIT),
        )


def played(observations: Any, actions: Any, repeat: int) -> list[list[Brought]]:
    """What N environments bring in T interactions: ``[T][N]``.

    Args:
        observations: ``[T, N, 3]``, what each showed before each interaction: of these only the first
            of an episode is looked at.
        actions: ``[T, N]`` or ``[T, N, 2]``, what each was given.
        repeat: frames of an interaction.
    """
    twins = [Twin.seen(first) for first in observations[0]]
    found = []
    for t, (seen, given) in enumerate(zip(observations, actions, strict=True)):
        if t:
            ended = [brought.terminated or brought.truncated for brought in found[-1]]
            twins = [Twin.seen(o) if e else w for o, e, w in zip(seen, ended, twins, strict=True)]
        found.append([twin.interact(a, repeat) for twin, a in zip(twins, given, strict=True)])
    return found


def field(found: list[list[Brought]], name: str) -> np.ndarray:
    """One field of what was brought, ``[T, N, …]``."""
    return np.array([[getattr(brought, name) for brought in moment] for moment in found])


def install(monkeypatch: pytest.MonkeyPatch, env: Env) -> None:
    """Have ``env.source=probe env.task=tides`` be this environment."""
    monkeypatch.setitem(probe.PROBES, "tides", lambda: env)
