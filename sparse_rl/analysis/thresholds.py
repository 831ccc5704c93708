"""Data needed to reach a score, with runs that never do as censored.

Rybkin et al. 2025, *Value-based deep RL scales predictably*: isotonic regression on the returns, then
the first crossing of a threshold. Below ten runs intervals are of Student's t, else of a bootstrap over
runs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from sparse_rl.analysis import intervals, statistics
from sparse_rl.analysis.curves import Curves
from sparse_rl.analysis.once import once
from sparse_rl.analysis.statistics import Floats


class Crossing(NamedTuple):
    """Env steps at which the mean learning curve first reaches a threshold."""

    env_steps: float
    """The whole budget where it is not reached: a lower bound."""
    samples: Floats
    """[resamples]."""
    censored: NDArray[np.bool_]
    """[1 + resamples]: the threshold was not reached."""


def first_crossing(env_steps: Floats, curve: Floats, threshold: float) -> float:
    """Env steps at which the isotonic fit of a curve reaches ``threshold``; ``inf`` if never.

    Linear between evaluations; a curve that starts above is counted from its first evaluation.
    """
    rising = isotonic_regression(curve).x
    if rising[-1] < threshold:
        return float("inf")
    after = int(np.argmax(rising >= threshold))
    if after == 0:
        return float(env_steps[0])
    low, high = rising[after - 1], rising[after]
    share = (threshold - low) / (high - low)
    return float(env_steps[after - 1] + share * (env_steps[after] - env_steps[after - 1]))


def mean_curves(
    values: Floats, resamples: int, seed: int | Sequence[int], method: intervals.Method
) -> Floats:
    """[resamples, points]: mean curves as they might have been, all points of a curve together.

    Percentiles: of runs drawn again. t: the mean and Student's t times its standard error at each point,
    all points of a curve together: weights g of the runs' deviations are normal, over the root of an own
    χ²/(n − 1).
    """
    points, runs = values.shape
    if method == "percentile":
        drawn = statistics.resample(np.zeros(runs, dtype=np.int64), resamples, seed)
        return np.stack([values[:, picked].mean(1) for picked in drawn])
    if runs < 2:
        return np.full((resamples, points), np.nan)
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(resamples, runs)) / np.sqrt(runs * (runs - 1))
    weights /= np.sqrt(generator.chisquare(runs - 1, size=(resamples, 1)) / (runs - 1))
    mean = values.mean(1)
    return mean + weights @ (values - mean[:, None]).T


@once
def data_to_threshold(
    curves: Curves,
    threshold: float,
    resamples: int = statistics.RESAMPLES,
    seed: int | Sequence[int] = 0,
    method: intervals.Method | None = None,
) -> Crossing:
    """When the mean over runs reaches a threshold, and when it might have.

    Samples of a single run, and of runs without any spread, are nan: nothing is known of theirs.

    Args:
        method: ``None``: percentiles of resampled runs from :data:`.intervals.MANY` runs on, else t.
    """
    values = curves.values
    kind = method or ("percentile" if values.shape[1] >= intervals.MANY else "t")
    means = mean_curves(values, resamples, seed, kind)
    whole = first_crossing(curves.env_steps, values.mean(1), threshold)
    never = np.isinf(whole)
    if not np.ptp(values, axis=1).any() or np.isnan(means).any():
        steps = np.full(resamples, np.nan)
    else:
        steps = np.array([first_crossing(curves.env_steps, mean, threshold) for mean in means])
    censored = np.concatenate([[never], np.where(np.isnan(steps), never, np.isinf(steps))])
    last = curves.env_steps[-1]
    samples = np.where(np.isinf(steps), last, steps)
    return Crossing(float(last if never else whole), samples, censored.astype(np.bool_))
