"""A ring of rows for each environment: what replay buffers of rows have in common.

A row is what was seen at one time and what was done then. What an episode ended with has a row too, on
which nothing was done.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Ring(NamedTuple):
    """The last rows of each environment."""

    rows: Any
    """A NamedTuple with fields of ``[environments, rows, …]``, ``last`` among them: bool, whether no
    action follows from the row, or nothing is there yet."""
    position: Array
    """int32 ``[environments]``: where the next row goes."""
    size: Array
    """int32 ``[environments]``: rows held."""

    @property
    def capacity(self) -> int:
        """Rows that an environment has room for."""
        return int(self.rows.last.shape[1])


def empty(rows: Any) -> Ring:
    """A ring that holds nothing, in these arrays."""
    none = jnp.zeros(rows.last.shape[0], jnp.int32)
    return Ring(rows, none, none)


def write(ring: Ring, row: Any, where: Array) -> Ring:
    """One more row for some of the environments.

    Args:
        ring: the ring.
        row: fields of ``[environments, …]``.
        where: bool ``[environments]``.
    """
    environments, capacity = ring.rows.last.shape
    place = jnp.where(where, ring.position, capacity)  # past the end: not written
    each = jnp.arange(environments)
    rows = jax.tree.map(lambda old, new: old.at[each, place].set(new, mode="drop"), ring.rows, row)
    more = where.astype(jnp.int32)
    position = (ring.position + more) % capacity
    return Ring(rows, position, jnp.minimum(ring.size + more, capacity))


def close(ring: Ring, row: Any, ended: Array) -> Ring:
    """The rows that episodes ended with, where some did.

    Args:
        ring: the ring.
        row: fields of ``[environments, …]``.
        ended: bool ``[environments]``.
    """
    return jax.lax.cond(jnp.any(ended), lambda ring: write(ring, row, ended), lambda same: same, ring)


def to_disk(ring: Ring) -> dict[str, np.ndarray]:
    """What is held, on the host."""
    held = jax.device_get(ring)
    size = int(held.size.max())
    rows = {name: field[:, :size] for name, field in named(held.rows).items()}
    return {**rows, "position": held.position, "size": held.size}


def from_disk(arrays: Mapping[str, np.ndarray], like: Ring) -> Ring:
    """The ring that :func:`to_disk` wrote; ``like`` has its shapes.

    Raises:
        KeyError, ValueError: it is of another ring.
    """

    def whole(name: str, shape: Any) -> Array:
        field = np.full(shape.shape, name == "last", shape.dtype)
        field[:, : arrays[name].shape[1]] = arrays[name]
        return jnp.asarray(field)

    fields = [whole(name, shape) for name, shape in named(like.rows).items()]
    rows = jax.tree.unflatten(jax.tree.structure(like.rows), fields)
    return Ring(rows, *(jnp.asarray(arrays[name]) for name in ("position", "size")))


def named(rows: Any) -> dict[str, Any]:
    """Name → array, of all that rows hold: ``action``, and ``memory/0`` of a field with several."""
    leaves = jax.tree_util.tree_leaves_with_path(rows)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
