"""A rollout's samples in minibatches of a new order."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def ordered(key: Array, samples: int, together: int) -> Array:
    """Samples in a new order, int32 ``[samples]``.

    Args:
        key: of the order.
        samples: how many.
        together: so many in a row stay so: the agents of a team.
    """
    order = jax.random.permutation(key, samples // together)
    if together == 1:
        return order
    return (together * order[:, None] + jnp.arange(together)).reshape(-1)


def shuffled(experience: Any, key: Array, minibatches: int, together: int = 1) -> Any:
    """Experience ``[n, …]`` → ``[minibatches, n / minibatches, …]``.

    Args:
        experience: n samples, or pieces.
        key: of the order.
        minibatches: how many.
        together: as of :func:`ordered`.
    """
    order = ordered(key, len(jax.tree.leaves(experience)[0]), together)
    shape = (minibatches, -1)
    return jax.tree.map(lambda x: x[order].reshape(*shape, *x.shape[1:]), experience)
