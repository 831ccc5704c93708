"""A rollout's samples in minibatches of a new order."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def shuffled(experience: Any, key: Array, minibatches: int, together: int = 1) -> Any:
    """Experience ``[n, …]`` → ``[minibatches, n / minibatches, …]``.

    Args:
        experience: n samples, or pieces.
        key: of the order.
        minibatches: how many.
        together: samples in a row that stay so: the agents of a team.
    """
    samples = len(jax.tree.leaves(experience)[0])
    order = jax.random.permutation(key, samples // together)
    if together > 1:
        order = (together * order[:, None] + jnp.arange(together)).reshape(-1)
    shape = (minibatches, -1)
    return jax.tree.map(lambda x: x[order].reshape(*shape, *x.shape[1:]), experience)
