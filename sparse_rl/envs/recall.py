"""Environments that need memory: what is to be answered was shown k steps ago, and is shown no more.

``echo`` asks at every step for the symbol of k steps ago; ``cue`` shows one at the start and asks for it
at the end (a T-maze without the walk: Bakker 2001, *Reinforcement learning with LSTM*). A policy without
memory can do no better than chance, one in :data:`SYMBOLS`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import Env, Step

SYMBOLS = 4
ANSWERS = 16
"""Questions of an episode of ``echo``; its return is the share of right answers."""


class Shown(NamedTuple):
    """Frames since the reset, and the symbols of the whole episode."""

    time: Array
    """int32 scalar."""
    symbols: Array
    """int32 ``[length]``."""


def _symbols(key: Array, length: int) -> Shown:
    return Shown(jnp.int32(0), jax.random.randint(key, (length,), 0, SYMBOLS))


def echo(delay: int) -> Env:
    """A new symbol at every step, one-hot; the answer at step t ≥ k is that of step t − k.

    Args:
        delay: k. An episode has k + :data:`ANSWERS` steps.
    """
    length = delay + ANSWERS

    def see(state: Shown) -> Array:
        return jax.nn.one_hot(state.symbols[jnp.minimum(state.time, length - 1)], SYMBOLS)

    def reset(key: Array) -> tuple[Shown, Array]:
        state = _symbols(key, length)
        return state, see(state)

    def step(key: Array, state: Shown, action: Array) -> tuple[Shown, Step]:
        del key
        asked = state.time >= delay
        right = action == state.symbols[jnp.maximum(state.time - delay, 0)]
        reward = jnp.where(asked & right, 1.0 / ANSWERS, 0.0)
        state = state._replace(time=state.time + 1)
        return state, Step(see(state), reward, state.time >= length)

    return Env(
        name="probe/echo",
        observation_size=SYMBOLS,
        action_size=SYMBOLS,
        episode_length=length,
        reset=reset,
        step=step,
        discrete=True,
    )


def cue(delay: int) -> Env:
    """A symbol at the first step, one-hot, then nothing; k steps later a flag asks for it.

    Args:
        delay: k. An episode has k + 1 steps; its return is 1 if the answer was right.
    """

    def see(state: Shown) -> Array:
        shown = jnp.where(state.time == 0, jax.nn.one_hot(state.symbols[0], SYMBOLS), 0.0)
        return jnp.append(shown, jnp.where(state.time == delay, 1.0, 0.0))

    def reset(key: Array) -> tuple[Shown, Array]:
        state = _symbols(key, 1)
        return state, see(state)

    def step(key: Array, state: Shown, action: Array) -> tuple[Shown, Step]:
        del key
        asked = state.time == delay
        reward = jnp.where(asked & (action == state.symbols[0]), 1.0, 0.0)
        state = state._replace(time=state.time + 1)
        return state, Step(see(state), reward, asked)

    return Env(
        name="probe/cue",
        observation_size=SYMBOLS + 1,
        action_size=SYMBOLS,
        episode_length=delay + 1,
        reset=reset,
        step=step,
        discrete=True,
    )


RECALL = {"echo": echo, "cue": cue}
