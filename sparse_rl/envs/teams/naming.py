"""Agents who are told which of the team they are."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import TeamEnv, TeamStep


def with_names(seen: Array) -> Array:
    """What each agent of a team sees, ``[…, A, o]``, and after it a one-hot of its number."""
    agents = seen.shape[-2]
    names = jnp.broadcast_to(jnp.eye(agents), (*seen.shape[:-1], agents))
    return jnp.concatenate([seen, names], axis=-1)


def named(env: TeamEnv) -> TeamEnv:
    """The environment whose agents see, after all else, who they are: agents with the same weights can
    then do different things. A central critic sees whose value it is asked for."""

    def reset(key: Array) -> tuple[Any, Array]:
        state, observation = env.reset(key)
        return state, with_names(observation)

    def step(key: Array, state: Any, action: Array) -> tuple[Any, TeamStep]:
        state, now = env.step(key, state, action)
        return state, now._replace(observation=with_names(now.observation))

    inner = env.state

    def state_of(state: Any, observation: Array) -> Array:
        assert inner is not None
        return with_names(inner(state, observation[:, : env.observation_size]))

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
