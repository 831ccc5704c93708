"""Laws fitted by robust least squares from many starts, to the points and to draws of them.

Residuals are in units of the points' standard errors under a Huber loss; a censored point (a threshold
that was not reached within the budget) pulls only where the law falls short of what is known.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rl.analysis import solving
from sparse_rl.analysis.laws import Law
from sparse_rl.analysis.statistics import Floats, counted, interval

AT_BOUND = 1e-3
"""A parameter within this share of its range from a bound is taken to lie on it."""
SCATTERED, NEAR = 40, 8.0
"""Further starts, and how far out: costs have several valleys where exponents are large."""
FIRST, KEPT = 25, 12
"""Iterations from every start, and how many of the best ends go on."""
POLISHED = 3
"""Different optima that are polished: valleys are flat, and the lowest may be another than it seems."""
REFIT = 60
"""Iterations for each draw: their ends are no numbers that are quoted one by one."""
TIED = 0.999
"""Rank correlation of two parameters' draws beyond which the data know only both together."""


class Points(NamedTuple):
    """What a law is fitted to: one aggregate score per network size (and sparsity)."""

    size: Floats
    """[points]: width or parameters, > 0."""
    kept: Floats
    """[points]: 1 − sparsity, in (0, 1]; [points, 2] with the data D/D0 beside it for laws of data."""
    score: Floats
    """[points]: return, score, or natural logarithm of the data to a threshold."""
    samples: Floats
    """[points, resamples]: draws of the same; nan where no spread is known."""
    censored: NDArray[np.bool_]
    """[points, 1 + resamples]: ``score`` (first column) or a sample is only a lower bound."""


class Fit(NamedTuple):
    """A fitted law."""

    law: Law
    theta: Floats
    """[parameters], of the standardised problem."""
    thetas: Floats
    """[resamples, parameters]; nan where no spread is known."""
    scale: tuple[float, float, float]
    """Centre and spread of the scores and N0: what standardised them."""
    cost: float
    """Huber loss of the residuals, in squared standard errors."""
    converged: bool = True
    points: int = 0
    """Distinct ones that it was fitted to."""

    @property
    def interpolates(self) -> bool:
        """It has a parameter for every point: it runs through all of them, and nothing tests it."""
        return self.points <= len(self.law.parameters)

    def predict(self, size: Floats, kept: Floats) -> Floats:
        """[points]: the law at these sizes."""
        return self._scores(self.theta, size, kept)

    def predict_samples(self, size: Floats, kept: Floats) -> Floats:
        """[points, resamples]."""
        if np.isnan(self.thetas).any():
            return np.full((len(size), len(self.thetas)), np.nan)
        return self._scores(self.thetas, size, kept).T

    def _scores(self, theta: Floats, size: Floats, kept: Floats) -> Floats:
        centre, spread, middle = self.scale
        return centre + spread * self.law.predict(theta, np.asarray(size) / middle, np.asarray(kept))


def standard_errors(points: Points) -> Floats:
    """[points]: of the draws, evened out: half of each and half of what is typical.

    With few seeds a point's own error is noise; a point that happens to have none would rule the fit. An
    error is half of what holds 68.27 % of the draws: draws of a t may have no standard deviation.
    """
    low, high = np.quantile(points.samples, [0.158655, 0.841345], axis=1)
    spread = np.nan_to_num((high - low) / 2)
    typical = float(np.sqrt(np.mean(spread**2)))
    if typical == 0.0:  # one run per point: all weigh the same
        typical = 0.1 * float(np.std(points.score)) or 1.0
    return np.sqrt((spread**2 + typical**2) / 2)


def _standardised(law: Law, points: Points) -> tuple[tuple[float, float, float], Floats, Floats, Floats]:
    """Scale, sizes, scores and their resamples [points, 1 + resamples], errors."""
    centre = 0.0 if law.scaling == "none" else float(np.mean(points.score))
    spread = (float(np.std(points.score)) if law.scaling == "standardised" else 1.0) or 1.0
    middle = float(np.exp(np.mean(np.log(points.size))))
    everything = np.column_stack([points.score, points.samples])
    return (
        (centre, spread, middle),
        points.size / middle,
        (everything - centre) / spread,
        standard_errors(points) / spread,
    )


