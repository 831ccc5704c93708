"""Parameters as named leaves: which may be pruned, and how many there are."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Prunable = Callable[[str, Any], bool]


def path_name(path: tuple[Any, ...]) -> str:
    """A leaf's path as ``trunk/embed/kernel``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def default_prunable(path: str, leaf: Any) -> bool:
    """Kernels (tensors of two or more dimensions named ``kernel``); never biases, norms or scalars."""
    return path.rsplit("/", 1)[-1] == "kernel" and len(leaf.shape) >= 2


def prunable_shapes(params: Any, prunable: Prunable = default_prunable) -> dict[str, tuple[int, ...]]:
    """path → shape of the leaves that pruning may touch. ``params`` may hold arrays or their shapes."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = [(path_name(path), leaf) for path, leaf in leaves]
    return {name: tuple(leaf.shape) for name, leaf in named if prunable(name, leaf)}


class ParameterCounts(NamedTuple):
    """Exact numbers of parameters, biases and norms included."""

    total: int
    nonzero: int


def parameter_counts(masks: Any, params: Any) -> ParameterCounts:
    """Count parameters in all and those that survive the masks (a count of places, not of values)."""
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    removed = sum(int(mask.size) - int(mask.sum(dtype=jnp.int32)) for mask in jax.tree.leaves(masks))
    return ParameterCounts(total, total - removed)
