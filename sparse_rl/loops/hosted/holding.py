"""What a program carries from call to call, in few arrays: to hand one over costs microseconds, and a
small network's update not many more. Numbers are moved and never changed."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

SMALL = 1024
"""Numbers of an array at most that lies in a row with others; larger ones are changed in place."""
Kind = Literal["same", "floats", "ints", "large"]


class Held(NamedTuple):
    """What changes from call to call."""

    floats: Array
    """float32: small arrays in a row."""
    ints: Array
    """int32: likewise."""
    large: tuple[Array, ...]


class Holding(NamedTuple):
    """How a tree is held."""

    form: Any
    shapes: tuple[Any, ...]
    """Of its leaves."""
    kinds: tuple[Kind, ...]
    """Of each; ``same``: a step returns it as it was given."""

    def pack(self, carried: Any) -> tuple[tuple[Array, ...], Held]:
        """What stays the same, and what changes."""
        leaves = list(zip(self.kinds, self.form.flatten_up_to(carried), strict=True))

        def row(kind: Kind, dtype: Any) -> Array:
            parts = [leaf.reshape(-1) for own, leaf in leaves if own == kind]
            return jnp.concatenate([jnp.zeros(0, dtype), *parts])

        same, large = (tuple(x for own, x in leaves if own == kind) for kind in ("same", "large"))
        return same, Held(row("floats", jnp.float32), row("ints", jnp.int32), large)

    def unpack(self, same: tuple[Array, ...], held: Held) -> Any:
        """The tree."""
        whole = {"same": iter(same), "large": iter(held.large)}
        rows, begun = {"floats": held.floats, "ints": held.ints}, {"floats": 0, "ints": 0}
        leaves = []
        for kind, shape in zip(self.kinds, self.shapes, strict=True):
            if kind in whole:
                leaves.append(next(whole[kind]))
                continue
            first, size = begun[kind], math.prod(shape.shape)
            begun[kind] += size
            leaves.append(rows[kind][first : first + size].reshape(shape.shape))
        return self.form.unflatten(leaves)


def _kind(same: bool, leaf: Any) -> Kind:
    if same:
        return "same"
    if math.prod(leaf.shape) > SMALL:
        return "large"
    names: dict[Any, Kind] = {jnp.dtype("float32"): "floats", jnp.dtype("int32"): "ints"}
    return names.get(leaf.dtype, "large")


def holding_of(step: Callable[..., tuple[Any, Any]], carried: Any, *given: Any) -> Holding:
    """How what a step carries is best held.

    Args:
        step: ``(carried, *given) → (carried, anything)``.
        carried, given: shapes.
    """
    form: Any
    leaves, form = jax.tree.flatten(carried)

    def flat(leaves: Any, given: Any) -> Any:
        return jax.tree.leaves(step(form.unflatten(leaves), *given)[0])

    program = jax.make_jaxpr(flat)(leaves, given).jaxpr
    pairs = zip(program.invars, program.outvars, leaves, strict=False)
    kinds = tuple(_kind(before is after, leaf) for before, after, leaf in pairs)
    return Holding(form, tuple(leaves), kinds)
