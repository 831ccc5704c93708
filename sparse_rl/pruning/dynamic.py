"""Masks that change while training: what static ones are measured against.

Rules over one tensor's mask, weights and scores; numbers of survivors are exact, ties go to the first
place. Whoever trains applies them now and then (:mod:`sparse_rl.agents.comparators`).
"""

from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
from jax import Array

Method = Literal["static", "gradual", "set", "rigl"]
METHODS: tuple[str, ...] = get_args(Method)


class Change(NamedTuple):
    """What becomes of a tensor's mask."""

    kept: Array
    """bool: places that were trained and still are. Everywhere else weight, moments and target become,
    or remain, 0."""
    mask: Array
    """bool: places that are trained from now on."""


def strongest(score: Array, among: Array, count: Any) -> Array:
    """The places of the ``count`` largest scores.

    Args:
        score: float32, any shape.
        among: bool, that shape: the places to choose from; at least ``count``.
        count: int32, may be traced.

    Returns:
        bool, that shape, with exactly ``count`` true.
    """
    order = jnp.argsort(jnp.where(among, score, -jnp.inf).reshape(-1), descending=True, stable=True)
    rank = jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.arange(order.size, dtype=jnp.int32))
    return (rank.reshape(score.shape) < count) & among


def exchange(mask: Array, weights: Array, score: Array, share: Any) -> Change:
    """Drop a share of the survivors, those of least magnitude, and grow as many where the score is
    largest among all other places (SET: Mocanu et al. 2018, arXiv 1707.04780; RigL: Evci et al. 2020,
    arXiv 1911.11134, §3). A place that was off starts at 0. One that is dropped and grown again at once
    stays as it is (``reinit_when_same=False`` in RigL's public code), so a full tensor never changes.

    Args:
        mask, weights: of the tensor.
        score: float32: where to grow; random for SET, |dense gradient| for RigL.
        share: float32 in [0, 1] of the survivors, rounded down.
    """
    alive = jnp.sum(mask, dtype=jnp.int32)
    moved = jnp.floor(share * alive).astype(jnp.int32)
    strong = strongest(jnp.abs(weights), mask, alive - moved)
    trained = strong | strongest(score, ~strong, moved)
    return Change(mask & trained, trained)


def shrink(mask: Array, weights: Array, count: Any) -> Change:
    """Keep the ``count`` survivors of largest magnitude (Zhu & Gupta 2017, arXiv 1710.01878)."""
    kept = strongest(jnp.abs(weights), mask, count)
    return Change(kept, kept)


def cosine_share(first: float, progress: Any, end: float) -> Array:
    """α/2 · (1 + cos(π t/T_end)), and 0 from T_end on (Evci et al. 2020, eq. 1); float32."""
    share = first / 2.0 * (1.0 + jnp.cos(jnp.pi * progress / end))
    return jnp.where(progress < end, share, 0.0)


def gradual_count(size: int, final: Any, progress: Any, begin: float, end: float) -> Array:
    """Survivors when sparsity rises from 0 at ``begin`` to its final value at ``end`` as 1 − (1 − x)³
    (Zhu & Gupta 2017, eq. 1); int32, exactly ``final`` from ``end`` on."""
    left = 1.0 - jnp.clip((progress - begin) / (end - begin), 0.0, 1.0)
    return final + jnp.round((size - final) * left**3).astype(jnp.int32)
