"""How much of what was to be valued the values explain."""

import jax.numpy as jnp
from jax import Array

from sparse_rl.agents import Experience
from sparse_rl.experience import means

CONSTANT = 1e-10
"""Share of the mean square below which a variance is rounding."""


def explained_variance(value: Array, target: Array, weight: Array | None = None) -> Array:
    """1 − Var[target − value] / Var[target], a scalar; NaN where targets are constant: nothing varies.

    Args:
        value, target: float32 ``[n]``.
        weight: float32 ``[n]``: 1 for what counts, else 0; ``None``: all does.
    """
    variance = means.variance(target, weight)
    constant = variance <= CONSTANT * means.mean(jnp.square(target), weight)
    explained = 1.0 - means.variance(target - value, weight) / jnp.where(constant, 1.0, variance)
    return jnp.where(constant, jnp.nan, explained)


def explained(experience: Experience, together: int) -> Array:
    """The share of the targets' variance that values explain, of actors or of what is summed.

    Args:
        experience: samples or pieces.
        together: actors in a row whose values are summed.
    """
    if together == 1:
        weight = experience.view.weight
        return explained_variance(experience.value, experience.value_target, weight)
    numbers = experience.value, experience.value_target
    return explained_variance(*(means.summed(x, together) for x in numbers))
