"""Laws fitted by robust least squares from many starts; bootstrap intervals; held-out prediction.

One batched Levenberg–Marquardt solver fits every start of every bootstrap resample at once. Residuals
are in units of the points' standard errors under a Huber loss; a censored point (a threshold that was
not reached within the budget) pulls only where the law falls short of what is known.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rl.analysis.laws import Law
from sparse_rl.analysis.statistics import Floats, counted, interval

HUBER = 1.345
"""Residuals beyond so many standard errors pull linearly (95 % efficient for normal errors)."""
ITERATIONS = 60
AT_BOUND = 1e-3
"""A parameter within this share of its range from a bound is taken to lie on it."""


class Points(NamedTuple):
    """What a law is fitted to: one aggregate score per network size (and sparsity)."""

    size: Floats
    """[points]: width or parameters, > 0."""
    kept: Floats
    """[points]: 1 − sparsity, in (0, 1]."""
    score: Floats
    """[points]: return, score, or natural logarithm of the data to a threshold."""
    samples: Floats
    """[points, resamples]: the same of bootstrap resamples."""
    censored: NDArray[np.bool_]
    """[points, 1 + resamples]: ``score`` (first column) or a sample is only a lower bound."""


class Fit(NamedTuple):
    """A fitted law."""

    law: Law
    theta: Floats
    """[parameters], of the standardised problem."""
    thetas: Floats
    """[resamples, parameters]."""
    scale: tuple[float, float, float]
    """Centre and spread of the scores and N0: what standardised them."""
    cost: float
    """Huber loss of the residuals, in squared standard errors."""

    def predict(self, size: Floats, kept: Floats) -> Floats:
        """[points]: the law at these sizes."""
        return self._scores(self.theta, size, kept)

    def predict_samples(self, size: Floats, kept: Floats) -> Floats:
        """[points, resamples]."""
        return self._scores(self.thetas, size, kept).T

    def _scores(self, theta: Floats, size: Floats, kept: Floats) -> Floats:
        centre, spread, middle = self.scale
        return centre + spread * self.law.predict(theta, np.asarray(size) / middle, np.asarray(kept))


Data = tuple[Floats, Floats, Floats, Floats, NDArray[np.bool_]]
"""Sizes and kept shares [points]; scores, errors and whether censored, [points] or [batch, points]."""


def _costs(residual: Floats) -> Floats:
    """[..., points] → [...]: Huber loss."""
    size = np.abs(residual)
    return np.where(size <= HUBER, residual**2 / 2, HUBER * (size - HUBER / 2)).sum(-1)


def _residuals(law: Law, theta: Floats, data: Data) -> Floats:
    size, kept, score, error, censored = data
    residual = (law.predict(theta, size, kept) - score) / error
    return np.where(censored, np.minimum(residual, 0.0), residual)


def _solve(law: Law, theta: Floats, data: Data) -> tuple[Floats, Floats]:
    """Levenberg–Marquardt on a batch of problems: ``θ [batch, parameters]`` → ``(θ, cost [batch])``."""
    low, high = np.array([(p.low, p.high) for p in law.parameters.values()]).T
    damping = np.full(theta.shape[0], 1e-2)
    residual = _residuals(law, theta, data)
    cost = _costs(residual)
    eye = np.eye(theta.shape[1])
    for _ in range(ITERATIONS):
        step = 1e-6 * np.maximum(np.abs(theta), 1e-2)
        columns = [
            (_residuals(law, theta + step * eye[i], data) - residual) / step[:, i, None]
            for i in range(theta.shape[1])
        ]
        jacobian = np.stack(columns, axis=-1)
        pull = np.minimum(1.0, HUBER / np.maximum(np.abs(residual), 1e-12))
        hessian = np.einsum("bpi,bp,bpj->bij", jacobian, pull, jacobian)
        gradient = np.einsum("bpi,bp->bi", jacobian, pull * residual)
        diagonal = np.einsum("bii->bi", hessian)
        ridge = damping[:, None] * np.maximum(diagonal, 1e-9) + 1e-12
        move = np.linalg.solve(hessian + ridge[:, None, :] * eye, gradient[..., None])[..., 0]
        tried = np.clip(theta - move, low, high)
        their_residual = _residuals(law, tried, data)
        their_cost = _costs(their_residual)
        better = their_cost < cost
        theta = np.where(better[:, None], tried, theta)
        residual = np.where(better[:, None], their_residual, residual)
        cost = np.where(better, their_cost, cost)
        damping = np.clip(np.where(better, damping / 3.0, damping * 4.0), 1e-9, 1e9)
    return theta, cost


def standard_errors(points: Points) -> Floats:
    """[points]: the bootstrap's, evened out: half of each and half of what is typical.

    With few seeds a point's own error is noise; a point that happens to have none would rule the fit.
    """
    spread = points.samples.std(axis=1)
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


def unsupported(law: Law, points: Points) -> str | None:
    """Why these points cannot carry this law; ``None`` if they can."""
    distinct = len(set(zip(points.size, points.kept, strict=True)))
    if distinct < len(law.parameters):
        needed = counted(len(law.parameters), "parameter")
        return f"{law.name} has {needed}, the data have {counted(distinct, 'point')}"
    exact = int((~points.censored[:, 0]).sum())
    if exact < len(law.parameters):
        needed = counted(len(law.parameters), "parameter")
        return f"{law.name} has {needed}, of the points {exact} are not censored"
    return None


def fit(law: Law, points: Points) -> Fit:
    """Fit a law to the points and to each of their resamples.

    The points are fitted from every start; resamples from the best three of those optima.

    Raises:
        ValueError: the points cannot carry the law (:func:`unsupported`).
    """
    reason = unsupported(law, points)
    if reason:
        raise ValueError(reason)
    scale, size, scores, error = _standardised(law, points)
    starts = np.array(list(product(*(p.starts for p in law.parameters.values()))))
    whole = (size, points.kept, scores[:, 0], error, points.censored[:, 0])
    theta, cost = _solve(law, starts, whole)
    best = theta[np.argsort(cost, kind="stable")[:3]]
    resamples = scores.shape[1] - 1
    batch = np.tile(best, (resamples, 1))
    drawn = np.repeat(scores[:, 1:].T, len(best), axis=0)
    censored = np.repeat(points.censored[:, 1:].T, len(best), axis=0)
    thetas, costs = _solve(law, batch, (size, points.kept, drawn, error, censored))
    chosen = costs.reshape(resamples, len(best)).argmin(1)
    refitted = thetas.reshape(resamples, len(best), -1)[np.arange(resamples), chosen]
    return Fit(law, best[0], refitted, scale, float(cost.min()))


class Value(NamedTuple):
    """A parameter in the data's units."""

    value: float
    low: float
    high: float
    problem: str | None
    """Why it should not be quoted; ``None`` if it may."""


