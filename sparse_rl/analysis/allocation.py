"""How the best size grows with the budget: N_opt ∝ C^a, by four methods that need not agree.

Hoffmann et al. 2022 (*Training compute-optimal large language models*, arXiv 2203.15556) have three:
the envelope of the learning curves, the maxima of parabolas at equal FLOPs, and a law of size and data.
Hilton et al. 2023 (*Scaling laws for single-agent RL*, arXiv 2301.13442) fit intrinsic performance, the
least compute of any size that reaches the same return. Score is return, so a best size is a maximum.
Where the grid has no maximum between its sizes there is no exponent, and the table says why.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from sparse_rl.analysis import choices, fits, laws, surface
from sparse_rl.analysis.fits import Fit, Points
from sparse_rl.analysis.statistics import Floats
from sparse_rl.analysis.surface import DATA, FEWEST, Surface, quoted

FINE = 24
"""Steps along the data for what is read at equal FLOPs."""
ENVELOPE, ISOFLOP = 40, 8
"""Budgets of either method."""
DOUBT = 0.005
"""Share of draws in which a budget's best size may lie below the smallest or the largest measured there:
small, for it is the best of several, at several budgets."""
AROUND = 2
"""Sizes on either side of the best one that a parabola is fitted to: further away it is none."""
SURE = 0.95
"""Share of draws in which there must be an exponent."""
UNPEAKED = "at too few budgets is a size beyond doubt better than smaller and larger ones"

TITLE = "how the best number of surviving parameters grows with training FLOPs"

Exponent = tuple[float, Floats]
"""Its value and draws of it; nan where there is none."""


class _NoExponentError(ValueError):
    """These runs have no such exponent."""


def at_equal_flops(found: Surface, budgets: Floats) -> Floats:
    """[budgets, cells, 1 + resamples]: the score at so many FLOPs, linear in log steps; nan where a cell
    was not measured there."""
    told = np.full((len(budgets), len(found.cells), found.values.shape[-1]), np.nan)
    logs = np.log(found.steps)
    for i, flops in enumerate(found.flops):
        where = np.log(budgets / flops)
        inside = (where >= logs[0] - 1e-9) & (where <= logs[-1] + 1e-9)
        right = np.clip(np.searchsorted(logs, where[inside]), 1, len(logs) - 1)
        share = ((where[inside] - logs[right - 1]) / (logs[right] - logs[right - 1]))[:, None]
        told[inside, i] = (1 - share) * found.values[i, right - 1] + share * found.values[i, right]
    return told


def _slope(budgets: Floats, sizes: Floats) -> float:
    """d ln N / d ln C, of budgets that have a best size between others; nan if fewer than three have."""
    known = np.isfinite(sizes)
    if known.sum() < FEWEST:
        return float("nan")
    return float(np.polyfit(np.log(budgets[known]), np.log(sizes[known]), 1)[0])


def _grid(found: Surface, count: int, fewest: int) -> Floats:
    """Budgets at which at least so many sizes were measured.

    Raises:
        _NoExponentError: there is none.
    """
    ends = np.outer(found.flops, found.steps[[0, -1]])
    tried = np.geomspace(ends.min(), ends.max(), 400)
    there = ((ends[:, :1] <= tried) & (tried <= ends[:, 1:])).sum(0) >= fewest
    if not there.any():
        raise _NoExponentError(f"at no budget were {fewest} sizes measured: train small ones longer")
    return np.geomspace(tried[there].min(), tried[there].max(), count)


def refuse_no_budgets(found: Surface) -> None:
    """Refuse sizes that never spent the same: nothing is known of the best of them.

    Raises:
        ValueError: at no budget were three sizes measured.
    """
    _grid(found, 1, FEWEST)


def _between_sizes(found: Surface, budgets: Floats, sizes: Floats, steps: float) -> Floats:
    """[1 + resamples]: slopes; their draws have what the grid of sizes leaves open as well.

    Where the best of the sizes measured is taken, the true one lies within half a step on either side,
    at the first budget as at the last: their difference is a slope.

    Args:
        sizes: [budgets, 1 + resamples]: the best; nan where there is none.
        steps: within how many steps of the grid it is known.
    """
    slopes = np.array([_slope(budgets, column) for column in sizes.T])
    known = np.log(budgets[np.isfinite(sizes[:, 0])])
    if len(known) < FEWEST:
        return slopes
    step = steps * float(np.diff(np.log(found.nonzero)).max())
    open_ = np.random.default_rng(0).uniform(-0.5, 0.5, (2, len(slopes) - 1)).sum(0)
    slopes[1:] += open_ * step / float(np.ptp(known))
    return slopes


def _peaked(scores: Floats, there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[budgets]: the best of the sizes measured there is beyond doubt better than the smallest and the
    largest of them. Flat curves have a best size in the middle too, by luck."""
    told = np.zeros(len(scores), dtype=np.bool_)
    for i, own in enumerate(there):
        mine = scores[i, own]
        ends = mine[[0, -1]] if own.sum() >= FEWEST else mine[:0]
        if len(ends) and np.isfinite(mine).all():
            above = mine[mine[:, 0].argmax()] - ends
            told[i] = ((above[:, 1:] <= 0).mean(1) <= DOUBT).all()
    return told


