"""Which weights survive: masks of a given number of survivors.

The number may be a traced value, so that one compiled program serves every sparsity. The pattern
``block`` is drawn elsewhere (:mod:`sparse_rl.pruning.blocks`): its blocks have static sizes.
"""

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import Array

Pattern = Literal["unstructured", "constant_fan_in", "banded", "block"]
PATTERNS: tuple[str, ...] = get_args(Pattern)


ROWS_AT_ONCE = 64
"""So many of a tensor's rows are drawn or counted at a time: all of them would take several times the
memory of a large tensor."""

MORE_STREAM = 0x6D6F7265
"""Keeps the draw of units that get one more input apart from the draw of weights."""


def _bits(key: Array, shape: tuple[int, int]) -> Array:
    """uint32 of the shape, none of them zero; each row from its own child of the key."""

    def row(key: Array) -> Array:
        return jnp.maximum(jax.random.bits(key, shape[1:], jnp.uint32), jnp.uint32(1))

    return jax.lax.map(row, jax.random.split(key, shape[0]), batch_size=ROWS_AT_ONCE)


def _smallest(drawn: Array, count: Array, first: Array | None = None) -> Array:
    """Mask of the smallest entries, ties by position: of each column, or of all.

    Bisects the threshold bit by bit, and then where the last tie lies, in one loop, for a program holds
    this thrice for each of its layers: passes over the values, no sort and no sums along the way, so
    that the 67M weights of one layer at width 4096 take seconds and little memory.

    Args:
        drawn: uint32 ``[n, columns]``.
        count: int32 ``[columns]``, each in ``[0, n]``, or of all ``[]``.
        first: bool ``[n, columns]``: entries to take as zero.
    """
    n, columns = drawn.shape
    positions = n if count.ndim else n * columns

    def entries(start: Array | int, rows: int) -> tuple[Array, Array]:
        """Values and positions of some rows."""
        values = jax.lax.dynamic_slice_in_dim(drawn, start, rows)
        if first is not None:
            zero = jax.lax.dynamic_slice_in_dim(first, start, rows)
            values = jnp.where(zero, jnp.uint32(0), values)
        row = jnp.arange(rows, dtype=jnp.uint32)[:, None] + jnp.asarray(start, jnp.uint32)
        column = jnp.arange(columns, dtype=jnp.uint32)
        return values, jnp.broadcast_to(row, values.shape) if count.ndim else row * columns + column

    def before(threshold: Array, last: Array) -> Array:
        """How many entries are below a value, or are ties with it before a position."""

        def of(start: Array | int, rows: int) -> Array:
            values, position = entries(start, rows)
            chosen = (values < threshold) | ((values == threshold) & (position < last))
            return jnp.sum(chosen, axis=0 if count.ndim else None, dtype=jnp.int32)

        whole, rest = divmod(n, ROWS_AT_ONCE)
        if n <= ROWS_AT_ONCE:
            return of(0, n)
        zero = jnp.zeros(count.shape, jnp.int32)
        found = jax.lax.fori_loop(
            0, whole, lambda i, found: found + of(i * ROWS_AT_ONCE, ROWS_AT_ONCE), zero
        )
        return found + of(n - rest, rest) if rest else found

    bits = 32 + max(1, (positions - 1).bit_length())

    def set_bit(i: Array, found: tuple[Array, Array]) -> tuple[Array, Array]:
        """Of the value's 32 bits and then of the position's, from the highest on."""
        of_value = jnp.uint32(1) << jnp.uint32(31 - jnp.minimum(i, 31))
        of_position = jnp.uint32(1) << jnp.uint32(jnp.minimum(bits - 1 - i, bits - 33))
        zero = jnp.uint32(0)
        trial = (
            found[0] | jnp.where(i < 32, of_value, zero),
            found[1] | jnp.where(i < 32, zero, of_position),
        )
        fewer = before(*trial) < count
        return jnp.where(fewer, trial[0], found[0]), jnp.where(fewer, trial[1], found[1])

    zero = jnp.zeros(count.shape, jnp.uint32)
    threshold, last = jax.lax.fori_loop(0, bits, set_bit, (zero, zero))
    values, position = entries(0, n)
    return ((values < threshold) | ((values == threshold) & (position <= last))) & (count > 0)


def _some_units(key: Array, units: int, count: Array) -> Array:
    """int32 ``[units]``: 1 for ``count`` of them, drawn at random, and 0 for the others."""
    return _smallest(jax.random.bits(key, (units, 1), jnp.uint32), count[None])[:, 0].astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("shape", "min_fan_in"))
