"""Rollouts: what N actors do in T interactions, with weights and statistics held still."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents.actions import actions_of
from sparse_rl.agents.contract import View
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
    final_value: Array
    """V of the observation at which time ran out; 0 where it did not."""
    episode_return: Array
    """The environment's own, up to this step."""


def view_of(env: Env, envs: vector.VectorState) -> View:
    """What N actors see now."""
    legal = None if env.legal_actions is None else jax.vmap(env.legal_actions)(envs.env)
    return View(envs.observation, legal=legal)


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

    def interact(envs: vector.VectorState, key: Array) -> tuple[vector.VectorState, Rollout]:
        key_act, key_env = jax.random.split(key)
        view = view_of(env, envs)
        action, log_prob = behaviour.act(behaviour.see(view), key_act)
        envs, seen = vector.step(env, key_env, envs, to_env(action), action_repeat)
        final_value = jax.lax.cond(
            jnp.any(seen.truncated),
            lambda: behaviour.value(behaviour.see(View(seen.next_observation))),
            lambda: jnp.zeros_like(seen.reward),
        )
        happened = Rollout(
            view,
            action,
            log_prob,
            seen.reward,
            seen.terminated,
            seen.truncated,
            jnp.where(seen.truncated, final_value, 0.0),
            seen.episode_return,
        )
        return envs, happened

    return jax.lax.scan(interact, envs, keys)


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
