"""A uniform replay buffer as a pytree of arrays, written in place inside compiled loops."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
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


def sample(replay: Replay, key: Array, batch_size: int) -> Transition:
    """Draw ``batch_size`` transitions uniformly, with replacement."""
    index = jax.random.randint(key, (batch_size,), 0, replay.size)
    return jax.tree.map(lambda field: field[index], replay.storage)
