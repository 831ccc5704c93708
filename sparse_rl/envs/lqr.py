"""Linear-quadratic regulators: a chain of masses, as a task for any agent and as an exact oracle in XLA.

The plants and the oracle on the host are in :mod:`sparse_rl.simulators.plants`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sparse_rl.envs.contract import Env, Step
from sparse_rl.simulators import plants

FORCE = 5.0
"""An agent's action of 1. Feedback by a gain is not limited."""
EPISODE_STEPS = 100
DOUBLINGS = (12, 40)
"""At least and at most: the sums of the oracle have 2¹² terms, and twice as many again and again until
what is left is rounding. The longer a chain, the later it comes to rest."""


@jax.custom_vjp
def _summed(closed: Array, costs: Array) -> tuple[Array, Array]:
    """Σ (Fᵀ)ᵏ C Fᵏ, and |Fᵏ|² of the k at which the sum ended: it converged if that is rounding.

    Args:
        closed, costs: F and C, ``[n, n]``.
    """
    rest, (least, most) = jnp.finfo(closed.dtype).eps, DOUBLINGS

    def goes_on(carry: tuple[Array, Array, Array]) -> Array:
        turn, power, _ = carry
        left = jnp.sum(power * power)
        return (turn < least) | ((turn < most) & (left > rest) & jnp.isfinite(left))

    def double(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        turn, power, total = carry
        return turn + 1, power @ power, total + power.T @ total @ power

    _, power, total = jax.lax.while_loop(goes_on, double, (jnp.int32(0), closed, costs))
    return total, jnp.sum(power * power)


def _forward(closed: Array, costs: Array) -> Any:
    total, left = _summed(closed, costs)
    return (total, left), (closed, total)


def _backward(kept: tuple[Array, Array], wanted: tuple[Array, Array]) -> tuple[Array, Array]:
    """From dP = Fᵀ dP F + dFᵀ P F + Fᵀ P dF + dC: the adjoint of the sum is one with Fᵀ."""
    (closed, total), (slope, _) = kept, wanted
    spread, _ = _summed(closed.T, slope)
    return total @ closed @ spread.T + total.T @ closed @ spread, spread


_summed.defvjp(_forward, _backward)


def cost_matrix(plant: plants.Plant, gain: Array) -> tuple[Array, Array]:
    """What a gain costs from every initial state, by matrix products and one small inverse.

    Continuous time is first mapped to discrete time by the Cayley transform F = (I + A)(I − A)⁻¹,
    A = A − BK, which leaves P as it is; P = Σ (Fᵀ)ᵏ C Fᵏ is then summed by doubling, until it has
    converged. It has reverse-mode derivatives and no forward-mode ones.

    Args:
        plant: with n states and m forces.
        gain: ``[m, n]``; the result has its dtype.

    Returns:
        P ``[n, n]`` with J(K; x0) = x0ᵀ P x0, and bool: whether the sum converged. Where it did not,
        the gain is not stabilising, as far as its dtype tells, and P means nothing.
    """
    one = jnp.eye(len(plant.a), dtype=gain.dtype)
    closed = jnp.asarray(plant.a, gain.dtype) - jnp.asarray(plant.b, gain.dtype) @ gain
    costs = plant.weight * (one + gain.T @ gain)
    if plant.step is None:
        inverse = jnp.linalg.inv(one - closed)
        closed, costs = 2.0 * inverse - one, 2.0 * inverse.T @ costs @ inverse

    total, left = _summed(closed, costs)
    return total, left <= jnp.finfo(gain.dtype).eps


def cost(plant: plants.Plant, gain: Array) -> Array:
    """J(K), a scalar; infinite where the gain ``[m, n]`` is not stabilising."""
    p, settles = cost_matrix(plant, gain)
    return jnp.where(settles, jnp.trace(p), jnp.inf)


def make(task: str, masses: int = 4) -> Env:
    """Build ``chain`` or ``chain_discrete`` for agents that act in steps.

    x0 ~ N(0, I); a force is held for 0.1 s and the reward is minus the cost of the step, so that for
    such agents both tasks are the same. They differ for a gain, which acts in continuous or in discrete
    time.

    Raises:
        ValueError: the task is unknown.
    """
    if task not in plants.PLANTS:
        raise ValueError(f"lqr task {task!r} is unknown; choose one of {', '.join(plants.PLANTS)}")
    plant = plants.chain_discrete(masses)
    a, b, seconds = plant.a, plant.b, plant.weight
    states, forces = b.shape

    def reset(key: Array) -> tuple[Array, Array]:
        x = jax.random.normal(key, (states,))
        return x, x

    def step(key: Array, x: Array, action: Array) -> tuple[Array, Step]:
        del key  # the plant is deterministic
        u = FORCE * action
        reward = -seconds * (jnp.sum(x * x) + jnp.sum(u * u))
        x = jnp.asarray(a, jnp.float32) @ x + jnp.asarray(b, jnp.float32) @ u
        return x, Step(x, reward, jnp.zeros((), bool))

    return Env(
        name=f"lqr/{task}",
        observation_size=states,
        action_size=forces,
        episode_length=EPISODE_STEPS,
        reset=reset,
        step=step,
    )
