"""Score by size and by data at once: learning curves of all sizes, and laws of both.

The points of a learning curve are of the same runs, so they are drawn together, and no criterion that
counts points as independent (BIC, χ²) is given of these laws. They are compared by what they say of the
largest size and of the last data, which they were not shown.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from sparse_rl.analysis import choices, fits, laws, thresholds
from sparse_rl.analysis.curves import Curves, learning_curves
from sparse_rl.analysis.fits import Points
from sparse_rl.analysis.intervals import MANY, Method
from sparse_rl.analysis.laws import Law
from sparse_rl.analysis.scores import Cell
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.statistics import Floats, counted
from sparse_rl.analysis.tables import parameters, percent, spread

RESAMPLES = 200
DATA = 6
"""Points along the data, in equal ratios: more of them tell no more, for they are of the same runs."""
TITLE = (
    "score by size, data and sparsity; N0 and D0 are geometric means; errors are root mean squares, "
    "each law fitted without what it is asked for"
)
FEWEST = 3
"""Sizes, and points along the data, that an exponent with an offset takes."""


class Surface(NamedTuple):
    """Mean learning curves of cells at common steps, and draws of them."""

    cells: list[Cell]
    """Width and sparsity, in ascending order."""
    total: Floats
    """[cells]: parameters of the dense network."""
    nonzero: Floats
    """[cells]: those that survive."""
    flops: Floats
    """[cells]: per env step, updates and all."""
    steps: Floats
    """[data]: env steps."""
    values: Floats
    """[cells, data, 1 + resamples]: the mean, and draws of it; nan where no spread is known."""


def surface(
    series: Series, sparsity: float | None = None, many: int = DATA, resamples: int = RESAMPLES
) -> Surface:
    """The learning curves of a series' cells, read at common steps.

    Args:
        sparsity: of the cells; ``None``: all.
        many: steps, in equal ratios from the last first evaluation to the first last one.

    Raises:
        ValueError: no run is done, sizes are not known, or the cells' evaluations do not overlap.
    """
    rows = series.rows if sparsity is None else series.rows[series.rows["sparsity"] == sparsity]
    cells = [
        (cell, group)
        for cell, group in rows.groupby(["width", "sparsity"])
        if (group["status"] == "done").any()
    ]
    if not cells:
        raise ValueError("no run is done")
    curves = [learning_curves(group) for _, group in cells]
    first = max(curve.env_steps[0] for curve in curves)
    last = min(curve.env_steps[-1] for curve in curves)
    if not 0 < first < last:
        raise ValueError("the cells' evaluations do not overlap: there is no common data")
    steps = np.geomspace(first, last, many)
    values = np.stack([_drawn(curve, steps, resamples, i) for i, curve in enumerate(curves)])
    of = [group.groupby("run_id").last() for _, group in cells]
    total, nonzero = (
        np.array([float(runs[name].mean()) for runs in of])
        for name in ("parameters_total", "parameters_nonzero")
    )
    if np.isnan(total).any() or np.isnan(nonzero).any():
        raise ValueError("these runs do not say their parameters")
    spent = [runs["flops_per_update"] * runs["updates"] / runs["env_steps"] for runs in of]
    flops = np.array([float(each.mean()) for each in spent])
    return Surface([cell for cell, _ in cells], total, nonzero, flops, steps, values)


def _drawn(curve: Curves, steps: Floats, resamples: int, seed: int) -> Floats:
    """[steps, 1 + resamples]."""
    runs = np.stack(
        [np.interp(np.log(steps), np.log(curve.env_steps), run) for run in curve.values.T], axis=1
    )
    method: Method = "percentile" if runs.shape[1] >= MANY else "t"
    draws = thresholds.mean_curves(runs, resamples, seed, method)
    return np.column_stack([runs.mean(1), draws.T])


def points(found: Surface) -> Points:
    """What laws of size, data and sparsity are fitted to: every cell at every amount of data.

    Raises:
        ValueError: there are fewer than three sizes.
    """
    if len(np.unique(found.total)) < FEWEST:
        sizes = counted(len(np.unique(found.total)), "size")
        raise ValueError(f"{sizes} cannot tell an exponent of size from an offset; it takes {FEWEST}")
    middle = float(np.exp(np.log(found.steps).mean()))
    many = len(found.steps)
    kept = np.repeat(1.0 - np.array([cell[1] for cell in found.cells]), many)
    data = np.tile(found.steps / middle, len(found.cells))
    values = found.values.reshape(-1, found.values.shape[-1])
    return Points(
        np.repeat(found.total, many), np.column_stack([kept, data]), values[:, 0], values[:, 1:],
        np.zeros(values.shape, dtype=np.bool_),
    )  # fmt: skip


def candidates(found: Surface) -> list[Law]:
    """Laws that these cells can tell apart: without a sparse cell, sparsity plays no part."""
    if len({cell[1] for cell in found.cells}) > 1:
        return list(laws.WITH_DATA)
    return [laws.DATA_ALONE, laws.SIZE_AND_DATA]


def law_table(found: Surface) -> pd.DataFrame:
    """One row per law of score in size, data and sparsity: how far off it is at the largest size and at
    the last data, neither of which it was shown, in what share of draws it is the closest, and its
    parameters when fitted to all.

    Raises:
        ValueError: the sizes are too few, or no law is carried by what is left.
    """
    every = points(found)
    held = {
        "off at the largest size": choices.largest_sizes(every, 1),
        "off at the last data": every.kept[:, 1] == every.kept[:, 1].max(),
    }
    trials: dict[str, dict[str, choices.Trial]] = {name: {} for name in held}
    refused: dict[str, str] = {}
    for law in candidates(found):
        try:
            for name, mask in held.items():
                trials[name][law.name] = choices.trial(law, every, mask)
        except ValueError as error:
            refused[law.name] = str(error)
    rows: list[dict[str, object]] = []
    for law in candidates(found):
        if law.name in refused:
            rows.append({"law": law.name, "parameters": refused[law.name], "formula": law.formula})
            continue
        row: dict[str, object] = {"law": law.name}
        for name, by in trials.items():
            told = {other: trial for other, trial in by.items() if other not in refused}
            row |= {name: told[law.name].error, f"closest {name[4:]}": percent(_share(told, law.name))}
        rows.append(row | {"parameters": _parameters(fits.fit(law, every)), "formula": law.formula})
    return pd.DataFrame(rows)


def _parameters(fit: fits.Fit) -> str:
    """A law's parameters, or once what is wrong with all of them."""
    problems = {value.problem for value in fits.values(fit).values()}
    return str(*problems) if len(problems) == 1 and None not in problems else parameters(fit)


def _share(trials: dict[str, choices.Trial], name: str) -> float:
    """Share of draws in which a law is the closest of all; nan where no spread is known."""
    errors = np.stack([trial.errors for trial in trials.values()])
    if not np.isfinite(errors).all():
        return float("nan")
    return float(np.mean(errors.argmin(0) == list(trials).index(name)))


def quoted(value: float, draws: Floats) -> str:
    """A number with the percentiles of its draws; nothing in brackets where one is not known."""
    if np.isnan(draws).any():
        return f"{value:.4g}"
    low, high = np.quantile(draws, [0.025, 0.975])
    return spread(value, float(low), float(high))
