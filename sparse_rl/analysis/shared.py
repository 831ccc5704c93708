"""Data and FLOPs to many returns, with one exponent over returns and tasks.

Rybkin et al. 2025 (*Value-based deep RL scales predictably*, arXiv 2502.04327) take the data to several
returns; Fu et al. 2025 (*Compute-optimal scaling for value-based deep RL*, arXiv 2508.14881) share
exponents over tasks, where each task alone has too few sizes to tell one: D_g = e^c_g · (N/N0)^−b, with
a constant for every return g of every task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sparse_rl.analysis import budgets, fits, verdicts
from sparse_rl.analysis.fits import Points
from sparse_rl.analysis.laws import LOGARITHM, Law
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.statistics import Floats, counted, interval
from sparse_rl.analysis.tables import size_of, spread

LEVELS = (0.4, 0.55, 0.7, 0.85)
"""Returns, as shares of the way from the first returns up to the best cell."""


class Reached(NamedTuple):
    """ln of what a return of a task takes, against size."""

    task: str
    threshold: float
    points: Points


def thresholds_of(series: Series) -> list[float]:
    """Four returns between the first ones and the best cell's.

    They depend on the data: to compare studies, hand over the same ones to all.
    """
    first, best = budgets.reached(series)
    return [float(f"{first + share * (best - first):.3g}") for share in LEVELS]


def reached(
    series: Series, sparsity: float, thresholds: Sequence[float] = (), unit: str = "env_steps"
) -> list[Reached]:
    """What each return takes at each size, censored where it is not reached.

    A return that fewer than two sizes reach tells no exponent, and is left out.

    Args:
        unit: ``env_steps`` or ``flops``: env steps times those of an env step.

    Raises:
        ValueError: the unit is unknown.
    """
    if unit not in ("env_steps", "flops"):
        raise ValueError(f"unit must be env_steps or flops, got {unit!r}")
    found = []
    for threshold in thresholds or thresholds_of(series):
        points = budgets.data_points(series, threshold, sparsity)
        if (~points.censored[:, 0]).sum() < 2:
            continue
        if unit == "flops":
            shift = np.log(_flops_per_step(series, points.size))
            points = points._replace(score=points.score + shift, samples=points.samples + shift[:, None])
        found.append(Reached(str(series.label), threshold, points))
    return found


def _flops_per_step(series: Series, size: Floats) -> Floats:
    last = series.rows.sort_values("env_steps").groupby("run_id").last()
    per_step = last["flops_per_update"] * last["updates"] / last["env_steps"]
    by_size = per_step.groupby(last[size_of(series)]).mean()
    return np.array([float(by_size[own]) for own in size])


def law(groups: int) -> Law:
    """A power law with one exponent and a constant for each of so many groups; ``kept`` is [points, 2],
    in whose second column stands the group."""
    level, slope = LOGARITHM.parameters["c"], LOGARITHM.parameters["k"]

    def predict(theta: Floats, size: Floats, kept: Floats) -> Floats:
        own = np.take(theta, kept[..., 1].astype(np.int64), axis=-1)
        return own - theta[..., -1:] * np.log(size)

    constants = {f"c{i}": level for i in range(groups)}
    exponent = slope._replace(kind="exponent", starts=(0.0,))
    return Law(
        "shared power", "ln D = c_g − b·ln(N/N0)", constants | {"b": exponent}, predict, "centred"
    )


def pooled(found: Sequence[Reached]) -> Points:
    """All groups' points, with the group beside the kept share.

    Raises:
        ValueError: no return is reached by two sizes.
    """
    if not found:
        raise ValueError("no return is reached by two sizes: there is no exponent")
    parts = [one.points for one in found]
    group = np.repeat(np.arange(len(parts)), [len(part.size) for part in parts])
    size, kept, score, samples, censored = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Points(size, np.column_stack([kept, group]), score, samples, censored)


class Exponent(NamedTuple):
    """b of D ∝ N^−b; below 0 where larger networks need more."""

    value: float
    samples: Floats


def exponent(found: Sequence[Reached]) -> Exponent:
    """The exponent that all of these returns share.

    Draws of a task's returns are of the same runs, and are drawn together; tasks independently.

    Raises:
        ValueError: the points cannot carry it.
    """
    fit = fits.fit(law(len(found)), pooled(found))
    return Exponent(float(fit.theta[-1]), fit.thetas[:, -1])


def table(by_task: Sequence[Sequence[Reached]]) -> tuple[pd.DataFrame, str]:
    """Each task's exponent over its returns and that of all tasks; whether they may share one.

    Tasks whose exponents differ beyond doubt share none, and no shared one is given.

    Raises:
        ValueError: no task has a return that two sizes reach.
    """
    told, rows = [], []
    for found in (each for each in by_task if each):
        own = exponent(found)
        levels = ", ".join(f"{one.threshold:g}" for one in found)
        rows.append({"task": found[0].task, "returns": levels, "b": _quoted(own)})
        told.append(own)
    every = [one for each in by_task for one in each]
    if not every:
        raise ValueError("no return is reached by two sizes: there is no exponent")
    if len(told) < 2:
        return pd.DataFrame(rows), f"{counted(len(told), 'task')}: there is nothing to share over."
    apart = _apart(told)
    if apart is None:
        unknown = "Whether the tasks share an exponent cannot be said: one seed, or no spread."
        return pd.DataFrame(rows), unknown
    if apart:
        return pd.DataFrame(rows), "The tasks' exponents differ beyond doubt: they share none."
    rows.append({"task": "all", "returns": "", "b": _quoted(exponent(every))})
    return pd.DataFrame(
        rows
    ), "The tasks' exponents do not differ beyond doubt; all: one for every task."


def _quoted(own: Exponent) -> str:
    low, high = interval(own.samples) if np.isfinite(own.samples).all() else (np.nan, np.nan)
    return spread(own.value, float(low), float(high))


def _apart(told: Sequence[Exponent]) -> bool | None:
    """Whether any two exponents differ, all pairs at once in 95 %; nothing where no spread is known."""
    samples = np.stack([own.samples for own in told])
    if not np.isfinite(samples).all():
        return None
    first, second = np.triu_indices(len(told), 1)
    value = np.array([own.value for own in told])
    low, high = verdicts.together(value[first] - value[second], samples[first] - samples[second])
    return bool(((low > 0) | (high < 0)).any())
