"""The levels that are worth playing again: arrays in a run's state, so that a resume has them.

A cycle costs one sort. The published samplers take levels in one after the other, which costs a tenth
of a small network's cycle.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.curricula.contract import NONE
from sparse_rl.settings.curricula import Prioritisation


class Priorities(NamedTuple):
    """How likely a level is to be replayed (Jiang et al. 2021, arXiv 2010.03934, eq. 1 and 3)."""

    by: Prioritisation
    """By the rank of its score, or by the score."""
    temperature: float
    """β: the smaller, the more the highest scores count."""
    staleness: float
    """ρ: share of the probability that goes by how long ago it was played."""


class LevelBuffer(NamedTuple):
    """C places for levels."""

    levels: Any
    """Each leaf with a leading C; anything where a place is empty."""
    hash: Array
    """uint32 ``[C, 2]``: of the level."""
    score: Array
    """float32 ``[C]``; −inf: the place is empty."""
    highest: Array
    """float32 ``[C]``: the highest return of any of its episodes so far."""
    seen: Array
    """int32 ``[C]``: the cycle in which it was last played."""
    parent: Array
    """uint32 ``[C, 2]``: hash of the level that it is an edit of; 0 where it is none."""

    @property
    def filled(self) -> Array:
        """bool ``[C]``."""
        return self.score > -jnp.inf


class Candidates(NamedTuple):
    """N levels that were played; fields as of :class:`LevelBuffer`."""

    levels: Any
    score: Array
    highest: Array
    parent: Array


def empty(level: Any, places: int) -> LevelBuffer:
    """A buffer without levels.

    Args:
        level: shapes of one.
        places: C.
    """
    levels = jax.tree.map(lambda x: jnp.zeros((places, *x.shape), x.dtype), level)
    nothing, words = jnp.full(places, -jnp.inf), jnp.zeros((places, 2), jnp.uint32)
    return LevelBuffer(levels, words, nothing, nothing, jnp.zeros(places, jnp.int32), words)


def _words(leaf: Array) -> Array:
    """A leaf of N levels as uint32 ``[N, n]``."""
    flat = leaf.reshape(leaf.shape[0], -1)
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return jax.lax.bitcast_convert_type(flat.astype(jnp.float32), jnp.uint32)
    return flat.astype(jnp.uint32)


def hashes(levels: Any) -> Array:
    """Two words of N levels, uint32 ``[N, 2]``: equal for equal levels, and hardly ever for others.

    Sums with fixed random odd multipliers, modulo 2³² (Carter and Wegman 1979); the upper bits, which
    depend on all of a word's, are folded into the lower."""
    words = jnp.concatenate([_words(leaf) for leaf in jax.tree.leaves(levels)], axis=1)
    drawn = np.random.default_rng(0).integers(0, 2**32, (2, words.shape[1]), dtype=np.uint32) | 1
    mixed = words * jnp.uint32(0x9E3779B1)
    mixed = (mixed ^ (mixed >> 15)) + jnp.uint32(1)
    sums = jnp.sum(mixed[:, None, :] * jnp.asarray(drawn), axis=2, dtype=jnp.uint32)
    return sums ^ (sums >> 16)


def weights(score: Array, seen: Array, cycle: Array, priorities: Priorities) -> Array:
    """Probability of each place to be replayed, float32 ``[C]``: 0 where the score is −inf; all 0 if all
    are.

    (1 − ρ) P_score + ρ P_staleness. Where nothing has a positive score, or nothing is stale, that part
    is uniform.

    Args:
        score: float32 ``[C]``.
        seen: int32 ``[C]``.
        cycle: int32 scalar: now.
        priorities: how they follow.
    """
    filled = score > -jnp.inf
    if priorities.by == "rank":
        order = jnp.argsort(-score)
        rank = jnp.zeros_like(order).at[order].set(jnp.arange(1, len(order) + 1))
        by_score = rank.astype(jnp.float32) ** (-1.0 / priorities.temperature)
    else:
        positive = jnp.maximum(score, 0.0)
        largest = jnp.max(positive, initial=1e-30)  # so that no power over- or underflows
        by_score = (positive / largest) ** (1.0 / priorities.temperature)
    age = (cycle - seen).astype(jnp.float32)
    parts = [_normalised(by_score, filled), _normalised(age, filled)]
    return (1.0 - priorities.staleness) * parts[0] + priorities.staleness * parts[1]


def _normalised(weight: Array, filled: Array) -> Array:
    weight = jnp.where(filled, weight, 0.0)
    weight = jnp.where(jnp.any(weight > 0), weight, filled.astype(jnp.float32))
    return weight / jnp.maximum(jnp.sum(weight), 1e-30)


