"""Verdicts in words that hold: does more size still pay, does sparsity help, or can these runs not tell.

All intervals of a table hold together in 95 % (the largest of their deviations, counted in each one's
own width: Westfall and Young 1993). A difference that lies within a margin δ is "the same", which takes
an interval inside of ±δ (Schuirmann 1987): not to see a difference is not to have seen that there is
none.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from sparse_rl.analysis.statistics import LEVEL, Estimate, Floats

Verdict = Literal["better", "same", "worse", "cannot tell"]

POWER = 0.7
"""Half an interval over the difference that it tells in 80 % of studies: 1.96 / (1.96 + 0.84)."""


def together(value: Floats, samples: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Intervals of several differences that all hold at once in 95 %; nan where a spread is not known.

    Args:
        value: [comparisons].
        samples: [comparisons, resamples].
        level: in place of 95 %.
    """
    low, high = np.full(value.shape, np.nan), np.full(value.shape, np.nan)
    known = np.isfinite(samples).all(1) & (np.ptp(samples, axis=1) > 0)
    if known.any():
        off = np.abs(samples[known] - value[known, None])
        alone = np.quantile(off, level, axis=1)
        most = np.quantile((off / alone[:, None]).max(0), level)
        low[known], high[known] = value[known] - most * alone, value[known] + most * alone
    return low, high


def verdict(low: float, high: float, margin: float) -> Verdict:
    """What an interval of a difference says where differences within ``margin`` do not matter."""
    if -margin < low and high < margin:
        return "same"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "cannot tell"  # nan is neither


def signed(difference: float, low: float, high: float) -> str:
    """A difference with its interval, where there is one."""
    return f"{difference:+.4g}" + ("" if np.isnan(low) else f" [{low:+.4g}, {high:+.4g}]")


def seeds_at_most(runs: int, half: float, margin: float) -> float:
    """Seeds of each cell with which this difference's own interval would tell ``margin`` in 80 % of
    studies, or fewer: t narrows faster than the root.

    :func:`.planning.seeds_to_tell` answers another question: how many seeds a study needs that is yet to
    be made, at the noise of all cells of this one.

    Args:
        runs: of each cell now.
        half: half of the interval of the difference now; it narrows with the root of the runs.
    """
    return float(np.ceil(runs * (half / (POWER * margin)) ** 2))


class Growth(NamedTuple):
    """What more size brings, by comparing the sizes that were measured."""

    kind: Literal["grows", "enough", "declines", "cannot tell"]
    """The largest size is better than its neighbour; no larger size is better by the margin; a larger
    one is worse; none of these is beyond doubt."""
    size: float
    """The largest; the smallest beyond which nothing is gained; the best; nan."""
    difference: float
    """The last step's; that of the best later size over ``size``; that of the worst later one; the last
    step's."""
    low: float
    high: float


def growth(
    estimates: Sequence[Estimate], sizes: Sequence[float], margin: float, level: float = LEVEL
) -> Growth:
    """Whether the largest of several sizes still pays, within a margin.

    All pairs of sizes are compared, at once in 95 %, so that the best one may be picked from them.

    Args:
        estimates: a score per size.
        margin: the smallest gain that matters, in the scores' units.
        level: in place of 95 %, where several curves are to be judged at once.

    Raises:
        ValueError: there is one size, or no interval of one is known.
    """
    order = np.argsort(sizes)
    size = np.asarray(sizes, dtype=np.float64)[order]
    if len(size) < 2:
        raise ValueError("one size shows no growth")
    if any(np.isnan(e.low) for e in estimates):
        raise ValueError(
            "a size has one seed, or no spread, or too few runs: nothing can be said of its growth"
        )
    value = np.array([float(estimates[i].value) for i in order])
    samples = np.stack([estimates[i].samples for i in order])
    pairs = np.array(list(combinations(range(len(size)), 2)))
    small, large = pairs.T
    gain = value[large] - value[small]
    low, high = together(gain, samples[large] - samples[small], level)
    best, last = int(value.argmax()), len(size) - 1
    worse = np.flatnonzero((small == best) & (high < 0))
    if worse.size:
        at = worse[gain[worse].argmin()]
        return Growth("declines", float(size[best]), float(gain[at]), float(low[at]), float(high[at]))
    for i in range(last):
        later = np.flatnonzero(small == i)
        if (high[later] < margin).all():
            at = later[gain[later].argmax()]
            return Growth("enough", float(size[i]), float(gain[at]), float(low[at]), float(high[at]))
    at = len(pairs) - 1  # the last pair is that of the two largest
    kind: Literal["grows", "cannot tell"] = "grows" if low[at] > 0 else "cannot tell"
    told = float(size[last]) if kind == "grows" else float("nan")
    return Growth(kind, told, float(gain[at]), float(low[at]), float(high[at]))
