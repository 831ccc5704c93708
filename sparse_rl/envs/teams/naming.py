"""Agents who are told which of the team they are."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import TeamEnv, TeamStep


def named(env: TeamEnv) -> TeamEnv:
    """The environment whose agents see, after all else, a one-hot of their number: agents with the same
    weights can then do different things. A central critic sees whose value it is asked for."""
    names = jnp.eye(env.agents)

    def seen(observation: Array) -> Array:
        return jnp.concatenate([observation, names], axis=1)

    def reset(key: Array) -> tuple[Any, Array]:
        state, observation = env.reset(key)
        return state, seen(observation)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, TeamStep]:
        state, now = env.step(key, state, action)
        return state, now._replace(observation=seen(now.observation))

    inner = env.state

    def state_of(state: Any, observation: Array) -> Array:
        assert inner is not None
        return inner(state, observation[:, : env.observation_size])

    size = env.critic_size
    return dataclasses.replace(
        env,
        observation_size=env.observation_size + env.agents,
        critic_size=None if size is None else size + env.agents,
        names=env.agents,
        reset=reset,
        step=step,
        state=None if inner is None else state_of,
    )
