"""Which weights survive: masks of a given number of survivors.

The number may be a traced value, so that one compiled program serves every sparsity. The pattern
``block`` is drawn elsewhere (:mod:`sparse_rl.pruning.blocks`): its blocks have static sizes.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

Pattern = Literal["unstructured", "constant_fan_in", "block"]
PATTERNS: tuple[str, ...] = get_args(Pattern)


def _smallest(values: Array, count: Array) -> Array:
    """Mask of the ``count[j]`` smallest entries of each column j, ties by position.

    Args:
        values: uint32 ``[n, columns]``.
        count: int32 ``[columns]``, each in ``[0, n]``.

    Bisects each column's threshold bit by bit: 32 passes over the values and no sort, so that the
    67M weights of one layer at width 4096 take seconds and little memory.
    """

    def set_bit(i: Array, below: Array) -> Array:
        trial = below | (jnp.uint32(1) << (jnp.uint32(31) - i.astype(jnp.uint32)))
        fewer = jnp.sum(values < trial, axis=0, dtype=jnp.int32) < count
        return jnp.where(fewer, trial, below)

    # The largest threshold with fewer than `count` values below it: the count-th smallest value.
    threshold = jax.lax.fori_loop(0, 32, set_bit, jnp.zeros(values.shape[1], jnp.uint32))
    lower, equal = values < threshold, values == threshold
    needed = count - jnp.sum(lower, axis=0, dtype=jnp.int32)
    return (lower | (equal & (jnp.cumsum(equal, axis=0, dtype=jnp.int32) <= needed))) & (count > 0)


def unstructured(key: Array, shape: tuple[int, int], count: Array, min_fan_in: int) -> Array:
    """bool ``[inputs, units]``: any weights.

    But each unit first gets ``min_fan_in`` inputs where the budget allows.
    """
    fan_in, units = shape
    values = jnp.maximum(jax.random.bits(key, shape), 1)
    if min_fan_in:
        guaranteed = jnp.minimum(jnp.minimum(min_fan_in, fan_in), count // units)
        first = _smallest(values, jnp.broadcast_to(guaranteed, (units,)))
        values = jnp.where(first, jnp.uint32(0), values)
    return _smallest(values.reshape(-1, 1), count[None]).reshape(shape)


def constant_fan_in(key: Array, shape: tuple[int, int], count: Array) -> Array:
    """bool ``[inputs, units]``: each unit keeps as many inputs as the next one, give or take one."""
    _, units = shape
    key_weights, key_extra = jax.random.split(key)
    extra = _smallest(jax.random.bits(key_extra, (units, 1)), (count % units)[None])[:, 0]
    return _smallest(jax.random.bits(key_weights, shape), count // units + extra.astype(jnp.int32))
