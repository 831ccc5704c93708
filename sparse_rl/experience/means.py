"""Means over those who count, and sums over teams. An agent of a team that is dead, or waits, is in no
statistic."""

import jax.numpy as jnp
from jax import Array


def mean(numbers: Array, weight: Array | None) -> Array:
    """The mean of all numbers that count, a float32 scalar; 0 where none does.

    Args:
        numbers: of any shape.
        weight: of the same, 1 or 0; ``None``: all count.
    """
    if weight is None:
        return jnp.mean(numbers, dtype=jnp.float32)
    return jnp.sum(numbers * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def summed(numbers: Array, together: int) -> Array:
    """Sums of so many in a row, of teams over their agents: ``[E · A, …]`` → ``[E, …]``."""
    return jnp.sum(numbers.reshape(-1, together, *numbers.shape[1:]), axis=1)


def variance(numbers: Array, weight: Array | None) -> Array:
    """Their variance, a float32 scalar."""
    if weight is None:
        return jnp.var(numbers)
    return mean(jnp.square(numbers - mean(numbers, weight)), weight)


def deviation(numbers: Array, weight: Array | None) -> Array:
    """Their standard deviation, a float32 scalar."""
    return jnp.std(numbers) if weight is None else jnp.sqrt(variance(numbers, weight))


def first_of(order: Array, weight: Array) -> Array:
    """The samples that count in this order, over and over: int32 ``[n]``. Where none counts, all.

    Args:
        order: int32 ``[n]``: a permutation.
        weight: float32 ``[n]``: 1 for what counts, else 0.
    """
    counts = weight[order] > 0
    ranked = order[jnp.argsort(~counts, stable=True)]
    many = jnp.sum(counts)
    return ranked[jnp.arange(len(order)) % jnp.where(many > 0, many, len(order))]
