"""Weights of which most are zero at first, and learn (Elsayed et al. 2024, arXiv 2410.14606, alg. 1)."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.pruning import some_inputs


def zeros_of(inputs: int, share: float) -> int:
    """How many of a unit's inputs have the weight 0 at first: ⌈share · inputs⌉, as published."""
    return math.ceil(round(share * inputs, 9))


def sparse_kernel(key: Array, shape: tuple[int, int], share: float, mask: Array | None) -> Array:
    """Uniform within ±1/√inputs, and zero at ⌈share · inputs⌉ of each unit's inputs (Elsayed et al.
    2024, alg. 1). What is zero may learn.

    Where weights are pruned, the zeros are those first, so that a pruned network begins with as many
    weights as a dense one, as far as its units keep so many.

    Args:
        key: of the draw.
        shape: inputs and units.
        share: of each unit's inputs, in [0, 1).
        mask: bool ``[inputs, units]``, which weights survive; ``None``: all.
    """
    key_values, key_zeros = jax.random.split(key)
    bound = shape[0] ** -0.5
    values = jax.random.uniform(key_values, shape, jnp.float32, -bound, bound)
    gone = None if mask is None else ~mask
    zero = some_inputs(key_zeros, shape, zeros_of(shape[0], share), gone)
    return jnp.where(zero if gone is None else zero | gone, 0.0, values)


def sparse_parameters(params: Any, key: Array, share: float, masks: Any) -> Any:
    """The same layers with kernels of :func:`sparse_kernel` and biases 0.

    Args:
        params: flax parameters, or their shapes; a layer is what has a ``kernel``.
        key: of the draws: each layer's is a child of it.
        share: of each unit's inputs that begin at zero.
        masks: of the same form, ``None`` where all survive.
    """
    if "kernel" in params:
        kernel = sparse_kernel(key, params["kernel"].shape, share, masks["kernel"])
        return {"kernel": kernel, "bias": jnp.zeros(params["bias"].shape)}
    return {
        name: sparse_parameters(part, jax.random.fold_in(key, i), share, masks[name])
        for i, (name, part) in enumerate(sorted(params.items()))
        if isinstance(part, Mapping)
    }
