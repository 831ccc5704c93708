"""Which axes of a tensor are its inputs, which its units, and which number equal layers beside it.

A tensor is one matrix ``[inputs, units]`` or a stack of them: the members of an ensemble (``nn.vmap``),
the layers of an ``nn.scan``, the groups of a convolution. Each member is pruned as the matrix it is.
What the axes mean is read off a parameter's name, its bias and, where the tree holds layers (equinox),
its layer; :func:`~sparse_rl.pruning.flax_axes` reads it off a flax network. Where neither says it, the
caller must: a guess would prune another matrix than the one that is multiplied with.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from sparse_rl.pruning.tree import UNITS_FIRST, Parameter, equinox_kinds, parameters, split_name

Shape = tuple[int, ...]


class AxesError(ValueError):
    """It cannot be known which of a tensor's axes are inputs and which are units."""


@dataclass(frozen=True)
class Axes:
    """What a tensor's axes mean; those that are not named number members, each a matrix of its own.

    ``Axes(inputs=(1,), units=(2,))`` is a stack of matrices; ``Axes(inputs=(0,), units=(1, 2))`` one
    matrix whose units are numbered by two axes (heads and their features).
    """

    inputs: tuple[int, ...]
    units: tuple[int, ...]
    shape: Shape | None = None
    """The shape in which the axes are counted, where it is not the tensor's own: a grouped convolution
    has its groups apart, ``(3, 3, inputs, groups, units)``."""


@dataclass(frozen=True)
class Layout:
    """A tensor as the matrices it is made of."""

    shape: Shape
    """The tensor's."""
    seen: Shape
    """The same with groups apart."""
    stack: tuple[int, ...]
    inputs: tuple[int, ...]
    units: tuple[int, ...]

    def _sizes(self, axes: Iterable[int]) -> Shape:
        return tuple(self.seen[axis] for axis in axes)

    @property
    def members(self) -> int:
        """Number of matrices."""
        return math.prod(self._sizes(self.stack))

    @property
    def member(self) -> Shape:
        """Shape of one, units last; several axes of inputs (a window) are kept apart."""
        return (*self._sizes(self.inputs), math.prod(self._sizes(self.units)))

    @property
    def plain(self) -> bool:
        """Whether the tensor is one matrix as it lies: any axes of inputs, then one of units."""
        return (*self.inputs, *self.units) == tuple(range(len(self.shape))) and len(self.units) == 1

    def assemble(self, masks: list[Array]) -> Array:
        """Masks of the members → the tensor's."""
        order = (*self.stack, *self.inputs, *self.units)
        stacked = jnp.stack(masks).reshape(self._sizes(order))
        back = sorted(range(len(order)), key=order.__getitem__)
        return stacked.transpose(back).reshape(self.shape)


def names(path: str, layout: Layout) -> list[str]:
    """The members' names: a plain tensor's is its path."""
    return [path] if not layout.stack else [f"{path}[{i}]" for i in range(layout.members)]


def layout_of(path: str, shape: Shape, axes: Axes) -> Layout:
    """The layout of a tensor whose axes are told.

    Raises:
        AxesError: the axes do not fit the tensor.
    """
    seen = shape if axes.shape is None else tuple(axes.shape)
    rank = len(seen)
    inputs, units = (tuple(axis % max(rank, 1) for axis in part) for part in (axes.inputs, axes.units))
    named = (*inputs, *units)
    outside = [axis for axis in (*axes.inputs, *axes.units) if not -rank <= axis < rank]
    if outside or not units or len(set(named)) < len(named) or math.prod(seen) != math.prod(shape):
        raise AxesError(f"{path} has the shape {shape}, which {axes} does not describe")
    stack = tuple(axis for axis in range(rank) if axis not in named)
    return Layout(shape, seen, stack, inputs, units)


def _unknown(path: str, shape: Shape, why: str) -> AxesError:
    return AxesError(
        f"{path} {shape}: {why}, so which axes are inputs, units or members of a stack cannot be known. "
        f'Tell: axes={{"{path}": Axes(inputs=(…), units=(…))}}, in flax '
        "axes=flax_axes(network, *inputs), or leave the layer out with a prunable of your own"
    )


