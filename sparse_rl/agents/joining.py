"""Values of a team's agents over steps in a row, what they come to together, and what they should be.

Targets are of double Q-learning (van Hasselt et al. 2016, arXiv 1509.06461), with λ-returns where asked
(λ = 0: one step). A time limit is no end: there the true successor is valued.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.agents.actions import mask_illegal
from sparse_rl.agents.choosing import Chooser
from sparse_rl.agents.pruned import Params
from sparse_rl.agents.remembering import unrolled_values
from sparse_rl.experience import Steps, advantages
from sparse_rl.networks import Mixer
from sparse_rl.pruning import apply
from sparse_rl.settings.off_policy import MixingConfig


class Mixing(NamedTuple):
    """The static parts."""

    config: MixingConfig
    chooser: Chooser
    mixer: Mixer | None
    central_size: int
    """Numbers of the team's state."""
    agents: int
    shared_reward: bool
    updates: int
    """In the whole run."""


def values(mixing: Mixing, critic: Params, supports: Any, batch: Steps) -> Array:
    """Q(s, ·) of all that was seen, ``[L + 1, n, A, a]``, far below where an action is not allowed."""
    rows, n, agents, _ = batch.observation.shape
    first = jnp.repeat(batch.first, agents, axis=1)
    memory = jax.tree.map(lambda x: x[0].reshape(n * agents, -1), batch.memory)
    views = batch.observation.reshape(rows * n * agents, -1)
    said, _ = unrolled_values(mixing.chooser.critic, critic, supports, views, first, memory)
    return mask_illegal(said.reshape(rows, n, agents, -1), batch.legal)


def taken(values: Array, action: Array, batch: Steps) -> Array:
    """Of these actions ``[…, A]``; 0 of agents that do not act."""
    values = jnp.take_along_axis(values, action[..., None], axis=-1)[..., 0]
    return values if batch.weight is None else values * batch.weight


def together(mixing: Mixing, mixer: Params, supports: Any, values: Array, batch: Steps) -> Array:
    """What a team's values come to: ``[L + 1, n, A]`` → ``[L + 1, n, 1]``, or the same where they stay
    apart."""
    if mixing.config.MIXED == "apart":
        return values
    if mixing.mixer is None:
        return jnp.sum(values, axis=-1, keepdims=True)
    assert batch.state is not None
    flat = values.reshape(-1, mixing.agents), batch.state.reshape(-1, mixing.central_size)
    mixed: Array = apply(mixing.mixer, mixer, supports, *flat)
    return mixed.reshape(*values.shape[:-1], 1)


def rewards(mixing: Mixing, shaping: Array, batch: Steps) -> Array:
    """What is learned from: of each agent ``[L + 1, n, A]``, or of the team ``[L + 1, n, 1]``; what
    shapes rewards weighs what it does now, and not what it did then."""
    reward = batch.reward
    if batch.shaping is not None:
        reward = reward + shaping * batch.shaping
    if mixing.config.MIXED == "apart":
        return reward
    return reward[..., :1] if mixing.shared_reward else jnp.sum(reward, axis=-1, keepdims=True)


def known_after(acts: Array, terminated: Array, truncated: Array) -> Array:
    """Whether something is known of what follows each step, bool ``[L, …]``: the agent acts in the step
    after, or the task ended, or it is known of the step after.

    Args:
        acts: bool: whether the agent acts in the step after.
        terminated, truncated: how the step ended the episode, if it did.
    """

    def before(following: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        acts, terminated, truncated = now
        found = acts | terminated | (~truncated & following)
        return found, found

    return jax.lax.scan(before, jnp.zeros_like(acts[0]), (acts, terminated, truncated), reverse=True)[1]


class Targets(NamedTuple):
    """What values should be, ``[L, n, A]`` or ``[L, n, 1]``."""

    value: Array
    weight: Array
    """float32: 1 where there is something to learn, else 0."""


def targets(mixing: Mixing, reward: Array, following: Array, batch: Steps) -> Targets:
    """λ-returns of these rewards that go on from these values of the greedy policy, ``[L + 1, n, …]``.

    An agent that is dead, or waits, decides nothing: where agents learn apart, returns go on through
    such steps to the next at which it acts (:func:`~sparse_rl.experience.advantages`).
    """
    apart = mixing.config.MIXED == "apart"
    over = jnp.broadcast_to(batch.last[1:, :, None], reward[1:].shape)
    terminated = over & batch.terminated[1:, :, None]
    truncated = over & ~terminated
    acts, known = None, jnp.ones_like(over)
    if apart and batch.weight is not None:
        acts = batch.weight[1:]
        known = known_after(acts > 0, terminated, truncated)
    # where nothing is known of what follows the step after, a return looks no further than it
    broken = truncated | ~jnp.concatenate([known[1:], jnp.ones_like(known[:1])])
    flat = [reward[:-1], following[:-1], following[1:], terminated, broken]
    gained = advantages(
        *(x.reshape(len(x), -1) for x in flat),
        discount=mixing.config.discount,
        gae_lambda=mixing.config.gae_lambda,
        acts=None if acts is None else acts.reshape(len(acts), -1),
    ).reshape(known.shape)
    counts = known & ~batch.last[:-1, :, None]
    if batch.weight is not None and apart:
        counts = counts & (batch.weight[:-1] > 0)
    return Targets(gained + following[:-1], counts.astype(jnp.float32))
