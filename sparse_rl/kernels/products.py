"""Matrix products in float32, or of operands rounded to bfloat16 with sums in float32.

Mixed precision: whatever is stored, added or measured stays float32, and only what enters a product is
rounded. Processors with units for it (AMX on CPUs, tensor cores on GPUs) multiply several times faster
(docs/products.md).
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.layout import Layout, with_layout_constraint
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Products = Literal["float32", "bfloat16"]


@functools.partial(jax.jit, static_argnums=1)
def _constrained(x: Array, order: tuple[int, ...]) -> Array:
    """A program of its own: jax 0.10 hands an array that is the constraint's own over in whatever layout
    XLA chose for it, and may take other results of that program for row-major when they are not."""
    return with_layout_constraint(x, Layout(major_to_minor=order))


def _mapped_order(arrays: Any, axes: Any, *, order: tuple[int, ...]) -> tuple[Array, int]:
    (x,), (axis,) = arrays, axes
    return _in_order.bind(x, order=(axis, *(i + (i >= axis) for i in order))), axis


_in_order = Primitive("in_order")
"""An array whose axes lie in this order in memory, from the slowest to the fastest, on CPUs."""
_in_order.def_impl(lambda x, order: x)  # outside of programs arrays are row-major
_in_order.def_abstract_eval(lambda x, order: x)
ad.deflinear2(_in_order, lambda d, _, order: (_in_order.bind(d, order=order),))
batching.primitive_batchers[_in_order] = _mapped_order
mlir.register_lowering(_in_order, lambda ctx, x, order: [x])
mlir.register_lowering(_in_order, mlir.lower_fun(_constrained, False), platform="cpu")


def _row_major(x: Array) -> Array:
    """``x`` with its last axis contiguous in memory.

    XLA's CPU backend takes a transposition for a mere change of indices. Its bfloat16 product is then
    several times slower, and one whose result it would turn so does not exist. GPUs multiply both ways,
    and programs for them hold no constraint.
    """
    found: Array = _in_order.bind(x, order=tuple(range(x.ndim)))
    return found


def _dot(a: Array, b: Array) -> Array:
    """``a @ b`` of bfloat16, sums in float32."""
    operands = _row_major(a), _row_major(b)
    return _row_major(jnp.matmul(*operands, preferred_element_type=jnp.float32))


def _dot_transposed(a: Array, b: Array) -> Array:
    """``a @ bᵀ``. Transposed in memory is ``b``, or ``a`` and the result if these are smaller."""
    turn = jnp.matrix_transpose
    if b.size > a.size + a.size // a.shape[-1] * b.shape[-2]:
        return turn(_dot(b, turn(a)))
    return _dot(a, turn(b))


@jax.custom_vjp
def _bfloat16(a: Array, b: Array) -> Array:
    return _forward(a, b)[0]


def _forward(a: Array, b: Array) -> tuple[Array, tuple[Array, Array]]:
    rounded = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return _dot(*rounded), rounded


def _backward(rounded: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    a, b = rounded
    d = gradient.astype(jnp.bfloat16)
    return _dot_transposed(d, b), _dot(jnp.matrix_transpose(a), d)


_bfloat16.defvjp(_forward, _backward)


def product(a: Array, b: Array, products: Products, precision: Any = None) -> Array:
    """``a @ b``: float32 ``[…, m, k]`` and ``[…, k, n]`` with equal leading axes → ``[…, m, n]``.

    ``precision`` is :func:`jax.numpy.matmul`'s, of products that round nothing.

    With ``bfloat16`` both operands are rounded to it, and so are those of both gradients' products
    (``d · bᵀ`` and ``aᵀ · d``); sums are float32 (Micikevicius et al. 2018, arXiv 1710.03740, with the
    format of Kalamkar et al. 2019, arXiv 1905.12322, which needs no scaling of the loss).
    """
    return _bfloat16(a, b) if products == "bfloat16" else jnp.matmul(a, b, precision=precision)


def biased(y: Array, bias: Array | None, relu: bool) -> Array:
    """What follows a layer's product, feature-major ``[units, n]``: its bias, if any, and a ReLU."""
    if bias is not None:
        y = y + bias[:, None]
    return jax.nn.relu(y) if relu else y
