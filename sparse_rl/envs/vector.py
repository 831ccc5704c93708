"""Batches of environments: action repeat, time limits and automatic resets, for every source."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import Env, Step
from sparse_rl.simulators.contract import BOUND


class VectorState(NamedTuple):
    """A batch of N environments."""

    env: Any
    """The source's state, each leaf with a leading N."""
    observation: Array
    """float32 ``[N, observation_size]``, uint8 where it is drawn: what the policy sees next."""
    elapsed: Array
    """int32 ``[N]``: frames since the reset."""
    episode_return: Array
    """float32 ``[N]``: rewards since the reset."""
    level: Any = ()
    """Where there are levels: of each environment, the one on which its next episode begins, each leaf
    with a leading N."""


class VectorStep(NamedTuple):
    """One interaction of a batch of N environments."""

    next_observation: Array
    """``[N, observation_size]``: the true successor, before any reset."""
    reward: Array
    """float32 ``[N]``: summed over the repeated action."""
    terminated: Array
    """bool ``[N]``: the task ended by itself; do not bootstrap."""
    truncated: Array
    """bool ``[N]``: time ran out; bootstrap from ``next_observation``."""
    episode_return: Array
    """float32 ``[N]``: return of the episode so far, this reward included."""
    elapsed: Array
    """int32 ``[N]``: frames since the reset, these included: at most the time limit. An interaction in
    which the task ended by itself counts whole."""


def _pictures(env: Env, state: Any, before: Array | None) -> Array:
    """What the policy sees of drawn environments: the pictures before without the oldest, and a new one.

    Args:
        env: an environment that is drawn.
        state: N of its states.
        before: uint8 ``[N, observation_size]``; ``None`` after a reset.
    """
    assert env.draw is not None
    assert env.picture is not None
    new = jax.vmap(env.draw)(state)
    if before is None:
        stack = jnp.tile(new, (1, 1, 1, env.frames))
    else:
        kept = before.reshape(-1, *env.picture)[..., new.shape[-1] :]
        stack = jnp.concatenate([kept, new], axis=-1)
    return stack.reshape(len(stack), -1)


def _stacked(env: Env, new: Array, before: Array | None) -> Array:
    """The last ``env.frames`` vectors, the newest last.

    Args:
        env: an environment that shows vectors.
        new: float32 ``[N, size]``.
        before: ``[N, frames · size]``; ``None`` after a reset.
    """
    if env.frames == 1:
        return new
    if before is None:
        return jnp.tile(new, (1, env.frames))
    return jnp.concatenate([before[:, new.shape[1] :], new], axis=1)


def _started(env: Env, state: Any, observation: Array) -> VectorState:
    """N environments of which nothing was seen but this."""
    observation = _pictures(env, state, None) if env.draw else _stacked(env, observation, None)
    n = observation.shape[0]
    return VectorState(state, observation, jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.float32))


AHEAD = 0x61686564
"""Child of a reset's key: of the levels that are drawn ahead."""


def reset(env: Env, key: Array, num_envs: int) -> VectorState:
    """Start ``num_envs`` independent episodes; where there are levels, on random ones, and others are
    drawn for the episodes that follow."""
    state, observation = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    fresh = _started(env, state, observation)
    return draw_ahead(env, jax.random.fold_in(key, AHEAD), fresh) if env.levels else fresh


def begin(env: Env, levels: Any) -> VectorState:
    """Start an episode on each of N levels; those that follow begin on the same one.

    Args:
        env: an environment with levels.
        levels: each leaf with a leading N.
    """
    assert env.levels is not None
    return _started(env, *jax.vmap(env.levels.begin)(levels))._replace(level=levels)


def draw_ahead(env: Env, key: Array, envs: VectorState) -> VectorState:
    """The same episodes; the next of each environment begins on a new random level.

    Drawing a level can cost as much as twenty steps: so it is done now and then, and never in
    :func:`step`. Until it is done again, an environment's episodes begin on the one level.

    Args:
        env: an environment with levels.
        key: of the draws.
        envs: N environments.
    """
    assert env.levels is not None
    return envs._replace(level=jax.vmap(env.levels.sample)(jax.random.split(key, len(envs.elapsed))))


