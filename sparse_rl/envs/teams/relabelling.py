"""Other-Play (Hu et al. 2020, arXiv 2003.02979): agents who cannot agree on what nobody could know.

What is the same but for its name (colours, landmarks, levers) is named anew for each agent and episode,
by a relabelling that is drawn from the environment's symmetries. A convention that rests on such a name
fails as often as names differ; one that rests on nothing but what all can see does not. Trained so,
agents meet strangers as they met each other.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from sparse_rl.envs.contract import Symmetries, TeamEnv, TeamStep

NAMES_STREAM = 0x6E616D65
"""Child of a reset's key: of the relabellings."""


class Relabelled(NamedTuple):
    """A team, and how each of its agents names things in this episode."""

    inner: Any
    which: Array
    """int32 ``[A]``: number of each one's relabelling."""


def relabelled(env: TeamEnv) -> TeamEnv:
    """The environment whose agents name things anew in each episode, each in its own way. A central
    critic sees all as it is; so does who evaluates (:attr:`TeamEnv.as_is`).

    Args:
        env: discrete, with symmetries; names of agents may follow what these are of.
    """
    assert env.symmetries is not None
    seen_by, done_by = (jnp.asarray(table) for table in _with_names(env.symmetries, env.names))
    back = jnp.argsort(seen_by, axis=1)

    def seen(state: Relabelled, observation: Array) -> Array:
        return jnp.take_along_axis(observation, seen_by[state.which], axis=1)

    def reset(key: Array) -> tuple[Relabelled, Array]:
        inner, observation = env.reset(key)
        drawn = jax.random.fold_in(key, NAMES_STREAM)
        state = Relabelled(inner, jax.random.randint(drawn, (env.agents,), 0, len(seen_by)))
        return state, seen(state, observation)

    def step(key: Array, state: Relabelled, action: Array) -> tuple[Relabelled, TeamStep]:
        does = jnp.take_along_axis(done_by[state.which], action[:, None], axis=1)[:, 0]
        inner, now = env.step(key, state.inner, does)
        state = Relabelled(inner, state.which)
        return state, now._replace(observation=seen(state, now.observation))

    allowed, alive, central = env.legal_actions, env.alive, env.state

    def legal(state: Relabelled) -> Array:
        assert allowed is not None
        return jnp.take_along_axis(allowed(state.inner), done_by[state.which], axis=1)

    def state_of(state: Relabelled, observation: Array) -> Array:
        assert central is not None
        return central(state.inner, jnp.take_along_axis(observation, back[state.which], axis=1))

    return dataclasses.replace(
        env,
        reset=reset,
        step=step,
        legal_actions=None if allowed is None else legal,
        alive=None if alive is None else lambda state: alive(state.inner),
        state=None if central is None else state_of,
        symmetries=None,
        as_is=env,
    )


def _with_names(symmetries: Symmetries, names: int) -> Symmetries:
    """The same where names of agents follow what is seen: they stay."""
    count, size = symmetries.observation.shape
    tail = np.broadcast_to(np.arange(size, size + names), (count, names))
    return symmetries._replace(observation=np.concatenate([symmetries.observation, tail], axis=1))


def product(*parts: Symmetries) -> Symmetries:
    """All relabellings that are one of each of these, the first applied first."""
    made = parts[0]
    for part in parts[1:]:
        both = [
            (one.take(other), does.take(also))
            for one, does in zip(made.observation, made.action, strict=True)
            for other, also in zip(part.observation, part.action, strict=True)
        ]
        made = Symmetries(*(np.stack(table).astype(np.int32) for table in zip(*both, strict=True)))
    return made
