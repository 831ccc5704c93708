"""Parameters as named leaves: which of them are kernels, and how many parameters there are."""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import DictKey, GetAttrKey, SequenceKey

from sparse_rl.pruning.distributions import check_sparsity

Prunable = Callable[[str, Any], bool]

INPUTS_FIRST = ("kernel", "w", "w_i", "w_h")
"""Names of kernels ``[inputs, units]``: flax (linen and nnx), haiku."""
UNITS_FIRST = ("weight", "weight_ih", "weight_hh")
"""Names of kernels ``[units, inputs]``: equinox, and torch's state dicts."""
NO_WEIGHTS = ("bias", "b", "scale", "offset", "mean", "var", "g")
"""Names of what may have several axes and is no weight all the same: stacked or broadcast vectors."""
BOXES = ("value", "raw_value")
"""Attributes by which a box (an nnx variable, a partitioned parameter) holds its array."""
TABLES = ("Embedding", "LayerNorm", "RMSNorm", "GroupNorm", "BatchNorm")
"""Layers of equinox whose ``weight`` is no kernel."""


def path_name(path: tuple[Any, ...]) -> str:
    """A leaf's path as ``trunk/embed/kernel``."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


class PassedOverWarning(UserWarning):
    """Parameters look like weights and stay dense."""


class Parameter(NamedTuple):
    """A leaf of a parameter pytree."""

    leaf: Any
    """An array or its shape."""
    owner: Any
    """What holds it: a layer where the library keeps layers in the tree, else a dict."""


def _owner(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        match key:
            case GetAttrKey():
                tree = getattr(tree, key.name)
            case DictKey():
                tree = tree[key.key]
            case SequenceKey():
                tree = tree[key.idx]
            case _:
                return None
    return tree


def parameters(params: Any) -> dict[str, Parameter]:
    """path → leaf and owner, of all leaves."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {path_name(path): Parameter(leaf, _owner(params, path)) for path, leaf in leaves}


def split_name(path: str) -> tuple[str, str, str]:
    """A path as what comes before the parameter's name, the name, and the box around the array, if any:
    ``a/kernel/value`` → ``("a/", "kernel", "/value")``."""
    parts = path.split("/")
    box = f"/{parts.pop()}" if len(parts) > 1 and parts[-1] in BOXES else ""
    return "".join(f"{part}/" for part in parts[:-1]), parts[-1], box


def equinox_kinds(owner: Any) -> set[str]:
    """Names of the equinox classes that a layer is one of; equinox need not be installed."""
    kinds = type(owner).__mro__
    return {kind.__name__ for kind in kinds if kind.__module__.partition(".")[0] == "equinox"}


def default_prunable(path: str, leaf: Any) -> bool:
    """Kernels (tensors of two or more dimensions, named as flax, haiku, equinox or torch name them);
    never biases, norms, scalars or embedding tables."""
    before, name, _ = split_name(path)
    table = name == "weight" and "embedding" in before.rstrip("/").rpartition("/")[-1].lower()
    return name in (*INPUTS_FIRST, *UNITS_FIRST) and len(leaf.shape) >= 2 and not table


def chosen(params: Any, prunable: Prunable = default_prunable) -> dict[str, Parameter]:
    """The leaves that pruning may touch, by path. ``params`` may hold arrays or their shapes."""
    found = {
        path: parameter
        for path, parameter in parameters(params).items()
        if prunable(path, parameter.leaf)
    }
    if prunable is not default_prunable:
        return found
    return {path: p for path, p in found.items() if not equinox_kinds(p.owner) & set(TABLES)}


def _passed_over(params: Any, taken: Mapping[str, Any]) -> list[str]:
    """What looks like a weight and was not chosen: paths and shapes, in words."""

    def weight(path: str, leaf: Any) -> bool:
        several = len(leaf.shape) >= 2 and jnp.issubdtype(leaf.dtype, jnp.inexact)
        return several and path not in taken and split_name(path)[1] not in NO_WEIGHTS

    return [
        f"{path} {tuple(leaf.shape)}"
        for path, (leaf, owner) in parameters(params).items()
        if weight(path, leaf) and not equinox_kinds(owner) & (set(TABLES) - {"Embedding"})
    ]


def select(params: Any, sparsity: float, prunable: Prunable) -> dict[str, Parameter]:
    """What is to be pruned, by path; what the default rule passes over is named in a warning.

    Raises:
        ValueError: sparsity out of range, or nothing to prune.
    """
    check_sparsity(sparsity)
    taken = chosen(params, prunable)
    if sparsity > 0 and not taken:
        among = ", ".join(parameters(params)) or "no parameters"
        raise ValueError(
            f"sparsity={sparsity:g} but nothing to prune among {among}: say which are weights, "
            "prunable=lambda path, leaf: …"
        )
    over = _passed_over(params, taken) if sparsity > 0 and prunable is default_prunable else []
    if over:
        warnings.warn(
            f"left dense: {', '.join(over)}; to prune them, or to leave them without this warning, say "
            "which are weights: prunable=lambda path, leaf: …",
            PassedOverWarning,
            stacklevel=4,
        )
    return taken


def prunable_shapes(params: Any, prunable: Prunable = default_prunable) -> dict[str, tuple[int, ...]]:
    """path → shape of the leaves that pruning may touch. ``params`` may hold arrays or their shapes."""
    return {path: tuple(p.leaf.shape) for path, p in chosen(params, prunable).items()}


class ParameterCounts(NamedTuple):
    """Exact numbers of parameters, biases and norms included."""

    total: int
    nonzero: int


def parameter_counts(masks: Any, params: Any) -> ParameterCounts:
    """Count parameters in all and those that survive the masks (a count of places, not of values)."""
    total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    removed = sum(int(mask.size) - int(mask.sum(dtype=jnp.int32)) for mask in jax.tree.leaves(masks))
    return ParameterCounts(total, total - removed)
