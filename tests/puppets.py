"""An on-policy agent that learns nothing: what it does and values can be told from what it sees."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.agents.contract import Experience, Learned, Memories, OnPolicyAgent, View


class Told(NamedTuple):
    """What the agent was handed, in the order in which it came; numpy."""

    experiences: list[tuple[Experience, float, float]]
    """And the progress of the run, and a draw from the key."""
    probes: list[Any]
    """Observations on which health was measured."""
    looks: list[Any]
    """Observations on which it acted greedily."""


def value_of(observation: Any, updates: Any = 0.0) -> Any:
    """V, of ``[…, 3]``: it goes with all that is seen and with the updates that were made."""
    weights = np.array([1.7, -2.3, 4.1], np.float32)
    return (observation * weights).sum(-1) + 0.3 * updates


def greedy(observation: Any) -> Any:
    """``[n, 3]`` → ``[n, 2]``, beyond the range of actions now and then."""
    return jnp.stack([2.9 - observation[:, 0], 0.4 * observation[:, 1]], axis=-1)


def log_prob_of(observation: Any) -> Any:
    return 0.1 * observation[..., 0] - 7.0


UPDATES = 3
"""Optimiser steps that each update says it made."""


def puppet(actors: int) -> tuple[OnPolicyAgent, Told]:
    """The agent, and what it is told. Its state counts updates; it acts as ``greedy``, with noise."""
    told = Told([], [], [])

    def act(state: Any) -> Any:
        def acts(view: View, memory: Any, key: Any) -> Any:
            noise = jax.random.normal(key, (len(view.observation), 2))
            return greedy(view.observation) + 0.3 * noise, log_prob_of(view.observation), memory

        return acts

    def update(state: Any, experience: Experience, progress: Any, key: Any) -> Any:
        def tell(experience: Experience, progress: Any, drawn: Any) -> None:
            told.experiences.append((experience, float(progress), float(drawn)))

        jax.debug.callback(tell, experience, progress, jax.random.uniform(key), ordered=True)
        metrics = {"loss/actor": jnp.sum(experience.advantage)}
        return state + UPDATES, Learned(metrics, jnp.int32(UPDATES))

    def diagnose(state: Any, view: View, memories: Memories) -> Any:
        jax.debug.callback(told.probes.append, view.observation, ordered=True)
        return {"health": jnp.mean(view.observation[:, 0])}

    def act_greedily(state: Any) -> Any:
        def acts(view: View, memory: Any) -> Any:
            jax.debug.callback(told.looks.append, view.observation, ordered=True)
            return greedy(view.observation), memory

        return acts

    agent = OnPolicyAgent(
        init=lambda key, inputs: jnp.float32(0),
        act=act,
        act_greedily=act_greedily,
        value=lambda state: lambda view, memory: value_of(view.observation, state),
        values=lambda state: (
            lambda view, first, memory: (
                value_of(view.observation, state).reshape(first.shape),
                memory,
            )
        ),
        begin=lambda n: Memories(),
        update=update,
        updates_per_rollout=UPDATES,
        batch_size=7,
        actors=actors,
        names=0,
        diagnose=diagnose,
        parameters=lambda state: {},
        supports=lambda state: {},
        passes={},
        traffic={},
        wiring={},
    )
    return agent, told