def _repeat_action(
    env: Env, key: Array, state: Any, action: Array, action_repeat: int, left: Array | None
) -> tuple[Any, Step]:
    """Simulate ``action_repeat`` frames of one environment; nothing counts after a termination, nor once
    the ``left`` frames are over (at least one) until its time is up; ``None``: there are enough."""
    keys = jax.random.split(key, action_repeat)
    state, total = env.step(keys[0], state, action)

    def frame(carry: tuple[Any, Step], now: tuple[Array, Array]) -> tuple[tuple[Any, Step], None]:
        state, total = carry
        frame_key, number = now
        over = total.terminated if left is None else total.terminated | (number >= left)
        new_state, new = env.step(frame_key, state, action)
        new = Step(new.observation, total.reward + new.reward, new.terminated)
        keep = jax.tree.map(lambda a, b: jnp.where(over, a, b), total, new)
        kept_state = jax.tree.map(lambda a, b: jnp.where(over, a, b), state, new_state)
        return (kept_state, keep), None

    if action_repeat == 1:
        return state, total
    numbers = jnp.arange(1, action_repeat, dtype=jnp.int32)
    (state, total), _ = jax.lax.scan(frame, (state, total), (keys[1:], numbers))
    return state, total


def _holds(env: Env, state: Any, seen: Step, episode_return: Array) -> Array:
    """bool ``[N]``: whether all numbers are finite and none is too large; NaN is below no bound.

    Rewards are looked at in their sum. Whatever else reads a reward would have XLA add it up in another
    way, and healthy runs would differ in their last bits.
    """
    numbers = [episode_return[:, None]]
    if env.physics:
        numbers.append(jax.vmap(env.physics)(state))
    if not env.draw:
        numbers.append(seen.observation)
    each = [jnp.all(jnp.abs(x) <= BOUND, axis=1) for x in numbers]
    return functools.reduce(jnp.logical_and, each)


def step(
    env: Env, key: Array, state: VectorState, action: Array, action_repeat: int
) -> tuple[VectorState, VectorStep]:
    """Advance every environment by one interaction and reset those whose episode ended: where there are
    levels, to its own.

    Where what an interaction shows or rewards is not finite, or beyond
    :data:`~sparse_rl.simulators.contract.BOUND`, the simulation broke. That is a termination without a
    reward, and what was seen before stands, so that no such number reaches statistics or a buffer.

    Where ``action_repeat`` does not divide the time limit, an episode's last interaction simulates the
    frames that are left. Budgets count it whole: ``env_steps`` are interactions times their frames.

    Args:
        env: the environment.
        key: for the environments' own randomness and for resets.
        state: N environments.
        action: float32 ``[N, action_size]`` in ``[-1, 1]``, or int32 ``[N]``.
        action_repeat: frames per interaction.
    """
    num_envs = state.elapsed.shape[0]
    key_step, key_reset = jax.random.split(key)
    limit, elapsed, left = env.episode_length, state.elapsed + action_repeat, None
    if limit % action_repeat:
        elapsed, left = jnp.minimum(elapsed, limit), limit - state.elapsed

    def play(key: Array, envs: Any, action: Array, left: Array | None) -> tuple[Any, Step]:
        return _repeat_action(env, key, envs, action, action_repeat, left)

    keys = jax.random.split(key_step, num_envs)
    raw, seen = jax.vmap(play)(keys, state.env, action, left)
    episode_return = state.episode_return + seen.reward
    holds = _holds(env, raw, seen, episode_return)
    if env.draw:
        shown = _pictures(env, raw, state.observation)
    else:
        shown = _stacked(env, seen.observation, state.observation)
    shown = jnp.where(holds[:, None], shown, state.observation)
    reward = jnp.where(holds, seen.reward, 0.0)
    episode_return = jnp.where(holds, episode_return, state.episode_return)
    terminated = seen.terminated | ~holds
    truncated = (elapsed >= limit) & ~terminated
    result = VectorStep(shown, reward, terminated, truncated, episode_return, elapsed)
    going = VectorState(raw, shown, elapsed, episode_return, state.level)
    done = terminated | truncated

    def restart(going: VectorState) -> VectorState:
        fresh = begin(env, going.level) if env.levels else reset(env, key_reset, num_envs)

        def choose(new: Array, old: Array) -> Array:
            return jnp.where(done.reshape((num_envs,) + (1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(choose, fresh, going)

    # A reset can cost as much as a step: pay it only when an episode ended.
    return jax.lax.cond(jnp.any(done), restart, lambda same: same, going), result
