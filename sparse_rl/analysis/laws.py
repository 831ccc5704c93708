"""Scaling laws: fitted by robust least squares from many starts, with bootstrap intervals.

One batched Levenberg–Marquardt solver fits every start of every bootstrap resample at once. Residuals
are in units of the points' standard errors under a Huber loss; a censored point (a threshold that was
not reached within the budget) pulls only where the law falls short of what is known.

Sources: power laws with offset for data-to-threshold, Rybkin et al. 2025; a sparsity factor on surviving
parameters, Frantar et al. 2023 (arXiv 2309.08520, eq. 3 at fixed data).
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rl.analysis.statistics import Floats, interval

HUBER = 1.345
"""Residuals beyond so many standard errors pull linearly (95 % efficient for normal errors)."""
ITERATIONS = 60
AT_BOUND = 1e-3
"""A parameter within this share of its range from a bound is taken to lie on it."""


class Parameter(NamedTuple):
    """One parameter of a law: how it scales with the data, where it may lie, where the search starts."""

    kind: Literal["level", "slope", "size", "exponent"]
    """A score; a difference of scores; log2 of a size over N0; a pure number."""
    low: float
    high: float
    starts: tuple[float, ...]
    """All combinations are tried. Scores are counted in spreads around their centre here."""


class Law(NamedTuple):
    """A score as a function of network size N and kept share 1 − S."""

    name: str
    formula: str
    """N0 is the geometric mean of the sizes."""
    parameters: Mapping[str, Parameter]
    predict: Callable[[Floats, Floats, Floats], Floats]
    """``(θ [..., parameters], N/N0 [points], 1 − S [points]) → [..., points]``."""
    scaling: Literal["standardised", "centred", "none"] = "standardised"
    """Of scores before the fit; a law that is not affine in its levels needs them as they are."""


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


def _column(theta: Floats, i: int) -> Floats:
    return theta[..., i, None]


def _constant(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _column(theta, 0) + 0.0 * size


def _logarithm(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _column(theta, 0) + _column(theta, 1) * np.log2(size)


def _power(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _column(theta, 0) + _column(theta, 1) * size ** -_column(theta, 2)


def _log_power(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return np.logaddexp(_column(theta, 0), _column(theta, 1) - _column(theta, 2) * np.log(size))


def _peak(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _column(theta, 0) - _column(theta, 2) * (np.log2(size) - _column(theta, 1)) ** 2


def _logistic(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return 1.0 / (1.0 + 2.0 ** (_column(theta, 1) * (_column(theta, 0) - np.log2(size))))


def _surviving(theta: Floats, size: Floats, kept: Floats) -> Floats:
    return _power(theta, size * kept, kept)


def _sparsity_factor(theta: Floats, size: Floats, kept: Floats) -> Floats:
    c, a, b, e, d = (_column(theta, i) for i in range(5))
    return c + (a * kept**e + b) * (size * kept) ** -d


def _surface(theta: Floats, size: Floats, kept: Floats) -> Floats:
    x, z = np.log2(size), np.log2(kept)
    terms = (np.ones_like(x), x, x * x, z, z * z, x * z)
    return sum((_column(theta, i) * term for i, term in enumerate(terms)), np.zeros(()))


_LEVEL = Parameter("level", -30.0, 30.0, (0.0,))
_SLOPE = Parameter("slope", -30.0, 30.0, (-1.0, 1.0))
_EXPONENT = Parameter("exponent", 0.01, 4.0, (0.1, 0.5, 1.5))
_POSITION = Parameter("size", -20.0, 20.0, (-3.0, -1.0, 0.0, 1.0, 3.0))
_CURVATURE = Parameter("slope", 0.0, 30.0, (0.05, 0.5))

CONSTANT = Law("constant", "c", {"c": _LEVEL}, _constant)
LOGARITHM = Law("logarithm", "c + k·log2(N/N0)", {"c": _LEVEL, "k": _SLOPE}, _logarithm)
POWER = Law(
    "power", "c + a·(N/N0)^−b", {"c": _LEVEL, "a": _SLOPE, "b": _EXPONENT}, _power
)  # fmt: skip
PEAK = Law(
    "peak", "c − k·log2(N/m)²", {"c": _LEVEL, "m": _POSITION, "k": _CURVATURE}, _peak
)  # fmt: skip

LOGISTIC = Law(
    "logistic", "1/(1 + (N/m)^−b)", {"m": _POSITION, "b": _EXPONENT}, _logistic, "none"
)  # fmt: skip

DATA_LOGARITHM = LOGARITHM._replace(name="power", formula="ln D = c + k·log2(N/N0)")
DATA_POWER = Law(
    "power with offset",
    "ln D = ln(e^c + e^a·(N/N0)^−b)",
    {"c": _LEVEL._replace(starts=(-3.0, 0.0)), "a": _LEVEL, "b": _EXPONENT},
    _log_power,
    "centred",
)
DATA_TROUGH = PEAK._replace(
    name="trough",
    formula="ln D = c − k·log2(N/m)²",
    parameters={**PEAK.parameters, "k": Parameter("slope", -30.0, 0.0, (-0.05, -0.5))},
)

TOTAL = POWER._replace(name="total parameters", formula="c + a·(N_total/N0)^−b")
SURVIVING = POWER._replace(
    name="surviving parameters", formula="c + a·(N_nonzero/N0)^−b", predict=_surviving
)
SPARSITY_FACTOR = Law(
    "sparsity factor",
    "c + (a·(1−S)^e + b)·(N_nonzero/N0)^−d",
    {"c": _LEVEL, "a": _SLOPE, "b": _SLOPE, "e": _EXPONENT, "d": _EXPONENT},
    _sparsity_factor,
)
SURFACE = Law(
    "surface",
    "c + x·X + xx·X² + z·Z + zz·Z² + xz·X·Z, X = log2(N_total/N0), Z = log2(1−S)",
    {"c": _LEVEL} | {name: _SLOPE._replace(starts=(0.0,)) for name in ("x", "xx", "z", "zz", "xz")},
    _surface,
)

CURVES = (CONSTANT, LOGARITHM, POWER, PEAK)
"""Return against one size; higher is better."""
NORMALISED = (*CURVES, LOGISTIC)
"""Score in [0, 1] against one size."""
DATA = (CONSTANT, DATA_LOGARITHM, DATA_POWER, DATA_TROUGH)
"""Logarithm of the data to a threshold against one size; lower is better."""
JOINT = (TOTAL, SURVIVING, SPARSITY_FACTOR, SURFACE)
"""Score against total parameters and sparsity."""


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
        return f"{law.name} has {len(law.parameters)} parameters, the data have {distinct} points"
    exact = int((~points.censored[:, 0]).sum())
    if exact < len(law.parameters):
        return f"{law.name} has {len(law.parameters)} parameters, only {exact} points are not censored"
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


def hold_out(law: Law, points: Points, largest: int = 1) -> Trial:
    """Fit all but the ``largest`` sizes and predict those.

    Raises:
        ValueError: what is left cannot carry the law.
    """
    held = np.isin(points.size, np.unique(points.size)[-largest:])
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
    trials: dict[str, Trial] = {}
    refused: dict[str, str] = {}
    for law in laws:
        try:
            trials[law.name] = hold_out(law, points, largest)
        except ValueError as error:
            refused[law.name] = str(error)
    if not trials:
        raise ValueError("; ".join(refused.values()))
    winners = np.stack([trial.errors for trial in trials.values()]).argmin(0)
    shares = {name: float(np.mean(winners == i)) for i, name in enumerate(trials)}
    return Choice(trials, refused, shares)
