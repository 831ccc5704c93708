"""Batches of environments: action repeat, time limits and automatic resets, for every source.

A batch shows *actors*: E environments of one agent are E actors, and E teams of A agents N = E · A,
agent a of team e as actor n = e · A + a (:func:`join`, :func:`split`).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import Env, TeamEnv, TeamStep
from sparse_rl.simulators.contract import BOUND


def split(env: Env, actors: Array) -> Array:
    """Actors ``[N, …]`` → teams ``[E, A, …]``; the same where an environment has no team."""
    if not isinstance(env, TeamEnv):
        return actors
    return actors.reshape(-1, env.agents, *actors.shape[1:])


def join(env: Env, teams: Array) -> Array:
    """Teams ``[E, A, …]`` → actors ``[N, …]``: undoes :func:`split`."""
    return teams.reshape(-1, *teams.shape[2:]) if isinstance(env, TeamEnv) else teams


def to_each(env: Env, numbers: Array) -> Array:
    """Of environments ``[E, …]`` → of each of their actors ``[N, …]``."""
    return jnp.repeat(numbers, env.agents, axis=0) if isinstance(env, TeamEnv) else numbers


def of_each(env: Env, actors: Array) -> Array:
    """Of actors ``[N, …]`` who are told the same by environment → of environments ``[E, …]``."""
    return actors[:: env.agents] if isinstance(env, TeamEnv) else actors


class VectorState(NamedTuple):
    """A batch of E environments."""

    env: Any
    """The source's state, each leaf with a leading E."""
    observation: Array
    """float32 ``[N, observation_size]``, uint8 where it is drawn: what the policy sees next."""
    elapsed: Array
    """int32 ``[E]``: frames since the reset."""
    episode_return: Array
    """float32 ``[E]``: rewards since the reset; a team's own (:func:`team_reward`)."""
    level: Any = ()
    """Where there are levels: of each environment, the one on which its next episode begins, each leaf
    with a leading E."""


class VectorStep(NamedTuple):
    """One interaction of a batch of N actors."""

    next_observation: Array
    """``[N, observation_size]``: the true successor, before any reset."""
    reward: Array
    """float32 ``[N]``: summed over the repeated action."""
    terminated: Array
    """bool ``[N]``: the task ended by itself; do not bootstrap."""
    truncated: Array
    """bool ``[N]``: time ran out; bootstrap from ``next_observation``."""
    episode_return: Array
    """float32 ``[N]``: return of the episode so far, this reward included; of a team, that of all."""
    elapsed: Array
    """int32 ``[N]``: frames since the reset, these included: at most the time limit. An interaction in
    which the task ended by itself counts whole."""
    shaping: Array | None = None
    """float32 ``[N]``: of a team, over the repeated action."""
    outcome: Array | None = None
    """float32 ``[N]``: of a team that can win: whether it has."""
    successor: Any = None
    """The source's state before any reset, each leaf with a leading E."""


def team_reward(env: Env, reward: Array) -> Array:
    """What teams have of their agents' rewards, ``[E, A]`` → ``[E]``: what is shared once, else the
    sum."""
    if not isinstance(env, TeamEnv):
        return reward
    return reward[:, 0] if env.shared_reward else jnp.sum(reward, axis=1)


def central_view(env: Env, state: Any, observation: Array) -> Array | None:
    """What a central critic sees of E environments, float32 ``[N, critic_size]``; ``None`` if there is
    none.

    Args:
        env: the environment.
        state: of E of them.
        observation: ``[N, observation_size]``.
    """
    if not isinstance(env, TeamEnv) or env.state is None:
        return None
    return join(env, jax.vmap(env.state)(state, split(env, observation)))


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
    n = observation.shape[0] // env.agents
    return VectorState(state, observation, jnp.zeros(n, jnp.int32), jnp.zeros(n, jnp.float32))


AHEAD = 0x61686564
"""Child of a reset's key: of the levels that are drawn ahead."""


def reset(env: Env, key: Array, num_envs: int) -> VectorState:
    """Start ``num_envs`` independent episodes; where there are levels, on random ones, and others are
    drawn for the episodes that follow."""
    state, observation = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    fresh = _started(env, state, join(env, observation))
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


def _added(total: Any, new: Any) -> Any:
    """A step after others of the same interaction: their rewards together."""
    new = new._replace(reward=total.reward + new.reward)
    return new._replace(shaping=total.shaping + new.shaping) if isinstance(new, TeamStep) else new


