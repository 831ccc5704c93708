"""Running observation statistics that do not drift.

Welford's update (Chan et al. 1979 for batches) in float32 loses the small increments once the count
is large. Here mean and sum of squares are each kept as an unevaluated sum of two float32 numbers, and
increments are added without loss (Knuth's TwoSum): the statistics follow float64 closely, on devices
that have no float64.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

MOST = 2**31 - 1
"""Observations that are counted. From then on statistics are those of about so many of the last: older
ones fade, as in an exponential mean, and nothing overflows."""
BOUND = 10.0
"""Deviations from the mean beyond which on-policy agents see no difference, as in Stable-Baselines3's
VecNormalize and in CleanRL; SimBa's published code, which off-policy agents follow, has no bound."""


class Compensated(NamedTuple):
    """The number ``high + low``, to about twice the precision of float32."""

    high: Array
    low: Array


class Normaliser(NamedTuple):
    """Statistics of all observations seen so far."""

    seen: Array
    """int32 scalar: observations so far, at most :data:`MOST`."""
    mean: Compensated
    """float32 ``[observation_size]``."""
    squares: Compensated
    """float32 ``[observation_size]``: sum of squared deviations from the mean."""


def _add(total: Compensated, increment: Array) -> Compensated:
    high = total.high + increment
    part = high - total.high
    lost = (total.high - (high - part)) + (increment - part)
    low = total.low + lost
    renormalised = high + low
    return Compensated(renormalised, low - (renormalised - high))


def init(observation_size: int) -> Normaliser:
    """Nothing seen: mean 0 and variance 1."""
    zero = Compensated(jnp.zeros(observation_size), jnp.zeros(observation_size))
    return Normaliser(jnp.int32(0), zero, zero)


def _fade(state: Normaliser, n: Any) -> Normaliser:
    """The statistics with room for ``n`` more observations in the count."""
    excess = jnp.maximum(state.seen - (MOST - n), 0)
    forgotten = excess.astype(jnp.float32) / MOST * state.squares.high
    faded = _add(state.squares, -forgotten)  # a factor so near to 1 would be rounded to 1
    squares = (jnp.where(excess > 0, *parts) for parts in zip(faded, state.squares, strict=True))
    return Normaliser(state.seen - excess, state.mean, Compensated(*squares))


def update(state: Normaliser, observations: Array, weight: Array | None = None) -> Normaliser:
    """Take in float32 ``[n, observation_size]`` observations; of these, where ``weight`` float32 ``[n]``
    is given, those that it has 1 for, and not those that it has 0 for."""
    n: Any
    if weight is None:
        n = observations.shape[0]
        batch_mean = jnp.mean(observations, axis=0)
        batch_squares = jnp.sum(jnp.square(observations - batch_mean), axis=0)
    else:
        n, each = jnp.sum(weight).astype(jnp.int32), weight[:, None]
        batch_mean = jnp.sum(observations * each, axis=0) / jnp.maximum(n, 1)
        batch_squares = jnp.sum(jnp.square(observations - batch_mean) * each, axis=0)
    state = _fade(state, n)
    seen = state.seen + n
    delta = (batch_mean - state.mean.high) - state.mean.low
    share = n / (seen if weight is None else jnp.maximum(seen, 1)).astype(jnp.float32)
    between = jnp.square(delta) * (state.seen.astype(jnp.float32) * share)
    return Normaliser(
        seen, _add(state.mean, delta * share), _add(state.squares, batch_squares + between)
    )


def deviation(state: Normaliser, lost: int = 0) -> Array:
    """Standard deviation, float32 ``[observation_size]``; 1 until two observations were seen.

    Args:
        state: the statistics.
        lost: degrees of freedom: 1 for the deviation of a sample.
    """
    variance = state.squares.high / jnp.maximum(state.seen, 1).astype(jnp.float32)
    if lost:
        seen = state.seen.astype(jnp.float32)
        variance *= seen / jnp.maximum(seen - lost, 1.0)
    variance = jnp.where(state.seen > 1, variance, 1.0)
    return jnp.sqrt(variance + 1e-8)


def normalise(state: Normaliser, observations: Array, lost: int = 0) -> Array:
    """``(x − mean) / sqrt(variance + 1e-8)``; only the mean is taken off until two observations were
    seen. ``lost`` as of :func:`deviation`."""
    return ((observations - state.mean.high) - state.mean.low) / deviation(state, lost)


def part(state: Normaliser, first: int, last: int) -> Normaliser:
    """The statistics of components first to last, the last excluded."""
    if (first, last) == (0, len(state.mean.high)):
        return state
    cut = lambda x: x[first:last]  # noqa: E731
    return Normaliser(state.seen, jax.tree.map(cut, state.mean), jax.tree.map(cut, state.squares))


def bounded(normalised: Array) -> Array:
    """Normalised numbers within ±:data:`BOUND`."""
    return jnp.clip(normalised, -BOUND, BOUND)
