"""Rollouts: what N actors do in T interactions, with weights and statistics held still."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Streams, View, actions_of
from sparse_rl.envs import Env, TeamEnv, vector
from sparse_rl.networks import Memory, forget


class Behaviour(NamedTuple):
    """What drives the actors of a rollout; weights and statistics stay as they are meanwhile."""

    see: Callable[[View], View]
    """A view as the environment gives it → as the networks see it."""
    act: Callable[[View, Memory, Array], tuple[Array, Array, Memory]]
    """``(seen view, memory, key) → (n actions, log_prob [n], memory)``."""
    value: Callable[[View, Memory], Array] | None
    """``(seen view, memory) → [n]``; ``None`` for a network that remembers, which values a rollout when
    it is over, from its first step on."""


class Rollout(NamedTuple):
    """T interactions of N actors; each field ``[T, N, …]``."""

    view: View
    """As the environment gave it."""
    action: Array
    log_prob: Array
    reward: Array
    """The environment's own."""
    terminated: Array
    truncated: Array
    episode_return: Array
    """The environment's own, up to this step."""
    final_value: Array | None
    """V of the observation at which time ran out; 0 where it did not."""
    final_view: View | None = None
    """``[K, N, …]``: where that is not known yet, what was seen when time ran out for the k-th time."""
    memory: Memory = ()
    """``[T, N, M]``: what acted remembered before the step."""
    shaping: Array | None = None
    """What may be learned from beside the reward; ``None``: there is none."""


def view_of(env: Env, envs: vector.VectorState) -> View:
    """What N actors see now."""
    legal = None
    if env.legal_actions is not None:
        legal = vector.join(env, jax.vmap(env.legal_actions)(envs.env))
    central = vector.central_view(env, envs.env, envs.observation)
    return View(envs.observation, central, legal, _weight(env, envs, legal))


def _weight(env: Env, envs: vector.VectorState, legal: Array | None) -> Array | None:
    """Who acts, float32 ``[N]``: who lives, and has more than one thing to do."""
    if not isinstance(env, TeamEnv) or not env.some_idle:
        return None
    acts = jnp.ones(len(envs.observation), bool)
    if env.alive is not None:
        acts &= vector.join(env, jax.vmap(env.alive)(envs.env))
    if legal is not None:
        acts &= jnp.sum(legal, axis=1) > 1
    return acts.astype(jnp.float32)


def with_levels_ahead(env: Env, key: Array, time: Any, envs: vector.VectorState) -> vector.VectorState:
    """N environments with new levels for the episodes to come, where there are levels; else the same.

    Args:
        env: the environment.
        key: the run's.
        time: of the draw: an iteration or an interaction.
        envs: state of N environments.
    """
    if env.levels is None:
        return envs
    own = jax.random.fold_in(jax.random.fold_in(key, Streams.LEVELS), time)
    return vector.draw_ahead(env, own, envs)


class _Finals(NamedTuple):
    """Where time ran out in a rollout: the true successors, to be valued when it is over.

    One branch in each step for something that happens once in an episode made training of a small
    network a fifth slower.
    """

    view: View
    """``[K, N, …]``: of the k-th time."""
    times: Array
    """int32 ``[N]``: how often so far."""


def successor_view(env: Env, seen: vector.VectorStep) -> View:
    """What N actors see of the true successor, what is allowed there, and who acts."""
    there = (seen.successor, seen.next_observation, seen.elapsed, seen.episode_return)
    return view_of(env, vector.VectorState(*there))


def _keep_final(finals: _Finals, now: View, truncated: Array) -> _Finals:
    slots = jnp.arange(finals.view.observation.shape[0])[:, None]
    here = truncated & (slots == finals.times)

    def keep(new: Array, old: Array) -> Array:
        return jnp.where(here.reshape(*here.shape, *(1,) * (old.ndim - 2)), new, old)

    kept = jax.tree.map(keep, now, finals.view)
    return _Finals(kept, finals.times + truncated)


