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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _remember(cell: Cell, own: Gates, from_input: Parts, start: Memory, first: Array) -> Memory:
    """The memory after each step, ``[T, n, M]``, from what the gates made of the inputs, ``[T, n, M]``
    each; ``own`` are the gates that read the memory."""

    def step(memory: Memory, now: tuple[Parts, Array]) -> tuple[Memory, Memory]:
        given, first = now
        memory = forget(memory, first)
        memory = _moved(cell, memory, given, own(_shown(cell, memory)))
        return memory, memory

    after: Memory = jax.lax.scan(step, start, (from_input, first))[1]
    return after


def _forwards(
    cell: Cell, own: Gates, from_input: Parts, start: Memory, first: Array
) -> tuple[Memory, Any]:
    after = _remember(cell, own, from_input, start, first)
    return after, (own, from_input, start, first, after)


def _backwards(cell: Cell, kept: Any, wanted: Memory) -> tuple[Any, ...]:
    """Gradients of all but ``first``: step by step of what the gates made; of their kernels and
    biases from these, all steps at once."""
    own, from_input, start, first, after = kept
    began = before(start, after, first)
    read = _shown(cell, began)
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
    by_time = (wanted, began, from_input, own(read), first)
    of_start, (of_given, of_made) = jax.lax.scan(step, nothing, by_time, reverse=True)
    of_own = Gates(
        tuple(jnp.einsum("tnm,tng->mg", read, part) for part in of_made),
        tuple(
            None if bias is None else jnp.sum(part, axis=(0, 1))
            for bias, part in zip(own.biases, of_made, strict=True)
        ),
    )
    return of_own, of_given, of_start, None


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
    after = _remember(cell, own, inputs(seen), memory, first)
    return after, _shown(cell, after)
