"""PAIRED (Dennis et al. 2020, arXiv 2012.02096): a teacher designs levels in which one student could do
better than another."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.curricula.scores import highest_return, over_episodes
from sparse_rl.envs import Design, Env, Step


class Designing(NamedTuple):
    """A level that is being made."""

    level: Any
    time: Array
    """int32 scalar: actions so far."""
    noise: Array
    """float32 ``[design.noise]``: so that one policy designs many levels."""


def design_env(design: Design, name: str) -> Env:
    """A teacher's environment: each step is an action on a level. It never ends by itself, so that what
    was made is there after the last step.

    Args:
        design: how levels are made.
        name: of the environment whose levels they are.
    """

    def see(state: Designing) -> Array:
        return design.observe(state.level, state.time, state.noise)

    def reset(key: Array) -> tuple[Designing, Array]:
        noise = jax.random.uniform(key, (design.noise,))
        state = Designing(design.blank(), jnp.int32(0), noise)
        return state, see(state)

    def step(key: Array, state: Designing, action: Array) -> tuple[Designing, Step]:
        key_place, key_noise = jax.random.split(key)
        level = design.place(key_place, state.level, state.time, action)
        noise = jax.random.uniform(key_noise, (design.noise,))
        state = Designing(level, state.time + 1, noise)
        return state, Step(see(state), jnp.float32(0), jnp.bool(False))

    size = jax.eval_shape(lambda: see(Designing(design.blank(), jnp.int32(0), jnp.zeros(design.noise))))
    return Env(
        name=f"{name} (design)",
        observation_size=size.shape[0],
        action_size=design.action_size,
        episode_length=design.steps + 1,
        reset=reset,
        step=step,
        discrete=True,
        picture=design.picture,
        beside=design.beside,
    )


class Shown(NamedTuple):
    """What a student showed in N levels, each ``[T, N]``."""

    ended: Array
    """bool."""
    episode_return: Array
    """float32, up to this step."""


def estimated_regret(protagonist: Shown, antagonist: Shown) -> Array:
    """The antagonist's highest return less the protagonist's mean, at least 0, float32 ``[N]``: the
    flexible regret of Gur et al. 2021 (arXiv 2103.01991), as minimax has it. 0 where either has not
    ended an episode: nothing is known."""
    highest = highest_return(antagonist.ended, antagonist.episode_return)
    mean = over_episodes(protagonist.ended, protagonist.episode_return)
    regret = jnp.maximum(highest - mean, 0.0)
    return jnp.where(jnp.isfinite(regret), regret, 0.0)