def values(fit: Fit) -> dict[str, Value]:
    """Every parameter with its interval; one whose interval reaches a bound is not identified."""
    found = {}
    for i, (name, parameter) in enumerate(fit.law.parameters.items()):
        raw = fit.thetas[:, i]
        margin = AT_BOUND * (parameter.high - parameter.low)
        low, high = interval(raw)
        inside = parameter.low + margin < low and high < parameter.high - margin
        problem = None if inside else "not identified"
        value, low, high = (_natural(parameter.kind, v, fit.scale) for v in (fit.theta[i], low, high))
        found[name] = Value(float(value), float(low), float(high), problem)
    return found


def _natural(kind: str, value: Floats, scale: tuple[float, float, float]) -> Floats:
    centre, spread, middle = scale
    if kind == "level":
        return centre + spread * value
    if kind == "slope":
        return spread * value
    return middle * 2.0**value if kind == "size" else value


class Trial(NamedTuple):
    """A law that was fitted to the smaller sizes and asked for the largest."""

    fit: Fit
    predicted: Floats
    """[held-out points]."""
    low: Floats
    high: Floats
    error: float
    """Root mean squared difference from the held-out scores, in their units."""
    errors: Floats
    """[resamples]: the same in every resample, fit and held-out scores alike."""


def subset(points: Points, chosen: NDArray[np.bool_]) -> Points:
    """Some of the points."""
    return Points(
        points.size[chosen], points.kept[chosen], points.score[chosen], points.samples[chosen],
        points.censored[chosen],
    )  # fmt: skip


def largest_sizes(points: Points, largest: int) -> NDArray[np.bool_]:
    """[points]: those of the ``largest`` sizes.

    Raises:
        ValueError: no other size is left.
    """
    sizes = np.unique(points.size)
    if len(sizes) <= largest:
        raise ValueError(f"{counted(len(sizes), 'size')} cannot be fitted and {largest} held out")
    return np.isin(points.size, sizes[-largest:])


def hold_out(law: Law, points: Points, largest: int = 1) -> Trial:
    """Fit all but the ``largest`` sizes and predict those.

    Raises:
        ValueError: what is left cannot carry the law.
    """
    held = largest_sizes(points, largest)
    fitted, rest = fit(law, subset(points, ~held)), subset(points, held)
    predicted = fitted.predict(rest.size, rest.kept)
    samples = fitted.predict_samples(rest.size, rest.kept)

    def error(difference: Floats, censored: NDArray[np.bool_]) -> Floats:
        missed = np.where(censored, np.minimum(difference, 0.0), difference)
        return np.sqrt(np.mean(missed**2, axis=0))

    return Trial(
        fitted, predicted, *interval(samples),
        float(error(predicted - rest.score, rest.censored[:, 0])),
        error(samples - rest.samples, rest.censored[:, 1:]),
    )  # fmt: skip


class Choice(NamedTuple):
    """Laws compared by what they say about sizes that they were not shown."""

    held: NDArray[np.bool_]
    """[points]: those that the laws were not shown."""
    trials: dict[str, Trial]
    refused: dict[str, str]
    """Law → why the data cannot carry it."""
    shares: dict[str, float]
    """Law → share of resamples in which its held-out error is the smallest."""

    @property
    def preferred(self) -> str:
        """The law with the smallest held-out error."""
        return min(self.trials, key=lambda name: self.trials[name].error)


def choose(laws: Sequence[Law], points: Points, largest: int = 1) -> Choice:
    """Compare laws by held-out error at the largest sizes.

    Raises:
        ValueError: the data can carry none of them.
    """
    held = largest_sizes(points, largest)
    trials: dict[str, Trial] = {}
    refused: dict[str, str] = {}
    for law in laws:
        try:
            trials[law.name] = hold_out(law, points, largest)
        except ValueError as error:
            refused[law.name] = str(error)
    if not trials:
        raise ValueError("; ".join(dict.fromkeys(refused.values())))
    winners = np.stack([trial.errors for trial in trials.values()]).argmin(0)
    shares = {name: float(np.mean(winners == i)) for i, name in enumerate(trials)}
    return Choice(held, trials, refused, shares)
