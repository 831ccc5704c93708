"""Surviving values alone, in any pattern; made dense for each use, a tile of the tensor at a time.

A wide layer is cut by units into tiles of some megabytes. Its product makes one of them dense,
multiplies, and goes on to the next in the same memory; its gradient keeps of each tile's dense gradient
only what survives. So the layer's dense array never exists. Small and dense layers are one tile, which
several products may share (:func:`~sparse_rl.pruning.weights`).
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.kernels import native
from sparse_rl.kernels.platforms import by_platform
from sparse_rl.kernels.products import Products, product

TILE_BYTES = 1 << 25
"""float32 bytes of a dense tile at most (docs/storage.md)."""
TILED_BELOW_DENSITY = 0.15
"""Above, making tiles dense again for every product costs more time than it saves (docs/storage.md)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Compact:
    """Where the values are that are stored, tile after tile."""

    place: Array
    """int32 ``[survivors]``: rising places in their flattened tile ``[inputs, units / tiles]``."""
    begin: Array
    """int32 ``[tiles + 1]``: where each tile's values begin, and their end."""
    shape: tuple[int, ...] = field(metadata={"static": True})
    """Of the tensor."""

    @property
    def tiles(self) -> int:
        return len(self.begin) - 1

    @property
    def tile(self) -> tuple[int, int]:
        """Inputs and units of a tile."""
        return math.prod(self.shape[:-1]), self.shape[-1] // self.tiles