def _repeat_action(
    env: Env, key: Array, state: Any, action: Array, action_repeat: int, left: Array | None
) -> tuple[Any, Any]:
    """Simulate ``action_repeat`` frames of one environment; nothing counts after a termination, nor once
    the ``left`` frames are over (at least one) until its time is up; ``None``: there are enough."""
    keys = jax.random.split(key, action_repeat)
    state, total = env.step(keys[0], state, action)

    def frame(carry: tuple[Any, Any], now: tuple[Array, Array]) -> tuple[tuple[Any, Any], None]:
        state, total = carry
        frame_key, number = now
        over = total.terminated if left is None else total.terminated | (number >= left)
        new_state, new = env.step(frame_key, state, action)
        new = _added(total, new)
        keep = jax.tree.map(lambda a, b: jnp.where(over, a, b), total, new)
        kept_state = jax.tree.map(lambda a, b: jnp.where(over, a, b), state, new_state)
        return (kept_state, keep), None

    if action_repeat == 1:
        return state, total
    numbers = jnp.arange(1, action_repeat, dtype=jnp.int32)
    (state, total), _ = jax.lax.scan(frame, (state, total), (keys[1:], numbers))
    return state, total


def _holds(env: Env, state: Any, observation: Array, episode_return: Array) -> Array:
    """bool ``[E]``: whether all numbers are finite and none is too large; NaN is below no bound.

    Rewards are looked at in their sum. Whatever else reads a reward would have XLA add it up in another
    way, and healthy runs would differ in their last bits.
    """
    numbers = [episode_return[:, None]]
    if env.physics:
        numbers.append(jax.vmap(env.physics)(state))
    if not env.draw:
        numbers.append(observation.reshape(len(observation), -1))
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
        state: E environments.
        action: float32 ``[N, action_size]`` in ``[-1, 1]``, or int32 ``[N]``.
        action_repeat: frames per interaction.
    """
    num_envs = state.elapsed.shape[0]
    key_step, key_reset = jax.random.split(key)
    limit, elapsed, left = env.episode_length, state.elapsed + action_repeat, None
    if limit % action_repeat:
        elapsed, left = jnp.minimum(elapsed, limit), limit - state.elapsed

    def play(key: Array, envs: Any, action: Array, left: Array | None) -> tuple[Any, Any]:
        return _repeat_action(env, key, envs, action, action_repeat, left)

    keys = jax.random.split(key_step, num_envs)
    raw, seen = jax.vmap(play)(keys, state.env, split(env, action), left)
    episode_return = state.episode_return + team_reward(env, seen.reward)
    holds = _holds(env, raw, seen.observation, episode_return)
    if env.draw:
        shown = _pictures(env, raw, state.observation)
    else:
        shown = _stacked(env, join(env, seen.observation), state.observation)
    shown = jnp.where(to_each(env, holds)[:, None], shown, state.observation)
    reward = jnp.where(to_each(env, holds), join(env, seen.reward), 0.0)
    episode_return = jnp.where(holds, episode_return, state.episode_return)
    terminated = seen.terminated | ~holds
    truncated = (elapsed >= limit) & ~terminated
    told = (terminated, truncated, episode_return, elapsed)
    result = VectorStep(shown, reward, *(to_each(env, x) for x in told))._replace(successor=raw)
    result = _of_team(env, result, seen, holds)
    going = VectorState(raw, shown, elapsed, episode_return, state.level)
    done = terminated | truncated

    def restart(going: VectorState) -> VectorState:
        fresh = begin(env, going.level) if env.levels else reset(env, key_reset, num_envs)

        def choose(new: Array, old: Array) -> Array:
            over = done if len(new) == num_envs else to_each(env, done)
            return jnp.where(over.reshape(over.shape + (1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(choose, fresh, going)

    # A reset can cost as much as a step: pay it only when an episode ended.
    return jax.lax.cond(jnp.any(done), restart, lambda same: same, going), result


def _of_team(env: Env, result: VectorStep, seen: Any, holds: Array) -> VectorStep:
    """The step with what teams alone have; a simulation that broke shapes and wins nothing."""
    if not isinstance(env, TeamEnv):
        return result
    shaping = jnp.where(holds[:, None], seen.shaping, 0.0) if env.shapes else None
    return result._replace(
        shaping=None if shaping is None else join(env, shaping),
        outcome=to_each(env, jnp.where(holds, seen.outcome, 0.0)) if env.wins else None,
    )
