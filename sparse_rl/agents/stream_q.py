"""Stream Q(λ) (Elsayed et al. 2024, arXiv 2410.14606, alg. 8): Watkins's Q(λ) with a network that learns
from each transition once, where it happens.

Traces begin anew after an action that is not the one of the largest value, and after an episode's end.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import streaming
from sparse_rl.agents.choosing import exploration
from sparse_rl.agents.contract import Happened, Metrics, StreamingAgent
from sparse_rl.agents.streaming import Streamer, StreamState
from sparse_rl.envs import Spec
from sparse_rl.networks import StreamNetwork
from sparse_rl.settings.run import RunConfig, agent_settings
from sparse_rl.settings.streaming import StreamQConfig


class StreamQ(NamedTuple):
    """Static parts."""

    config: StreamQConfig
    streamer: Streamer
    actions: int


def _values(q: StreamQ, state: StreamState, seen: Array) -> Array:
    """Q(s, ·), float32 ``[n, actions]``."""
    return streaming.say(q.streamer, state, "critic", seen)["value"]


def _act(q: StreamQ, state: StreamState, seen: Array, progress: Array, key: Array) -> Array:
    """ε-greedy."""
    key_explore, key_choice = jax.random.split(key)
    best = jnp.argmax(_values(q, state, seen), axis=-1)
    explores = jax.random.bernoulli(key_explore, exploration(q.config, progress), best.shape)
    return jnp.where(explores, jax.random.randint(key_choice, best.shape, 0, q.actions), best)


def _act_greedily(q: StreamQ, state: StreamState, seen: Array) -> Array:
    return jnp.argmax(_values(q, state, seen), axis=-1)


def _update(
    q: StreamQ, state: StreamState, happened: Happened, measured: Array
) -> tuple[StreamState, Metrics, Metrics]:
    """One step of the network."""
    seen, action = happened.observation, happened.action[0]
    both = jnp.concatenate([seen, happened.next_observation])
    valued = streaming.look(q.streamer, state, "critic", both)
    values, following = valued.heads["value"]
    worth = jnp.where(happened.terminated[0], 0.0, jnp.max(following))
    error = happened.reward[0] + q.config.discount * worth - values[action]
    chosen = jax.nn.one_hot(action, q.actions)
    resets = happened.ended[0] | (action != jnp.argmax(values))  # an action is random, and the best
    ascents = {"critic": (valued, {"value": chosen})}
    after, metrics = streaming.advance(q.streamer, state, error, ascents, resets)

    def found() -> Metrics:
        return streaming.removed(values[action], _values(q, after, seen)[0, action], error)

    return after, metrics | {"value_mean": values[action]}, streaming.measure(measured, found)


def make(config: RunConfig, env: Spec) -> StreamingAgent:
    """Build Stream Q(λ) for one environment."""
    settings = agent_settings(config, StreamQConfig)
    heads = (("value", env.action_size),)
    networks = {"critic": StreamNetwork(settings.network, config.width, heads, env.picture)}
    streamer = Streamer(settings, networks, streaming.sees(config, env.observation_size))
    q = StreamQ(settings, streamer, env.action_size)
    return streaming.agent(
        streamer,
        config,
        act=functools.partial(_act, q),
        act_greedily=functools.partial(_act_greedily, q),
        update=functools.partial(_update, q),
    )
