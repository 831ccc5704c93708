"""Evaluation: whole episodes with the deterministic policy, the same for every agent."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.agents import Metrics, Streams
from sparse_rl.envs import Env, vector
from sparse_rl.networks import Memory
from sparse_rl.records import results
from sparse_rl.settings.run import RunConfig


def evaluation_key(key: Array, interactions: Any) -> Array:
    """The key of the evaluation after so many interactions, from the run's."""
    return jax.random.fold_in(jax.random.fold_in(key, Streams.EVALUATION), interactions)


NEAR = 1e-5
"""Of the size of what is compared: what rounding may add to what is the same."""


def _near(values: Any, size: Any) -> Any:
    """Which of N numbers are the same but for rounding, bool ``[N, N]``."""
    return abs(values[:, None] - values[None]) <= NEAR * (size[:, None] + size[None])


def alike(observation: Any) -> Any:
    """Which of N observations are the same but for rounding, bool ``[N, N]``; numpy's or jax's.

    Each is one number, a weighted sum: enough, for episodes that differ do so again and again.

    Args:
        observation: float32 or uint8 ``[N, observation_size]``.
    """
    weights = np.sin(1.0 + np.arange(observation.shape[1])).astype(np.float32)
    weighted = observation * weights
    return _near(weighted.sum(axis=1), abs(weighted).sum(axis=1))


def distinct_episodes(same: Any, returns: Any, lengths: Any) -> Any:
    """How many of N episodes differ in what was seen, in their return or in their length.

    Args:
        same: bool ``[N, N]``: whether two episodes saw the same, as long as both went on.
        returns, lengths: ``[N]``.
    """
    same = same & _near(returns, abs(returns)) & (lengths[:, None] == lengths[None])
    earlier = np.tri(len(returns), k=-1, dtype=bool)
    return (~(same & earlier).any(axis=1)).sum()


def evaluate(
    config: RunConfig,
    env: Env,
    act: Callable[[vector.VectorState, Memory], tuple[Array, Memory]],
    key: Array,
    memory: Memory = (),
) -> Metrics:
    """Play ``env.eval_episodes`` whole episodes in fresh environments.

    Args:
        config: of the run.
        env: the environment; its own rewards are summed, not what an agent makes of them.
        act: ``(state of N environments, memory) → (actions of N, memory)``.
        key: of :func:`evaluation_key`.
        memory: of N episodes that begin.
    """
    episodes, repeat = config.env.eval_episodes, config.env.action_repeat
    key_reset, key_steps = jax.random.split(key)
    envs = vector.reset(env, key_reset, episodes)

    def interact(carry: Any, key: Array) -> tuple[Any, None]:
        envs, memory, alive, same, returns, lengths = carry
        same &= alike(envs.observation) | ~(alive[:, None] & alive[None])
        action, memory = act(envs, memory)
        envs, seen = vector.step(env, key, envs, action, repeat)
        returns = jnp.where(alive, seen.episode_return, returns)
        lengths = jnp.where(alive, seen.elapsed, lengths)
        alive &= ~(seen.terminated | seen.truncated)
        return (envs, memory, alive, same, returns, lengths), None

    alive, same = jnp.ones(episodes, bool), jnp.ones((episodes, episodes), bool)
    start = (envs, memory, alive, same, jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32))
    steps = -(-env.episode_length // repeat)
    (*_, same, returns, lengths), _ = jax.lax.scan(interact, start, jax.random.split(key_steps, steps))
    return {
        "return_mean": jnp.mean(returns),
        "return_std": jnp.std(returns),
        "episode_length_mean": jnp.mean(lengths.astype(jnp.float32)),
        results.EPISODES_DISTINCT: distinct_episodes(same, returns, lengths).astype(jnp.float32),
    }
