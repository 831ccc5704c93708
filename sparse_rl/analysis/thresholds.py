"""Data needed to reach a score, with runs that never do as censored.

Rybkin et al. 2025, *Value-based deep RL scales predictably*: isotonic regression on the returns, then
the first crossing of a threshold; intervals from a bootstrap over seeds.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from sparse_rl.analysis import statistics
from sparse_rl.analysis.scores import Curves
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


def data_to_threshold(
    curves: Curves, threshold: float, resamples: int = statistics.RESAMPLES, seed: int = 0
) -> Crossing:
    """When the mean over runs reaches a threshold, in the data and in resamples of the runs."""
    runs = np.zeros(curves.values.shape[1], dtype=np.int64)
    drawn = statistics.resample(runs, resamples, seed)
    means = [curves.values.mean(1), *(curves.values[:, picked].mean(1) for picked in drawn)]
    steps = np.array([first_crossing(curves.env_steps, mean, threshold) for mean in means])
    censored = np.isinf(steps)
    steps = np.where(censored, curves.env_steps[-1], steps)
    return Crossing(float(steps[0]), steps[1:], censored)
