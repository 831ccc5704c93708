"""Which law: by sizes that it was not shown, and by how it fits all of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from sparse_rl.analysis import fits
from sparse_rl.analysis.fits import Fit, Points
from sparse_rl.analysis.laws import Law
from sparse_rl.analysis.once import once
from sparse_rl.analysis.statistics import Floats, counted, interval

TIE = 10.0
"""Laws whose weights differ by a smaller factor are not told apart."""


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
    off_low: Floats
    """[held-out points]: interval of predicted − measured; nan where no spread is known."""
    off_high: Floats


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
    return trial(law, points, largest_sizes(points, largest))


def trial(law: Law, points: Points, held: NDArray[np.bool_]) -> Trial:
    """Fit all but the points that are held out, and predict those.

    Raises:
        ValueError: what is left cannot carry the law.
    """
    fitted, rest = fits.fit(law, subset(points, ~held)), subset(points, held)
    predicted = fitted.predict(rest.size, rest.kept)
    samples = fitted.predict_samples(rest.size, rest.kept)

    def error(difference: Floats, censored: NDArray[np.bool_]) -> Floats:
        missed = np.where(censored, np.minimum(difference, 0.0), difference)
        return np.sqrt(np.mean(missed**2, axis=0))

    return Trial(
        fitted, predicted, *interval(samples),
        float(error(predicted - rest.score, rest.censored[:, 0])),
        error(samples - rest.samples, rest.censored[:, 1:]),
        *interval(samples - rest.samples),
    )  # fmt: skip


class Whole(NamedTuple):
    """How a law fits all points."""

    left_out: float
    """Root mean squared error at each size, by the law fitted to the others; nan if they cannot carry
    it."""
    bic: float
    """Twice the Huber loss plus parameters · ln points (Schwarz 1978)."""
    weight: float
    """exp(−ΔBIC / 2), over all laws 1."""
    misfit: float
    """Chance of a loss as large if the law holds (χ²): a small one says that it does not."""


class Choice(NamedTuple):
    """Laws compared by what they say about sizes that they were not shown."""

    held: NDArray[np.bool_]
    """[points]: those that the laws were not shown."""
    trials: dict[str, Trial]
    refused: dict[str, str]
    """Law → why the data cannot carry it."""
    shares: dict[str, float]
    """Law → share of resamples in which its held-out error is the smallest; nan where no spread is
    known."""
    whole: dict[str, Whole] = {}  # noqa: RUF012 - nobody writes to it
    """Law → how it fits all points."""

    @property
    def preferred(self) -> str:
        """The law with the smallest held-out error."""
        return min(self.trials, key=lambda name: self.trials[name].error)

    @property
    def plausible(self) -> list[str]:
        """Laws that all points leave, the likeliest first: weights within a factor :data:`TIE`."""
        if not self.whole:
            return []
        ranked = sorted(self.whole, key=lambda name: -self.whole[name].weight)
        most = self.whole[ranked[0]].weight
        return [name for name in ranked if self.whole[name].weight >= most / TIE]


@once
def choose(laws: Sequence[Law], points: Points, largest: int = 1) -> Choice:
    """Compare laws by held-out error at the largest sizes, and by how they fit all of them.

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
    errors = np.stack([trial.errors for trial in trials.values()])
    known = bool(np.isfinite(errors).all())
    shares = {
        name: float(np.mean(errors.argmin(0) == i)) if known else float("nan")
        for i, name in enumerate(trials)
    }
    return Choice(held, trials, refused, shares, weigh(laws, points))


def weigh(laws: Sequence[Law], points: Points) -> dict[str, Whole]:
    """How each law fits all of the points that can test it: it has fewer parameters than there are
    points."""
    found = {}
    for law in laws:
        if fits.unsupported(law, points):
            continue
        best = fits.fit_once(law, points)
        if best.interpolates:
            continue
        free = best.points - len(law.parameters)
        bic = 2.0 * best.cost + len(law.parameters) * float(np.log(best.points))
        found[law.name] = (
            leave_one_out(law, points, best),
            bic,
            float(special.chdtrc(free, 2.0 * best.cost)),
        )
    least = min((bic for _, bic, _ in found.values()), default=0.0)
    likely = {name: float(np.exp((least - bic) / 2)) for name, (_, bic, _) in found.items()}
    total = sum(likely.values())
    return {
        name: Whole(left, bic, likely[name] / total, misfit)
        for name, (left, bic, misfit) in found.items()
    }


def leave_one_out(law: Law, points: Points, whole: Fit) -> float:
    """Root mean squared error at each size by the law fitted to all others; nan if they cannot carry
    it."""
    missed = []
    for size in np.unique(points.size):
        left = points.size == size
        rest = subset(points, ~left)
        if fits.unsupported(law, rest):
            return float("nan")
        told = fits.fit_once(law, rest, whole).predict(points.size[left], points.kept[left])
        off = told - points.score[left]
        missed += list(np.where(points.censored[left, 0], np.minimum(off, 0.0), off))
    return float(np.sqrt(np.mean(np.square(missed))))
