"""What the layers of a flax network say of their kernels' axes."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax

from sparse_rl.kernels.keys import key_of
from sparse_rl.pruning.axes import Axes, AxesError, Shape, split_groups
from sparse_rl.pruning.tree import parameters


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _own_axes(layer: nn.Module, shape: Shape) -> tuple[Axes, int] | None:
    """Axes of a layer's kernel as it sees it, and its groups (along the last axis)."""
    rank = len(shape)
    if isinstance(layer, nn.DenseGeneral):
        batch, units = len(_tuple(layer.batch_dims)), len(_tuple(layer.features))
        return Axes(tuple(range(batch, rank - units)), tuple(range(rank - units, rank))), 1
    if isinstance(layer, nn.Conv | nn.ConvLocal | nn.ConvTranspose):
        groups = getattr(layer, "feature_group_count", 1)
        if getattr(layer, "transpose_kernel", False):
            return Axes((*range(rank - 2), rank - 1), (rank - 2,)), 1
        first = rank - 2 if isinstance(layer, nn.ConvLocal) else 0  # a kernel for every position
        return Axes(tuple(range(first, rank - 1)), (rank - 1,)), groups
    if isinstance(layer, nn.Dense) and rank == 2:
        return Axes((0,), (1,)), 1
    return None


def _insertions(whole: Shape, own: Shape) -> Iterator[tuple[int, ...]]:
    """Which axes of ``whole`` a lifted transform may have put between the layer's own."""
    for extra in itertools.combinations(range(len(whole)), len(whole) - len(own)):
        if tuple(size for axis, size in enumerate(whole) if axis not in extra) == own:
            yield extra


def _lifted(path: str, layer: Axes, groups: int, own: Shape, whole: Shape, biases: Any) -> Axes:
    """The axes of the stored kernel: the layer's own, and those of the transforms around it."""
    fits = list(_insertions(whole, own))
    if biases is not None:
        fits = [extra for extra in fits if extra in list(_insertions(*biases))] or fits
    if len(fits) != 1:
        raise AxesError(
            f"{path} {whole}: its layer has a kernel of {own}, and equal sizes hide which axis numbers "
            f'members. Tell: axes={{"{path}": Axes(inputs=(…), units=(…))}}'
        )
    places = [axis for axis in range(len(whole)) if axis not in fits[0]]
    inputs, units = (tuple(places[axis] for axis in part) for part in (layer.inputs, layer.units))
    return split_groups(Axes(inputs, units), whole, places[-1], groups)


def _at(tree: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def flax_axes(network: nn.Module, *inputs: Any, **options: Any) -> dict[str, Axes]:
    """What the axes of a flax network's kernels mean, for ``prune(…, axes=flax_axes(network, x))``.

    The network is traced, not run: layers inside ``nn.vmap``, ``nn.scan`` and ``nn.remat`` see a kernel
    without the axes that the transform adds. Known are ``nn.Dense``, ``nn.DenseGeneral`` (attention),
    ``nn.Conv`` (groups included), ``nn.ConvTranspose`` and ``nn.ConvLocal``; others are left to names
    and biases.

    Args:
        network: any linen module.
        inputs, options: of ``network.init`` after its key: arrays or their shapes.

    Returns:
        path within ``params`` → axes.

    Raises:
        AxesError: two axes of equal size, of which one numbers members.
    """
    layers: dict[tuple[str, ...], tuple[nn.Module, Shape, Shape | None]] = {}

    def own_shape(layer: nn.Module, name: str) -> Any:
        array = nn.unbox(layer.get_variable("params", name))
        return None if array is None else tuple(array.shape)

    def read(call: Any, arguments: Any, named: Any, context: nn.module.InterceptorContext) -> Any:
        made = call(*arguments, **named)
        layer = context.module
        known = isinstance(layer, nn.Dense | nn.DenseGeneral | nn.Conv | nn.ConvLocal | nn.ConvTranspose)
        if known and context.method_name == "__call__" and layer.has_variable("params", "kernel"):
            layers[layer.path] = (layer, own_shape(layer, "kernel"), own_shape(layer, "bias"))
        return made

    with nn.intercept_methods(read):
        initialise = functools.partial(network.init, **options)
        variables = jax.eval_shape(initialise, key_of(0), *inputs)
    params = variables["params"]
    paths = {id(p.leaf): path for path, p in parameters(params).items()}
    found = {}
    for path, (layer, own, bias) in layers.items():
        axes = _own_axes(layer, own)
        held = _at(params, path)
        kernel = nn.unbox(held["kernel"])
        biases = None if bias is None else (tuple(nn.unbox(held["bias"]).shape), bias)
        if axes is not None:
            name = paths[id(kernel)]
            found[name] = _lifted(name, *axes, own, tuple(kernel.shape), biases)
    return found
