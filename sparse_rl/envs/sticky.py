"""Sticky actions: now and then an environment does again what it did before, whatever it is told.

Many environments have no randomness of their own, and an agent that acts greedily then plays one episode
over and over. MinAtar repeats with probability 0.1 (Young and Tian 2019, arXiv 1903.03176, §2), Atari
with 0.25 (Machado et al. 2018, arXiv 1709.06009, §5.1).
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import Env, Step

STREAM = 0x73746963
"""Child of a frame's key: draws of an environment's own are not touched, and never come so far."""


class Sticky(NamedTuple):
    """An environment that repeats actions."""

    env: Any
    """The state of what is inside."""
    action: Array
    """What it did in the frame before; after a reset 0: nothing in MinAtar, the middle of a range."""


def sticky(env: Env, probability: float) -> Env:
    """The environment in which each frame repeats, with this probability, what the frame before did.

    An action that is not allowed any more is not repeated.

    Args:
        env: the environment.
        probability: in [0, 1); 0 gives ``env`` itself, so that nothing is drawn and no state grows.
    """
    if not probability:
        return env
    nothing = jnp.int32(0) if env.discrete else jnp.zeros(env.action_size)
    legal_actions = env.legal_actions

    def reset(key: Array) -> tuple[Sticky, Array]:
        state, observation = env.reset(key)
        return Sticky(state, nothing), observation

    def step(key: Array, state: Sticky, action: Array) -> tuple[Sticky, Step]:
        repeats = jax.random.bernoulli(jax.random.fold_in(key, STREAM), probability)
        if legal_actions is not None:
            repeats &= legal_actions(state.env)[state.action]
        done = jnp.where(repeats, state.action, jnp.asarray(action, nothing.dtype))
        after, seen = env.step(key, state.env, done)
        return Sticky(after, done), seen

    def begin(level: Any) -> tuple[Sticky, Array]:
        assert env.levels is not None
        state, observation = env.levels.begin(level)
        return Sticky(state, nothing), observation

    def inside(function: Callable[[Any], Array] | None) -> Callable[[Any], Array] | None:
        """The same of what is inside."""
        return None if function is None else lambda state: function(state.env)

    return dataclasses.replace(
        env,
        reset=reset,
        step=step,
        draw=inside(env.draw),
        physics=inside(env.physics),
        legal_actions=inside(legal_actions),
        levels=None if env.levels is None else dataclasses.replace(env.levels, begin=begin),
    )
