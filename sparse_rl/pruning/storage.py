"""Three ways to hold a pruned tensor, and one to share it, behind one way to use it.

A *support* says where a tensor's surviving weights are and how they are held; a pytree of supports has
the structure of the parameters, ``None`` where a tensor is dense. Supports are arrays, so they may
differ from run to run of one compiled program; shapes of what is stored are static.

    params, supports = prune(key, network.init(key, x)["params"], sparsity=0.9, storage="compact")
    state = optimiser.init(params)                      # moments have the shapes of what is stored
    loss = lambda params: jnp.mean(apply(network, params, supports, x) ** 2)
    grads = jax.grad(loss)(params)                      # and so have gradients: nothing else is needed
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization
from jax import Array

from sparse_rl.pruning.blocks import Blocks
from sparse_rl.pruning.compact import Compact, compact, expand, flat_places

Storage = Literal["masked", "compact", "block"]
STORAGES: tuple[str, ...] = get_args(Storage)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Masked:
    """Any pattern: a dense array with zeros at pruned places."""

    mask: Array
    """bool, the tensor's shape."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Owned:
    """A dense array that several owners use, each through a mask of its own, with zeros where none does.

    For one owner's use it is :func:`owned` first: as it stands, it is what all together keep.
    """

    masks: Array
    """bool ``[owners, …]``, each of the tensor's shape."""

    @property
    def used(self) -> Array:
        """bool, the tensor's shape: places that somebody uses."""
        return jnp.any(self.masks, axis=0)


Support = Masked | Owned | Compact | Blocks


def is_support(node: Any) -> bool:
    return node is None or isinstance(node, Support)


def _over_supports(function: Callable[[Any, Array], Array], supports: Any, tree: Any) -> Any:
    """Map ``function(support, leaf)`` over the leaves of ``tree``; dense leaves pass through."""
    return jax.tree.map(
        lambda support, leaf: leaf if support is None else function(support, leaf),
        supports,
        tree,
        is_leaf=is_support,
    )


def support_of(mask: Array, storage: Storage, count: int | None = None) -> Support:
    """A support of an unstructured mask.

    Args:
        mask: bool, the tensor's shape.
        storage: ``masked`` or ``compact``.
        count: the mask's number of survivors, a static number (``compact``).
    """
    if storage == "masked":
        return Masked(mask)
    if count is None:
        raise ValueError("storage=compact needs the number of survivors")
    return compact(mask, count)


def _store(support: Support, weights: Array) -> Array:
    match support:
        case Masked():
            return jnp.where(support.mask, weights, jnp.zeros_like(weights))
        case Owned():
            return jnp.where(support.used, weights, jnp.zeros_like(weights))
        case Compact():
            return weights.reshape(-1)[flat_places(support)]
        case Blocks():
            return weights.at[support.places].get(mode="fill", fill_value=0)


def store(supports: Any, params: Any) -> Any:
    """Dense parameters → what is stored of them: pruned weights no longer exist."""
    return _over_supports(_store, supports, params)


def _restore(support: Support, stored: Array) -> Array:
    match support:
        case Masked():
            # Zero at pruned places already: only its derivative, in either mode, is made so.
            return jnp.where(support.mask, stored, jax.lax.stop_gradient(stored))
        case Owned():
            return jnp.where(support.used, stored, jax.lax.stop_gradient(stored))
        case Compact():
            return expand(support, stored)
        case Blocks():
            dense = jnp.zeros((support.grid.inputs, support.grid.units), stored.dtype)
            return dense.at[support.places].set(stored, mode="drop")


def restore(supports: Any, stored: Any) -> Any:
    """What is stored → dense parameters with zeros at pruned places.

    Differentiable: gradients with respect to ``stored`` have its form, and nothing at pruned places.
    """
    return _over_supports(_restore, supports, stored)


def support_masks(supports: Any) -> Any:
    """Supports → bool masks of the tensors' shapes, ``None`` where dense."""

    def mask(support: Support | None) -> Array | None:
        match support:
            case None:
                return None
            case Masked():
                return support.mask
            case Owned():
                return support.used
            case Compact():
                return _restore(support, jnp.ones(support.place.shape, bool))
            case Blocks():
                return _restore(support, jnp.ones(support.grid.stored_shape, bool))

    return jax.tree.map(mask, supports, is_leaf=is_support)


def connected_units(support: Support | None, units: int) -> Array:
    """bool ``[units]``: which units of a layer keep at least one input; they are on its last axes."""
    match support:
        case Masked():
            return jnp.any(support.mask.reshape(-1, units), axis=0)
        case Owned():
            return jnp.any(support.used.reshape(-1, units), axis=0)
        case Compact():
            return jnp.zeros(units, bool).at[flat_places(support) % units].set(True)
        case _:
            return jnp.ones(units, bool)


