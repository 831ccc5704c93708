"""A uniform replay buffer as a pytree of arrays, written in place inside compiled loops."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


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
