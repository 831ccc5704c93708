"""How initial variances, rates and outputs follow a network's width and density, so that one learning
rate serves all sizes: µP (Yang et al. 2022, arXiv 2203.03466, table 8, Adam's column) and SµPar (Dey et
al. 2024, arXiv 2405.15743, for sparse layers).

A layer with n inputs of which a share ρ is kept is compared with the same layer of the base network,
with n₀ and ρ₀: m = (n/n₀)·(ρ/ρ₀). Its variance at the base is σ². Then

- a layer that something else reads has variance σ²/m and rate η/m. Where the inputs are those of the
  network n is n₀: only its density counts, and a dense one is as at the base;
- an output has variance σ² and rate η, and is multiplied by 1/m;
- biases, norms and all else are as at the base.

The multiplier of an output stands in its weights: they are w = θ/m, and the optimiser is shown θ
(:class:`Scale`). So whoever reads weights reads those that the network computes with.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from sparse_rl.networks.wiring import Wire, Wiring

Parametrisation = Literal["standard", "mup", "smup"]
Shape = tuple[int, ...]


class Scale(NamedTuple):
    """What becomes of one tensor, in factors; ``None``: nothing. They are arrays in programs, for they
    may differ from run to run."""

    initial: Any = None
    """On the initial draw."""
    gradient: Any = None
    """On the gradient, before the optimiser sees it."""
    step: Any = None
    """On the optimiser's step, weight decay apart."""


class Layer(NamedTuple):
    """One layer, and the same layer of the base network."""

    shape: Shape
    """Inputs and units."""
    base: Shape
    density: float = 1.0
    base_density: float = 1.0

    @property
    def wider(self) -> float:
        """n/n₀."""
        return self.shape[0] / self.base[0]

    @property
    def multiplier(self) -> float:
        """m; of a layer that keeps nothing, as if it were dense, for there is nothing to scale."""
        if not self.density or not self.base_density:
            return self.wider
        return self.wider * self.density / self.base_density


def variance(wire: Wire, shape: Shape, uniform: bool) -> float:
    """Variance of a layer's standard draw, up to a factor that is the same at every size.

    An orthogonal matrix has squares of 1/max(n, units) in the mean, exactly; others are drawn by n.

    Args:
        wire: the layer.
        shape: inputs and units.
        uniform: all layers are drawn within ±1/√n.
    """
    return 1.0 / (shape[0] if uniform or wire.drawn == "fan_in" else max(shape))


def _outputs(name: str, wiring: Wiring) -> tuple[str, ...]:
    """Layers whose units are what the agent's arithmetic uses. An encoder's are read by other networks;
    of a mixer all but one are weights and biases of the layers that mix."""
    if name == "encoder":
        return ()
    return tuple(head for head in wiring.heads if name != "mixer" or head == "bias_out")


def _kernel(wire: Wire, layer: Layer, output: bool, uniform: bool) -> Scale:
    """Of a layer's weights."""
    m = layer.multiplier
    ratio = variance(wire, layer.base, uniform) / variance(wire, layer.shape, uniform)
    if output:
        return Scale(math.sqrt(ratio) / m, 1.0 / m, 1.0 / m)
    return Scale(math.sqrt(ratio / m), None, 1.0 / m)


def product(one: float | None, other: float | None) -> float | None:
    """Of two factors."""
    return other if one is None else one if other is None else one * other


def times(scale: Scale, other: Scale) -> Scale:
    """Both, one after the other."""
    return Scale(*map(product, scale, other))


def scales(
    name: str,
    wiring: Wiring,
    layers: Mapping[str, Layer],
    paths: Mapping[str, Any],
    *,
    uniform: bool = False,
    by_size: bool = False,
) -> dict[str, Scale]:
    """Path → its factors, of all tensors of a network.

    Args:
        name: of the network: an encoder puts out what others read, a mixer the weights of a network.
        wiring: of it.
        layers: kernel's path → the layer, here and at the base.
        paths: of all its tensors.
        uniform: weights and biases are drawn within ±1/√n.
        by_size: the optimiser minds how large gradients are (docs/parametrisation.md): they
            are shown as large as at the base. All but those of an output's bias are as 1/m, the
            output's.
    """
    found = {path: Scale() for path in paths}
    outputs = _outputs(name, wiring)
    largest = max((layers[f"{head}/kernel"].multiplier for head in outputs), default=1.0)
    for wire in wiring.layers:
        layer, bias, output = layers[wire.kernel], f"{wire.layer}/bias", wire.layer in outputs
        found[wire.kernel] = _kernel(wire, layer, output, uniform)
        if bias in found and uniform:
            found[bias] = Scale(math.sqrt(layer.wider))
        if name == "mixer" and wire.layer == "weights_out":
            # It makes the weights of an output, one for each unit that mixes.
            units = layer.base[1] / layer.shape[1]
            used = Scale(units, units, units)
            found |= {path: times(found[path], used) for path in (wire.kernel, bias)}
    if not by_size:
        return found
    last = {f"{head}/bias" for head in outputs}
    return {
        path: scale if path in last else times(scale, Scale(gradient=largest))
        for path, scale in found.items()
    }


def kept_scales(densities: Mapping[str, float], paths: Mapping[str, Any]) -> dict[str, Scale]:
    """Path → its factors where masking should not shrink what layers make: weights are multiplied by
    1/√ρ, so that the squares of a layer's weights sum to what they did (Evci et al. 2022, arXiv
    2010.03533). ρ is the layer's own: survivors over weights, whatever single units keep.

    Args:
        densities: kernel's path → ρ. Of a layer that keeps nothing, nothing is multiplied.
        paths: of all tensors of the network.
    """
    return {
        path: Scale((densities[path] or 1.0) ** -0.5) if path in densities else Scale() for path in paths
    }