def draw(key: Array, probability: Array, n: int, replacement: bool) -> Array:
    """Places to replay, int32 ``[n]``.

    Args:
        key: of this draw.
        probability: float32 ``[C]``; n of them are not 0 if drawn without replacement.
        n: how many.
        replacement: whether one may be drawn more than once.
    """
    if replacement:
        return jax.random.choice(key, len(probability), (n,), p=probability).astype(jnp.int32)
    gumbels = jax.random.gumbel(key, probability.shape) + jnp.log(probability)
    return jax.lax.top_k(gumbels, n)[1].astype(jnp.int32)


def replayed(
    buffer: LevelBuffer, place: Array, score: Array, highest: Array, cycle: Array
) -> LevelBuffer:
    """The buffer after levels of it were played again.

    A level that was played k times gets the mean of its scores, and the highest return is never
    lowered. Where no episode ended, a level keeps its score, and was seen.

    Args:
        buffer: before.
        place: int32 ``[N]``; :data:`~.contract.NONE`: of no level here.
        score, highest: float32 ``[N]``.
        cycle: int32 scalar: now.
    """
    places = len(buffer.score)
    here = jnp.where(place == NONE, places, place)  # out of range: dropped
    known = score > -jnp.inf
    counted = jnp.where(known, here, places)
    total = jnp.zeros(places).at[counted].add(jnp.where(known, score, 0.0), mode="drop")
    times = jnp.zeros(places).at[counted].add(1.0, mode="drop")
    return buffer._replace(
        score=jnp.where(times > 0, total / jnp.maximum(times, 1.0), buffer.score),
        highest=buffer.highest.at[counted].max(highest, mode="drop"),
        seen=buffer.seen.at[here].set(cycle, mode="drop"),
    )


def _found(buffer: LevelBuffer, levels: Any, words: Array) -> Array:
    """Where the buffer has each of N levels, int32 ``[N]``; :data:`NONE` if nowhere."""
    alike = jnp.all(words[:, None] == buffer.hash[None], axis=2) & buffer.filled
    place = jnp.argmax(alike, axis=1)
    there = jax.tree.map(lambda x: x[place], buffer.levels)
    return jnp.where(jnp.any(alike, axis=1) & _equal(levels, there), place, NONE).astype(jnp.int32)


def _equal(a: Any, b: Any) -> Array:
    """bool ``[N]``: whether pairs of levels are the same in all fields."""
    same = jax.tree.map(lambda x, y: jnp.all((x == y).reshape(len(x), -1), axis=1), a, b)
    return jnp.all(jnp.stack(jax.tree.leaves(same)), axis=0)


def _earlier(levels: Any, words: Array, known: Array) -> Array:
    """bool ``[N]``: whether an equal level whose score is known comes before it among these."""
    before = np.tri(len(words), k=-1, dtype=bool) & known[None]
    alike = jnp.all(words[:, None] == words[None], axis=2) & before
    first = jnp.argmax(alike, axis=1)
    there = jax.tree.map(lambda x: x[first], levels)
    return jnp.any(alike, axis=1) & _equal(levels, there)


def insert(buffer: LevelBuffer, new: Candidates, cycle: Array, priorities: Priorities) -> LevelBuffer:
    """The buffer with what is worth keeping of N more levels: of all, those most likely to be replayed,
    in the order in which they came.

    Nothing is kept that no episode ended in, and nothing twice: a level that is here already counts as
    one of its replays. What comes in was seen now, whatever it displaces.

    Args:
        buffer: C places.
        new: N candidates; a score of −inf: none.
        cycle: int32 scalar: now.
        priorities: how likely each is to be replayed.
    """
    words = hashes(new.levels)
    known = _found(buffer, new.levels, words)
    buffer = replayed(buffer, known, new.score, new.highest, cycle)
    drop = (known != NONE) | _earlier(new.levels, words, new.score > -jnp.inf)
    n = len(new.score)
    incoming = LevelBuffer(
        new.levels,
        words,
        jnp.where(drop, -jnp.inf, new.score),
        new.highest,
        jnp.full(n, cycle, jnp.int32),
        new.parent,
    )
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), buffer, incoming)
    likely = weights(both.score, both.seen, cycle, priorities)
    # −1 where it is empty: what has no probability at all is kept before nothing
    kept = jax.lax.top_k(jnp.where(both.filled, likely, -1.0), len(buffer.score))[1]
    kept = jnp.sort(kept + len(likely) * ~both.filled[kept]) % len(likely)  # levels first, as they came
    return jax.tree.map(lambda x: x[kept], both)
