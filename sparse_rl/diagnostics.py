"""Network health as pure functions, for use inside compiled programs.

Activations are taken *after* the nonlinearity; ratios lie in [0, 1]; norms are global L2 norms.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.kernels.singular import singular_values
from sparse_rl.networks import ACTIVATION, Wiring, follow, wiring_of
from sparse_rl.pruning import apply, connected_units, dense_shape, path_name, read_inputs, restore
from sparse_rl.settings.run import DiagnosticsConfig


class Dormancy(NamedTuple):
    """float32 scalars in [0, 1], or NaN where there is no connected unit."""

    layers: dict[str, Array]
    """Dormant share of the connected units, per layer."""
    network: Array
    """Dormant share of the connected units of all layers."""
    disconnected: Array
    """Share of the units of these layers that have no surviving input."""


def dormancy(
    activations: Mapping[str, Array], connected: Mapping[str, Array], threshold: float = 0.1
) -> Dormancy:
    """τ-dormant ratio (Sokar et al. 2023, arXiv 2302.12902, Def. 3.1) over connected units.

    A unit's score is its mean absolute activation over the samples, divided by the mean of that over
    the connected units of its layer; it is dormant if the score is at most τ. In a layer that is dead
    altogether every unit is dormant. A unit whose inputs are all pruned outputs a constant: it is not
    sick but absent, so it is left out and reported apart; where no unit is left, there is no ratio.

    Args:
        activations: layer → float32 ``[samples, units]``, after the nonlinearity.
        connected: layer → bool ``[units]``.
        threshold: τ.
    """
    layers, dormant, alive, units = {}, jnp.int32(0), jnp.int32(0), 0
    for layer, activation in activations.items():
        inside = connected[layer]
        size = jnp.sum(inside, dtype=jnp.int32)
        magnitude = jnp.mean(jnp.abs(activation), axis=0)
        among = jnp.maximum(size, 1).astype(jnp.float32)
        mean = jnp.sum(jnp.where(inside, magnitude, 0.0)) / among
        asleep = jnp.sum(inside & (magnitude <= threshold * mean), dtype=jnp.int32)
        layers[layer] = ratio(asleep, size)
        dormant, alive, units = dormant + asleep, alive + size, units + inside.size
    return Dormancy(layers, ratio(dormant, alive), ratio(units - alive, units))


def ratio(count: Any, of: Any) -> Array:
    """The share of whole numbers, float32: exact at 0 and 1, NaN of nothing.

    XLA multiplies with 1/n where n is known when it compiles, and n · (1/n) is not 1 for every n.
    """
    share = jnp.where(count == of, 1.0, count / jnp.maximum(of, 1))
    return jnp.where(of > 0, share, jnp.nan).astype(jnp.float32)


class Unconnected(NamedTuple):
    """What a network's pruned kernels leave without use: int32 scalars, and how many there are."""

    unread: Array
    """Inputs of the network that no surviving weight reads."""
    inputs: int
    cut_off: Array
    """Units that keep no input, or that no surviving weight reads."""
    units: int


def unconnected(wiring: Wiring, params: Any, supports: Any) -> Unconnected:
    """Count inputs that are not read and units that are cut off, over all layers.

    An input is an entry of what the network reads, of a picture for a convolution a channel. A unit is
    a column of a kernel, heads included; a channel of a convolution is read if one of its places is.
    Where several layers' units are added up (SimBa's residual stream), who reads the sum reads each.

    Args:
        wiring: of the network.
        params: as stored, or their shapes.
        supports: of these.
    """
    held = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    of = {wire.kernel: _at(supports, wire.kernel) for wire in wiring.layers}
    shapes = {kernel: dense_shape(support, held[kernel]) for kernel, support in of.items()}

    def unread(kernel: str, rows: np.ndarray) -> Array:
        read = read_inputs(of[kernel], shapes[kernel][0])
        return 1 - jnp.any(read[rows], axis=1).astype(jnp.int32)

    def without_input(kernel: str) -> Array:
        return 1 - connected_units(of[kernel], shapes[kernel][1]).astype(jnp.int32)

    found = follow(wiring, shapes, unread, without_input)
    return Unconnected(*_total(found.unread), *_total(found.cut_off))


def _total(found: Mapping[str, Array]) -> tuple[Array, int]:
    """The sum over all, and how many there are."""
    return sum(map(jnp.sum, found.values()), jnp.int32(0)), sum(x.size for x in found.values())


def _at(supports: Any, path: str) -> Any:
    for name in path.split("/"):
        supports = supports[name]
    return supports


def global_norm(tree: Any) -> Array:
    """L2 norm of all numbers in a pytree, as one vector.

    Pruned places of parameters and gradients hold exact zeros or do not exist, so they do not count.
    """
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), jnp.float32(0)))


def feature_norm(features: Array) -> Array:
    """Mean L2 norm of the features: float32 ``[samples, width]`` → scalar."""
    return jnp.mean(jnp.linalg.norm(features, axis=-1))


def effective_rank(features: Array, threshold: float = 0.01) -> Array:
    """srank_δ (Kumar et al. 2021, arXiv 2010.14498, §3): the least k whose singular values hold 1 − δ.

    Args:
        features: float32 ``[samples, width]``. The rank cannot exceed ``samples``: give more samples
            than the width, or read the result as capped.
        threshold: δ.

    Returns:
        int32 scalar; 0 for features that are zero, or no numbers. Each singular value is off by at
        most 2·10⁻⁶ of the largest (:mod:`sparse_rl.kernels.singular`), and shares of the sum by less
        than 10⁻⁵: the rank is float64's unless a share of float64's is that close to 1 − δ.
    """
    values = singular_values(features)
    total = jnp.sum(values)
    enough = jnp.cumsum(values) >= (1.0 - threshold) * total
    return jnp.where(total > 0, jnp.argmax(enough).astype(jnp.int32) + 1, 0)


