"""Environments of which some components of the observation are not shown."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.envs.contract import Env, Step

VELOCITIES = {
    "gymnax/CartPole-v1": (1, 3),
    "gymnax/Pendulum-v1": (2,),
    "gymnax/MountainCarContinuous-v0": (1,),
    "gymnax/Acrobot-v1": (4, 5),
    "classic/cartpole": (1, 3),
    "classic/pendulum": (2,),
}
"""Places of an observation that are velocities: without them one does not say where things go."""


def hide(env: Env, components: Sequence[int]) -> Env:
    """The environment without these components of its observation.

    Args:
        env: the environment.
        components: places in [0, observation_size); some are left.
    """
    kept = np.setdiff1d(np.arange(env.observation_size), components)

    def reset(key: Array) -> tuple[Any, Array]:
        state, observation = env.reset(key)
        return state, observation[kept]

    def step(key: Array, state: Any, action: Array) -> tuple[Any, Step]:
        state, seen = env.step(key, state, action)
        return state, seen._replace(observation=seen.observation[jnp.asarray(kept)])

    def begin(level: Any) -> tuple[Any, Array]:
        assert env.levels is not None
        state, observation = env.levels.begin(level)
        return state, observation[kept]

    levels = None if env.levels is None else dataclasses.replace(env.levels, begin=begin)
    return dataclasses.replace(env, observation_size=len(kept), reset=reset, step=step, levels=levels)


def without(env: Env, hidden: str) -> Env:
    """The environment without what ``hidden`` names: ``nothing`` or ``velocities``.

    Raises:
        ValueError: nothing is known of the environment's velocities.
    """
    if hidden == "nothing":
        return env
    if env.name not in VELOCITIES:
        raise ValueError(f"env.hidden={hidden} is of {', '.join(VELOCITIES)}, and not of {env.name}")
    return hide(env, VELOCITIES[env.name])
