"""Which weights survive.

The number of survivors may be a traced value, so that one compiled program serves every sparsity.
"""

import zlib
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.pruning.distributions import Distribution, surviving_counts
from sparse_rl.pruning.masked import Prunable, default_prunable, path_name, prunable_shapes

Pattern = Literal["unstructured", "constant_fan_in"]
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


def _unstructured(key: Array, shape: tuple[int, int], count: Array, min_fan_in: int) -> Array:
    """Any weights, but each unit first gets ``min_fan_in`` inputs where the budget allows."""
    fan_in, units = shape
    values = jnp.maximum(jax.random.bits(key, shape), 1)
    if min_fan_in:
        guaranteed = jnp.minimum(jnp.minimum(min_fan_in, fan_in), count // units)
        first = _smallest(values, jnp.broadcast_to(guaranteed, (units,)))
        values = jnp.where(first, jnp.uint32(0), values)
    return _smallest(values.reshape(-1, 1), count[None]).reshape(shape)


def _constant_fan_in(key: Array, shape: tuple[int, int], count: Array) -> Array:
    """Each unit keeps as many inputs as the next one; fan-ins differ by one where the count is odd."""
    _, units = shape
    key_weights, key_extra = jax.random.split(key)
    extra = _smallest(jax.random.bits(key_extra, (units, 1)), (count % units)[None])[:, 0]
    return _smallest(jax.random.bits(key_weights, shape), count // units + extra.astype(jnp.int32))


def masks_from_counts(
    key: Array,
    params: Any,
    counts: Mapping[str, Any],
    *,
    pattern: Pattern = "unstructured",
    min_fan_in: int = 1,
) -> Any:
    """Random masks with the given numbers of survivors, which may be traced.

    Args:
        key: mask key; each tensor draws from ``fold_in(key, crc32(path))``, so a tensor's mask does
            not depend on which other tensors there are.
        params: pytree of arrays (or shapes). A tensor's last axis is its units, the others its inputs.
        counts: path → int32 survivors, for the tensors to prune.
        pattern: ``unstructured`` or ``constant_fan_in``.
        min_fan_in: inputs that each unit keeps at least, where the budget allows (unstructured).

    Returns:
        pytree like ``params``: bool arrays, ``None`` where ``counts`` names no path.

    Raises:
        ValueError: an unknown pattern.
    """
    if pattern not in PATTERNS:
        raise ValueError(f"pattern={pattern!r}; choose one of {', '.join(PATTERNS)}")

    def mask(path: tuple[Any, ...], leaf: Any) -> Array | None:
        name = path_name(path)
        if name not in counts:
            return None
        leaf_key = jax.random.fold_in(key, zlib.crc32(name.encode()))
        count = jnp.asarray(counts[name], jnp.int32)
        units = leaf.shape[-1]
        matrix = (leaf.size // units, units)
        if pattern == "constant_fan_in":
            return _constant_fan_in(leaf_key, matrix, count).reshape(leaf.shape)
        return _unstructured(leaf_key, matrix, count, min_fan_in).reshape(leaf.shape)

    return jax.tree_util.tree_map_with_path(mask, params)


def random_masks(
    key: Array,
    params: Any,
    sparsity: float,
    *,
    distribution: Distribution = "erdos_renyi",
    pattern: Pattern = "unstructured",
    min_fan_in: int = 1,
    prunable: Prunable = default_prunable,
) -> Any:
    """Draw one-shot random static masks for a parameter pytree.

    The total number of survivors is exactly ``round((1 − sparsity) · prunable weights)``.

    Args:
        key: mask key (kept apart from the seed that initialises the weights).
        params: pytree of arrays.
        sparsity: share of prunable weights to remove, in [0, 1).
        distribution: how the survivors are shared among layers.
        pattern: which weights of a layer survive.
        min_fan_in: see :func:`masks_from_counts`.
        prunable: ``(path, leaf) → bool``; by default kernels, never biases or norms.

    Returns:
        pytree like ``params``: bool arrays, ``None`` where not prunable.

    Raises:
        ValueError: sparsity out of range, or an unknown distribution or pattern.
    """
    counts = surviving_counts(prunable_shapes(params, prunable), sparsity, distribution)
    return masks_from_counts(key, params, counts, pattern=pattern, min_fan_in=min_fan_in)