def envelope(found: Surface) -> Exponent:
    """The best of the sizes measured at each budget, where a smaller and a larger one were measured too
    (Hoffmann et al. 2022, approach 1)."""
    budgets = _grid(found, ENVELOPE, FEWEST)
    scores = at_equal_flops(found, budgets)
    there = np.isfinite(scores[..., 0])
    best = np.where(there[..., None], scores, -np.inf).argmax(1)  # [budgets, 1 + resamples]
    first, last = there.argmax(1), there.shape[1] - 1 - there[:, ::-1].argmax(1)
    inside = (best > first[:, None]) & (best < last[:, None])
    inside &= _peaked(scores, there)[:, None]
    sizes = np.where(inside, found.nonzero[best], np.nan)
    several = np.array([len(np.unique(column[np.isfinite(column)])) > 1 for column in sizes.T])
    slopes = np.where(several, _between_sizes(found, budgets, sizes, 1.0), np.nan)
    return _told(slopes, f"{UNPEAKED}, or it is always one")


def isoflop(found: Surface) -> Exponent:
    """The maxima of parabolas in ln N at equal FLOPs (Hoffmann et al. 2022, approach 2), where they lie
    between the sizes measured. Curves are no parabolas, so a maximum is taken to be known within a
    quarter of a step of the grid on either side."""
    budgets = _grid(found, ISOFLOP, FEWEST + 1)
    scores, logs = at_equal_flops(found, budgets), np.log(found.nonzero)
    sizes = np.full((len(budgets), scores.shape[-1]), np.nan)
    there = np.isfinite(scores[..., 0])
    for i in np.flatnonzero(_peaked(scores, there)):
        own = np.flatnonzero(there[i])
        best = int(scores[i, own, 0].argmax())
        own = own[max(best - AROUND, 0) : best + AROUND + 1]
        x = logs[own]
        if len(own) <= FEWEST:
            continue
        bend, tilt, _ = np.polyfit(x - x.mean(), scores[i, own], 2)
        top = np.where(bend < 0, -tilt / np.where(bend < 0, 2 * bend, 1.0), np.inf) + x.mean()
        sizes[i] = np.exp(np.where((top > x[0]) & (top < x[-1]), top, np.nan))
    return _told(_between_sizes(found, budgets, sizes, 0.5), UNPEAKED)


def _told(slopes: Floats, reason: str) -> Exponent:
    """The first is the data's own.

    Raises:
        _NoExponentError: it has none, or too many draws have none.
    """
    value, draws = float(slopes[0]), slopes[1:]
    if np.isnan(value):
        raise _NoExponentError(reason)
    share = float(np.isfinite(draws).mean())
    if share < SURE:
        raise _NoExponentError(f"these runs cannot tell: {1 - share:.0%} of draws have none ({reason})")
    return value, draws[np.isfinite(draws)]


def _per_size(found: Surface) -> float:
    """γ of FLOPs per env step ∝ N^γ."""
    return float(np.polyfit(np.log(found.nonzero), np.log(found.flops), 1)[0])


