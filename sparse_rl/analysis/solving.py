"""Robust least squares of many problems at once, and of one to the end.

One batched Levenberg–Marquardt solver takes every start of every bootstrap resample; scipy's
trust-region solver ends what is quoted.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from sparse_rl.analysis.laws import Law
from sparse_rl.analysis.statistics import Floats

HUBER = 1.345
"""Residuals beyond so many standard errors pull linearly (95 % efficient for normal errors)."""
ITERATIONS = 150
SMALL = 1e-8
"""A step that lowers the cost by a smaller share, or by less than this, was the last one."""
STUCK = 1e7
"""Damping at which no step helps any more."""

Data = tuple[Floats, Floats, Floats, Floats, NDArray[np.bool_]]
"""Sizes and kept shares [points]; scores, errors and whether censored, [points] or [batch, points]."""


def bounds(law: Law) -> tuple[Floats, Floats]:
    """[parameters]: where a law's parameters may lie."""
    low, high = np.array([(p.low, p.high) for p in law.parameters.values()]).T
    return low, high


def costs(residual: Floats) -> Floats:
    """[..., points] → [...]: Huber loss."""
    size = np.abs(residual)
    return np.where(size <= HUBER, residual**2 / 2, HUBER * (size - HUBER / 2)).sum(-1)


def residuals(law: Law, theta: Floats, data: Data) -> Floats:
    """In standard errors; a censored point pulls only where the law falls short of what is known."""
    size, kept, score, error, censored = data
    residual = (law.predict(theta, size, kept) - score) / error
    return np.where(censored, np.minimum(residual, 0.0), residual)


def _part(data: Data, rows: NDArray[np.int64]) -> Data:
    size, kept, score, error, censored = data
    return (
        size, kept, score[rows] if score.ndim > 1 else score, error,
        censored[rows] if censored.ndim > 1 else censored,
    )  # fmt: skip


def _move(law: Law, theta: Floats, residual: Floats, data: Data, damping: Floats) -> Floats:
    """[batch, parameters]: a damped Newton step; Huber's second derivative is 0 beyond its corner.

    A parameter on its bound that would be pushed beyond it is left alone.
    """
    low, high = bounds(law)
    step = 1e-6 * np.maximum(np.abs(theta), 1e-2)
    step = np.where(theta + step > high, -step, step)
    eye = np.eye(theta.shape[1])
    columns = [
        (residuals(law, theta + step * eye[i], data) - residual) / step[:, i, None]
        for i in range(theta.shape[1])
    ]
    jacobian = np.stack(columns, axis=-1)
    size = np.abs(residual)
    pull = np.minimum(1.0, HUBER / np.maximum(size, 1e-12))
    bend = (size <= HUBER).astype(np.float64)
    gradient = np.einsum("bpi,bp->bi", jacobian, pull * residual)
    free = ~(((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0)))
    jacobian = jacobian * free[:, None, :]
    hessian = np.einsum("bpi,bp,bpj->bij", jacobian, bend, jacobian)
    diagonal = np.einsum("bpi,bp,bpi->bi", jacobian, pull, jacobian)
    ridge = damping[:, None] * np.maximum(diagonal, 1e-9) + 1e-12
    solved = np.linalg.solve(hessian + ridge[:, None, :] * eye, (gradient * free)[..., None])
    return solved[..., 0]


def solve(
    law: Law, theta: Floats, data: Data, iterations: int = ITERATIONS
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Levenberg–Marquardt on a batch of problems, each until it converges.

    Args:
        theta: [batch, parameters].

    Returns:
        θ, cost [batch], and whether each converged.
    """
    low, high = bounds(law)
    theta = np.array(theta, dtype=np.float64)
    damping, done = np.full(len(theta), 1e-2), np.zeros(len(theta), dtype=np.bool_)
    residual = residuals(law, theta, data)
    cost = costs(residual)
    for _ in range(iterations):
        rows = np.flatnonzero(~done)
        if not rows.size:
            break
        part = _part(data, rows)
        tried = np.clip(
            theta[rows] - _move(law, theta[rows], residual[rows], part, damping[rows]), low, high
        )
        their_residual = residuals(law, tried, part)
        their_cost = costs(their_residual)
        better = their_cost < cost[rows]
        small = better & (cost[rows] - their_cost <= SMALL * (1.0 + cost[rows]))
        won = rows[better]
        theta[won], residual[won], cost[won] = tried[better], their_residual[better], their_cost[better]
        damping[rows] = np.clip(np.where(better, damping[rows] / 3.0, damping[rows] * 4.0), 1e-9, 1e9)
        done[rows] = small | (damping[rows] >= STUCK) | (cost[rows] < 1e-20)
    return theta, cost, done


def apart(theta: Floats, cost: Floats, most: int) -> Floats:
    """[≤ most, parameters]: the best optima that are not one and the same, by cost, of those near the
    best.

    Args:
        theta: [optima, parameters].
    """
    order = np.argsort(cost, kind="stable")
    order = order[cost[order] <= 1.1 * cost.min() + 0.1]
    found: list[Floats] = []
    for one in theta[order]:
        if all(np.abs(one - other).max() > 1e-2 for other in found):
            found.append(one)
        if len(found) == most:
            break
    return np.array(found)


def polish(law: Law, starts: Floats, data: Data) -> tuple[Floats, float, bool]:
    """The best end of scipy's trust-region solver from several starts (``least_squares``, Huber loss).

    Args:
        starts: [starts, parameters].
        data: of one problem.

    Returns:
        θ, its cost, and whether it converged.
    """
    low, high = bounds(law)
    inside = 1e-10 * (high - low)
    found = []
    for start in np.clip(starts, low + inside, high - inside):
        end = optimize.least_squares(
            lambda theta: residuals(law, theta, data), start, bounds=(low, high), loss="huber",
            f_scale=HUBER, x_scale="jac", ftol=1e-12, xtol=1e-12, gtol=1e-12, max_nfev=100,
        )  # fmt: skip
        found.append((float(costs(residuals(law, end.x, data))), end.x, end.status > 0))
        found.append((float(costs(residuals(law, start, data))), start, False))
    cost, theta, converged = min(found, key=lambda one: (one[0], not one[2]))
    near = any(c <= cost * (1 + 1e-9) + 1e-15 and ended for c, _, ended in found)
    return theta, cost, converged or near
