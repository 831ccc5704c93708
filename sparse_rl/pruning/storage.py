"""Three ways to hold a pruned tensor, behind one way to use it.

A *support* says where a tensor's surviving weights are and how they are held; a pytree of supports has
the structure of the parameters, ``None`` where a tensor is dense. Supports are arrays, so they may
differ from run to run of one compiled program; shapes of what is stored are static.

    params, supports = prune(key, network.init(key, x)["params"], sparsity=0.9, storage="compact")
    state = optimiser.init(params)                      # moments have the shapes of what is stored
    loss = lambda params: jnp.mean(apply(network, params, supports, x) ** 2)
    grads = jax.grad(loss)(params)                      # and so have gradients: nothing else is needed
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.kernels.products import Products, biased
from sparse_rl.pruning.blocks import Blocks, block_layer
from sparse_rl.pruning.compact import Compact, compact, compact_product, expand, flat_places

Storage = Literal["masked", "compact", "block"]
STORAGES: tuple[str, ...] = get_args(Storage)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Masked:
    """Any pattern: a dense array with zeros at pruned places."""

    mask: Array
    """bool, the tensor's shape."""


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
    if count is None:
        raise ValueError("storage=compact needs the number of survivors")
    return compact(mask, count)


def _store(support: Support, weights: Array) -> Array:
    match support:
        case Masked():
            return jnp.where(support.mask, weights, jnp.zeros_like(weights))
        case Compact():
            return weights.reshape(-1)[flat_places(support)]
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


def _restore(support: Support, stored: Array) -> Array:
    match support:
        case Masked():
            return _with_masked_gradient(stored, support.mask)
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
            case Compact():
                return _restore(support, jnp.ones(support.place.shape, bool))
            case Blocks():
                return _restore(support, jnp.ones(support.grid.stored_shape, bool))

    return jax.tree.map(mask, supports, is_leaf=_is_support)


def connected_units(support: Support | None, units: int) -> Array:
    """bool ``[units]``: which units of a layer keep at least one input."""
    match support:
        case Masked():
            return jnp.any(support.mask.reshape(-1, units), axis=0)
        case Compact():
            return jnp.zeros(units, bool).at[flat_places(support) % units].set(True)
        case _:
            return jnp.ones(units, bool)


def read_inputs(support: Support | None, inputs: int) -> Array:
    """bool ``[inputs]``: which inputs of a layer at least one unit keeps."""
    match support:
        case Masked():
            return jnp.any(support.mask.reshape(inputs, -1), axis=1)
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
        case Compact():
            return support.shape
        case Blocks():
            return support.grid.inputs, support.grid.units
        case _:
            return tuple(stored.shape)


def _in_layer(support: Support | None) -> bool:
    """Whether a layer multiplies with what is stored: with blocks, or with tile after tile."""
    return isinstance(support, Blocks) or (isinstance(support, Compact) and support.tiles > 1)


def _for_use(support: Support, stored: Array) -> Array:
    """What a layer multiplies with: a dense array, or what is stored."""
    return stored if _in_layer(support) else _restore(support, stored)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _layer(support: Any, kernel: Array, bias: Array | None, layer: nn.Dense, x: Array) -> Array:
    """A dense layer that multiplies with what is stored, maybe with what it reads of its input."""
    x = layer.read(x) if hasattr(layer, "read") else x
    feature_major: bool = getattr(layer, "feature_major", False)
    products: Products = getattr(layer, "products", "float32")
    relu: bool = getattr(layer, "relu", False)
    columns = x if feature_major else x.reshape(-1, x.shape[-1]).T
    if isinstance(support, Blocks):
        y = block_layer(kernel, support, columns, bias, relu, products)
    else:
        y = biased(compact_product(columns.T, kernel, support, products).T, bias, relu)
    return y if feature_major else y.T.reshape(*x.shape[:-1], -1)


def _sparse_layers(supports: Any) -> Callable[..., Any]:
    """Replaces what dense layers compute where they multiply with what is stored."""

    def intercept(call: Any, arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        layer = context.module
        support = _at(supports, (*layer.path, "kernel")) if context.method_name == "__call__" else None
        if not _in_layer(support):
            return call(*arguments, **options)
        if not isinstance(layer, nn.Dense):
            raise TypeError(
                f"{'/'.join(layer.path)} is a {type(layer).__name__}; storage=block, and compact for "
                "matrices of many megabytes, serve nn.Dense layers; the others can be stored masked"
            )
        (x,) = arguments
        kernel = layer.get_variable("params", "kernel")
        bias = layer.get_variable("params", "bias") if layer.use_bias else None
        return _layer(support, kernel, bias, layer, x)

    return intercept


def weights(supports: Any, stored: Any) -> Any:
    """What the layers multiply with: dense arrays, or what is stored (blocks, tiles).

    Where an update uses the same parameters in several losses, making them once and sharing them saves
    time (compact); gradients with respect to them go back through :func:`jax.vjp`.
    """
    return _over_supports(_for_use, supports, stored)


def apply_weights(network: nn.Module, made: Any, supports: Any, *inputs: Any, **options: Any) -> Any:
    """:func:`apply` with what :func:`weights` made."""
    if not any(_in_layer(support) for support in jax.tree.leaves(supports, is_leaf=_is_support)):
        return network.apply({"params": made}, *inputs, **options)
    with nn.intercept_methods(_sparse_layers(supports)):
        return network.apply({"params": made}, *inputs, **options)


def apply(network: nn.Module, params: Any, supports: Any, *inputs: Any, **options: Any) -> Any:
    """``network.apply({"params": …}, *inputs, **options)`` with pruned parameters, however stored.

    Differentiable with respect to ``params``: gradients have their form and are zero, or do not exist,
    at pruned places.

    Args:
        network: any flax module; blocks and tiles are in its ``nn.Dense`` layers.
        params: what :func:`store` or :func:`~sparse_rl.pruning.prune` made.
        supports: the supports that go with them.
        inputs, options: passed on.

    Raises:
        TypeError: blocks, or a large compact kernel, belong to a layer other than ``nn.Dense``.
    """
    return apply_weights(network, weights(supports, params), supports, *inputs, **options)
