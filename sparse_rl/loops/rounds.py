"""What on-policy loops in tensorised environments share, whoever chooses the levels."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Metrics, actions_of
from sparse_rl.envs import Env, TeamEnv, vector
from sparse_rl.loops import held_out
from sparse_rl.loops.contract import Playing
from sparse_rl.loops.evaluation import evaluate as play
from sparse_rl.loops.evaluation import evaluation_key
from sparse_rl.loops.learning import Learning, Seen
from sparse_rl.loops.rewards import RewardScale
from sparse_rl.loops.rollout import Behaviour, view_of
from sparse_rl.networks import Memory


def behaviour(learning: Learning, state: Any) -> Behaviour:
    """What drives the actors of a rollout."""
    return Behaviour(
        functools.partial(learning.see, state),
        learning.agent.act(state.agent),
        None if learning.remembers else learning.agent.value(state.agent),
    )


def chunk(
    learning: Learning,
    iterate: Callable[[Any, Array], tuple[Any, Any, Seen]],
    first: Array,
    state: Any,
) -> tuple[Any, Metrics]:
    """Iterations from interaction ``first`` to the next log point: the new state, and a row.

    Args:
        learning: the run's.
        iterate: ``(state, iteration) → (state, sums of it, what was seen)``.
        first: interactions so far.
        state: then.
    """
    start = jnp.asarray(first, jnp.int32) // learning.settings.num_steps
    end = start + learning.iterations_per_chunk
    n, kept = learning.samples_per_rollout, learning.probed

    iterate = jax.jit(iterate, inline=True)  # traced once, for its shapes and for the loop
    _, totals, seen = iterate.eval_shape(state, start)
    totals = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), totals)
    probe = jax.tree.map(lambda x: jnp.zeros((kept * n, *x.shape[1:]), x.dtype), seen)

    def one(iteration: Array, carry: Any) -> Any:
        state, totals, probe = carry
        state, new, seen = iterate(state, iteration)
        place = (iteration % kept) * n
        probe = jax.tree.map(
            lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, place, 0), probe, seen
        )
        return state, jax.tree.map(jnp.add, totals, new), probe

    state, totals, probe = jax.lax.fori_loop(start, end, one, (state, totals, probe))
    return state, learning.row(state, totals, probe, end)


def evaluate(learning: Playing, env: Env, interactions: Array, state: Any) -> Metrics:
    """Whole episodes with the deterministic policy, in fresh environments; and held-out levels. Where
    agents train with names of their own, things are named as they are here. Teams
    play others with drawn actions too: two policies that are greedy can block each other for ever.

    Args:
        learning: the run's.
        env: the environment.
        interactions: before this evaluation.
        state: a learner's.
    """
    if isinstance(env, TeamEnv) and env.as_is is not None:
        env = env.as_is
    act, to_env = learning.agent.act_greedily(state.agent), actions_of(env).to_env

    def greedily(envs: vector.VectorState, memory: Memory, key: Array) -> tuple[Array, Memory]:
        del key
        action, memory = act(learning.see(state, view_of(env, envs)), memory)
        return to_env(action), memory

    memory = learning.agent.begin(env.agents * learning.config.env.eval_episodes).acting
    key = evaluation_key(state.key, interactions)
    played = play(learning.config, env, greedily, key, memory)
    if isinstance(env, TeamEnv):
        played |= _drawn(learning, env, state, jax.random.fold_in(key, DRAWN), memory)
    return played | held_out.watch(learning, env, interactions, state)


DRAWN = 0x647261
"""Child of an evaluation's key: of episodes with drawn actions."""


def _drawn(learning: Playing, env: Env, state: Any, key: Array, memory: Memory) -> Metrics:
    """``drawn/return_mean`` and the like of whole episodes with drawn actions."""
    behaves, to_env = held_out.policy(learning, state, greedy=False), actions_of(env).to_env

    def act(envs: vector.VectorState, memory: Memory, key: Array) -> tuple[Array, Memory]:
        drawn, memory = behaves(view_of(env, envs), memory, jax.random.fold_in(key, DRAWN))
        return to_env(drawn), memory

    played = play(learning.config, env, act, key, memory)
    told = ("return_mean", "episode_length_mean", "win_rate")
    return {f"drawn/{name}": played[name] for name in told if name in played}


def anew(scale: RewardScale) -> RewardScale:
    """Statistics of returns before episodes begin."""
    return scale._replace(running=jnp.zeros_like(scale.running))
