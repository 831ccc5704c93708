"""The layers of a network that learns from one sample at a time, as our kernels take them: what a sample
becomes, and how its gradient joins eligibility traces where these lie. Nothing but surviving weights is
touched, which XLA's products of dense arrays cannot offer.
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.kernels import native
from sparse_rl.kernels.platforms import by_platform
from sparse_rl.networks import LEAK, MLP_LAYERS, StreamNetwork, leaky, normed
from sparse_rl.pruning import Compact

Params = Any
MOST_SAMPLES = 2
"""That our kernels take at once: what is seen, and what is seen next."""


class Layer(NamedTuple):
    """One dense layer."""

    values: Array
    """float32 ``[inputs, units]``, or ``[survivors]``."""
    place: Array
    """int32 ``[survivors]``: rising places in the flattened kernel; ``[0]`` where nothing is pruned."""
    bias: Array
    """float32 ``[units]``."""


def _paths(network: StreamNetwork) -> list[tuple[str, ...]]:
    """Hidden layers in their order, then heads."""
    hidden = [("trunk", f"dense_{i}") for i in range(MLP_LAYERS)]
    return [*hidden, *((name,) for name, _ in network.heads)]


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def serves(network: StreamNetwork, supports: Any) -> bool:
    """Whether our kernels, if there are any, know this network and how it is stored."""
    if network.kind != "stream_mlp" or not native.load()[0]:
        return False
    kinds = [_at(supports, path)["kernel"] for path in _paths(network)]
    return all(kind is None or (isinstance(kind, Compact) and kind.tiles == 1) for kind in kinds)


def of(network: StreamNetwork, tree: Params, supports: Any) -> list[Layer]:
    """The layers of parameters, or of what has their form."""
    nowhere, layers = jnp.zeros(0, jnp.int32), []
    for path in _paths(network):
        layer, support = _at(tree, path), _at(supports, path)["kernel"]
        place = nowhere if support is None else support.place
        layers.append(Layer(layer["kernel"], place, layer["bias"]))
    return layers


def joined(network: StreamNetwork, made: Sequence[Array]) -> Params:
    """Values and bias of each layer, one after the other → a tree like the parameters."""
    tree: dict[str, Any] = {"trunk": {}}
    for i, path in enumerate(_paths(network)):
        layer = {"kernel": made[2 * i], "bias": made[2 * i + 1]}
        _at(tree, path[:-1])[path[-1]] = layer
    return tree


def _grouped(arrays: Sequence[Array], size: int) -> list[tuple[Array, ...]]:
    return [tuple(arrays[i : i + size]) for i in range(0, len(arrays), size)]


def _shapes(x: Array, layers: Sequence[tuple[Array, ...]]) -> list[tuple[int, ...]]:
    """Of all heads together, and of what the gradient needs."""
    units = [len(layer[2]) for layer in layers]
    return [(len(x), sum(units[MLP_LAYERS:])), (MLP_LAYERS, units[0] + 1)]


def _dense(layer: tuple[Array, ...], inputs: int) -> Array:
    """The dense kernel of a layer, by XLA."""
    values, place, bias = layer
    if values.ndim == 2:
        return values
    return jnp.zeros(inputs * len(bias)).at[place].set(values).reshape(inputs, len(bias))


def _our_look(x: Array, *arrays: Array) -> Sequence[Array]:
    shapes = _shapes(x, _grouped(arrays, 3))
    return native.call_each("stream_look", shapes, {}, x, *arrays, hidden=np.int64(MLP_LAYERS))


def _look(x: Array, *arrays: Array) -> Sequence[Array]:
    heads, kept = [], []
    for i, layer in enumerate(_grouped(arrays, 3)):
        y = x @ _dense(layer, x.shape[1]) + layer[2]
        if i >= MLP_LAYERS:
            heads.append(y)
            continue
        normal, scale = normed(y)
        kept.append(jnp.append(normal[0], scale[0]))
        x = leaky(normal)
    return [jnp.concatenate(heads, axis=1), jnp.stack(kept)]


def look(x: Array, layers: Sequence[Layer]) -> tuple[Array, Array]:
    """What a network says, of one sample or two.

    Args:
        x: float32 ``[n, inputs]``.
        layers: hidden ones, then heads.

    Returns:
        All heads, one after the other, float32 ``[n, units]``, and what the first sample's gradient
        needs: of each hidden layer its normed sums and their scale, ``[hidden, units + 1]``.
    """
    heads, kept = by_platform(_our_look, _look, x, *itertools.chain(*layers))
    return heads, kept


def _our_trace(x: Array, kept: Array, by_heads: Array, decay: Array, *arrays: Array) -> Sequence[Array]:
    layers = _grouped(arrays, 4)
    shapes = [each.shape for layer in layers for each in layer[2:]]
    first = 4  # arrays before those of layers
    places = {first + 4 * i + 2 + k: 2 * i + k for i in range(len(layers)) for k in (0, 1)}
    given = (x, kept, by_heads, decay, *arrays)
    options = {"hidden": np.int64(MLP_LAYERS)}
    return native.call_each("stream_trace", [*shapes, (3,)], places, *given, **options)


def _trace(x: Array, kept: Array, by_heads: Array, decay: Array, *arrays: Array) -> Sequence[Array]:
    layers = _grouped(arrays, 4)
    found: list[tuple[Array, Array]] = []
    seen, below, done = [x[0], *(leaky(row[:-1]) for row in kept)], jnp.zeros(kept.shape[1] - 1), 0

    def add(i: int, read: Array, d: Array) -> Array:
        values, place, _, z_bias = layers[i]
        grad = jnp.outer(read, d)
        whole = _dense((values, place, z_bias), len(read))
        found.append((grad if values.ndim == 2 else grad.reshape(-1)[place], d))
        return whole @ d

    for i in range(MLP_LAYERS, len(layers)):
        units = len(layers[i][3])
        below += add(i, seen[-1], by_heads[done : done + units])
        done += units
    for i in reversed(range(MLP_LAYERS)):
        normal, scale = kept[i, :-1], kept[i, -1]
        d = below * jnp.where(normal > 0, 1.0, LEAK)
        d = scale * (d - jnp.mean(d) - normal * jnp.mean(d * normal))
        below = add(i, seen[i], d)
    ordered = found[len(layers) - MLP_LAYERS :][::-1] + found[: len(layers) - MLP_LAYERS]
    grads = list(itertools.chain(*ordered))
    old = [z for layer in layers for z in layer[2:]]
    new = [decay * z + grad for z, grad in zip(old, grads, strict=True)]
    sums = [
        sum(jnp.sum(function(x)) for x in arrays)
        for function, arrays in ((jnp.abs, new), (jnp.square, new), (jnp.square, grads))
    ]
    return [*new, jnp.stack(sums)]


def trace(
    x: Array,
    kept: Array,
    by_heads: Array,
    decay: Array,
    layers: Sequence[Layer],
    traces: Sequence[Layer],
) -> tuple[list[Array], Array]:
    """z ← decay · z + ∇, where the traces lie.

    Args:
        x: float32 ``[1, inputs]``.
        kept: of :func:`look`.
        by_heads: float32 ``[units]``: derivatives by all heads.
        decay: float32 scalar.
        layers: of the parameters.
        traces: of the same form.

    Returns:
        The traces of values and bias of each layer, one after the other, and float32 ``[3]``: Σ|z|, Σz²
        and Σ∇².
    """
    given = [
        each
        for layer, z in zip(layers, traces, strict=True)
        for each in (layer.values, layer.place, z.values, z.bias)
    ]
    *made, sums = by_platform(_our_trace, _trace, x, kept, by_heads, decay, *given)
    return made, sums