def split_groups(axes: Axes, shape: Shape, axis: int, groups: int) -> Axes:
    """``axes`` of a tensor of which one axis holds groups, one after the other; they become members."""
    if groups == 1:
        return axes
    seen = (*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])

    def moved(named: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(a + (a >= axis) for a in named)

    return Axes(moved(axes.inputs), moved(axes.units), seen)


def _inputs_first(path: str, shape: Shape, bias: Shape | None) -> Axes:
    """``[stack, inputs, units]``, by a bias of ``[stack, units]``; a matrix needs none."""
    rank = len(shape)
    if rank <= 2:
        if bias is not None and len(bias) == 1 and bias[0] == shape[0] != shape[-1]:
            raise _unknown(path, shape, f"its bias has {bias[0]} entries")
        return Axes(tuple(range(rank - 1)), (rank - 1,))
    if bias is None:
        raise _unknown(path, shape, "it has no bias to tell by")
    fits = [
        stack
        for stack in range(len(bias))
        if bias[:stack] == shape[:stack] and bias[stack:] == shape[stack + rank - len(bias) :]
    ]
    if len(fits) != 1 or len(bias) >= rank:
        raise _unknown(path, shape, f"its bias {bias} fits {len(fits) or 'no'} readings")
    units = len(bias) - fits[0]
    return Axes(tuple(range(fits[0], rank - units)), tuple(range(rank - units, rank)))


def _units_first(path: str, shape: Shape, bias: Shape | None, owner: Any) -> Axes:
    """``[stack, units, inputs, window]``, by the layer (equinox) or a bias of ``[stack, units, 1…]``."""
    kinds, rank = equinox_kinds(owner), len(shape)
    groups = 1
    if kinds & {"Conv", "ConvTranspose"}:
        stack, groups = rank - 2 - owner.num_spatial_dims, owner.groups
    elif kinds & {"Linear", "GRUCell", "LSTMCell"}:
        stack = rank - 2
    elif bias is not None:
        while len(bias) > 1 and bias[-1] == 1:
            bias = bias[:-1]
        stack = len(bias) - 1
        if shape[: stack + 1] != bias or stack + 2 > rank:
            raise _unknown(path, shape, f"its bias is {bias}")
    elif rank <= 2:
        stack = 0
    else:
        raise _unknown(path, shape, "it has no bias to tell by")
    inputs = (*range(stack + 2, rank), stack + 1)  # as flax has them: window, inputs
    return split_groups(Axes(inputs, (stack,)), shape, stack, groups)


def _bias(path: str, among: Mapping[str, Parameter]) -> Shape | None:
    before, name, box = split_name(path)
    found = among.get(f"{before}{'b' if name == 'w' else 'bias'}{box}")
    return None if found is None else tuple(found.leaf.shape)


def _axes(path: str, among: Mapping[str, Parameter]) -> Axes:
    leaf, owner = among[path]
    shape = tuple(leaf.shape)
    if len(shape) >= 2 and split_name(path)[1] in UNITS_FIRST:
        return _units_first(path, shape, _bias(path, among), owner)
    return _inputs_first(path, shape, _bias(path, among))


def layouts(
    params: Any, taken: Iterable[str], told: Mapping[str, Axes] | None = None
) -> dict[str, Layout]:
    """The matrices that each of these tensors is made of.

    Args:
        params: pytree of arrays or shapes.
        taken: paths of the tensors that are pruned.
        told: path → axes; the others are found by name, bias and layer.

    Raises:
        AxesError: they cannot be known, or do not fit.
        ValueError: ``told`` names a parameter that is not there.
    """
    among, told = parameters(params), told or {}
    unknown = [path for path in told if path not in among]
    if unknown:
        raise ValueError(f"axes: no parameter {', '.join(unknown)}; choose from {', '.join(among)}")
    return {
        path: layout_of(path, tuple(among[path].leaf.shape), told.get(path) or _axes(path, among))
        for path in taken
    }
