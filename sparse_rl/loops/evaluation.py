"""Evaluation: whole episodes with the deterministic policy, the same for every agent."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Metrics, Streams
from sparse_rl.envs import Env, vector
from sparse_rl.settings.run import RunConfig


def evaluation_key(key: Array, interactions: Any) -> Array:
    """The key of the evaluation after so many interactions, from the run's."""
    return jax.random.fold_in(jax.random.fold_in(key, Streams.EVALUATION), interactions)


def evaluate(
    config: RunConfig, env: Env, act: Callable[[vector.VectorState], Array], key: Array
) -> Metrics:
    """Play ``env.eval_episodes`` whole episodes in fresh environments.

    Args:
        config: of the run.
        env: the environment; its own rewards are summed, not what an agent makes of them.
        act: ``state of N environments → actions of N``.
        key: of :func:`evaluation_key`.
    """
    episodes, repeat = config.env.eval_episodes, config.env.action_repeat
    key_reset, key_steps = jax.random.split(key)
    envs = vector.reset(env, key_reset, episodes)

    def interact(carry: Any, key: Array) -> tuple[Any, None]:
        envs, alive, returns, lengths = carry
        envs, seen = vector.step(env, key, envs, act(envs), repeat)
        returns = jnp.where(alive, seen.episode_return, returns)
        lengths = jnp.where(alive, seen.elapsed, lengths)
        return (envs, alive & ~(seen.terminated | seen.truncated), returns, lengths), None

    start = (envs, jnp.ones(episodes, bool), jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32))
    steps = -(-env.episode_length // repeat)
    (_, _, returns, lengths), _ = jax.lax.scan(interact, start, jax.random.split(key_steps, steps))
    return {
        "return_mean": jnp.mean(returns),
        "return_std": jnp.std(returns),
        "episode_length_mean": jnp.mean(lengths.astype(jnp.float32)),
    }
