"""Aggregate scores over runs and tasks, and their bootstrap.

The field's convention (Agarwal et al. 2021, *Deep RL at the edge of the statistical precipice*, arXiv
2108.13264): scores of all runs on all tasks are pooled, every task weighing the same, and a bootstrap
resamples runs within each task. Which intervals are made of it is :mod:`.intervals`' to say.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Of all intervals."""
RESAMPLES = 2000
LAST_SHARE = 0.2
"""A run's final value is the mean over this last share of its training."""
TRIMMED = 0.25
"""Share of runs that the interquartile mean leaves out at either end."""


def counted(number: int, thing: str) -> str:
    """``1 seed``, ``3 seeds``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


class Scores(NamedTuple):
    """Scores of the same runs, each of one task."""

    values: Floats
    """[..., runs]; what comes before the last axis (points of a curve) is kept apart."""
    task: NDArray[np.int64]
    """[runs]: which task, 0 … tasks − 1, in ascending order."""


Statistic = Callable[[Scores], Floats]
"""``[..., runs] → [...]``."""


class Estimate(NamedTuple):
    """A statistic with its interval; ``low`` and ``high`` are nan where a task has a single run, and
    where all runs are equal: nothing is known of their spread then."""

    value: Floats
    low: Floats
    high: Floats
    samples: Floats
    """[..., resamples]: the statistic of every resample, or draws that have its spread."""


def scores(by_task: Mapping[str, ArrayLike]) -> Scores:
    """Pool ``task → [runs]`` (or ``[..., runs]``); tasks may have unequal numbers of runs.

    Raises:
        ValueError: no scores, or one that is not finite.
    """
    if not by_task:
        raise ValueError("no scores")
    arrays = [np.asarray(values, dtype=np.float64) for values in by_task.values()]
    task = np.repeat(np.arange(len(arrays)), [array.shape[-1] for array in arrays])
    values = np.concatenate(arrays, axis=-1)
    if not values.size or not np.isfinite(values).all():
        raise ValueError(f"scores must be finite and at least one, got {values}")
    return Scores(values, task)


def run_weights(task: NDArray[np.int64]) -> Floats:
    """[runs], summing to 1: every task weighs the same, every run of a task too."""
    counts = np.bincount(task)
    return 1.0 / (counts[task] * len(counts))


def mean(scores: Scores) -> Floats:
    """Mean over tasks of the mean over runs."""
    return scores.values @ run_weights(scores.task)


def median(scores: Scores) -> Floats:
    """Median over tasks of the mean over runs."""
    means = [scores.values[..., scores.task == task].mean(-1) for task in np.unique(scores.task)]
    return np.median(means, axis=0)


def kept_weights(scores: Scores) -> tuple[Floats, Floats]:
    """[..., runs] in ascending order of scores: the weight that an interquartile mean keeps; the scores.

    Whole runs are cut, as many as fit into a quarter (``scipy.stats.trim_mean``). Where tasks have
    unequal numbers of runs, the same share of weight is cut.
    """
    runs = scores.values.shape[-1]
    order = np.argsort(scores.values, axis=-1)
    weights = run_weights(scores.task)[order]
    cut = int(TRIMMED * runs) / runs
    end = np.cumsum(weights, axis=-1)
    kept = np.minimum(end, 1.0 - cut) - np.maximum(end - weights, cut)
    kept = np.where(kept > 1e-12, kept, 0.0)  # what is left of a run that rounding cut
    return kept, np.take_along_axis(scores.values, order, axis=-1)


def iqm(scores: Scores) -> Floats:
    """Interquartile mean: of the pooled runs without the lowest and the highest quarter.

    With fewer than four runs nothing is cut: it is the mean.
    """
    kept, ranked = kept_weights(scores)
    return (ranked * kept).sum(-1) / kept.sum(-1)


def optimality_gap(scores: Scores, target: float = 1.0) -> Floats:
    """How far runs fall short of ``target``, on average; what lies above it does not count."""
    return target - mean(Scores(np.minimum(scores.values, target), scores.task))


def resample(task: NDArray[np.int64], resamples: int, seed: int | Sequence[int]) -> NDArray[np.int64]:
    """[resamples, runs]: indices drawn with replacement within each task.

    Args:
        seed: of a generator made here, so equal calls draw the same.
    """
    generator = np.random.default_rng(seed)
    counts = np.bincount(task)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    parts = [
        start + generator.integers(count, size=(resamples, count))
        for start, count in zip(starts, counts, strict=True)
    ]
    return np.concatenate(parts, axis=1)


def interval(samples: Floats) -> tuple[Floats, Floats]:
    """Percentiles that hold ``LEVEL`` of the last axis."""
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(samples, [tail, 1.0 - tail], axis=-1)
    return low, high


def bootstrap(
    scores: Scores,
    statistic: Statistic = iqm,
    resamples: int = RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> Estimate:
    """The statistic and its percentile interval by the stratified bootstrap.

    Runs are resampled within tasks, and the points of a curve together. The interval is nan where a task
    has a single run, and where resamples are all equal.
    """
    drawn = resample(scores.task, resamples, seed)
    samples = statistic(Scores(scores.values[..., drawn], scores.task))
    low, high = interval(samples)
    nothing = (samples.max(-1) == samples.min(-1)) | (np.bincount(scores.task).min() < 2)
    return Estimate(
        statistic(scores), np.where(nothing, np.nan, low), np.where(nothing, np.nan, high), samples
    )


def shares_above(x: Scores, y: Scores) -> Floats:
    """Share of pairs in which ``x`` scores above ``y`` on the same task, mean over tasks; ties count
    half.

    Raises:
        ValueError: they do not have the same number of tasks.
    """
    tasks = np.unique(x.task)
    if len(tasks) != len(np.unique(y.task)):
        raise ValueError("x and y must hold the same tasks")
    shares = []
    for task in tasks:
        difference = x.values[..., x.task == task, None] - y.values[..., None, y.task == task]
        shares.append((np.sign(difference) + 1.0).mean((-2, -1)) / 2.0)
    return np.mean(shares, axis=0)