def _distinct(points: Points) -> int:
    """Points that differ in what a law is told of them."""
    return len(np.unique(np.column_stack([points.size, points.kept]), axis=0))


def unsupported(law: Law, points: Points) -> str | None:
    """Why these points cannot carry this law; ``None`` if they can."""
    distinct = _distinct(points)
    if distinct < len(law.parameters):
        needed = counted(len(law.parameters), "parameter")
        return f"{law.name} has {needed}, the data have {counted(distinct, 'point')}"
    exact = int((~points.censored[:, 0]).sum())
    if exact < len(law.parameters):
        needed = counted(len(law.parameters), "parameter")
        return f"{law.name} has {needed}, of the points {exact} are not censored"
    return None


def fit(law: Law, points: Points) -> Fit:
    """Fit a law to the points and to each of their draws.

    The points are fitted from every start, their draws from the best three of those optima. The best
    optima of the draws are then starts for the points, and what is best of all is polished; where that
    is a new optimum, the draws are fitted from it too.

    Raises:
        ValueError: the points cannot carry the law (:func:`unsupported`).
    """
    reason = unsupported(law, points)
    if reason:
        raise ValueError(reason)
    return _fit(law, points, _standardised(law, points)[3])


def _fit(law: Law, points: Points, error: Floats, starts: Floats | None = None) -> Fit:
    scale, size, scores, _ = _standardised(law, points)
    whole = (size, points.kept, scores[:, 0], error, points.censored[:, 0])
    starts = _starts(law, whole) if starts is None else starts
    first, rough, _ = solving.solve(law, starts, whole, FIRST)
    theta, cost, _ = solving.solve(law, first[np.argsort(rough, kind="stable")[:KEPT]], whole)
    best = solving.apart(theta, cost, 3)
    known = bool(np.isfinite(points.samples).all())
    thetas, costs = _refit(law, best, points, scores, size, error) if known else (best[:0], cost[:0])
    others = solving.costs(solving.residuals(law, thetas, whole))
    near = thetas[np.argsort(others, kind="stable")[:3]]
    every = np.vstack([theta, near])
    most = POLISHED if known else 1
    tried = solving.apart(every, solving.costs(solving.residuals(law, every, whole)), most)
    end, least, converged = solving.polish(law, tried, whole)
    if known and least < cost.min() * (1 - 1e-6):
        again, their = _refit(law, end[None], points, scores, size, error)
        thetas = np.where((their < costs)[:, None], again, thetas)
    if not known:
        thetas = np.full((scores.shape[1] - 1, len(end)), np.nan)
    return Fit(law, end, thetas, scale, least, converged, _distinct(points))


def _own_starts(law: Law) -> Floats:
    return np.array(list(product(*(p.starts for p in law.parameters.values()))))


def _starts(law: Law, data: solving.Data) -> Floats:
    """[starts, parameters]: all combinations of the law's own, :data:`SCATTERED` anywhere near, and
    these once more with what the law is linear in, levels and slopes, by least squares: where exponents
    are large, slopes are tiny and no guess is near them."""
    own = _own_starts(law)
    low, high = solving.bounds(law)
    near = np.maximum(low, -NEAR), np.minimum(high, NEAR)
    scattered = np.random.default_rng(0).uniform(*near, (SCATTERED, len(low)))
    kinds = np.array([p.kind for p in law.parameters.values()])
    linear = np.flatnonzero(np.isin(kinds, ("level", "slope")))
    if law.scaling != "standardised" or not linear.size:
        return np.vstack([own, scattered])
    size, kept, score, error, _ = data
    projected = scattered.copy()
    exponents = kinds == "exponent"
    ends = np.log(low[exponents]), np.log(high[exponents])
    small = np.random.default_rng(1).uniform(*ends, (SCATTERED, int(exponents.sum())))
    projected[:, exponents] = np.exp(small)
    projected[:, linear] = 0.0
    base = law.predict(projected, size, kept)
    columns = [law.predict(projected + np.eye(len(low))[i], size, kept) - base for i in linear]
    for row, design in zip(projected, np.stack(columns, axis=-1), strict=True):
        row[linear] = np.linalg.lstsq(design / error[:, None], score / error, rcond=None)[0]
    return np.vstack([own, scattered, np.clip(projected, low, high)])


