"""Three ways to hold a pruned tensor, behind one way to use it.

A *support* says where a tensor's surviving weights are and how they are held; a pytree of supports has
the structure of the parameters, ``None`` where a tensor is dense. Supports are arrays, so they may
differ from run to run of one compiled program; shapes of what is stored are static.

    params, supports = prune(key, network.init(key, x)["params"], sparsity=0.9, storage="compact")
    state = optimiser.init(params)                      # moments have the shapes of what is stored
    loss = lambda params: jnp.mean(apply(network, params, supports, x) ** 2)
    grads = jax.grad(loss)(params)                      # and so have gradients: nothing else is needed
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.pruning.blocks import Blocks, block_product

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
class Compact:
    """Any pattern: the surviving values alone, in order of their places; made dense for each use."""

    index: Array
    """int32 ``[survivors]``: rising places in the flattened tensor."""
    shape: tuple[int, ...] = field(metadata={"static": True})


Support = Masked | Compact | Blocks


def _is_support(node: Any) -> bool:
    return node is None or isinstance(node, Support)


def _over_supports(function: Callable[[Any, Array], Array], supports: Any, tree: Any) -> Any:
    """Map ``function(support, leaf)`` over the leaves of ``tree``; dense leaves pass through."""
    return jax.tree.map(
        lambda support, leaf: leaf if support is None else function(support, leaf),
        supports,
        tree,
        is_leaf=_is_support,
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
    (index,) = jnp.nonzero(mask.reshape(-1), size=count)
    return Compact(index.astype(jnp.int32), mask.shape)


def _store(support: Support, weights: Array) -> Array:
    match support:
        case Masked():
            return jnp.where(support.mask, weights, jnp.zeros_like(weights))
        case Compact():
            return weights.reshape(-1)[support.index]
        case Blocks():
            return weights.at[support.places].get(mode="fill", fill_value=0)


def store(supports: Any, params: Any) -> Any:
    """Dense parameters → what is stored of them: pruned weights no longer exist."""
    return _over_supports(_store, supports, params)


@jax.custom_vjp
def _with_masked_gradient(weights: Array, mask: Array) -> Array:
    """The weights, which are zero at pruned places already; their gradient is made so."""
    return weights


_with_masked_gradient.defvjp(
    lambda weights, mask: (weights, mask),
    lambda mask, gradient: (jnp.where(mask, gradient, jnp.zeros_like(gradient)), None),
)


def _scatter(stored: Array, index: Array, size: int) -> Array:
    """``[size]``: the stored values at their places, zeros elsewhere."""
    places = jnp.zeros(size, stored.dtype).at[index]
    return places.set(stored, unique_indices=True, indices_are_sorted=True, mode="promise_in_bounds")


def _restore(support: Support, stored: Array) -> Array:
    match support:
        case Masked():
            return _with_masked_gradient(stored, support.mask)
        case Compact():
            return _scatter(stored, support.index, math.prod(support.shape)).reshape(support.shape)
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
            case Compact():
                return _restore(support, jnp.ones(support.index.shape, bool))
            case Blocks():
                return _restore(support, jnp.ones(support.grid.stored_shape, bool))

    return jax.tree.map(mask, supports, is_leaf=_is_support)


def connected_units(support: Support | None, units: int) -> Array:
    """bool ``[units]``: which units of a layer keep at least one input."""
    match support:
        case Masked():
            return jnp.any(support.mask.reshape(-1, units), axis=0)
        case Compact():
            return jnp.zeros(units, bool).at[support.index % units].set(True)
        case _:
            return jnp.ones(units, bool)


def _for_use(support: Support, stored: Array) -> Array:
    """What a layer multiplies with: a dense array, or the values of its blocks."""
    return stored if isinstance(support, Blocks) else _restore(support, stored)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _block_layers(supports: Any) -> Callable[..., Any]:
    """Replaces what dense layers compute where their kernel is stored as blocks."""

    def intercept(call: Any, arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        support = _at(supports, (*layer.path, "kernel")) if context.method_name == "__call__" else None
        if not isinstance(support, Blocks):
            return call(*arguments, **options)
        if not isinstance(layer, nn.Dense):
            raise TypeError(
                f"{'/'.join(layer.path)} is a {type(layer).__name__}; storage=block serves nn.Dense "
                "layers, the others can be stored masked or compact"
            )
        (x,) = arguments
        feature_major = getattr(layer, "feature_major", False)
        columns = x if feature_major else x.reshape(-1, x.shape[-1]).T
        y = block_product(layer.get_variable("params", "kernel"), support, columns)
        if layer.use_bias:
            y = y + layer.get_variable("params", "bias")[:, None]
        return y if feature_major else y.T.reshape(*x.shape[:-1], layer.features)

    return intercept


def weights(supports: Any, stored: Any) -> Any:
    """What the layers multiply with: dense arrays, or the values of blocks.

    Where an update uses the same parameters in several losses, making them once and sharing them saves
    time (compact); gradients with respect to them go back through :func:`jax.vjp`.
    """
    return _over_supports(_for_use, supports, stored)


def apply_weights(network: nn.Module, made: Any, supports: Any, *inputs: Any, **options: Any) -> Any:
    """:func:`apply` with what :func:`weights` made."""
    if not any(isinstance(s, Blocks) for s in jax.tree.leaves(supports, is_leaf=_is_support)):
        return network.apply({"params": made}, *inputs, **options)
    with nn.intercept_methods(_block_layers(supports)):
        return network.apply({"params": made}, *inputs, **options)


def apply(network: nn.Module, params: Any, supports: Any, *inputs: Any, **options: Any) -> Any:
    """``network.apply({"params": …}, *inputs, **options)`` with pruned parameters, however stored.

    Differentiable with respect to ``params``: gradients have their form and are zero, or do not exist,
    at pruned places.

    Args:
        network: any flax module; with blocks, those are in its ``nn.Dense`` layers.
        params: what :func:`store` or :func:`~sparse_rl.pruning.prune` made.
        supports: the supports that go with them.
        inputs, options: passed on.

    Raises:
        TypeError: a kernel stored as blocks belongs to a layer other than ``nn.Dense``.
    """
    return apply_weights(network, weights(supports, params), supports, *inputs, **options)
