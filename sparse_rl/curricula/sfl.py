"""Sampling for learnability (Rutherford et al. 2024, arXiv 2408.15099)."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.curricula import buffer as buffers
from sparse_rl.curricula import replaying
from sparse_rl.curricula.buffer import LevelBuffer
from sparse_rl.curricula.contract import NEW, NONE, REPLAYED, SCOUTED, Method, Outcome, Proposal
from sparse_rl.curricula.dr import fresh
from sparse_rl.curricula.replaying import Kept, at, either
from sparse_rl.envs import Levels
from sparse_rl.settings.curricula import SflConfig


def make(settings: SflConfig, levels: Levels, num_envs: int) -> Method:
    """A cycle replays the most learnable of the levels scouted in the last :attr:`~SflConfig.period`
    cycles, uniformly, plays new ones beside, and learns from both; others are scouted.

    The paper scouts all at once, and then trains for a period; here every cycle scouts its part. What is
    replayed was scouted as long ago on average, and no cycle costs more than others. Scores are not
    changed by training.
    """
    again_each, scouts = settings.replays(num_envs), settings.scouted(num_envs)
    kinds = jnp.repeat(
        jnp.array([REPLAYED, NEW, SCOUTED]),
        jnp.array([again_each, num_envs - again_each, scouts]),
        total_repeat_length=num_envs + scouts,
    )

    def propose(kept: Kept, key: Array) -> Proposal:
        key_new, key_place = jax.random.split(key)
        score, best = jax.lax.top_k(kept.buffer.score, settings.kept_levels(num_envs))
        known = score > -jnp.inf
        again = jnp.sum(known) >= again_each
        place = best[buffers.draw(key_place, known * 1.0, again_each, replacement=False)]
        new = fresh(levels, key_new, len(kinds))
        old = jax.tree.map(lambda a, b: jnp.concatenate([a, b[again_each:]]), at(kept, place), new)
        where = jnp.concatenate([place, jnp.full(len(kinds) - again_each, NONE)])
        return Proposal(
            either(again, old, new),
            jnp.where(again | (kinds == SCOUTED), kinds, NEW),
            jnp.where(again, where, NONE),
            jnp.bool(True),
        )

    def absorb(kept: Kept, proposal: Proposal, outcome: Outcome) -> Kept:
        now, score, highest = jax.tree.map(
            lambda x: x[num_envs:], (proposal.levels, outcome.score, outcome.highest)
        )
        seen, none = jnp.full(scouts, kept.cycle), jnp.zeros((scouts, 2), jnp.uint32)
        scouted = LevelBuffer(now, buffers.hashes(now), score, highest, seen, none)
        place = kept.cycle % settings.period * scouts
        buffer = jax.tree.map(
            lambda old, x: jax.lax.dynamic_update_slice_in_dim(old, x, place, 0), kept.buffer, scouted
        )
        return Kept(buffer, kept.cycle + 1)

    return Method(
        actors=len(kinds),
        trained=slice(0, num_envs),
        score="learnability",
        begin=functools.partial(replaying.begin, levels, settings.period * scouts),
        propose=propose,
        absorb=absorb,
        highest=lambda kept, proposal: jnp.full(len(kinds), -jnp.inf),
        describe=replaying.describe,
        kept=lambda kept: kept.buffer,
    )
