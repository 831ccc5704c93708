"""Flax networks with pruned parameters, however these are stored.

Where a layer multiplies with what is stored (blocks, tiles of a large compact kernel) its product is
made here, by the layer's own rules: what the fields of ``nn.Dense`` say holds, or is refused by name.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from jax import Array

from sparse_rl.kernels.products import Products, biased
from sparse_rl.pruning.blocks import Blocks, block_layer
from sparse_rl.pruning.compact import compact_product
from sparse_rl.pruning.storage import in_layer, is_support, weights

SERVED = (
    "storage=block, and compact for matrices of many megabytes, serve nn.Dense layers; the others can "
    "be stored masked"
)
MARK = "multiplies_stored"
"""Attribute of a class whose ``__call__`` is a dense layer's product and what its fields ``read``,
``feature_major``, ``products`` and ``relu`` say: it may be made with what is stored."""


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _refusal(layer: nn.Module) -> str | None:
    """Why a layer's product cannot be made with what is stored."""
    kind = type(layer)
    if not isinstance(layer, nn.Dense):
        return f"is a {kind.__name__}"
    computes = next(base for base in kind.__mro__ if "__call__" in vars(base))
    if computes is not nn.Dense and MARK not in vars(computes):
        return f"is a {kind.__name__} with a __call__ of its own"
    if layer.dot_general is not None or layer.dot_general_cls is not None:
        return "has a dot_general of its own"
    return None


def _changes_kernels(layer: nn.Module, supports: Any) -> str | None:
    """The name of a layer whose kernel, stored for products of ours, is another when it is used."""
    if not isinstance(layer, nn.WeightNorm | nn.SpectralNorm):
        return None
    path = layer.layer_instance.path
    held = jax.tree.leaves(_at(supports, path), is_leaf=is_support)
    return "/".join(path) if any(map(in_layer, held)) else None


def _product(support: Any, layer: nn.Dense, x: Array) -> Array:
    """A dense layer that multiplies with what is stored, maybe with what it reads of its input."""
    x = layer.read(x) if hasattr(layer, "read") else x
    feature_major: bool = getattr(layer, "feature_major", False)
    products: Products = getattr(layer, "products", "float32")
    relu: bool = getattr(layer, "relu", False)
    kernel = layer.get_variable("params", "kernel")
    bias = layer.get_variable("params", "bias") if layer.use_bias else None
    x, kernel, bias = layer.promote_dtype(x, kernel, bias, dtype=layer.dtype)
    columns = x if feature_major else x.reshape(-1, x.shape[-1]).T
    if isinstance(support, Blocks):
        y = block_layer(kernel, support, columns, bias, relu, products, layer.precision)
    else:
        turned = compact_product(columns.T, kernel, support, products, layer.precision).T
        y = biased(turned, bias, relu)
    return y if feature_major else y.T.reshape(*x.shape[:-1], -1)


def _sparse_layers(supports: Any) -> Callable[..., Any]:
    """Replaces what dense layers compute where they multiply with what is stored."""

    def intercept(
        call: Any,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        layer = context.module
        if context.method_name != "__call__":
            return call(*arguments, **options)
        changed = _changes_kernels(layer, supports)
        if changed is not None:
            raise TypeError(f"{changed} is in a {type(layer).__name__}; {SERVED}")
        support = _at(supports, (*layer.path, "kernel"))
        if not in_layer(support):
            return call(*arguments, **options)
        refused = _refusal(layer)
        if refused:
            raise TypeError(f"{'/'.join(layer.path) or 'the network'} {refused}; {SERVED}")
        (x,) = [*arguments, *options.values()]
        return _product(support, layer, x)

    return intercept


def _call(network: nn.Module, variables: Any, supports: Any, inputs: Any, options: Any) -> Any:
    if not any(in_layer(support) for support in jax.tree.leaves(supports, is_leaf=is_support)):
        return network.apply(variables, *inputs, **options)
    try:
        with nn.intercept_methods(_sparse_layers(supports)):
            return network.apply(variables, *inputs, **options)
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        raise TypeError(
            "no forward mode (jvp, jacfwd, Hessian-vector products) through products with blocks or "
            "tiles; apply the network to restore(supports, params) there, or store it masked"
        ) from error


def apply_weights(
    network: nn.Module,
    made: Any,
    supports: Any,
    *inputs: Any,
    collections: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """:func:`apply` with what :func:`~sparse_rl.pruning.weights` made."""
    given = dict(collections or {})
    if "params" in given:
        raise ValueError("collections hold what is beside params; params are given apart, as stored")
    found = _call(network, {"params": made, **given}, supports, inputs, options)
    changes = options.get("mutable", False)
    if changes is not False and "batch_stats" in found[1] and "batch_stats" not in given:
        raise ValueError(
            "batch_stats would begin anew in every call: give collections={'batch_stats': …}, of init "
            "or of the call before"
        )
    return found


def apply(
    network: nn.Module,
    params: Any,
    supports: Any,
    *inputs: Any,
    collections: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """``network.apply({"params": …, **collections}, *inputs, **options)`` with pruned parameters.

    Differentiable with respect to ``params``: gradients have their form and are zero, or do not exist,
    at pruned places. Forward mode too, but through products with blocks and tiles.

    Args:
        network: any flax module; blocks and tiles are in its ``nn.Dense`` layers.
        params: what :func:`~sparse_rl.pruning.store` or :func:`~sparse_rl.pruning.prune` made.
        supports: the supports that go with them.
        inputs: of the network.
        collections: what the network has beside parameters: ``{"batch_stats": …}``.
        options: passed on: ``train=True``, ``rngs=…``, ``mutable=["batch_stats"]``, which returns what
            has changed beside the output.

    Raises:
        TypeError: blocks, or a large compact kernel, belong to a layer other than ``nn.Dense``, or to
            one whose own rules cannot be kept; forward mode through them.
        ValueError: running statistics that are to change were not given.
    """
    made = weights(supports, params)
    return apply_weights(network, made, supports, *inputs, collections=collections, **options)
