"""What a device can do at most, measured: a plain copy and a plain product of matrices.

Not a table of what its maker says: that is for other clocks, other sizes and other formats.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

ROUNDS = 5


def best_seconds(function: Callable[..., Any], *given: Array) -> float:
    """Of one call, compiled: the shortest of a few, for a ceiling is what is reached once."""
    program = jax.jit(function)
    jax.block_until_ready(program(*given))
    found = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        jax.block_until_ready(program(*given))
        found.append(time.perf_counter() - begun)
    return min(found)


def copied_bytes_per_second(numbers: int) -> float:
    """Of an array of so many float32 that is read, and another that is written: both count."""
    x = jnp.zeros(numbers, jnp.float32)
    return 2 * x.nbytes / best_seconds(lambda x: x + 1.0, x)


def flops_per_second(side: int, products: str) -> float:
    """Of a product of two square matrices, 2 · side³, with sums in float32 as in networks here."""
    kind = jnp.bfloat16 if products == "bfloat16" else jnp.float32
    a = jnp.ones((side, side), kind)
    seconds = best_seconds(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32), a, a)
    return 2.0 * side**3 / seconds
