"""Linear plants with quadratic costs, and their exact oracle on the host, in float64.

The state x and the force u of a plant follow dx/dt = Ax + Bu, or x' = Ax + Bu in steps of ``step``
seconds, with u = −Kx. The cost of a gain K is J(K) = E ∫ (xᵀx + uᵀu) dt with x0 ~ N(0, I) (a sum over
steps, times ``step``). Nothing here needs jax.
"""

import functools
from typing import NamedTuple

import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.optimize

Floats = np.ndarray
STEP_SECONDS = 0.1
"""Of the plant in discrete time."""
FLOW_HORIZON = 1e6
"""Time after which a gradient flow is given up."""
FLOW_MASSES = 24
"""Of the longest chain whose gradient flow is followed: it takes minutes at 48."""


class Plant(NamedTuple):
    """A linear plant with n states and m forces; Q = R = Σ0 = I."""

    a: Floats
    """float64 ``[n, n]``."""
    b: Floats
    """float64 ``[n, m]``."""
    step: float | None
    """Seconds per step; ``None``: time is continuous."""

    @property
    def weight(self) -> float:
        """Of a step's cost: its seconds."""
        return self.step or 1.0


@functools.cache
def chain(masses: int) -> Plant:
    """Masses in a row, each tied to its neighbours by a spring and a damper and pushed by a force.

    A = [[0, I], [−T, −T]] with T = tridiag(−1, 2, −1), B = [0; I]: n = 2 · masses, m = masses
    (Mohammadi et al. 2019, arXiv 1912.11899, §VI). Without any force it comes to rest.
    """
    zero, one = np.zeros((masses, masses)), np.eye(masses)
    stiffness = 2.0 * one - np.eye(masses, k=1) - np.eye(masses, k=-1)
    return Plant(np.block([[zero, one], [-stiffness, -stiffness]]), np.vstack([zero, one]), None)


@functools.cache
def chain_discrete(masses: int) -> Plant:
    """The chain with forces that are held for :data:`STEP_SECONDS`: exp of [[A, B], [0, 0]]."""
    a, b, _ = chain(masses)
    states, forces = b.shape
    held = np.zeros((states + forces, states + forces))
    held[:states] = np.hstack([a, b])
    exact = scipy.linalg.expm(held * STEP_SECONDS)
    return Plant(exact[:states, :states], exact[:states, states:], STEP_SECONDS)


PLANTS = {"chain": chain, "chain_discrete": chain_discrete}


def is_stabilising(plant: Plant, gain: Floats) -> bool:
    """Whether the state goes to zero with this gain, float64 ``[m, n]``."""
    if not np.isfinite(gain).all():
        return False
    poles = np.linalg.eigvals(plant.a - plant.b @ gain)
    return bool((abs(poles) < 1.0).all() if plant.step else (poles.real < 0.0).all())


def _lyapunov(plant: Plant, closed: Floats, constant: Floats) -> Floats:
    """X = closedᵀ X closed + constant, or closedᵀ X + X closed + constant = 0."""
    if plant.step:
        return np.asarray(scipy.linalg.solve_discrete_lyapunov(closed.T, constant))
    return np.asarray(scipy.linalg.solve_continuous_lyapunov(closed.T, -constant))


def cost_matrix(plant: Plant, gain: Floats) -> Floats:
    """P with J(K; x0) = x0ᵀ P x0, float64 ``[n, n]``; infinite where the gain is not stabilising."""
    if not is_stabilising(plant, gain):
        return np.full_like(plant.a, np.inf)
    constant = plant.weight * (np.eye(len(plant.a)) + gain.T @ gain)
    return _lyapunov(plant, plant.a - plant.b @ gain, constant)


def cost(plant: Plant, gain: Floats) -> float:
    """J(K) = tr P, for a gain float64 ``[m, n]``; infinite where it is not stabilising."""
    return float(np.trace(cost_matrix(plant, gain)))


