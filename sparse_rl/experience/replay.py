"""A uniform replay buffer as a pytree of arrays, written in place inside compiled loops."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.envs import Spec


class Transition(NamedTuple):
    """One interaction, or a batch of them with a leading axis."""

    observation: Array
    """float32 ``[observation_size]``."""
    action: Array
    """float32 ``[action_size]``."""
    reward: Array
    """float32."""
    next_observation: Array
    """float32 ``[observation_size]``: the true successor, also at the end of an episode."""
    terminated: Array
    """bool: no bootstrapping; false when the episode was merely truncated."""


class Buffer(NamedTuple):
    """What a replay buffer is to the loop that fills it: functions of its contents, a pytree."""

    init: Callable[[int], Any]
    """``interactions, of all environments together → empty``, with room for that many."""
    add: Callable[[Any, Any, Array], Any]
    """``(held, what N environments did, truncated [N]) → held``: :class:`Transition`, or what the loop
    and the buffer both know."""
    sample: Callable[[Any, Array, int], Any]
    """``(held, key, n) → batch``: n samples, whose ``observation`` and ``next_observation`` are
    normalised where that is done. The rest is between the buffer and the agent that chose it."""
    to_disk: Callable[[Any], dict[str, np.ndarray]]
    """What is held, on the host."""
    from_disk: Callable[[Mapping[str, np.ndarray], Any], Any]
    """``(what to_disk made, shapes of all) → held``; KeyError or ValueError if they do not fit."""


class Replay(NamedTuple):
    """The last ``capacity`` transitions."""

    storage: Transition
    """Each field with a leading ``capacity``."""
    position: Array
    """int32: where the next transition goes."""
    size: Array
    """int32: transitions held."""


def init(observation_size: int, action_size: int, capacity: int) -> Replay:
    """An empty buffer for ``capacity`` transitions."""
    storage = Transition(
        jnp.zeros((capacity, observation_size)),
        jnp.zeros((capacity, action_size)),
        jnp.zeros(capacity),
        jnp.zeros((capacity, observation_size)),
        jnp.zeros(capacity, bool),
    )
    return Replay(storage, jnp.int32(0), jnp.int32(0))


def add(replay: Replay, batch: Transition) -> Replay:
    """Store n transitions over the oldest ones; n must divide the capacity."""
    capacity, n = replay.storage.reward.shape[0], batch.reward.shape[0]
    storage = jax.tree.map(
        lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, replay.position, axis=0),
        replay.storage,
        batch,
    )
    return Replay(storage, (replay.position + n) % capacity, jnp.minimum(replay.size + n, capacity))


def to_disk(replay: Replay, num_envs: int) -> dict[str, np.ndarray]:
    """What is held, on the host: rows that were filled, and each successor once.

    Most successors are the observation that the same environment stored ``num_envs`` rows later; only
    the others are written.
    """
    held = jax.device_get(replay)
    size, fields = int(held.size), held.storage._asdict()
    following = fields.pop("next_observation")[:size]
    later = np.arange(num_envs, size + num_envs) % len(held.storage.reward)
    observation = held.storage.observation[later]
    other = np.any(observation.view(np.uint32) != following.view(np.uint32), axis=1)
    return {
        **{name: field[:size] for name, field in fields.items()},
        "position": held.position,
        "size": held.size,
        "other": np.packbits(other),
        "other_successors": following[other],
    }


def from_disk(arrays: Mapping[str, np.ndarray], like: Replay, num_envs: int) -> Replay:
    """The buffer that :func:`to_disk` wrote; ``like`` has its shapes."""
    size = int(arrays["size"])

    def whole(name: str) -> np.ndarray:
        shape = getattr(like.storage, name)
        field = np.zeros(shape.shape, shape.dtype)
        field[:size] = arrays[name]
        return field

    fields = {name: whole(name) for name in ("observation", "action", "reward", "terminated")}
    other = np.unpackbits(arrays["other"], count=size).astype(bool)
    later = np.arange(num_envs, size + num_envs) % len(fields["reward"])
    following = np.zeros_like(fields["observation"])
    following[:size] = fields["observation"][later]
    following[:size][other] = arrays["other_successors"]
    fields["next_observation"] = following
    storage = Transition(**{name: jnp.asarray(field) for name, field in fields.items()})
    numbers = (jnp.asarray(arrays[name]) for name in ("position", "size"))
    return Replay(storage, *numbers)


def sample(replay: Replay, key: Array, batch_size: int) -> Transition:
    """Draw ``batch_size`` transitions uniformly, with replacement."""
    index = jax.random.randint(key, (batch_size,), 0, replay.size)
    return jax.tree.map(lambda field: field[index], replay.storage)


def transition_buffer(env: Spec, num_envs: int) -> Buffer:
    """Single transitions, each with both of its observations."""

    def keep(replay: Replay, batch: Transition, truncated: Array) -> Replay:
        del truncated  # a transition says by itself whether to bootstrap
        return add(replay, batch)

    return Buffer(
        functools.partial(init, env.observation_size, env.action_size),
        keep,
        sample,
        functools.partial(to_disk, num_envs=num_envs),
        functools.partial(from_disk, num_envs=num_envs),
    )
