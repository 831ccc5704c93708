"""What can be said of a law's parameters that are not identified, and of the next size by several laws.

Where a parameter's draws reach the end of its range their percentiles are made by that end. The profile
of the likelihood is not: it fixes one parameter, fits the others, and asks up to where the loss stays
within what chance allows (Raue et al. 2009, *Structural and practical identifiability analysis*).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from sparse_rl.analysis import choices, fits, solving
from sparse_rl.analysis.choices import Whole
from sparse_rl.analysis.fits import Fit, Points
from sparse_rl.analysis.laws import Law
from sparse_rl.analysis.statistics import LEVEL, Floats, interval

ALLOWED = float(special.chdtri(1.0, 1.0 - LEVEL)) / 2.0
"""Loss above the least one that a parameter may have: half of the 95 % point of χ² with one degree."""
STEPS = 24
"""Values tried on either side, closer together near the estimate."""


class Range(NamedTuple):
    """Values of a parameter, in the data's units, that the data leave; nan where they set no end."""

    low: float
    high: float


def _fixed(law: Law, i: int, value: float) -> Law:
    """The law with one parameter fixed."""

    def predict(theta: Floats, size: Floats, kept: Floats) -> Floats:
        return law.predict(np.insert(theta, i, value, axis=-1), size, kept)

    names = list(law.parameters)
    rest = {name: law.parameters[name] for name in names if name != names[i]}
    return law._replace(parameters=rest, predict=predict)


def _end(law: Law, data: solving.Data, best: Floats, i: int, edge: float, least: float) -> float:
    """How far a parameter may go towards one end of its range; nan if all the way, or as far as another
    parameter's end lets it: the data set no end then.

    Values are tried outwards from the estimate, each from where the others ended before; the last step
    is halved down.
    """
    rest, inside = np.delete(best, i), float(best[i])
    for share in np.geomspace(1e-3, 1.0, STEPS):
        value = best[i] + share * (edge - best[i])
        rest_there, cost, _ = solving.polish(_fixed(law, i, value), rest[None], data)
        if cost > least + ALLOWED:
            outside = value
            break
        rest, inside = rest_there, value
    else:
        return float("nan")
    for _ in range(8):
        middle = (inside + outside) / 2
        rest_there, cost, _ = solving.polish(_fixed(law, i, middle), rest[None], data)
        inside, outside = (inside, middle) if cost > least + ALLOWED else (middle, outside)
        rest = rest if cost > least + ALLOWED else rest_there
    low, high = solving.bounds(_fixed(law, i, inside))
    margin = fits.AT_BOUND * (high - low)
    held = ((rest <= low + margin) | (rest >= high - margin)).any()
    return float("nan") if held else float((inside + outside) / 2)


def profile(fit: Fit, points: Points) -> dict[str, Range]:
    """95 % ranges of all parameters by the profile of the likelihood; an end that is open is nan.

    Args:
        points: what the law was fitted to.
    """
    law = fit.law
    data = fits.problem(law, points)
    low, high = solving.bounds(law)
    found = {}
    for i, (name, parameter) in enumerate(law.parameters.items()):
        ends = [_end(law, data, fit.theta, i, edge, fit.cost) for edge in (low[i], high[i])]
        found[name] = Range(
            *(float(fits.natural(parameter.kind, np.asarray(end), fit.scale)) for end in ends)
        )
    return found


def range_words(found: Mapping[str, Range]) -> str:
    """``c ≥ 780; b in [0.1, 0.7]; a anything``."""
    told = []
    for name, (low, high) in found.items():
        if np.isnan(low) and np.isnan(high):
            told.append(f"{name} anything")
        elif np.isnan(high):
            told.append(f"{name} ≥ {low:.4g}")
        elif np.isnan(low):
            told.append(f"{name} ≤ {high:.4g}")
        else:
            told.append(f"{name} in [{low:.4g}, {high:.4g}]")
    return "; ".join(told)


class Averaged(NamedTuple):
    """What several laws say of a size together."""

    size: float
    value: float
    low: float
    high: float
    weights: dict[str, float]
    """Law → its share."""


def averaged(told: Sequence[Fit], whole: Mapping[str, Whole], size: float) -> Averaged:
    """The laws' prediction at one size, each with its weight by BIC (Burnham and Anderson 2002).

    Draws are taken from every law in proportion to its weight, so that the interval holds that it is not
    known which law is true. It does not hold that none is.

    Args:
        told: fits to all sizes, of one curve.
        whole: weights (:func:`.choices.weigh`).

    Raises:
        ValueError: no law has a weight.
    """
    chosen = [fit for fit in told if fit.law.name in whole]
    if not chosen:
        raise ValueError("no law has fewer parameters than there are sizes, so none has a weight")
    weights = np.array([whole[fit.law.name].weight for fit in chosen])
    weights = weights / weights.sum()
    where = np.array([size]), np.ones(1)
    value = float(sum(w * fit.predict(*where)[0] for w, fit in zip(weights, chosen, strict=True)))
    draws = [fit.predict_samples(*where)[0] for fit in chosen]
    counts = np.floor(weights * len(draws[0]) + 0.5).astype(int)
    mixed = np.concatenate([d[:n] for d, n in zip(draws, counts, strict=True)])
    low, high = interval(mixed) if np.isfinite(mixed).all() else (np.nan, np.nan)
    names = [fit.law.name for fit in chosen]
    return Averaged(size, value, float(low), float(high), dict(zip(names, weights, strict=True)))


def rolling(law: Law, points: Points) -> list[float]:
    """Root mean squared error at the 1, 2, … largest sizes by the law fitted to the smaller ones, as far
    as those carry it and could test it."""
    errors = []
    for largest in range(1, len(np.unique(points.size))):
        held = choices.largest_sizes(points, largest)
        rest = choices.subset(points, ~held)
        if fits.unsupported(law, rest):
            break
        fit = fits.fit_once(law, rest)
        if fit.interpolates and len(law.parameters) > 1:
            break
        off = fit.predict(points.size[held], points.kept[held]) - points.score[held]
        errors.append(float(np.sqrt(np.mean(np.square(off)))))
    return errors
