"""Products with blocks as kernels of our own for GPUs (Pallas, in its Triton form), with both gradients.

XLA's form copies the shuffled rows that each group reads into an array of their own, fan-in times the
input, before it multiplies, and joins the groups of unequal size afterwards. Here a program instance
reads shuffled rows, and writes joined ones, where they lie. Nobody has run these on a GPU yet. Tests
lower them for one and compute them by Pallas's interpreter, and they are used only where
:data:`~sparse_rl.kernels.native.VARIABLE` says so.

Arrays are those of :mod:`sparse_rl.pruning.blocks`: feature-major ``[units, n]``, values ``[groups,
units of a group, inputs that it reads]`` with 0 at padding, and ``rows`` of those inputs, out of range
there.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from sparse_rl.kernels.products import Products

TILE, STEP = 64, 32
"""Rows and columns of the result that an instance makes, and terms of its sums at a time: powers of two,
as Triton needs. Not tuned: no GPU has been met."""
TRITON = triton.CompilerParams()
"""Not Mosaic, which Pallas takes for GPUs otherwise: it reads no shuffled rows."""
LEAST = 16
"""Of a side of a product on tensor cores."""


class Grid(NamedTuple):
    """What is known of a layer before tracing; as in :class:`sparse_rl.pruning.blocks.BlockGrid`."""

    inputs: int
    units: int
    groups: int
    fan_in: int
    products: Products
    precision: Any
    interpret: bool
    """Whether Pallas's interpreter computes, on any device and slowly."""

    @property
    def block(self) -> tuple[int, int]:
        """Units and inputs of the largest group."""
        return -(-self.units // self.groups), -(-self.inputs // self.groups)

    def first(self, group: Any) -> Any:
        """The first unit of a group, among all."""
        return group * (self.units // self.groups) + jnp.minimum(group, self.units % self.groups)

    def size(self, group: Any) -> Any:
        """Units of a group."""
        return self.units // self.groups + (group < self.units % self.groups)


def _side(n: int, most: int) -> int:
    """A power of two, as large as needed and no larger than ``most``."""
    return max(LEAST, min(most, 1 << (n - 1).bit_length()))


def _load(ref: Any, rows: Any, columns: Any, mask: Any, *group: Any) -> Any:
    """Rows × columns of a matrix, or of that of a group; 0 where ``mask`` is false."""
    return triton.load(ref.at[*group, rows[:, None], columns[None, :]], mask=mask, other=0.0)


def _dot(a: Any, b: Any, grid: Grid) -> Any:
    if grid.products == "bfloat16":
        a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return triton.dot(a, b, precision=grid.precision)


def _sum_of(steps: int, term: Callable[[Any], Any], shape: tuple[int, int]) -> Any:
    return jax.lax.fori_loop(0, steps, lambda s, found: found + term(s), jnp.zeros(shape, jnp.float32))


def _call(
    kernel: Any, grid: Grid, cells: tuple[int, int, int], shape: tuple[int, ...], *given: Array
) -> Array:
    made = jax.ShapeDtypeStruct(shape, jnp.float32)
    run = pl.pallas_call(kernel, made, grid=cells, interpret=grid.interpret, compiler_params=TRITON)
    found: Array = run(*given)
    return found


def outputs(values: Array, rows: Array, x: Array, grid: Grid) -> Array:
    """What the blocks make of ``x`` ``[inputs, n]``: ``[units, n]``, without bias."""
    (units, _), read, n = grid.block, rows.shape[1], x.shape[1]
    high, wide, step = _side(units, TILE), _side(n, TILE), _side(read, STEP)

    def kernel(values: Any, rows: Any, x: Any, y: Any) -> None:
        group = pl.program_id(0)
        unit = pl.program_id(1) * high + jnp.arange(high)
        column = pl.program_id(2) * wide + jnp.arange(wide)

        def term(s: Any) -> Any:
            place = s * step + jnp.arange(step)
            row = triton.load(rows.at[group, place], mask=place < read, other=grid.inputs)
            there = (unit < units)[:, None] & (place < read)[None, :]
            held = _load(values, unit, place, there, group)
            seen = _load(x, row, column, (row < grid.inputs)[:, None] & (column < n)[None, :])
            return _dot(held, seen, grid)

        found = _sum_of(pl.cdiv(read, step), term, (high, wide))
        mine = (unit < grid.size(group))[:, None] & (column < n)[None, :]
        triton.store(y.at[(grid.first(group) + unit)[:, None], column[None, :]], found, mask=mine)

    cells = (grid.groups, pl.cdiv(units, high), pl.cdiv(n, wide))
    return _call(kernel, grid, cells, (grid.units, n), values, rows, x)


def inputs_gradient(values: Array, rows: Array, d: Array, grid: Grid) -> Array:
    """``d`` ``[units, n]``, the gradient of the outputs → that of the inputs ``[inputs, n]``.

    Input group ``h`` is read by the output groups ``h, h-1, …``, by the ``r``-th of them as its ``r``-th
    block: an instance sums over these and writes each row of its own once.
    """
    (units, inputs), n = grid.block, d.shape[1]
    high, wide, step = _side(inputs, TILE), _side(n, TILE), _side(units, STEP)
    steps = pl.cdiv(units, step)

    def kernel(values: Any, rows: Any, d: Any, dx: Any) -> None:
        group = pl.program_id(0)
        slot = pl.program_id(1) * high + jnp.arange(high)
        column = pl.program_id(2) * wide + jnp.arange(wide)

        def term(s: Any) -> Any:
            block = jax.lax.div(s, jnp.int32(steps))
            reader = jax.lax.rem(group + grid.groups - block, jnp.int32(grid.groups))
            unit = jax.lax.rem(s, jnp.int32(steps)) * step + jnp.arange(step)
            place = block * inputs + slot
            there = (unit < units)[:, None] & (slot < inputs)[None, :]
            held = _load(values, unit, place, there, reader)
            mine = (unit < grid.size(reader))[:, None] & (column < n)[None, :]
            return _dot(held.T, _load(d, grid.first(reader) + unit, column, mine), grid)

        found = _sum_of(grid.fan_in * steps, term, (high, wide))
        row = triton.load(rows.at[group, slot], mask=slot < inputs, other=grid.inputs)
        mine = (row < grid.inputs)[:, None] & (column < n)[None, :]
        triton.store(dx.at[row[:, None], column[None, :]], found, mask=mine)

    cells = (grid.groups, pl.cdiv(inputs, high), pl.cdiv(n, wide))
    return _call(kernel, grid, cells, (grid.inputs, n), values, rows, d)


def values_gradient(x: Array, rows: Array, d: Array, grid: Grid) -> Array:
    """``x`` ``[inputs, n]`` and ``d`` ``[units, n]`` → the gradient of the values, 0 at padding."""
    (units, _), read, n = grid.block, rows.shape[1], x.shape[1]
    high, wide, step = _side(units, TILE), _side(read, TILE), _side(n, STEP)

    def kernel(x: Any, rows: Any, d: Any, dvalues: Any) -> None:
        group = pl.program_id(0)
        unit = pl.program_id(1) * high + jnp.arange(high)
        place = pl.program_id(2) * wide + jnp.arange(wide)
        row = triton.load(rows.at[group, place], mask=place < read, other=grid.inputs)
        mine = unit < grid.size(group)

        def term(s: Any) -> Any:
            column = s * step + jnp.arange(step)
            inside = (column < n)[None, :]
            gradient = _load(d, grid.first(group) + unit, column, mine[:, None] & inside)
            seen = _load(x, row, column, (row < grid.inputs)[:, None] & inside)
            return _dot(gradient, seen.T, grid)

        found = _sum_of(pl.cdiv(n, step), term, (high, wide))
        there = (unit < units)[:, None] & (place < read)[None, :]
        triton.store(dvalues.at[group, unit[:, None], place[None, :]], found, mask=there)

    cells = (grid.groups, pl.cdiv(units, high), pl.cdiv(read, wide))
    return _call(kernel, grid, cells, (grid.groups, units, read), x, rows, d)


Xla = Callable[[Array, Array, Array, Array, Grid], Array]
"""The same product by XLA: of values, rows, where they are read (``back``), and ``x``."""


def _chosen(grid: Grid, ours: Callable[..., Array], xla: Callable[..., Array], *given: Array) -> Array:
    """Ours in programs for GPUs, and XLA's in those for CPUs and TPUs, wherever they are traced."""
    if grid.interpret:
        return ours(*given)
    found: Array = jax.lax.platform_dependent(*given, cuda=ours, rocm=ours, default=xla)
    return found


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def block_product(values: Array, rows: Array, back: Array, x: Array, grid: Grid, xla: Xla) -> Array:
    """Blocks times ``x`` ``[inputs, n]``: ``[units, n]``, without bias; float32 throughout.

    Operands are rounded as ``grid.products`` says, in both gradients too.
    """
    return _chosen(
        grid,
        lambda values, rows, back, x: outputs(values, rows, x, grid),
        lambda values, rows, back, x: xla(values, rows, back, x, grid),
        *(values, rows, back, x),
    )


def _forward(
    values: Array, rows: Array, back: Array, x: Array, grid: Grid, xla: Xla
) -> tuple[Array, tuple[Array, ...]]:
    return block_product(values, rows, back, x, grid, xla), (values, rows, back, x)


def _backward(
    grid: Grid, xla: Xla, kept: tuple[Array, ...], d: Array
) -> tuple[Array, None, None, Array]:
    def to_inputs(values: Array, rows: Array, back: Array, x: Array, d: Array) -> Array:
        return jax.vjp(lambda x: xla(values, rows, back, x, grid), x)[1](d)[0]

    def to_values(values: Array, rows: Array, back: Array, x: Array, d: Array) -> Array:
        return jax.vjp(lambda values: xla(values, rows, back, x, grid), values)[1](d)[0]

    def our_inputs(values: Array, rows: Array, back: Array, x: Array, d: Array) -> Array:
        return inputs_gradient(values, rows, d, grid)

    def our_values(values: Array, rows: Array, back: Array, x: Array, d: Array) -> Array:
        return values_gradient(x, rows, d, grid)

    dx = _chosen(grid, our_inputs, to_inputs, *kept, d)
    dvalues = _chosen(grid, our_values, to_values, *kept, d)
    return dvalues, None, None, dx


block_product.defvjp(_forward, _backward)