def read_inputs(support: Support | None, inputs: int) -> Array:
    """bool ``[inputs]``: which inputs of a layer at least one unit keeps."""
    match support:
        case Masked():
            return jnp.any(support.mask.reshape(inputs, -1), axis=1)
        case Owned():
            return jnp.any(support.used.reshape(inputs, -1), axis=1)
        case Compact():
            units = support.shape[-1]
            return jnp.zeros(inputs, bool).at[flat_places(support) // units].set(True)
        case _:  # each group of inputs has its blocks
            return jnp.ones(inputs, bool)


def dense_shape(support: Support | None, stored: Any) -> tuple[int, ...]:
    """Shape of the tensor, whatever is stored of it; ``stored`` may be an array or its shape."""
    match support:
        case Masked():
            return support.mask.shape
        case Owned():
            return support.masks.shape[1:]
        case Compact():
            return support.shape
        case Blocks():
            return support.grid.inputs, support.grid.units
        case _:
            return tuple(stored.shape)


def in_layer(support: Support | None) -> bool:
    """Whether a layer multiplies with what is stored: with blocks, or with tile after tile."""
    return isinstance(support, Blocks) or (isinstance(support, Compact) and support.tiles > 1)


def decay_mask(supports: Any, params: Any) -> Any:
    """Which stored parameters are of tensors with several axes, for weight decay that spares biases:
    ``optax.adamw(rate, mask=decay_mask(supports, params))``. The usual ``ndim > 1`` sees vectors in
    compact storage and spares everything.

    Returns:
        pytree like ``params`` of Python bools.
    """

    def decays(support: Support | None, leaf: Array) -> bool:
        return len(support.shape if isinstance(support, Compact) else leaf.shape) > 1

    return jax.tree.map(decays, supports, params, is_leaf=is_support)


def _for_use(support: Support, stored: Array) -> Array:
    """What a layer multiplies with: a dense array, or what is stored."""
    return stored if in_layer(support) else _restore(support, stored)


def weights(supports: Any, stored: Any) -> Any:
    """What the layers multiply with: dense arrays, or what is stored (blocks, tiles).

    Where an update uses the same parameters in several losses, making them once and sharing them saves
    time (compact); gradients with respect to them go back through :func:`jax.vjp`.
    """
    return _over_supports(_for_use, supports, stored)


def owned_by(supports: list[Any]) -> Any:
    """Owners' supports, all masked → one of the weights that they share; dense where they are."""

    def join(*each: Masked | None) -> Owned | None:
        masks = [support.mask for support in each if support is not None]
        return Owned(jnp.stack(masks)) if masks else None

    return jax.tree.map(join, *supports, is_leaf=is_support)


def owned(supports: Any, owner: int) -> Any:
    """The supports of one owner; those of tensors without owners stay as they are."""

    def of(support: Support | None) -> Support | None:
        return Masked(support.masks[owner]) if isinstance(support, Owned) else support

    return jax.tree.map(of, supports, is_leaf=is_support)


def owned_weights(supports: Any, stored: Any, owner: int) -> Any:
    """What one owner uses of what is stored: with its :func:`owned` supports a network like any other.

    Differentiable: what owners' losses say of a weight that several use adds up, and a weight hears
    nothing from those who do not use it.
    """

    def of(support: Support, leaf: Array) -> Array:
        if not isinstance(support, Owned):
            return leaf
        return jnp.where(support.masks[owner], leaf, jnp.zeros_like(leaf))

    return _over_supports(of, supports, stored)


def owners(supports: Any) -> int:
    """How many owners the masks of these tensors have; 1 where there is one mask each."""
    found = jax.tree.leaves(supports, is_leaf=is_support)
    return max((len(support.masks) for support in found if isinstance(support, Owned)), default=1)


def _arrays(support: Support) -> dict[str, Array]:
    return {f.name: getattr(support, f.name) for f in fields(support) if not f.metadata.get("static")}


def _to_state(support: Support) -> dict[str, Any]:
    return {**_arrays(support), "dense": np.asarray(jax.eval_shape(support_masks, support).shape)}


def _from_state(support: Support, state: dict[str, Any]) -> Support:
    dense = jax.eval_shape(support_masks, support).shape
    here = {name: array.shape for name, array in _arrays(support).items()}
    there = {name: np.shape(state[name]) for name in here if name in state}
    if here != there or tuple(map(int, state["dense"])) != dense:
        raise ValueError(
            f"a {type(support).__name__} support of {dense} was to be read, and the file has another: "
            "prune with the settings of the file first"
        )
    read: dict[str, Any] = {name: jnp.asarray(state[name]) for name in here}
    return replace(support, **read)


for _kind in (Masked, Owned, Compact, Blocks):  # else flax writes parameters and drops what they mean
    serialization.register_serialization_state(_kind, _to_state, _from_state)
