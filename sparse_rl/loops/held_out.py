"""Levels that nobody trained on: who solves them, and within how many frames."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Metrics, View, actions_of
from sparse_rl.envs import Env, HeldOut, Levels, vector
from sparse_rl.loops.contract import Playing
from sparse_rl.loops.evaluation import evaluation_key
from sparse_rl.loops.rollout import view_of
from sparse_rl.networks import Memory

EPISODES = 100
"""Of a set that is tried beside training, at least."""
HELD_OUT = 0x68656C64
"""Child of an evaluation's key: of held-out levels."""

Act = Callable[[View, Memory, Array], tuple[Array, Memory]]
"""``(what n actors see, memory, key) → (actions, memory)``."""


class Attempts(NamedTuple):
    """E episodes in each of M levels, each field ``[M, E]``."""

    solved: Array
    """bool: within the longest horizon."""
    frames: Array
    """int32: until the episode ended."""
    episode_return: Array
    """float32."""

    def within(self, horizon: int) -> Array:
        """bool ``[M, E]``: whether it was solved within so many frames. Shorter horizons are beginnings
        of longer ones, so that one rollout tells of all."""
        return self.solved & (self.frames <= horizon)


def attempt(
    env: Env, levels: Any, horizon: int, act: Act, memory: Memory, key: Array, action_repeat: int = 1
) -> Attempts:
    """Play one episode in each of n levels, until the last has ended. Nothing is drawn but actions, and
    no level begins anew for its own sake.

    Args:
        env: an environment with levels.
        levels: each leaf with a leading n.
        horizon: frames after which an episode ends unsolved.
        act: what the policy does.
        memory: of n episodes that begin.
        key: of this attempt.
        action_repeat: frames per interaction.

    Returns:
        Fields of ``[n]``.
    """
    assert env.levels is not None
    longer, to_env = dataclasses.replace(env, episode_length=horizon), actions_of(env).to_env
    n = len(jax.tree.leaves(levels)[0])

    def on(carry: Any) -> Array:
        return jnp.any(carry[3])

    def interact(carry: Any) -> Any:
        time, envs, memory, alive, frames, returns = carry
        key_act, key_env = jax.random.split(jax.random.fold_in(key, time))
        action, memory = act(view_of(env, envs), memory, key_act)
        envs, seen = vector.step(longer, key_env, envs, to_env(action), action_repeat)
        returns = jnp.where(alive, seen.episode_return, returns)
        frames = jnp.where(alive, seen.elapsed, frames)
        return time + 1, envs, memory, alive & ~(seen.terminated | seen.truncated), frames, returns

    start = (
        jnp.int32(0), vector.begin(env, levels), memory, jnp.ones(n, bool),
        jnp.zeros(n, jnp.int32), jnp.zeros(n),
    )  # fmt: skip
    *_, frames, returns = jax.lax.while_loop(on, interact, start)
    return Attempts(env.levels.solved(returns), frames, returns)


def policy(learning: Playing, state: Any, greedy: bool) -> Act:
    """What a learner does: the most likely actions, or drawn ones. A policy that remembers can go in
    circles for ever if it is greedy, which is why levels are published with drawn actions."""
    likely, drawn = learning.agent.act_greedily(state.agent), learning.agent.act(state.agent)

    def act(view: View, memory: Memory, key: Array) -> tuple[Array, Memory]:
        seen = learning.see(state, view)
        if greedy:
            return likely(seen, memory)
        action, _, memory = drawn(seen, memory, key)
        return action, memory

    return act


def try_set(
    learning: Playing, env: Env, held: HeldOut, state: Any, key: Array, *, greedy: bool, episodes: int
) -> Attempts:
    """So many episodes in each of a set's levels, all at once."""
    levels = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), episodes, axis=0), held.levels)
    memory = learning.agent.begin(len(held.names) * episodes).acting
    act, repeat = policy(learning, state, greedy), learning.config.env.action_repeat
    attempts = attempt(env, levels, max(held.horizons), act, memory, key, repeat)
    return jax.tree.map(lambda x: x.reshape(len(held.names), episodes), attempts)


def watch(learning: Playing, env: Env, interactions: Array, state: Any) -> Metrics:
    """``solve_rate/<set>`` of the sets that are tried beside training, with drawn actions and within the
    longest horizon; nothing where there are no levels."""
    rates: Metrics = {}
    if env.levels is None:
        return rates
    key = jax.random.fold_in(evaluation_key(state.key, interactions), HELD_OUT)
    for i, name in enumerate(env.levels.watched):
        with jax.ensure_compile_time_eval():  # levels are drawn now, and not by the program
            held = env.levels.sets[name]()
        episodes = -(-EPISODES // len(held.names))
        key_set = jax.random.fold_in(key, i)
        attempts = try_set(learning, env, held, state, key_set, greedy=False, episodes=episodes)
        rates[f"solve_rate/{name}"] = jnp.mean(attempts.solved.astype(jnp.float32))
    return rates


def worst(solved: Array, again: Array, share: float) -> Array:
    """Mean of ``again`` over the share of levels that were solved least often (conditional value at
    risk). Levels are ranked by other episodes than those that count: ranked by their own, bad luck would
    be counted as difficulty (Rutherford et al. 2024, arXiv 2408.15099, §5).

    Args:
        solved: float32 ``[M]``: share of episodes that were solved, by which levels are ranked.
        again: float32 ``[M]``: the same of other episodes.
        share: of the levels, in (0, 1].
    """
    count = max(1, round(share * len(solved)))
    return jnp.mean(again[jnp.argsort(solved)[:count]])


def regret(levels: Levels, held: HeldOut, attempts: Attempts) -> Array:
    """The highest return that can be had in each level less the mean of those that were, float32
    ``[M]``: as exact as the environment's ``best``, so never too small."""
    best = jax.vmap(levels.best)(jax.tree.map(jnp.asarray, held.levels))
    return best - jnp.mean(attempts.episode_return, axis=1)
