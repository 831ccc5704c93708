"""What curricula share that keep levels and play them again."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.curricula import buffer as buffers
from sparse_rl.curricula.buffer import Candidates, LevelBuffer, Priorities
from sparse_rl.curricula.contract import MUTATED, REPLAYED, Method, Outcome, Proposal
from sparse_rl.envs import Levels
from sparse_rl.settings.curricula import ReplayingConfig


class Kept(NamedTuple):
    """The state of a curriculum that replays."""

    buffer: LevelBuffer
    cycle: Array
    """int32 scalar: cycles so far."""


def begin(levels: Levels, places: int, key: Array) -> Kept:
    """Nothing kept yet."""
    return Kept(buffers.empty(jax.eval_shape(levels.sample, key), places), jnp.int32(0))


def priorities(settings: ReplayingConfig) -> Priorities:
    """As the settings say."""
    return Priorities(settings.prioritisation, settings.temperature, settings.staleness)


def ready(settings: ReplayingConfig, kept: Kept) -> Array:
    """bool scalar: whether there is enough to replay."""
    return jnp.sum(kept.buffer.filled) >= settings.needed


def places(settings: ReplayingConfig, kept: Kept, key: Array, n: int) -> Array:
    """Where n levels are that are replayed now, int32 ``[n]``."""
    buffer = kept.buffer
    likely = buffers.weights(buffer.score, buffer.seen, kept.cycle, priorities(settings))
    return buffers.draw(key, likely, n, settings.replacement)


def at(kept: Kept, place: Array) -> Any:
    """The levels there."""
    return jax.tree.map(lambda x: x[place], kept.buffer.levels)


def either(condition: Array, yes: Any, no: Any) -> Any:
    """One set of levels or the other, by a bool scalar."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def edited(levels: Levels, key: Array, parents: Any, edits: int) -> Any:
    """N levels after so many small edits each."""
    n = len(jax.tree.leaves(parents)[0])

    def edit(level: Any, key: Array) -> Any:
        step = lambda level, key: (levels.mutate(key, level), None)  # noqa: E731
        return jax.lax.scan(step, level, jax.random.split(key, edits))[0]

    return jax.vmap(edit)(parents, jax.random.split(key, n))


def highest(kept: Kept, proposal: Proposal) -> Array:
    """The highest return that each level had so far: an edit is another level than its parent."""
    was = kept.buffer.highest[proposal.place]
    return jnp.where(proposal.kind == REPLAYED, was, -jnp.inf)


def absorbed(settings: ReplayingConfig, kept: Kept, proposal: Proposal, outcome: Outcome) -> Kept:
    """After a cycle: what was replayed has new scores, and of the rest the best is kept."""
    buffer = kept.buffer
    mutated = (proposal.kind == MUTATED)[:, None]
    parent = jnp.where(mutated, buffer.hash[proposal.place], jnp.uint32(0))
    new = Candidates(proposal.levels, outcome.score, outcome.highest, parent)
    buffer = buffers.insert(buffer, new, kept.cycle, priorities(settings))
    return kept._replace(buffer=buffer, cycle=kept.cycle + 1)


def describe(kept: Kept) -> dict[str, Array]:
    """How full the buffer is, and means over what it holds; NaN while it is empty."""
    buffer, filled = kept.buffer, kept.buffer.filled
    held = jnp.sum(filled)

    def mean(numbers: Array) -> Array:
        return jnp.sum(jnp.where(filled, numbers, 0.0)) / held

    return {
        "curriculum/levels": held.astype(jnp.float32),
        "curriculum/score": mean(buffer.score),
        "curriculum/age": mean((kept.cycle - buffer.seen).astype(jnp.float32)),
        "curriculum/edited": mean(jnp.any(buffer.parent != 0, axis=1).astype(jnp.float32)),
    }


def method(
    settings: ReplayingConfig,
    levels: Levels,
    num_envs: int,
    propose: Callable[[Kept, Array], Proposal],
) -> Method:
    """A curriculum that is nothing but its buffer and what it proposes; its first actors are learned
    from."""
    return Method(
        actors=settings.actors(num_envs),
        trained=slice(0, num_envs),
        score=settings.score,
        begin=functools.partial(begin, levels, settings.buffer_size),
        propose=propose,
        absorb=functools.partial(absorbed, settings),
        highest=highest,
        describe=describe,
        kept=lambda kept: kept.buffer,
    )