def fit_once(law: Law, points: Points, near: Fit | None = None) -> Fit:
    """The law fitted to the points alone: no draws, no intervals.

    Args:
        near: a fit to most of these points; the search starts there and at the law's own starts.
    """
    never = np.full((len(points.size), 1), np.nan)
    error = _standardised(law, points)[3]
    bare = points._replace(samples=never, censored=points.censored[:, [0, 0]])
    starts = None if near is None else np.vstack([_own_starts(law), near.theta])
    return _fit(law, bare, error, starts)


def _refit(
    law: Law, starts: Floats, points: Points, scores: Floats, size: Floats, error: Floats
) -> tuple[Floats, Floats]:
    """[resamples, parameters]: the law fitted to every draw, the best from all starts; costs."""
    resamples = scores.shape[1] - 1
    batch = np.tile(starts, (resamples, 1))
    drawn = np.repeat(scores[:, 1:].T, len(starts), axis=0)
    censored = np.repeat(points.censored[:, 1:].T, len(starts), axis=0)
    thetas, costs, _ = solving.solve(law, batch, (size, points.kept, drawn, error, censored), REFIT)
    costs = costs.reshape(resamples, len(starts))
    chosen = (np.arange(resamples), costs.argmin(1))
    return thetas.reshape(resamples, len(starts), -1)[chosen], costs[chosen]


class Value(NamedTuple):
    """A parameter in the data's units."""

    value: float
    low: float
    high: float
    problem: str | None
    """Why it should not be quoted; ``None`` if it may."""


def values(fit: Fit) -> dict[str, Value]:
    """Every parameter with its interval, which the estimate widens where it lies outside.

    If the interval of one reaches a bound none is identified: what the others are then is made by the
    bound. Nor are two whose draws go hand in hand.
    """
    low, high = interval(fit.thetas.T)
    low, high = np.fmin(low, fit.theta), np.fmax(high, fit.theta)
    bottom, top = solving.bounds(fit.law)
    margin = AT_BOUND * (top - bottom)
    problem = None
    if not fit.converged:
        problem = "did not converge"
    elif ((low <= bottom + margin) | (high >= top - margin)).any() or _tied(fit.thetas):
        problem = "not identified"
    low, high = (np.where(np.isnan(fit.thetas).any(0), np.nan, end) for end in (low, high))
    found = {}
    for i, (name, parameter) in enumerate(fit.law.parameters.items()):
        value, least, most = (
            float(natural(parameter.kind, v, fit.scale)) for v in (fit.theta[i], low[i], high[i])
        )
        found[name] = Value(value, least, most, problem)
    return found


def _tied(thetas: Floats) -> bool:
    """Whether draws of two parameters have a rank correlation beyond :data:`TIED`."""
    ranks = thetas.argsort(0).argsort(0)
    if np.isnan(thetas).any() or (np.ptp(thetas, axis=0) == 0).any() or thetas.shape[1] < 2:
        return False
    correlation = np.atleast_2d(np.corrcoef(ranks.T))
    return bool((np.abs(correlation[np.triu_indices(len(correlation), 1)]) > TIED).any())


def problem(law: Law, points: Points) -> solving.Data:
    """The standardised problem of the points alone, as the solver takes it."""
    _, size, scores, error = _standardised(law, points)
    return size, points.kept, scores[:, 0], error, points.censored[:, 0]


def natural(kind: str, value: Floats, scale: tuple[float, float, float]) -> Floats:
    centre, spread, middle = scale
    if kind == "level":
        return centre + spread * value
    if kind == "slope":
        return spread * value
    return middle * 2.0**value if kind == "size" else value