def unstructured(key: Array, shape: tuple[int, int], count: Array, min_fan_in: int) -> Array:
    """bool ``[inputs, units]``: any weights.

    But each unit first gets ``min_fan_in`` inputs. Where there are not as many weights, each gets as
    many as all can have, and of what is left as many units as there are weights get one more.
    """
    fan_in, units = shape
    drawn = _bits(key, shape)
    wanted = min(min_fan_in, fan_in)
    guaranteed = jnp.minimum(wanted, count // units)
    left = jnp.where(guaranteed < wanted, count % units, 0)
    more = _some_units(jax.random.fold_in(key, MORE_STREAM), units, left)
    first = _smallest(drawn, guaranteed + more)
    return _smallest(drawn, count, first)


@functools.partial(jax.jit, static_argnames=("shape", "count"))
def some_inputs(key: Array, shape: tuple[int, int], count: int, without: Array | None = None) -> Array:
    """bool ``[inputs, units]``: so many inputs of each unit, at random; those that it is ``without``
    (bool, of the same shape) before all others."""
    return _smallest(_bits(key, shape), jnp.full(shape[1], count, jnp.int32), without)


@functools.partial(jax.jit, static_argnames="shape")
def constant_fan_in(key: Array, shape: tuple[int, int], count: Array) -> Array:
    """bool ``[inputs, units]``: each unit keeps as many inputs as the next one, give or take one."""
    _, units = shape
    key_weights, key_extra = jax.random.split(key)
    return _smallest(
        _bits(key_weights, shape), count // units + _some_units(key_extra, units, count % units)
    )


@functools.partial(jax.jit, static_argnames="min_fan_out")
def spread(key: Array, mask: Array, min_fan_out: int) -> Array:
    """The mask with weights moved so that at least ``min_fan_out`` units read each input.

    A weight moves from an input that has more than the least to one that has the least, within its
    unit: what units read is as many inputs as before. Which weights move, and where to, is drawn; of
    inputs, units and places none is preferred, so each place survives with the same probability.
    Where there are not weights enough, all inputs are read by as many units as all can be, and some by
    one more.

    Args:
        key: of the moves; an input that is read often enough gains nothing.
        mask: bool ``[inputs, units]``.
        min_fan_out: at most the number of units counts.
    """
    inputs, units = mask.shape
    wanted = min(min_fan_out, units)

    def fan_out(mask: Array) -> Array:
        return jnp.sum(mask, axis=1, dtype=jnp.int32)

    def unfinished(carry: tuple[Array, Array]) -> Array:
        found = fan_out(carry[1])
        least = jnp.min(found)
        return (least < wanted) & (jnp.max(found) > least + 1)

    def move(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        key, mask = carry
        key, key_kept, key_moved, key_needy = jax.random.split(key, 4)
        found = fan_out(mask)
        least = jnp.min(found)
        # each input keeps one weight more than the least; which of its weights, is drawn
        order = jnp.argsort(
            jnp.where(mask, jax.random.uniform(key_kept, mask.shape, jnp.float32), 2.0), axis=1
        )
        free = mask & (jnp.argsort(order, axis=1) > least)
        moved = _shuffled(key_moved, free.reshape(-1))[:inputs]
        needy = _shuffled(key_needy, found == least)
        pairs = jnp.minimum(jnp.sum(free, dtype=jnp.int32), jnp.sum(found == least, dtype=jnp.int32))
        old, unit = moved // units, moved % units
        valid = (jnp.arange(inputs) < pairs) & ~mask[needy, unit]
        nowhere = jnp.int32(inputs)
        mask = mask.at[jnp.where(valid, old, nowhere), unit].set(False, mode="drop")
        return key, mask.at[jnp.where(valid, needy, nowhere), unit].set(True, mode="drop")

    made: Array = jax.lax.while_loop(unfinished, move, (key, mask))[1]
    return made


def _shuffled(key: Array, chosen: Array) -> Array:
    """int32: positions of what is chosen in a random order, then those of the rest."""
    order = jnp.argsort(jnp.where(chosen, jax.random.uniform(key, chosen.shape, jnp.float32), 2.0))
    return order.astype(jnp.int32)


@functools.partial(jax.jit, static_argnames="shape")
def banded(key: Array, shape: tuple[int, int], count: Array) -> Array:
    """bool ``[inputs, units]``: the entries nearest to the diagonal, ties at random.

    Input i is |i mod units − j| away from unit j: where inputs are several copies of the units'
    places (positions and velocities of a chain), each copy has its band.
    """
    inputs, units = shape
    places = jnp.arange(units, dtype=jnp.int32)
    away = jnp.abs(jnp.arange(inputs, dtype=jnp.int32)[:, None] % units - places)
    return _smallest((away.astype(jnp.uint32) << 16) | (_bits(key, shape) >> 16), count)