SATURATED = 0.9
"""Magnitude from which on a squashed unit says only its sign."""


def saturation(squashed: Array) -> Array:
    """The share of units and samples beyond :data:`SATURATED`: float32 ``[samples, units]`` → scalar.

    Dormancy (a small mean magnitude) says nothing of units behind a tanh, which are small where they
    listen and large where they are deaf: they have no more gradient there. The bound is that of
    Karpathy et al. 2015 (arXiv 1506.02078, §4.2), who count gates beyond it.
    """
    return jnp.mean(jnp.abs(squashed) > SATURATED, dtype=jnp.float32)


def network_health(
    network: Any,
    members: Mapping[str, Any],
    supports: Mapping[str, Any],
    inputs: tuple[Array, ...] | Mapping[str, tuple[Array, ...]],
    settings: DiagnosticsConfig,
) -> dict[tuple[str, str], Array]:
    """Health of a network, or of an ensemble read as one network, on a probe batch.

    Args:
        network: flax module that sows ``activations`` and, unless what it makes is too wide to rank,
            ``features`` (:mod:`sparse_rl.networks.dense`).
        members: label → parameters; the label ``""`` for a network that is no ensemble.
        supports: label → supports of its parameters.
        inputs: what the network is applied to, float32 ``[samples, …]`` each; or label → that.
        settings: thresholds.

    Returns:
        (metric, suffix) → scalar; the suffix is empty for the network and ``/layer`` for a layer.
    """
    activations: dict[str, Array] = {}
    connected: dict[str, Array] = {}
    made: dict[str, Array] = {}
    norms, ranks, squashed = [], [], []
    for label, params in members.items():
        collections = ["activations", "features", "squashed"]
        seen = inputs[label] if isinstance(inputs, Mapping) else inputs
        _, sown = apply(network, params, supports[label], *seen, mutable=collections)
        squashed += sown.get("squashed", {}).get("memory", ())
        if settings.preactivations:
            sizes = preactivations(network, restore(supports[label], params), *seen)
            made |= {f"{label}/{layer}".strip("/"): size for layer, size in sizes.items()}
        for features in _features(sown.get("features", {})):
            norms.append(feature_norm(features))
            ranks.append(effective_rank(features, settings.srank_threshold))
        for name, (value,) in sown["activations"]["trunk"].items():
            layer = name.removesuffix(ACTIVATION)
            support = supports[label]["trunk"][layer]["kernel"]
            activations[f"{label}/{layer}"] = value
            connected[f"{label}/{layer}"] = connected_units(support, value.shape[-1])
    found = dormancy(activations, connected, settings.dormant_threshold)
    health = {("dormant_ratio", f"/{k.strip('/')}"): v for k, v in found.layers.items()}
    health["dormant_ratio", ""] = found.network
    wiring = wiring_of(network)
    counts = [unconnected(wiring, members[label], supports[label]) for label in members]
    unread, entries, cut_off, units = map(sum, zip(*counts, strict=True))
    health["unread_inputs", ""] = ratio(unread, entries)
    health["disconnected_ratio", ""] = ratio(cut_off, units)
    if norms:
        health["feature_norm", ""] = jnp.mean(jnp.stack(norms))
        health["srank", ""] = jnp.mean(jnp.stack(ranks).astype(jnp.float32))
    if squashed:
        health["saturation", ""] = jnp.mean(jnp.stack(list(map(saturation, squashed))))
    health["param_norm", ""] = global_norm(members)
    return health | {("preactivation", f"/{layer}"): size for layer, size in made.items()}


def preactivations(network: nn.Module, params: Any, *inputs: Any) -> dict[str, Array]:
    """How large what each layer makes is before its nonlinearity: layer → √ of the mean square over
    samples and units, float32.

    Args:
        network: flax module whose layers are ``nn.Dense`` or convolutions of ours.
        params: its parameters, dense.
        inputs: of the network.
    """
    found: dict[str, Array] = {}

    def watch(call: Any, arguments: Any, options: Any, context: Any) -> Any:
        layer = context.module
        if isinstance(layer, nn.Dense) and context.method_name == "__call__":
            x = next(iter((*arguments, *options.values())))
            x = jnp.moveaxis(x, 0, -1) if getattr(layer, "feature_major", False) else x
            x = layer.read(x) if hasattr(layer, "read") else x
            y = x @ layer.get_variable("params", "kernel")
            y = y + layer.get_variable("params", "bias") if layer.use_bias else y
            found["/".join(layer.path)] = jnp.sqrt(jnp.mean(jnp.square(y)))
        return call(*arguments, **options)

    with nn.intercept_methods(watch):
        network.apply({"params": params}, *inputs)
    return found


def _features(sown: Mapping[str, Any]) -> tuple[Array, ...]:
    """What the heads see: the memory of a network that has one, what a mixer mixes, else what the trunk
    makes."""
    trunk = sown.get("trunk", {}).get("trunk", ())
    found: tuple[Array, ...] = sown.get("memory", sown.get("mixed", trunk))
    return found
