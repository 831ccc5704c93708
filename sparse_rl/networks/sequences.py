"""Cells over many steps: what they read is multiplied before the first step, and the gradients of their
matrices are made after the last.

Stepping flax's cell inside ``lax.scan`` multiplies with its six or eight matrices at every step, and the
scan's transpose adds to the gradients of all of them at every step: for a few episodes side by side that
is most of an update. Here a step multiplies the memory with one matrix, forwards and backwards, and all
else is one product over all steps. Sums are in another order than flax's, so the last bits differ.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.networks.recurrent import KERNELS, Cell, Memory, before, forget

Parts = tuple[Array, ...]
"""One array for each gate."""


class Gates(NamedTuple):
    """Dense layers that read the same, one for each gate."""

    kernels: tuple[Array, ...]
    """``[inputs, M]`` each."""
    biases: tuple[Array | None, ...]
    """``[M]``; flax gives a gate one, be it here or there."""

    def __call__(self, read: Array) -> Parts:
        """What they make of ``[…, inputs]``: ``[…, M]`` each. Side by side they would be one product,
        but taking its parts out again costs a CPU more than three products do."""
        made = zip(self.kernels, self.biases, strict=True)
        return tuple(read @ kernel if bias is None else read @ kernel + bias for kernel, bias in made)


def _gates_of(params: Mapping[str, Any], names: tuple[str, ...]) -> Gates:
    return Gates(
        tuple(params[name]["kernel"] for name in names),
        tuple(params[name].get("bias") for name in names),
    )


def _shown(cell: Cell, memory: Memory) -> Array:
    """What of the memory is read, ``[…, M]``: all of a GRU's, of an LSTM's ``(c, h)`` the second."""
    shown: Array = memory if cell == "gru" else memory[1]
    return shown


def _moved(cell: Cell, memory: Memory, from_input: Parts, from_memory: Parts) -> Memory:
    """The memory after a step, from what the gates made of the input and of the memory, ``[…, M]`` each.

    A GRU's is that of Cho et al. 2014 (arXiv 1406.1078) with r after the product, an LSTM's that of
    Hochreiter and Schmidhuber 1997 with forget gates, both as flax has them.
    """
    if cell == "gru":
        (ir, iz, into), (hr, hz, hn) = from_input, from_memory
        reset, keep = jax.nn.sigmoid(ir + hr), jax.nn.sigmoid(iz + hz)
        return (1.0 - keep) * jnp.tanh(into + reset * hn) + keep * memory
    takes, keeps, new, shows = (a + b for a, b in zip(from_input, from_memory, strict=True))
    held = jax.nn.sigmoid(keeps) * memory[0] + jax.nn.sigmoid(takes) * jnp.tanh(new)
    return held, jax.nn.sigmoid(shows) * jnp.tanh(held)


def _gradients(gates: Gates, read: Array, wanted: Parts) -> Gates:
    """Gradients of gates that read ``[T, n, inputs]``, all steps at once. What JAX makes of such a
    product's transpose takes a CPU twice as long."""
    return Gates(
        tuple(jnp.einsum("tni,tnm->im", read, part) for part in wanted),
        tuple(
            None if bias is None else jnp.sum(part, axis=(0, 1))
            for bias, part in zip(gates.biases, wanted, strict=True)
        ),
    )


class Taken(NamedTuple):
    """Steps that were taken; each leaf ``[T, n, M]``."""

    after: Memory
    """The memory after each."""
    from_input: Parts
    """What the gates made of the input."""
    from_memory: Parts
    """And of the memory."""


def _take(cell: Cell, inputs: Gates, own: Gates, start: Memory, first: Array, seen: Array) -> Taken:
    def step(memory: Memory, now: tuple[Parts, Array]) -> tuple[Memory, tuple[Memory, Parts]]:
        given, first = now
        memory = forget(memory, first)
        made = own(_shown(cell, memory))
        memory = _moved(cell, memory, given, made)
        return memory, (memory, made)

    from_input = inputs(seen)
    after, from_memory = jax.lax.scan(step, start, (from_input, first))[1]
    return Taken(after, from_input, from_memory)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _remember(cell: Cell, inputs: Gates, own: Gates, start: Memory, first: Array, seen: Array) -> Memory:
    """The memory after each step; ``inputs`` are the gates that read ``seen``, ``own`` those that read
    it."""
    return _take(cell, inputs, own, start, first, seen).after


def _forwards(
    cell: Cell, inputs: Gates, own: Gates, start: Memory, first: Array, seen: Array
) -> tuple[Memory, Any]:
    taken = _take(cell, inputs, own, start, first, seen)
    return taken.after, (inputs, own, start, first, seen, taken)


def _backwards(cell: Cell, kept: Any, wanted: Memory) -> tuple[Any, ...]:
    """Gradients of all but ``first``: of what the gates made step by step, and all else from these."""
    inputs, own, start, first, seen, taken = kept
    began = before(start, taken.after, first)
    # a product with a transposed matrix takes three times as long: turned once, and kept so
    turned = jax.lax.optimization_barrier(tuple(kernel.T for kernel in own.kernels))

    def step(later: Memory, now: Any) -> tuple[Memory, tuple[Parts, Parts]]:
        wanted, began, given, made, first = now
        total = jax.tree.map(jnp.add, wanted, later)
        _, back = jax.vjp(functools.partial(_moved, cell), began, given, made)
        of_began, of_given, of_made = back(total)
        through = sum(part @ kernel for part, kernel in zip(of_made, turned, strict=True))
        of_began = of_began + through if cell == "gru" else (of_began[0], of_began[1] + through)
        return forget(of_began, first), (of_given, of_made)

    nothing = jax.tree.map(jnp.zeros_like, start)
    by_time = (wanted, began, taken.from_input, taken.from_memory, first)
    of_start, (of_given, of_made) = jax.lax.scan(step, nothing, by_time, reverse=True)
    of_seen = sum(part @ kernel.T for part, kernel in zip(of_given, inputs.kernels, strict=True))
    of_inputs = _gradients(inputs, seen, of_given)
    return of_inputs, _gradients(own, _shown(cell, began), of_made), of_start, None, of_seen


_remember.defvjp(_forwards, _backwards)


def remembered(
    cell: Cell, params: Mapping[str, Any], memory: Memory, first: Array, seen: Array
) -> tuple[Memory, Array]:
    """The memory of n episodes after each of T steps, each leaf ``[T, n, M]``, and what the heads see of
    it, float32 ``[T, n, M]``; differentiable, not forwards.

    Args:
        cell: which.
        params: its parameters, as flax has them, kernels dense.
        memory: before the first step, each leaf ``[n, M]``.
        first: bool ``[T, n]``: where an episode begins; it begins without memory.
        seen: float32 ``[T, n, inputs]``: what it reads.
    """
    gates = len(KERNELS[cell]) // 2
    inputs, own = (_gates_of(params, x) for x in (KERNELS[cell][:gates], KERNELS[cell][gates:]))
    after = _remember(cell, inputs, own, memory, first, seen)
    return after, _shown(cell, after)
