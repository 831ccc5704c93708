"""Domain randomisation (Tobin et al. 2017, arXiv 1703.06907): every cycle has new levels."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.curricula.contract import NEW, NONE, Method, Outcome, Proposal
from sparse_rl.envs import Levels
from sparse_rl.settings.curricula import DrConfig


def fresh(levels: Levels, key: Array, n: int) -> Any:
    """N levels as the environment draws them."""
    return jax.vmap(levels.sample)(jax.random.split(key, n))


def make(settings: DrConfig, levels: Levels, num_envs: int) -> Method:
    """Build it for so many environments."""
    del settings

    def propose(state: tuple[()], key: Array) -> Proposal:
        kind, place = jnp.full(num_envs, NEW), jnp.full(num_envs, NONE)
        return Proposal(fresh(levels, key, num_envs), kind, place, jnp.bool(True))

    def absorb(state: tuple[()], proposal: Proposal, outcome: Outcome) -> tuple[()]:
        return state

    return Method(
        actors=num_envs,
        trained=slice(0, num_envs),
        score="learnability",
        begin=lambda key: (),
        propose=propose,
        absorb=absorb,
        highest=lambda state, proposal: jnp.full(num_envs, -jnp.inf),
        describe=lambda state: {},
    )
