"""ACCEL (Parker-Holder et al. 2022, arXiv 2203.01302): robust level replay that edits what it replayed;
and its parallel form (Jiang et al. 2023, arXiv 2311.12716)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.curricula import replaying
from sparse_rl.curricula.contract import MUTATED, NEW, NONE, REPLAYED, Method, Outcome, Proposal
from sparse_rl.curricula.dr import fresh
from sparse_rl.curricula.replaying import Kept, at, either
from sparse_rl.envs import Levels
from sparse_rl.settings.curricula import AccelConfig, AccelParallelConfig


class Editing(NamedTuple):
    """What is kept, and what the last cycle replayed."""

    kept: Kept
    edits: Array
    """bool scalar: whether the next cycle plays edits of it."""
    parents: Any
    """N levels."""
    place: Array
    """int32 ``[N]``: where they are. A cycle that replays takes nothing in, so they still are."""


def make(settings: AccelConfig, levels: Levels, num_envs: int) -> Method:
    """A cycle plays new levels, replays, or, after every replay, edits of what was replayed. It learns
    from replays alone."""

    def begin(key: Array) -> Editing:
        kept = replaying.begin(levels, settings.buffer_size, key)
        none = jnp.full(num_envs, NONE)
        return Editing(kept, jnp.bool(False), at(kept, jnp.zeros(num_envs, jnp.int32)), none)

    def propose(state: Editing, key: Array) -> Proposal:
        kept = state.kept
        key_new, key_decide, key_place, key_edit = jax.random.split(key, 4)
        wanted = jax.random.bernoulli(key_decide, settings.replay_probability)
        again = replaying.ready(settings, kept) & wanted & ~state.edits
        place = replaying.places(settings, kept, key_place, num_envs)
        children = replaying.edited(levels, key_edit, state.parents, settings.edits)
        chosen = either(again, at(kept, place), fresh(levels, key_new, num_envs))
        kind = jnp.where(state.edits, MUTATED, jnp.where(again, REPLAYED, NEW))
        return Proposal(
            either(state.edits, children, chosen),
            jnp.full(num_envs, kind),
            jnp.where(state.edits, state.place, jnp.where(again, place, NONE)),
            again,
        )

    def absorb(state: Editing, proposal: Proposal, outcome: Outcome) -> Editing:
        kept = replaying.absorbed(settings, state.kept, proposal, outcome)
        return Editing(kept, proposal.learns, proposal.levels, proposal.place)

    return Method(
        actors=num_envs,
        trained=slice(0, num_envs),
        score=settings.score,
        begin=begin,
        propose=propose,
        absorb=absorb,
        highest=lambda state, proposal: replaying.highest(state.kept, proposal),
        describe=lambda state: replaying.describe(state.kept),
        kept=lambda state: state.kept.buffer,
    )


def make_parallel(settings: AccelParallelConfig, levels: Levels, num_envs: int) -> Method:
    """A cycle replays, and plays as many edits of these and as many new levels beside; it learns from
    replays. Until there is enough to replay, all are new, and nothing is learned."""

    def propose(kept: Kept, key: Array) -> Proposal:
        key_new, key_place, key_edit = jax.random.split(key, 3)
        again = replaying.ready(settings, kept)
        place = replaying.places(settings, kept, key_place, num_envs)
        new, old = fresh(levels, key_new, 3 * num_envs), at(kept, place)
        children = replaying.edited(levels, key_edit, old, settings.edits)
        mixed = jax.tree.map(
            lambda a, b, c: jnp.concatenate([a, b, c[2 * num_envs :]]), old, children, new
        )
        kind = jnp.repeat(jnp.array([REPLAYED, MUTATED, NEW]), num_envs)
        where = jnp.concatenate([place, place, jnp.full(num_envs, NONE)])
        return Proposal(
            either(again, mixed, new), jnp.where(again, kind, NEW), jnp.where(again, where, NONE), again
        )

    return replaying.method(settings, levels, num_envs, propose)
