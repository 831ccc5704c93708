"""A setting in which numbers that are easily mixed up differ: three observations, two actions, episodes
of unequal lengths that end in both ways, scales far from 1, an action repeat that does not divide the
time limit. For tests that work out by hand what becomes of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.envs import Env, HostActors, HostEnv, HostStep
from sparse_rl.envs.contract import Step
from sparse_rl.settings.envs import EnvConfig

LIMIT = 9
"""Frames before time runs out."""
SHORTEST, LONGEST = 4, 14
"""Frames after which the task ends by itself, if time did not run out before."""
PICTURE = (18, 22, 2)


class UnevenState(NamedTuple):
    time: Array
    """int32: frames since the reset."""
    life: Array
    """int32: frames after which the task ends."""


def shows(time: Any, life: Any) -> tuple[Any, Any, Any]:
    """The three observations."""
    return 30.0 + 7.0 * time, 0.03 * life - 0.2, -400.0 * time


def pays(time: Any, action: Any) -> Any:
    """The reward of a frame that begins at this time."""
    return 3.0 * time - 2.0 * action[0] + 5.0 * action[1] - 11.0


def uneven(limit: int = LIMIT, draw: Callable[[UnevenState], Array] | None = None) -> Env:
    """The environment; drawn, it is seen as pictures."""

    def observe(state: UnevenState) -> Array:
        return jnp.stack([jnp.float32(x) for x in shows(state.time, state.life)])

    def reset(key: Array) -> tuple[UnevenState, Array]:
        state = UnevenState(jnp.int32(0), jax.random.randint(key, (), SHORTEST, LONGEST + 1))
        return state, observe(state)

    def step(key: Array, state: UnevenState, action: Array) -> tuple[UnevenState, Step]:
        del key
        after = state._replace(time=state.time + 1)
        reward = jnp.float32(pays(state.time, action))
        return after, Step(observe(after), reward, after.time >= state.life)

    height, width, frames = PICTURE
    return Env(
        name="probe/uneven",
        observation_size=height * width * frames if draw else 3,
        action_size=2,
        episode_length=limit,
        reset=reset,
        step=step,
        picture=PICTURE if draw else None,
        frames=frames if draw else 1,
        draw=draw,
    )


def drawn(state: UnevenState) -> Array:
    """uint8 ``[height, width, 1]``: no two times and no two lives look the same."""
    rows, columns = jnp.arange(PICTURE[0])[:, None], jnp.arange(PICTURE[1])[None]
    shade = 17 * state.time + 5 * rows + 3 * columns + state.life
    return (shade % 256).astype(jnp.uint8)[..., None]


class UnevenActors:
    """The same on the host; a life follows from an environment's seed and its episodes since."""

    def __init__(self, num_envs: int, action_repeat: int) -> None:
        self._repeat = action_repeat
        self._rngs = [np.random.default_rng(0)] * num_envs
        self._time, self._life = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)
        self._given = np.zeros((num_envs, 2), np.float32)

    def _begin(self, i: int) -> None:
        self._time[i], self._life[i] = 0, self._rngs[i].integers(SHORTEST, LONGEST + 1)

    def _seen(self) -> np.ndarray:
        return np.stack(shows(self._time, self._life), axis=1).astype(np.float32)

    def seed(self, seeds: np.ndarray, where: np.ndarray) -> np.ndarray:
        for i in np.flatnonzero(where).tolist():
            self._rngs[i] = np.random.default_rng(int(seeds[i]))
            self._begin(i)
        return self._seen()

    def send(self, action: np.ndarray) -> None:
        self._given = np.array(action)

    def receive(self) -> HostStep:
        reward = np.zeros(len(self._time), np.float32)
        for i, action in enumerate(self._given):
            time, life = int(self._time[i]), int(self._life[i])
            frames = min(self._repeat, LIMIT - time, life - time)
            reward[i] = sum(pays(time + k, action) for k in range(frames))
            self._time[i] += frames
        final, terminated = self._seen(), self._time >= self._life
        truncated = (self._time >= LIMIT) & ~terminated
        for i in np.flatnonzero(terminated | truncated).tolist():
            self._begin(i)
        return HostStep(self._seen(), reward, terminated, truncated, final)


def uneven_on_host() -> HostEnv:
    """The environment on the host, its sessions short."""

    def opens(settings: EnvConfig, num_envs: int, threads: int) -> HostActors:
        return UnevenActors(num_envs, settings.action_repeat)

    return HostEnv(
        name="probe/uneven",
        observation_size=3,
        action_size=2,
        episode_length=LIMIT,
        open=opens,
        seed_every=20,
    )