def tiles_of(shape: tuple[int, ...], count: int) -> int:
    """Tiles that a tensor with ``count`` survivors is cut into: 1 if it is small, dense or no matrix."""
    size, units = math.prod(shape), shape[-1]
    if len(shape) != 2 or count > TILED_BELOW_DENSITY * size:
        return 1
    fewest = -(-4 * size // TILE_BYTES)
    return next((n for n in range(fewest, 2 * fewest + 1) if units % n == 0), 1)


@functools.partial(jax.jit, static_argnames="count")
def compact(mask: Array, count: int) -> Compact:
    """The support of a mask.

    Row by row, for the general ``nonzero`` takes several int32 arrays of the tensor's size. Each row
    writes as many entries as it has units; the next row begins where this one's survivors end.

    Args:
        mask: bool, the tensor's shape.
        count: its number of survivors, a static number.
    """
    tiles = tiles_of(mask.shape, count)
    units = mask.shape[-1] // tiles
    rows = jnp.moveaxis(mask.reshape(-1, tiles, units), 1, 0).reshape(-1, units)
    in_tile = len(rows) // tiles

    def write(carry: tuple[Array, Array], row: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        place, written = carry
        i, survives = row
        (found,) = jnp.nonzero(survives, size=units)
        entries = (i % in_tile) * units + found.astype(jnp.int32)
        place = jax.lax.dynamic_update_slice(place, entries, (written,))
        return (place, written + jnp.sum(survives, dtype=jnp.int32)), written

    start = (jnp.zeros(count + units, jnp.int32), jnp.int32(0))
    (place, end), begin = jax.lax.scan(write, start, (jnp.arange(len(rows), dtype=jnp.int32), rows))
    return Compact(place[:count], jnp.append(begin[::in_tile], end), mask.shape)


def flat_places(support: Compact) -> Array:
    """int32 ``[survivors]``: places in the flattened tensor."""
    if support.tiles == 1:
        return support.place
    units = support.tile[1]
    numbers = jnp.arange(len(support.place), dtype=jnp.int32)
    tile = jnp.searchsorted(support.begin, numbers, side="right").astype(jnp.int32) - 1
    return support.place // units * support.shape[-1] + tile * units + support.place % units


def _by_kernels(stored: Array) -> bool:
    """Whether our own kernel makes these values dense where programs are for CPUs, on all cores."""
    return stored.dtype == jnp.float32 and native.load()[0] > 0


def _scattered(support: Compact, stored: Array) -> Array:
    """The dense tensor, by XLA."""
    places = jnp.zeros(math.prod(support.shape), stored.dtype).at[flat_places(support)]
    return places.set(
        stored, unique_indices=True, indices_are_sorted=support.tiles == 1, mode="promise_in_bounds"
    ).reshape(support.shape)


@jax.custom_jvp
def _whole(support: Compact, stored: Array) -> Array:
    """The dense tensor of a support of one tile, on CPUs by our own kernel: derivatives are XLA's."""
    return _dense_tile(support, stored, jnp.int32(0)).reshape(support.shape)


@_whole.defjvp
def _whole_tangent(primals: tuple[Compact, Array], tangents: tuple[Any, Array]) -> tuple[Array, Array]:
    return _whole(*primals), _scattered(primals[0], tangents[1])


def expand(support: Compact, stored: Array) -> Array:
    """The dense tensor, zeros where pruned."""
    by_kernel = support.tiles == 1 and _by_kernels(stored)
    return _whole(support, stored) if by_kernel else _scattered(support, stored)


def _over_windows(
    support: Compact, tile: Array, step: Callable[[Array, Array, Array, Array], Array], carry: Array
) -> Array:
    """Go through a tile's values in windows of a fixed size: nearly always a single one.

    Args:
        step: (first value of the window, places, which of them are the tile's, carry) → carry.
    """
    count = len(support.place)
    mean = count / support.tiles
    size = min(count, math.ceil(mean + 6.0 * math.sqrt(mean)))
    begin, end = support.begin[tile], support.begin[tile + 1]

    def window(i: Array, carry: Array) -> Array:
        first = begin + i * size
        start = jnp.minimum(first, count - size)  # the last window ends with the values
        numbers = start + jnp.arange(size, dtype=jnp.int32)
        places = jax.lax.dynamic_slice(support.place, (start,), (size,))
        return step(start, places, (numbers >= first) & (numbers < end), carry)

    return jax.lax.fori_loop(0, -(-(end - begin) // size), window, carry)


def _our_tile(
    stored: Array, place: Array, begin: Array, tile: Array, shape: tuple[int, ...]
) -> Sequence[Array]:
    size = math.prod(Compact(place, begin, shape).tile)
    return native.call("compact_tile", [(size,)], stored, place, begin, tile)


def _tile(
    stored: Array, place: Array, begin: Array, tile: Array, shape: tuple[int, ...]
) -> Sequence[Array]:
    support = Compact(place, begin, shape)
    dense = _scattered(support, stored) if support.tiles == 1 else _windows_of(support, stored, tile)
    return [dense.reshape(-1)]


def _dense_tile(support: Compact, stored: Array, tile: Array) -> Array:
    if not _by_kernels(stored):
        return _windows_of(support, stored, tile)
    of = stored, support.place, support.begin, tile
    (dense,) = by_platform(_our_tile, _tile, *of, shape=support.shape)
    return dense.reshape(support.tile)


def _windows_of(support: Compact, stored: Array, tile: Array) -> Array:
    """A dense tile, by XLA."""
    size = math.prod(support.tile)

    def place(start: Array, places: Array, ours: Array, dense: Array) -> Array:
        values = jax.lax.dynamic_slice(stored, (start,), places.shape)
        # Unlike places, numbers beyond the end are dropped; they differ, so all places are unique.
        beyond = size + jnp.arange(len(places), dtype=jnp.int32)
        where = jnp.where(ours, places, beyond)
        return dense.at[where].set(values, mode="drop", unique_indices=True)

    return _over_windows(support, tile, place, jnp.zeros(size, stored.dtype)).reshape(support.tile)


def _numbers(support: Compact) -> Array:
    return jnp.arange(support.tiles, dtype=jnp.int32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def compact_product(
    x: Array, stored: Array, support: Compact, products: Products = "float32", precision: Any = None
) -> Array:
    """``x @ expand(support, stored)``: ``[n, inputs]`` → ``[n, units]``, of one dtype.

    Args:
        x, stored, support: inputs, values and where these are.
        products: what the operands are rounded to.
        precision: of the products, as :func:`jax.numpy.matmul` takes it.
    """

    def multiply(_: None, tile: Array) -> tuple[None, Array]:
        return None, product(x, _dense_tile(support, stored, tile), products, precision)

    _, y = jax.lax.scan(multiply, None, _numbers(support))
    return jnp.moveaxis(y, 0, 1).reshape(len(x), support.shape[-1])


Residuals = tuple[Array, Array, Compact]


def _forward(
    x: Array, stored: Array, support: Compact, products: Products, precision: Any
) -> tuple[Array, Residuals]:
    return compact_product(x, stored, support, products, precision), (x, stored, support)


def _backward(
    products: Products, precision: Any, residuals: Residuals, gradient: Array
) -> tuple[Array, Array, None]:
    """Two loops, so that whoever needs one of the gradients pays for that one only."""
    x, stored, support = residuals
    by_tile = jnp.moveaxis(gradient.reshape(len(x), support.tiles, -1), 1, 0)

    def to_inputs(total: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
        tile, gradient = one
        return total + product(gradient, _dense_tile(support, stored, tile).T, products, precision), None

    def to_values(found: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
        tile, gradient = one
        dense = product(x.T, gradient, products, precision).reshape(-1)

        def gather(start: Array, places: Array, ours: Array, found: Array) -> Array:
            before = jax.lax.dynamic_slice(found, (start,), places.shape)
            values = jnp.where(ours, dense[places], before)
            return jax.lax.dynamic_update_slice(found, values, (start,))

        return _over_windows(support, tile, gather, found), None

    numbered = (_numbers(support), by_tile)
    to_x, _ = jax.lax.scan(to_inputs, jnp.zeros_like(x), numbered)
    to_stored, _ = jax.lax.scan(to_values, jnp.zeros_like(stored), numbered)
    return to_x, to_stored, None


compact_product.defvjp(_forward, _backward)
