"""Sampling for learnability (Rutherford et al. 2024, arXiv 2408.15099)."""

import functools

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.curricula import buffer as buffers
from sparse_rl.curricula import replaying
from sparse_rl.curricula.buffer import Candidates, Priorities
from sparse_rl.curricula.contract import NEW, NONE, REPLAYED, SCOUTED, Method, Outcome, Proposal
from sparse_rl.curricula.dr import fresh
from sparse_rl.curricula.replaying import Kept, at, either
from sparse_rl.envs import Levels
from sparse_rl.settings.curricula import SflConfig

HIGHEST = Priorities("rank", 1.0, 0.0)
"""What is kept: the highest scores, however old."""


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
        filled = kept.buffer.filled
        again = jnp.sum(filled) >= again_each
        place = buffers.draw(key_place, filled.astype(jnp.float32), again_each, replacement=False)
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
        # what is learned from is not looked at: a replay would make a level look as if scouted now
        levels, score, highest = jax.tree.map(
            lambda x: x[num_envs:], (proposal.levels, outcome.score, outcome.highest)
        )
        scouted = Candidates(levels, score, highest, jnp.zeros((scouts, 2), jnp.uint32))
        buffer = kept.buffer
        recent = kept.cycle - buffer.seen < settings.period
        buffer = buffer._replace(score=jnp.where(recent, buffer.score, -jnp.inf))
        buffer = buffers.insert(buffer, scouted, kept.cycle, HIGHEST)
        return Kept(buffer, kept.cycle + 1)

    return Method(
        actors=len(kinds),
        trained=slice(0, num_envs),
        score="learnability",
        begin=functools.partial(replaying.begin, levels, settings.buffer_size(num_envs)),
        propose=propose,
        absorb=absorb,
        highest=lambda kept, proposal: jnp.full(len(kinds), -jnp.inf),
        describe=replaying.describe,
    )
