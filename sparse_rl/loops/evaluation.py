"""Evaluation: whole episodes with the deterministic policy, the same for every agent."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.agents import Metrics, Streams
from sparse_rl.envs import Env, TeamEnv, vector
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


Act = Callable[[vector.VectorState, Memory, Array], tuple[Array, Memory]]
"""``(state of E environments, memory of N actors, key) → (actions of N, memory)``."""


class Whole(NamedTuple):
    """E whole episodes."""

    returns: Array
    """float32 ``[E]``: the environment's own; of a team, that of all its agents
    (:func:`~sparse_rl.envs.vector.team_reward`)."""
    lengths: Array
    """int32 ``[E]``: frames."""
    same: Array
    """bool ``[E, E]``: whether two saw the same, as long as both went on."""
    won: Array | None
    """float32 ``[E]``: whether the team won; ``None`` where there is nothing to win."""


def whole_episodes(
    env: Env, act: Act, key: Array, memory: Memory, episodes: int, action_repeat: int
) -> Whole:
    """Play so many whole episodes in fresh environments, all at once.

    Args:
        env: the environment; its own rewards are summed, not what an agent makes of them.
        act: what the policy does.
        key: of the episodes.
        memory: of N actors whose episodes begin.
        episodes: E.
        action_repeat: frames per interaction.
    """
    key_reset, key_steps = jax.random.split(key)
    envs = vector.reset(env, key_reset, episodes)

    def interact(carry: Any, key: Array) -> tuple[Any, None]:
        envs, memory, alive, same, returns, lengths, won = carry
        same &= alike(envs.observation.reshape(episodes, -1)) | ~(alive[:, None] & alive[None])
        action, memory = act(envs, memory, key)
        envs, seen = vector.step(env, key, envs, action, action_repeat)
        returns = jnp.where(alive, vector.of_each(env, seen.episode_return), returns)
        lengths = jnp.where(alive, vector.of_each(env, seen.elapsed), lengths)
        if seen.outcome is not None:
            won = jnp.where(alive, vector.of_each(env, seen.outcome), won)
        alive &= ~vector.of_each(env, seen.terminated | seen.truncated)
        return (envs, memory, alive, same, returns, lengths, won), None

    alive, same = jnp.ones(episodes, bool), jnp.ones((episodes, episodes), bool)
    nothing = jnp.zeros(episodes) if isinstance(env, TeamEnv) and env.wins else None
    start = (envs, memory, alive, same, jnp.zeros(episodes), jnp.zeros(episodes, jnp.int32), nothing)
    keys = jax.random.split(key_steps, -(-env.episode_length // action_repeat))
    (*_, same, returns, lengths, won), _ = jax.lax.scan(interact, start, keys)
    return Whole(returns, lengths, same, won)


def evaluate(config: RunConfig, env: Env, act: Act, key: Array, memory: Memory = ()) -> Metrics:
    """Play ``env.eval_episodes`` whole episodes in fresh environments.

    Args:
        config: of the run.
        env: the environment.
        act: what the policy does.
        key: of :func:`evaluation_key`.
        memory: of N actors whose episodes begin.
    """
    episodes, repeat = config.env.eval_episodes, config.env.action_repeat
    returns, lengths, same, won = whole_episodes(env, act, key, memory, episodes, repeat)
    return {
        "return_mean": jnp.mean(returns),
        "return_std": jnp.std(returns),
        "episode_length_mean": jnp.mean(lengths.astype(jnp.float32)),
        results.EPISODES_DISTINCT: distinct_episodes(same, returns, lengths).astype(jnp.float32),
        **({} if won is None else {"win_rate": jnp.mean(won)}),
    }
