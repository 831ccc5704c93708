"""Block sparsity: a layer as G dense blocks in a regular graph, for which time falls with the weights.

The inputs of a layer are shuffled and cut into G groups, the outputs are cut into G groups as they
stand, and output group j reads the input groups j, j+1, …, j+k−1 (mod G): density k/G. Every input is
read by as many outputs and every output reads as many inputs as the next one (give or take the one
unit by which group sizes differ), so no unit is dead. What is random is the shuffle; outputs need none,
for the next layer shuffles them.

All arrays here are feature-major, ``[units, n]``: shuffling then moves whole rows, and the G products
are one batched product (docs/storage.md has what else was tried).
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.kernels import native
from sparse_rl.kernels.platforms import by_platform
from sparse_rl.kernels.products import Products, biased, product

TOLERANCE = 0.05
"""Relative error in density up to which fewer and larger blocks are preferred to an exact density."""

FOR_KERNELS = 1 << 17
"""Weights of a group up to which our kernels are faster than XLA's products: half a MB, that stays in a
core's second cache (docs/storage.md)."""


class BlockError(ValueError):
    """A layer has fewer units than it would need groups of them."""


def _members(sizes: np.ndarray, room: int) -> np.ndarray:
    """int ``[groups, room]``: 0, 1, 2 … cut into groups of these sizes; padding one past the last."""
    slots, starts = np.arange(room), np.cumsum(sizes) - sizes
    return np.where(slots < sizes[:, None], starts[:, None] + slots, sizes.sum())


