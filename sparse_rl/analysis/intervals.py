"""Intervals that cover: of cells with few runs, of differences, of chances and of shares.

With three runs a percentile bootstrap's 95 % interval is [lowest, highest] and holds the truth in 75 %.
So cells with fewer than :data:`MANY` runs of a task have a *moderated t* interval. A cell's variance is
shrunk towards the mean of the study's cells (Smyth 2004, *Linear models and empirical Bayes methods*),
that of an interquartile mean is Yuen's (1974) of winsorised scores, and Satterthwaite's rule counts the
degrees of freedom. From :data:`MANY` runs on intervals are the field's: percentiles of a stratified
bootstrap (Agarwal et al. 2021). `docs/analysis.md` has how often each covers.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from scipy import special

from sparse_rl.analysis import groups, statistics
from sparse_rl.analysis.once import once
from sparse_rl.analysis.statistics import LEVEL, RESAMPLES, Estimate, Floats, Scores, Statistic

Method = Literal["t", "percentile"]
METHODS: tuple[Method, ...] = get_args(Method)
MANY = 10
"""Runs of every task from which on percentiles of a bootstrap cover."""
PRIOR = 2.0
"""Degrees of freedom that the study's mean variance weighs. Smyth estimates them from the logarithms of
the variances, which cells without a failing run among cells with one upset: 60 % cover then, 97 % with
this."""
RARE = 12
"""One cell in so many may spread out of line without a share in what is typical. A study of fewer cells
cannot tell one failing run from runs that fail now and then everywhere: with one in eight capped, three
seeds of which one in ten fails cover 85 %, with one in twelve 93 %."""
FEW, ENOUGH = 6, 8
"""Cells below which a study may have no run that fails to show for it, if its cells have fewer runs than
that."""
TRIMMED_COSTS = 1.19
"""Variance of an interquartile mean over that of a mean, of normal scores (Stigler 1977); below four
runs they are one."""
LIKELY, SURE = 0.95, 0.995
"""Of all cells' variances at once, if all cells spread alike: what lies beyond is capped, and said to be
out of line."""


def method_for(cells: Sequence[Scores]) -> Method:
    """Percentiles where every task of every cell has :data:`MANY` runs, else t."""
    fewest = min((int(np.bincount(cell.task).min()) for cell in cells), default=0)
    return "percentile" if fewest >= MANY else "t"


def untold(cells: Sequence[Scores]) -> bool:
    """Whether a study has too few runs for any interval of its cells: if a quarter of all runs fails, a
    cell of seven shows none of it in 13 %, and two cells of three in 18 %. No method can know of it
    then."""
    several = [cell for cell in cells if int(np.bincount(cell.task).min()) > 1]
    fewest = min((cell.values.shape[-1] for cell in several), default=ENOUGH)
    return fewest < {1: ENOUGH, 2: groups.SHOWING}.get(len(several), 0)


def words(method: Method, cells: int = 2) -> str:
    """What an interval is called under a figure or above a table."""
    if method == "percentile":
        return f"{100 * LEVEL:g} % percentile bootstrap interval"
    return f"{100 * LEVEL:g} % {'moderated ' if cells > 1 else ''}t interval"


def _within_tasks(values: Floats, task: np.ndarray) -> Floats:
    """[...]: variance of the mean over tasks of the means over runs; tasks need two runs."""
    parts = [values[..., task == t] for t in np.unique(task)]
    parts = [p - p[..., :1] for p in parts]  # equal runs have a variance of 0, not of rounding
    return np.sum([p.var(-1, ddof=1) / p.shape[-1] for p in parts], axis=0) / len(parts) ** 2


def variance(scores: Scores, statistic: Statistic) -> tuple[Floats, float]:
    """Squared standard error of a statistic over runs, and its degrees of freedom.

    Of an interquartile mean: of scores that are drawn in to the lowest and highest that are kept (Yuen
    1974), within tasks. Of others that are no mean: the bootstrap's, times n / (n − 1).
    """
    runs, tasks = scores.values.shape[-1], len(np.unique(scores.task))
    if statistic is statistics.iqm:
        kept, ranked = statistics.kept_weights(scores)
        low = np.where(kept > 0, ranked, np.inf).min(-1, keepdims=True)
        high = np.where(kept > 0, ranked, -np.inf).max(-1, keepdims=True)
        cut = int(statistics.TRIMMED * runs)
        share = 1.0 - 2.0 * cut / runs
        drawn_in = np.clip(scores.values, low, high)
        free = max(runs - 2 * cut - tasks, 1)
        return _within_tasks(drawn_in, scores.task) / share**2, float(free)
    if statistic is statistics.mean:
        return _within_tasks(scores.values, scores.task), float(runs - tasks)
    drawn = statistics.resample(scores.task, 400, 0)
    samples = statistic(Scores(scores.values[..., drawn], scores.task))
    return samples.var(-1) * runs / (runs - tasks), float(runs - tasks)


def whole_variance(scores: Scores, statistic: Statistic) -> tuple[Floats, float]:
    """The same from all runs, those too that an interquartile mean cuts off: they are the only ones to
    show that a run fails now and then. Of other statistics it is :func:`variance`."""
    runs, tasks = scores.values.shape[-1], len(np.unique(scores.task))
    if statistic is not statistics.iqm or int(statistics.TRIMMED * runs) == 0:
        return variance(scores, statistic)
    return TRIMMED_COSTS * _within_tasks(scores.values, scores.task), float(runs - tasks)


def _larger(
    own: tuple[Floats, float], every: tuple[Floats, float], where: np.ndarray
) -> tuple[Floats, float]:
    """A variance and its degrees of freedom, made the larger of two where so much is asked."""
    return np.where(where, np.maximum(own[0], every[0]), own[0]), own[1]


def bound(of_runs: Floats, free: Floats, likely: float = LIKELY) -> Floats:
    """[...]: what variances do not exceed, all at once, if all cells spread alike.

    By the F distribution over the others' mean, which is that of the cells without the largest twelfth
    (at least one cell), made up for what chance alone cuts off with those. limma's robust estimate
    (Phipson et al. 2016) winsorises so too.

    Args:
        of_runs: [cells, ...]: variance of a single run, of two cells or more.
        free: [cells]: degrees of freedom of each.
        likely: how often.
    """
    cells, own = len(of_runs), float(np.median(free))
    kept = cells - max(cells // RARE, 1)
    quantile = special.chdtri(own, 1.0 - kept / cells)
    made_up = kept / cells / special.chdtr(own + 2.0, quantile)
    centre = np.sort(of_runs, axis=0)[:kept].mean(0) * made_up
    return centre * special.fdtri(own, own * kept, 1.0 - (1.0 - likely) / cells)


def typical(of_runs: Floats, free: Floats) -> Floats:
    """[...]: the mean variance of a single run over cells. Of twelve cells or more each twelfth one may
    be out of line, and counts as much as is likely: one run that fails does not widen all others'
    intervals.

    Args:
        of_runs: [cells, ...].
        free: [cells]: degrees of freedom of each.
    """
    if len(of_runs) < RARE:
        return of_runs.mean(0)
    return np.minimum(of_runs, bound(of_runs, free)).mean(0)


def moderated(of_runs: Floats, free: Floats, common: Floats) -> tuple[Floats, Floats]:
    """Variances of cells shrunk towards a common one, and their degrees of freedom.

    A cell whose own variance is above the shrunk one keeps its own: shrinking may widen an interval of a
    cell with a run that fails, and never narrows it. What lies behind a variance is counted by
    Satterthwaite's rule, and is at most what Smyth (2004, eq. 4) has: prior and own.

    Args:
        of_runs: [cells, ...]: variance of a single run.
        free: [cells]: degrees of freedom of each.
        common: [...]: what the study lends them.
    """
    free = free.reshape(-1, *[1] * (of_runs.ndim - 1))
    if len(of_runs) < 2:
        return of_runs, free + 0.0 * of_runs
    share = PRIOR / (PRIOR + free)
    lent = common * share
    own = (1.0 - share) * of_runs
    shrunk = lent + own
    parts = own**2 / free + lent**2 / free.sum()
    counted = shrunk**2 / np.where(parts > 0, parts, 1.0)
    return np.maximum(shrunk, of_runs), np.clip(counted, 1.0, PRIOR + free)


def _draws(value: Floats, error: Floats, free: Floats, resamples: int, seed: Sequence[int]) -> Floats:
    """[..., resamples]: value + error · t, whose quantiles are those of t itself, in random order."""
    order = np.random.default_rng(seed).permutation(resamples)
    t = special.stdtrit(np.asarray(free)[..., None], (order + 0.5) / resamples)
    return np.asarray(value)[..., None] + np.asarray(error)[..., None] * t


@once
def estimates(
    cells: Sequence[Scores],
    statistic: Statistic = statistics.iqm,
    resamples: int = RESAMPLES,
    seed: int | Sequence[int] = 0,
    method: Method | None = None,
    factors: Sequence[float] | None = None,
) -> list[Estimate]:
    """A statistic of every cell of a study with its interval; cells are drawn independently of each
    other.

    Under t the ``samples`` are draws of value + error · t, so that differences, maxima and laws of them
    have the spread that the runs support. A cell that has a task with a single run, or a study without
    any spread, has no interval (nan). Samples of a cell with a single run have the study's typical
    spread.

    Args:
        cells: of one study; [runs] each, or all with the same leading axes.
        method: ``None``: :func:`method_for` these cells.
        factors: [cells]: what a variance is multiplied with where runs are no independent draws (1).

    Raises:
        ValueError: the method is unknown.
    """
    method = method or method_for(cells)
    factors = factors or [1.0] * len(cells)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    seeds = [[*([seed] if isinstance(seed, int) else seed), i] for i in range(len(cells))]
    if method == "percentile":
        drawn = [
            statistics.bootstrap(cell, statistic, resamples, s)
            for cell, s in zip(cells, seeds, strict=True)
        ]
        return [_widened(e, factor) for e, factor in zip(drawn, factors, strict=True)]
    return _by_t(cells, statistic, resamples, seeds, factors)


def _widened(estimate: Estimate, factor: float) -> Estimate:
    """The same with a variance that is ``factor`` times as large."""
    value = estimate.value
    low, high, samples = (
        at + np.sqrt(factor) * (part - at)
        for part, at in zip(estimate[1:], (value, value, value[..., None]), strict=True)
    )
    return Estimate(value, low, high, samples) if factor != 1.0 else estimate


def _by_t(
    cells: Sequence[Scores],
    statistic: Statistic,
    resamples: int,
    seeds: Sequence[Sequence[int]],
    factors: Sequence[float],
) -> list[Estimate]:
    known = [int(np.bincount(cell.task).min()) > 1 for cell in cells]
    runs = [cell.values.shape[-1] for cell in cells]
    found = [variance(cell, statistic) for cell, k in zip(cells, known, strict=True) if k]
    many = [n for n, k in zip(runs, known, strict=True) if k]
    if found:
        whole = [whole_variance(cell, statistic) for cell, k in zip(cells, known, strict=True) if k]
        found = whole if len(found) == 1 else found
        split = groups.fail_apart([cell for cell, k in zip(cells, known, strict=True) if k])
        found = [_larger(own, every, split) for own, every in zip(found, whole, strict=True)]
        of_runs, from_all = (
            np.stack([v * n for (v, _), n in zip(made, many, strict=True)]) for made in (found, whole)
        )
        free = np.array([f for _, f in found])
        few = len(found) < FEW and min(many) < ENOUGH
        common = (of_runs.mean(0) + from_all.mean(0)) / 2.0 if few else typical(of_runs, free)
        least = float(free.sum())
        shrunk, counted = moderated(of_runs, free, common)
    told, at = [], 0
    for cell, k, n, seed, factor in zip(cells, known, runs, seeds, factors, strict=True):
        value = np.asarray(statistic(cell), dtype=np.float64)
        error, behind = np.full(value.shape, np.nan), np.full(value.shape, 1.0)
        if k:
            error, behind, at = np.sqrt(factor * shrunk[at] / n), counted[at], at + 1
        elif found:
            error, behind = np.sqrt(factor * common / n), np.full(value.shape, least)
        error = np.where(error > 0, error, np.nan)
        samples = _draws(value, error, behind, resamples, seed)
        half = (
            error * special.stdtrit(behind, (1.0 + LEVEL) / 2.0) if k else np.full(value.shape, np.nan)
        )
        told.append(Estimate(value, value - half, value + half, samples))
    return told


def estimate(
    scores: Scores,
    statistic: Statistic = statistics.iqm,
    resamples: int = RESAMPLES,
    seed: int | Sequence[int] = 0,
    method: Method | None = None,
) -> Estimate:
    """:func:`estimates` of a single cell: nothing to borrow a spread from."""
    (found,) = estimates([scores], statistic, resamples, seed, method)
    return found


def performance_profile(scores: Scores, thresholds: Floats | Sequence[float]) -> Estimate:
    """[thresholds]: share of runs with a score above each (Agarwal et al. 2021, eq. 2), Wilson's
    interval.

    It stays within 0 and 1, and is open where all runs agree. Where tasks have unequal numbers of runs
    the number behind a share is 1 / Σ weight². A single run has no interval. There are no samples.
    """
    above = scores.values > np.asarray(thresholds, dtype=np.float64)[:, None]
    share = statistics.mean(Scores(above.astype(np.float64), scores.task))
    runs = 1.0 / float(np.sum(statistics.run_weights(scores.task) ** 2))
    z = special.ndtri((1.0 + LEVEL) / 2.0)
    middle = (share + z**2 / (2 * runs)) / (1 + z**2 / runs)
    half = z / (1 + z**2 / runs) * np.sqrt(share * (1 - share) / runs + z**2 / (4 * runs**2))
    if np.bincount(scores.task).min() < 2:
        half = half * np.nan
    return Estimate(share, middle - half, middle + half, np.empty((*share.shape, 0)))


def _chance_variance(chance: Floats, counts: Sequence[tuple[int, int]]) -> Floats:
    """Of a mean over tasks of Mann–Whitney statistics (Newcombe 2006, method 5)."""
    total = np.zeros_like(chance)
    for m, n in counts:
        within = (1 - chance) / (2 - chance) + chance / (1 + chance)
        total += chance * (1 - chance) * (1 + ((m + n) / 2 - 1) * within) / (m * n)
    return total / len(counts) ** 2


def probability_of_improvement(x: Scores, y: Scores, comparisons: int = 1) -> Estimate:
    """Chance that a run of ``x`` scores above a run of ``y`` on the same task, ties counting half.

    Mean over tasks of the Mann–Whitney statistic (Agarwal et al. 2021, section 4.3). The interval holds
    all chances whose own spread reaches what was seen (Newcombe 2006, *Statistics in Medicine* 25: 559,
    method 5, with t for z), so that cells whose runs do not overlap have one too. It has no samples, and
    none is given where a task has a single run on either side.

    Args:
        comparisons: of how many the interval is one; all of them hold together in 95 % (Šidák 1967).

    Raises:
        ValueError: they do not have the same number of tasks.
    """
    value = statistics.shares_above(x, y)
    pairs = list(zip(np.bincount(x.task), np.bincount(y.task), strict=True))
    nothing = np.empty(0)
    if min(min(pair) for pair in pairs) < 2:
        return Estimate(value, np.float64(np.nan), np.float64(np.nan), nothing)  # type: ignore[arg-type]
    level = LEVEL ** (1.0 / comparisons)
    free = sum(int(m + n - 2) for m, n in pairs)
    t = special.stdtrit(free, (1.0 + level) / 2.0)
    tried = np.linspace(0.0, 1.0, 2001)
    inside = np.abs(tried - value) <= t * np.sqrt(_chance_variance(tried, pairs))
    held = tried[inside | np.isclose(tried, value)]
    return Estimate(value, held.min(), held.max(), nothing)
