"""Advantages of a rollout: generalised (GAE) and n-step, one recursion."""

import jax
import jax.numpy as jnp
from jax import Array


def advantages(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    *,
    discount: float,
    gae_lambda: float,
    acts: Array | None = None,
) -> Array:
    """Generalised advantage estimates (Schulman et al. 2016, arXiv 1506.02438, eq. 16).

    δ_t = r_t + γ (1 − terminated_t) V(s'_t) − V(s_t) and A_t = δ_t + γλ A_{t+1}, the sum broken off
    where an episode ended. A termination is worth nothing more; a truncation is worth the value of the
    observation at which time ran out. λ = 1 is the n-step advantage, each step looking as far as the
    rollout goes: A_t = r_t + … + γ^{n−1} r_{t+n−1} + γ^n V(s_{t+n}) − V(s_t).

    An agent of a team that is dead, or waits for others, decides nothing, and nobody asks what its
    observation is worth: the sum goes on through such steps with λ = 1, in which their values cancel, to
    the next step at which it acts.

    Args:
        rewards: float32 ``[T, N]``.
        values: float32 ``[T, N]``: V(s_t).
        next_values: float32 ``[T, N]``: V(s'_t) of the true successor, before any reset.
        terminated, truncated: bool ``[T, N]``: how step t ended the episode, if it did.
        discount: γ.
        gae_lambda: λ.
        acts: float32 ``[T, N]``: 1 where the actor acts in the step after, else 0; ``None``: always.

    Returns:
        float32 ``[T, N]``.
    """
    deltas = rewards + discount * jnp.where(terminated, 0.0, next_values) - values
    onwards = discount * (gae_lambda if acts is None else jnp.where(acts > 0, gae_lambda, 1.0))
    decays = jnp.where(terminated | truncated, 0.0, onwards)

    def step(following: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, decay = now
        advantage = delta + decay * following
        return advantage, advantage

    return jax.lax.scan(step, jnp.zeros_like(values[0]), (deltas, decays), reverse=True)[1]
