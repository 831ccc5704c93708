"""Rollouts: what N actors do in T interactions, with weights and statistics held still."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import View, actions_of
from sparse_rl.envs import Env, vector


class Behaviour(NamedTuple):
    """What drives the actors of a rollout; weights and statistics stay as they are meanwhile."""

    see: Callable[[View], View]
    """A view as the environment gives it → as the networks see it."""
    act: Callable[[View, Array], tuple[Array, Array]]
    """``(seen view, key) → (n actions, log_prob [n])``."""
    value: Callable[[View], Array]
    """``seen view → [n]``."""


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
    final_value: Array
    """V of the observation at which time ran out; 0 where it did not."""


def view_of(env: Env, envs: vector.VectorState) -> View:
    """What N actors see now."""
    legal = None if env.legal_actions is None else jax.vmap(env.legal_actions)(envs.env)
    return View(envs.observation, legal=legal)


class _Finals(NamedTuple):
    """Where time ran out in a rollout: the true successors, to be valued when it is over.

    One branch in each step for something that happens once in an episode made training of a small
    network a fifth slower.
    """

    observation: Array
    """``[K, N, observation_size]``: of the k-th time."""
    times: Array
    """int32 ``[N]``: how often so far."""


def _keep_final(finals: _Finals, seen: vector.VectorStep) -> _Finals:
    slots = jnp.arange(finals.observation.shape[0])[:, None]
    here = seen.truncated & (slots == finals.times)
    kept = jnp.where(here[..., None], seen.next_observation, finals.observation)
    return _Finals(kept, finals.times + seen.truncated)


def _final_values(behaviour: Behaviour, finals: _Finals, truncated: Array) -> Array:
    """V of the observation at which time ran out, 0 elsewhere: float32 ``[T, N]``.

    Args:
        behaviour: what values.
        finals: of the whole rollout.
        truncated: bool ``[T, N]``.
    """
    slots, num_envs = finals.observation.shape[:2]
    values = jax.lax.cond(
        jnp.any(truncated),
        lambda: behaviour.value(behaviour.see(View(flat(finals.observation)))),
        lambda: jnp.zeros(slots * num_envs),
    ).reshape(slots, num_envs)
    which = jnp.clip(jnp.cumsum(truncated, axis=0) - 1, 0)
    return jnp.where(truncated, jnp.take_along_axis(values, which, axis=0), 0.0)


def collect(
    env: Env,
    behaviour: Behaviour,
    envs: vector.VectorState,
    keys: Array,
    action_repeat: int,
) -> tuple[vector.VectorState, Rollout]:
    """Act in N environments once per key; the environments after it, and what happened.

    Args:
        env: the environment.
        behaviour: what acts.
        envs: state of N environments.
        keys: ``[T]``.
        action_repeat: frames per interaction.
    """
    to_env = actions_of(env).to_env
    interactions_per_episode = -(-env.episode_length // action_repeat)
    slots, num_envs = -(-keys.shape[0] // interactions_per_episode), envs.observation.shape[0]
    none = _Finals(jnp.zeros((slots, num_envs, env.observation_size)), jnp.zeros(num_envs, jnp.int32))

    def interact(carry: tuple[vector.VectorState, _Finals], key: Array) -> Any:
        envs, finals = carry
        key_act, key_env = jax.random.split(key)
        view = view_of(env, envs)
        action, log_prob = behaviour.act(behaviour.see(view), key_act)
        envs, seen = vector.step(env, key_env, envs, to_env(action), action_repeat)
        happened = Rollout(
            view,
            action,
            log_prob,
            seen.reward,
            seen.terminated,
            seen.truncated,
            seen.episode_return,
            final_value=jnp.zeros(0),  # of all steps at once, below
        )
        return (envs, _keep_final(finals, seen)), happened

    (envs, finals), rollout = jax.lax.scan(interact, (envs, none), keys)
    return envs, rollout._replace(final_value=_final_values(behaviour, finals, rollout.truncated))


def flat(tree: Any) -> Any:
    """``[T, N, …]`` → ``[T·N, …]``."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def successor_values(rollout: Rollout, values: Array, last: Array) -> Array:
    """V(s') of each step, float32 ``[T, N]``.

    Args:
        rollout: T steps.
        values: float32 ``[T, N]``: V(s).
        last: float32 ``[N]``: V of what the actors see after the rollout.
    """
    following = jnp.concatenate([values[1:], last[None]])
    return jnp.where(rollout.truncated, rollout.final_value, following)
