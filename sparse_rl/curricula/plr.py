"""Prioritised level replay (Jiang et al. 2021, arXiv 2010.03934), its robust form (PLR⊥, Jiang et al.
2021, arXiv 2110.02439) and its parallel one (Jiang et al. 2023, arXiv 2311.12716)."""

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.curricula import replaying
from sparse_rl.curricula.contract import NEW, NONE, REPLAYED, Method, Proposal
from sparse_rl.curricula.dr import fresh
from sparse_rl.curricula.replaying import Kept, at, either
from sparse_rl.envs import Levels
from sparse_rl.settings.curricula import PlrConfig, PlrParallelConfig


def make(settings: PlrConfig, levels: Levels, num_envs: int) -> Method:
    """A cycle plays new levels, or replays with :attr:`~PlrConfig.replay_probability` once there is
    enough; the robust form learns from replays alone."""

    def propose(kept: Kept, key: Array) -> Proposal:
        key_new, key_decide, key_place = jax.random.split(key, 3)
        wanted = jax.random.bernoulli(key_decide, settings.replay_probability)
        again = replaying.ready(settings, kept) & wanted
        place = replaying.places(settings, kept, key_place, num_envs)
        chosen = either(again, at(kept, place), fresh(levels, key_new, num_envs))
        return Proposal(
            chosen,
            jnp.where(again, REPLAYED, jnp.full(num_envs, NEW)),
            jnp.where(again, place, NONE),
            again if settings.method == "plr_robust" else jnp.bool(True),
        )

    return replaying.method(settings, levels, num_envs, propose)


def make_parallel(settings: PlrParallelConfig, levels: Levels, num_envs: int) -> Method:
    """A cycle replays, and plays as many new levels beside; it learns from replays. Until there is
    enough to replay, all are new, and nothing is learned."""

    def propose(kept: Kept, key: Array) -> Proposal:
        key_new, key_place = jax.random.split(key)
        again = replaying.ready(settings, kept)
        place = replaying.places(settings, kept, key_place, num_envs)
        new = fresh(levels, key_new, 2 * num_envs)
        mixed = jax.tree.map(
            lambda old, new: jnp.concatenate([old, new[num_envs:]]), at(kept, place), new
        )
        kind = jnp.repeat(jnp.array([REPLAYED, NEW]), num_envs)
        where = jnp.concatenate([place, jnp.full(num_envs, NONE)])
        return Proposal(
            either(again, mixed, new), jnp.where(again, kind, NEW), jnp.where(again, where, NONE), again
        )

    return replaying.method(settings, levels, num_envs, propose)