def cost_and_gradient(plant: Plant, gain: Floats) -> tuple[float, Floats]:
    """J(K) and ∇J(K), float64 ``[m, n]``, of a stabilising gain (Levine and Athans 1970).

    ∇J = 2(RK − BᵀP)Y in continuous time and 2(RK − BᵀP(A − BK))Y in discrete, with Y = E ∫ xxᵀ dt.
    """
    p, closed = cost_matrix(plant, gain), plant.a - plant.b @ gain
    y = _lyapunov(plant, closed.T, np.eye(len(plant.a)))
    pushed = plant.b.T @ p @ (closed if plant.step else np.eye(len(closed)))
    return float(np.trace(p)), 2.0 * (plant.weight * gain - pushed) @ y


def optimum(plant: Plant) -> tuple[Floats, float]:
    """K* and J(K*), by the algebraic Riccati equation."""
    q, r = plant.weight * np.eye(len(plant.a)), plant.weight * np.eye(plant.b.shape[1])
    if not plant.step:
        p = scipy.linalg.solve_continuous_are(plant.a, plant.b, q, r)
        return plant.b.T @ p, float(np.trace(p))
    p = scipy.linalg.solve_discrete_are(plant.a, plant.b, q, r)
    pushed = plant.b.T @ p
    return np.linalg.solve(r + pushed @ plant.b, pushed @ plant.a), float(np.trace(p))


def masked_optimum(plant: Plant, mask: Floats) -> tuple[Floats, float]:
    """The best gain with zeros where ``mask``, bool ``[m, n]``, is false, and its cost.

    A local one, by L-BFGS from K = 0: the problem has no closed form and need not be convex.
    """
    free = np.flatnonzero(mask)
    if not len(free):
        return np.zeros(mask.shape), cost(plant, np.zeros(mask.shape))

    def gain_of(values: Floats) -> Floats:
        gain = np.zeros(mask.size)
        gain[free] = values
        return gain.reshape(mask.shape)

    def objective(values: Floats) -> tuple[float, Floats]:
        gain = gain_of(values)
        if not is_stabilising(plant, gain):
            return 1e12, np.zeros_like(values)
        value, gradient = cost_and_gradient(plant, gain)
        return value, gradient.reshape(-1)[free]

    options = {"maxiter": 10_000, "ftol": 1e-15, "gtol": 1e-10}
    found = scipy.optimize.minimize(
        objective, np.zeros(len(free)), jac=True, method="L-BFGS-B", options=options
    )
    return gain_of(found.x), float(found.fun)


def flow_time(plant: Plant, mask: Floats, best: float, target: float) -> float:
    """Time of the gradient flow dK/dt = −∇J(K) inside ``mask``, from K = 0 to a gap of ``target``.

    What stochastic gradient descent follows where its step η is small: it needs flow_time / η updates.
    Infinite where the flow comes to rest elsewhere; NaN above :data:`FLOW_MASSES`.

    Args:
        plant: at rest without force.
        mask: bool ``[m, n]``.
        best: J of :func:`masked_optimum`.
        target: share of J(0) − best.
    """
    if len(mask) > FLOW_MASSES:
        return float("nan")
    goal = target * (cost(plant, np.zeros(mask.shape)) - best)
    if goal <= 0.0:  # no gain of this mask is better than none
        return 0.0

    def descent(_: float, values: Floats) -> Floats:
        return np.asarray(-(mask * cost_and_gradient(plant, values.reshape(mask.shape))[1]).reshape(-1))

    def left(_: float, values: Floats) -> float:
        gap = cost(plant, values.reshape(mask.shape)) - best
        return float(np.log(max(gap / goal, 1e-12)))

    def hope(_: float, values: Floats) -> float:
        # J falls at the rate |∇J|², which shrinks: does that bring it to the goal before the horizon?
        gap = cost(plant, values.reshape(mask.shape)) - best
        return float(np.sum(descent(0.0, values) ** 2)) * FLOW_HORIZON - max(gap - goal, 0.0)

    left.terminal = hope.terminal = True  # type: ignore[attr-defined]
    start, options = np.zeros(mask.size), {"rtol": 1e-4, "atol": 1e-7}
    flow = scipy.integrate.solve_ivp(descent, (0.0, FLOW_HORIZON), start, events=(left, hope), **options)
    reached: Floats = flow.t_events[0]
    return float(reached[0]) if len(reached) else float("inf")