@jax.tree_util.register_static
@dataclass(frozen=True)
class BlockGrid:
    """The blocks of one layer: what is known before anything is drawn."""

    inputs: int
    units: int
    groups: int
    """G."""
    fan_in: int
    """k: blocks that each output group reads."""

    def sizes(self, n: int) -> np.ndarray:
        """int ``[G]``: n units in G groups whose sizes differ by at most one, larger ones first."""
        return n // self.groups + (np.arange(self.groups) < n % self.groups)

    @property
    def block(self) -> tuple[int, int]:
        """Units and inputs of the largest block."""
        return -(-self.units // self.groups), -(-self.inputs // self.groups)

    @property
    def columns(self) -> np.ndarray:
        """int ``[groups, units of a block]``: the unit at each place; padding out of range."""
        return _members(self.sizes(self.units), self.block[0])

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """Shape of the stored values: groups, units of a group, inputs that it reads; padded with 0."""
        units, inputs = self.block
        return self.groups, units, self.fan_in * inputs

    @property
    def count(self) -> int:
        """Exact number of weights."""
        inputs, units = self.sizes(self.inputs), self.sizes(self.units)
        return int(sum(units @ np.roll(inputs, -r) for r in range(self.fan_in)))


def block_grid(path: str, shape: tuple[int, ...], density: float, fan_in: int = 1) -> BlockGrid | None:
    """The grid of fewest and largest blocks whose density k/G is within 5 % of what is asked for.

    Where none is that close, the closest. ``None`` means that the layer is best left dense; one with a
    single unit (a head) cannot be cut, so it is left dense too.

    Args:
        path: the layer's name, for the error.
        shape: of the kernel; its last axis is the units, the others are inputs.
        density: share of the weights to keep, in (0, 1].
        fan_in: least k, where the layer has units enough.

    Raises:
        BlockError: the density is below that of one block per group with as many groups as units.
    """
    inputs, units = int(np.prod(shape[:-1])), shape[-1]
    most = min(inputs, units)
    if most == 1 or density >= 1.0 - TOLERANCE:
        return None
    if density * most < 1.0 - TOLERANCE:
        raise BlockError(
            f"{path} ({inputs}×{units}) would keep {density:.3g} of its weights, but cut into as many "
            f"groups as it can ({most}) and with one block each it keeps {1 / most:.3g}"
        )

    def error(grid: tuple[int, int]) -> float:
        return abs(grid[0] / grid[1] - density) / density

    def grids(least: int) -> Iterator[tuple[int, int]]:
        return ((k, min(max(round(k / density), k), most)) for k in range(least, most + 1))

    close = next((grid for grid in grids(fan_in) if error(grid) <= TOLERANCE), None)
    k, groups = close or min(grids(1), key=error)
    return BlockGrid(inputs, units, groups, k) if k < groups else None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blocks:
    """Where the blocks of a layer are; the values lie in an array of ``grid.stored_shape``."""

    rows: Array
    """int32 ``[groups, inputs of a group]``: the inputs that each output group reads; padding is out of
    range, at ``grid.inputs``."""
    back: Array
    """int32 ``[fan_in, inputs]``: where in the flattened ``rows`` each input is read."""
    grid: BlockGrid = field(metadata={"static": True})

    @property
    def places(self) -> tuple[Array, Array]:
        """Input and unit of each stored value, to be broadcast; padding is out of range."""
        return self.rows[:, None, :], jnp.asarray(self.grid.columns, jnp.int32)[:, :, None]


def draw_blocks(key: Array, grid: BlockGrid) -> Blocks:
    """Shuffle a layer's inputs into groups."""
    order = jax.random.permutation(key, jnp.arange(grid.inputs, dtype=jnp.int32))
    sizes, size = grid.sizes(grid.inputs), grid.block[1]
    groups = jnp.append(order, jnp.int32(grid.inputs))[_members(sizes, size)]
    rows = jnp.concatenate([jnp.roll(groups, -r, axis=0) for r in range(grid.fan_in)], axis=1)

    group = np.repeat(np.arange(grid.groups), sizes)  # of the inputs, in shuffled order
    slot = np.arange(grid.inputs) - (np.cumsum(sizes) - sizes)[group]
    place = jnp.argsort(order)
    reads = [((group - r) % grid.groups, r * size + slot) for r in range(grid.fan_in)]
    flat = np.stack([reader * rows.shape[1] + column for reader, column in reads])
    return Blocks(rows, jnp.asarray(flat, jnp.int32)[:, place], grid)


@jax.custom_vjp
def _read(x: Array, rows: Array, back: Array) -> Array:
    """Rows of ``x``, zero where out of range. Its gradient reads too: ``back`` saves a scatter-add."""
    return x.at[rows].get(mode="fill", fill_value=0)


def _read_forward(x: Array, rows: Array, back: Array) -> tuple[Array, Array]:
    return _read(x, rows, back), back


def _read_backward(back: Array, gradient: Array) -> tuple[Array, None, None]:
    flat = gradient.reshape(-1, gradient.shape[-1])
    reads = [flat.at[index].get(mode="promise_in_bounds") for index in back]
    return sum(reads[1:], reads[0]), None, None


_read.defvjp(_read_forward, _read_backward)


def _join(y: Array, grid: BlockGrid) -> Array:
    """``[groups, room, n]`` → ``[units, n]``: the groups one after the other, without padding."""
    larger = grid.units % grid.groups
    if not larger:
        return y.reshape(grid.units, -1)
    parts = (y[:larger], y[larger:, :-1])
    return jnp.concatenate([part.reshape(-1, y.shape[-1]) for part in parts])


def _by_xla(
    values: Array, blocks: Blocks, x: Array, bias: Array | None, relu: bool,
    products: Products = "float32", precision: Any = None,
) -> Array:  # fmt: skip
    read, grid = _read(x, blocks.rows, blocks.back), blocks.grid
    return biased(_join(product(values, read, products, precision), grid), bias, relu)


# Each in two forms, of which programs hold one: by our kernels, where shuffled rows are read, and joined
# rows written, where they lie, and by XLA.


def _our_outputs(
    values: Array, rows: Array, back: Array, x: Array, bias: Array, grid: BlockGrid, relu: bool
) -> Sequence[Array]:
    shape = (grid.units, x.shape[1])
    return native.call("block_outputs", [shape], values, rows, x, bias, relu=np.bool_(relu))


def _outputs(
    values: Array, rows: Array, back: Array, x: Array, bias: Array, grid: BlockGrid, relu: bool
) -> Sequence[Array]:
    return [_by_xla(values, Blocks(rows, back, grid), x, bias, relu)]


def _our_inputs(values: Array, rows: Array, back: Array, d: Array, grid: BlockGrid) -> Sequence[Array]:
    return native.call("block_inputs", [(grid.inputs, d.shape[1])], values, rows, d)


def _inputs(values: Array, rows: Array, back: Array, d: Array, grid: BlockGrid) -> Sequence[Array]:
    anywhere = jnp.zeros((grid.inputs, d.shape[1]), d.dtype)  # the layer is linear but for its ReLU
    _, pull = jax.vjp(lambda x: _by_xla(values, Blocks(rows, back, grid), x, None, False), anywhere)
    return list(pull(d))


def _our_gradients(x: Array, rows: Array, back: Array, d: Array, grid: BlockGrid) -> Sequence[Array]:
    return native.call("block_gradients", [grid.stored_shape, (grid.units,)], x, rows, d)


def _gradients(x: Array, rows: Array, back: Array, d: Array, grid: BlockGrid) -> Sequence[Array]:
    anywhere = jnp.zeros(grid.stored_shape, d.dtype), jnp.zeros(grid.units, d.dtype)
    _, pull = jax.vjp(lambda v, b: _by_xla(v, Blocks(rows, back, grid), x, b, False), *anywhere)
    return list(pull(d))


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _by_kernels(
    values: Array, rows: Array, back: Array, x: Array, bias: Array, grid: BlockGrid, relu: bool
) -> Array:
    (y,) = by_platform(_our_outputs, _outputs, values, rows, back, x, bias, grid=grid, relu=relu)
    return y


def _kernels_forward(
    values: Array, rows: Array, back: Array, x: Array, bias: Array, grid: BlockGrid, relu: bool
) -> tuple[Array, tuple[Array, ...]]:
    y = _by_kernels(values, rows, back, x, bias, grid, relu)
    return y, (values, rows, back, x, y)


def _kernels_backward(
    grid: BlockGrid, relu: bool, kept: tuple[Array, ...], gradient: Array
) -> tuple[Array, None, None, Array, Array]:
    values, rows, back, x, y = kept
    if relu:
        gradient = jnp.where(y > 0.0, gradient, 0.0)
    (dx,) = by_platform(_our_inputs, _inputs, values, rows, back, gradient, grid=grid)
    dvalues, dbias = by_platform(_our_gradients, _gradients, x, rows, back, gradient, grid=grid)
    return dvalues, None, None, dx, dbias


_by_kernels.defvjp(_kernels_forward, _kernels_backward)


def _product(values: Array, rows: Array, back: Array, x: Array, how: Any) -> Array:
    """A layer without bias by XLA; ``how``: a :class:`~sparse_rl.kernels.gpu_blocks.Grid`."""
    grid = BlockGrid(how.inputs, how.units, how.groups, how.fan_in)
    return _by_xla(values, Blocks(rows, back, grid), x, None, False, how.products, how.precision)


def _by_pallas(
    values: Array, blocks: Blocks, x: Array, bias: Array | None, relu: bool,
    products: Products, precision: Any,
) -> Array:  # fmt: skip
    from sparse_rl.kernels import gpu_blocks  # takes a second, and nearly nobody needs it

    grid, interpret = blocks.grid, native.choice() == native.INTERPRETED
    shape = grid.inputs, grid.units, grid.groups, grid.fan_in
    how = gpu_blocks.Grid(*shape, products, precision, interpret)
    y = gpu_blocks.block_product(values, blocks.rows, blocks.back, x, how, _product)
    return biased(y, bias, relu)


def block_layer(
    values: Array,
    blocks: Blocks,
    x: Array,
    bias: Array | None = None,
    relu: bool = False,
    products: Products = "float32",
    precision: Any = None,
) -> Array:
    """A layer with blocks: ``[inputs, n]`` → ``[units, n]``, of one dtype.

    Args:
        values: of the grid's stored shape.
        blocks: where they are.
        x: feature-major inputs, of the values' dtype.
        bias: ``[units]``, of that dtype; ``None`` for a layer without.
        relu: whether the layer ends in a ReLU.
        products: what the operands of its product are rounded to.
        precision: of the product, as :func:`jax.numpy.matmul` takes it.
    """
    grid = blocks.grid
    small = grid.stored_shape[1] * grid.stored_shape[2] <= FOR_KERNELS
    single = all(a.dtype == jnp.float32 for a in (values, x, bias) if a is not None)
    if single and native.by_pallas():
        return _by_pallas(values, blocks, x, bias, relu, products, precision)
    ours = small and single and products == "float32" and precision is None
    lanes = native.load()[0] if ours else 0
    if lanes and x.shape[1] % lanes == 0:
        added = jnp.zeros(grid.units) if bias is None else bias
        return _by_kernels(values, blocks.rows, blocks.back, x, added, grid, relu)
    return _by_xla(values, blocks, x, bias, relu, products, precision)