def final_values(
    value: Callable[[View, Memory], Array], view: View, truncated: Array, after: Memory = ()
) -> Array:
    """V of the observation at which time ran out, 0 elsewhere: float32 ``[T, N]``.

    Args:
        value: ``(view as the environment gave it, memory) → [n]``.
        view: ``[K, N, …]``: of the k-th time that it did.
        truncated: bool ``[T, N]``.
        after: ``[T, N, M]``: what is remembered after each step.
    """
    slots, num_envs = view.observation.shape[:2]
    times = jnp.cumsum(truncated, axis=0)
    # the step at which time ran out for the k-th time: the first that has counted so many
    when = jnp.argmax(times[None] > jnp.arange(slots)[:, None, None], axis=1)
    there = jax.tree.map(lambda x: flat(jnp.take_along_axis(x, when[..., None], axis=0)), after)
    values = jax.lax.cond(
        jnp.any(truncated),
        lambda: value(flat(view), there),
        lambda: jnp.zeros(slots * num_envs),
    ).reshape(slots, num_envs)
    which = jnp.clip(times - 1, 0)
    return jnp.where(truncated, jnp.take_along_axis(values, which, axis=0), 0.0)


def most_truncations(num_steps: int, episode_length: int, action_repeat: int) -> int:
    """How often an actor's time can run out in T interactions, at most.

    Args:
        num_steps: T.
        episode_length: frames before time runs out.
        action_repeat: frames per interaction.
    """
    return -(-num_steps // -(-episode_length // action_repeat))


def collect(
    env: Env,
    behaviour: Behaviour,
    envs: vector.VectorState,
    memory: Memory,
    keys: Array,
    action_repeat: int,
) -> tuple[vector.VectorState, Memory, Rollout]:
    """Act in N environments once per key; the environments and the memory after it, and what happened.

    Args:
        env: the environment.
        behaviour: what acts.
        envs: state of N environments.
        memory: of what acts, ``[N, M]``.
        keys: ``[T]``.
        action_repeat: frames per interaction.
    """
    to_env = actions_of(env).to_env
    num_envs = envs.observation.shape[0]
    slots = most_truncations(keys.shape[0], env.episode_length, action_repeat)
    empty = jax.tree.map(lambda x: jnp.zeros((slots, *x.shape), x.dtype), view_of(env, envs))
    none = _Finals(empty, jnp.zeros(num_envs, jnp.int32))

    def interact(carry: tuple[vector.VectorState, Memory, _Finals], key: Array) -> Any:
        envs, memory, finals = carry
        key_act, key_env = jax.random.split(key)
        view = view_of(env, envs)
        action, log_prob, after = behaviour.act(behaviour.see(view), memory, key_act)
        envs, seen = vector.step(env, key_env, envs, to_env(action), action_repeat)
        happened = Rollout(
            view,
            action,
            log_prob,
            seen.reward,
            seen.terminated,
            seen.truncated,
            seen.episode_return,
            final_value=None,  # of all steps at once, below
            memory=memory,
            shaping=seen.shaping,
        )
        after = forget(after, seen.terminated | seen.truncated)
        finals = _keep_final(finals, successor_view(env, seen), seen.truncated)
        return (envs, after, finals), happened

    (envs, memory, finals), rollout = jax.lax.scan(interact, (envs, memory, none), keys)
    if behaviour.value is None:
        return envs, memory, rollout._replace(final_view=finals.view)

    def value(view: View, memory: Memory) -> Array:
        assert behaviour.value is not None
        return behaviour.value(behaviour.see(view), memory)

    valued = final_values(value, finals.view, rollout.truncated)
    return envs, memory, rollout._replace(final_value=valued)


def flat(tree: Any) -> Any:
    """``[T, N, …]`` → ``[T·N, …]``."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def ended(rollout: Rollout) -> Array:
    """bool ``[T, N]``: whether the step ended an episode, in whatever way."""
    return rollout.terminated | rollout.truncated


def first_steps(rollout: Rollout) -> Array:
    """bool ``[T, N]``: whether an episode begins with the step: the one before ended. Before the first
    step nothing is remembered of what ended, so it is false there."""
    done = ended(rollout)
    return jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])


def pieces(tree: Any, length: int) -> Any:
    """``[T, N, …]`` → ``[T/C · N, C, …]``: each column in pieces of C steps in a row."""

    def cut(x: Array) -> Array:
        steps, num_envs, *rest = x.shape
        apart = jnp.swapaxes(x.reshape(steps // length, length, num_envs, *rest), 1, 2)
        return apart.reshape(-1, length, *rest)

    return jax.tree.map(cut, tree)


def successor_values(rollout: Rollout, values: Array, last: Array, final_value: Array) -> Array:
    """V(s') of each step, float32 ``[T, N]``.

    Args:
        rollout: T steps.
        values: float32 ``[T, N]``: V(s).
        last: float32 ``[N]``: V of what the actors see after the rollout.
        final_value: float32 ``[T, N]``: V of what was seen where time ran out.
    """
    following = jnp.concatenate([values[1:], last[None]])
    return jnp.where(rollout.truncated, final_value, following)