def _by_exponents(found: Surface, fit: Fit, of_size: int, of_data: int) -> Exponent:
    """What a law says: with loss A·N^−α + B·D^−β and C ∝ N^γ·D, N_opt ∝ C^(β / (α + γ·β))."""
    problem = next((v.problem for v in fits.values(fit).values() if v.problem), None)
    if problem:
        raise _NoExponentError(f"the law's parameters: {problem}")
    thetas = np.vstack([fit.theta, fit.thetas])
    alpha, beta = thetas[:, of_size], thetas[:, of_data]
    exponents = beta / (alpha + _per_size(found) * beta)
    return float(exponents[0]), exponents[1:]


def parametric(found: Surface) -> Exponent:
    """By the law of size and data (Hoffmann et al. 2022, approach 3)."""
    fit = fits.fit(laws.SIZE_AND_DATA, surface.points(found))
    names = list(fit.law.parameters)
    pulls = np.vstack([fit.theta, fit.thetas])[:, [names.index("a"), names.index("e")]]
    both = np.asarray((pulls < 0).all(1))
    if not both[0] or both.mean() < SURE:
        raise _NoExponentError("score does not grow with both size and data beyond doubt")
    return _by_exponents(found, fit, names.index("b"), names.index("f"))


def _reached(steps: Floats, rising: Floats, returns: Floats) -> Floats:
    """Steps at which a curve that never falls first has these returns; ∞ where it never has."""
    after = np.searchsorted(rising, returns, side="left")
    right = np.clip(after, 1, len(steps) - 1)
    low, high = rising[right - 1], rising[right]
    share = np.clip((returns - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    between = steps[right - 1] + share * (steps[right] - steps[right - 1])
    return np.where(after == 0, steps[0], np.where(after == len(steps), np.inf, between))


def intrinsic_points(found: Surface) -> Points:
    """ln intrinsic performance against size and data: of every cell at every step the least FLOPs with
    which any cell reaches its return (Hilton et al. 2023, section 3).

    Returns that some cell has at its first evaluation are left out: how little would do is not known.

    Raises:
        ValueError: fewer than three sizes, or too few returns are left.
    """
    cells, many, draws = found.values.shape
    chosen = np.linspace(0, many - 1, DATA).round().astype(int)
    told = np.empty((cells, len(chosen), draws))
    first = np.empty((cells, len(chosen)), dtype=np.bool_)
    for d in range(draws):
        rising = np.stack([isotonic_regression(curve).x for curve in found.values[..., d]])
        for i in range(cells):
            least = [
                flops * _reached(found.steps, curve, rising[i, chosen])
                for flops, curve in zip(found.flops, rising, strict=True)
            ]
            told[i, :, d] = np.min(least, axis=0)
        if d == 0:
            first = rising[:, chosen] <= rising[:, 0].max()
    every = surface.points(found._replace(steps=found.steps[chosen], values=np.log(told)))
    left = ~first.ravel()
    if left.sum() < 2 * len(laws.INTRINSIC.parameters):
        raise ValueError(f"{left.sum()} returns are above what some size has at first; it takes 8")
    return choices.subset(every, left)


def intrinsic(found: Surface) -> Exponent:
    """By the law of intrinsic performance."""
    fit = fits.fit(laws.INTRINSIC, intrinsic_points(found))
    names = list(fit.law.parameters)
    return _by_exponents(found, fit, names.index("αN"), names.index("αD"))


class Method(NamedTuple):
    """A way to find the exponent."""

    name: str
    source: str
    exponent: Callable[[Surface], Exponent]


METHODS: Sequence[Method] = (
    Method("envelope of the curves", "Hoffmann et al. 2022, 1", envelope),
    Method("parabolas at equal FLOPs", "Hoffmann et al. 2022, 2", isoflop),
    Method("law of size and data", "Hoffmann et al. 2022, 3", parametric),
    Method("intrinsic performance", "Hilton et al. 2023", intrinsic),
)


def table(found: Surface) -> pd.DataFrame:
    """The exponent a of N_opt ∝ C^a by each method, or why there is none.

    Args:
        found: cells of one sparsity, with :data:`FINE` steps.
    """
    rows = []
    for method in METHODS:
        try:
            value, draws = method.exponent(found)
            told = quoted(value, draws)
        except ValueError as error:
            told = f"none: {error}"
        rows.append({"method": method.name, "a of N_opt ∝ C^a": told, "source": method.source})
    return pd.DataFrame(rows)
