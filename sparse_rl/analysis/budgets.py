"""What a budget buys: the best cell for so many FLOPs, and the data that a return takes."""

import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from sparse_rl.analysis import ranges, scores
from sparse_rl.analysis.curves import learning_curves
from sparse_rl.analysis.fits import Points
from sparse_rl.analysis.scores import RETURN, TRAINING_RETURN
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.statistics import interval
from sparse_rl.analysis.tables import RESAMPLES, percent, size_of, spread
from sparse_rl.analysis.thresholds import Crossing, data_to_threshold

MARGIN = 0.05
"""Share of a task's range within which differences do not matter, unless somebody says otherwise."""


def budgets(series: Series, count: int = 4) -> list[float]:
    """Training FLOPs from where all runs have a value to what the dearest spent, in equal ratios.

    Raises:
        ValueError: no run says its FLOPs.
    """
    known = series.rows[series.rows[RETURN].notna()]
    spent = scores.spent(known, "flops")
    if not (spent > 0).any():
        raise ValueError("these runs do not say their FLOPs: there are no budgets")
    of_run = spent[spent > 0].groupby(known["run_id"])
    begun, ended = of_run.min().max(), of_run.max().max() * 0.999
    return [float(b) for b in np.geomspace(min(begun, ended), ended, count if begun < ended else 1)]


def _training_return(series: Series, budget: float, cell: scores.Cell) -> dict[str, str]:
    """The return of training episodes of a cell's runs at a budget of FLOPs, where there is one."""
    if TRAINING_RETURN not in series.rows:
        return {}
    at = scores.at_budget(series.rows, "flops", budget, TRAINING_RETURN, carry=True)
    found = scores.cell_estimates(at, TRAINING_RETURN, ["width", "sparsity"]).get(cell)
    if found is None:
        return {}
    return {TRAINING_RETURN: spread(float(found.value), float(found.low), float(found.high))}


def frontier(series: Series) -> pd.DataFrame:
    """The best width and sparsity that a budget of FLOPs pays for, and how sure that is.

    What ended cheaper counts with its last value. A budget is left out at which a cell has no value yet,
    and one at which nothing has learned: no cell lies a tenth of the way up to the best one.
    """
    found = []
    by = ["width", "sparsity"]
    every = scores.final_values(series.rows, RETURN).groupby(by).ngroups
    start, end = reached(series)
    for budget in budgets(series):
        at = scores.at_budget(series.rows, "flops", budget, carry=True)
        at = at[at["status"].isin(["done", "diverged"])]
        cells = scores.cell_estimates(at, RETURN, by) if len(at) else {}
        best = max(cells, key=lambda cell: float(cells[cell].value), default=None)
        if best is None or len(cells) < every or cells[best].value < start + 0.1 * (end - start):
            continue
        samples = np.stack([estimate.samples for estimate in cells.values()])
        known = all(np.isfinite(estimate.low) for estimate in cells.values())
        share = float(np.mean(samples.argmax(0) == list(cells).index(best))) if known else float("nan")
        value = cells[best]
        found.append(
            {
                "training FLOPs": budget, "width": best[0], "sparsity": best[1],
                RETURN: spread(float(value.value), float(value.low), float(value.high)),
                **_training_return(series, budget, best),
                "best in": percent(share), "of cells": len(cells),
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def reached(series: Series) -> tuple[float, float]:
    """Mean of the runs' first returns, and the final return of the best cell."""
    final = scores.final_values(series.rows, RETURN)
    best = scores.summary(final, RETURN, ["width", "sparsity"], resamples=2)[RETURN].max()
    first = series.rows[series.rows[RETURN].notna()].groupby("run_id")[RETURN].first().mean()
    return float(first), float(best)


def margin_of(series: Series, share: float = MARGIN) -> float:
    """The smallest difference in return that matters: a share of the task's range, where that is known,
    and else of the way from the first returns up to the best cell."""
    env = str(series.rows["env"].iloc[0])
    try:
        low, high = (0.0, 1.0) if series.rows["env"].nunique() > 1 else ranges.score_range(env)
    except ValueError:
        low, high = reached(series)
    return share * abs(high - low)


def margin_or(series: Series, asked: float | None) -> float:
    """The margin that was asked for, or that of these runs."""
    return margin_of(series) if asked is None else asked


def thresholds_of(series: Series) -> list[float]:
    """Two returns that tell cells apart: half and nine tenths of the way up to the best cell.

    They depend on the data: to compare studies, hand over the same ones to all (``--thresholds``).
    """
    first, best = reached(series)
    return [float(f"{first + share * (best - first):.3g}") for share in (0.5, 0.9)]


def crossings(series: Series, threshold: float) -> dict[scores.Cell, Crossing]:
    """(width, sparsity) → env steps to a return.

    Cells of which all ended runs diverged never reach it: they are censored at the longest run's end.
    Cells of which no run has ended are left out.
    """
    longest = float(series.rows["env_steps"].max())
    found = {}
    task = zlib.crc32(str(series.label).encode())  # cells, and tasks, are drawn independently
    for i, (cell, rows) in enumerate(series.rows.groupby(["width", "sparsity"])):
        if (rows["status"] == "done").any():
            curves = learning_curves(rows)
            found[cell] = data_to_threshold(curves, threshold, RESAMPLES, seed=(task, i))
        elif (rows["status"] == "diverged").any():
            never = np.ones(1 + RESAMPLES, dtype=np.bool_)
            found[cell] = Crossing(longest, np.full(RESAMPLES, longest), never)
    return found


def data_table(series: Series, thresholds: Sequence[float] = ()) -> pd.DataFrame:
    """Env steps to each threshold, by width and sparsity.

    Args:
        thresholds: returns; by default :func:`thresholds_of` these runs.
    """
    columns = {}
    for threshold in thresholds or thresholds_of(series):
        columns[f"env steps to {threshold:g}"] = {
            cell: f"> {c.env_steps:.0f}" if c.censored[0] else _steps(c)
            for cell, c in crossings(series, threshold).items()
        }
    return pd.DataFrame(columns).rename_axis(["width", "sparsity"]).reset_index()


def _steps(crossing: Crossing) -> str:
    low, high = interval(crossing.samples)
    if np.isnan(low):
        return f"{crossing.env_steps:.0f}"
    never = "> " if crossing.censored[1:].mean() > 0.025 else ""
    return f"{crossing.env_steps:.0f} [{low:.0f}, {never}{high:.0f}]"


def data_points(series: Series, threshold: float, sparsity: float) -> Points:
    """Natural logarithm of the data to a threshold against size, censored where it is not reached."""
    found = {cell: c for cell, c in crossings(series, threshold).items() if cell[1] == sparsity}
    sizes = series.rows.groupby(["width", "sparsity"])[size_of(series)].first()
    size = np.array([float(sizes[cell]) for cell in found])
    log_steps = np.log([c.env_steps for c in found.values()])
    samples = np.log(np.stack([c.samples for c in found.values()]))
    unknown = np.isnan(samples)
    if not unknown.all():  # runs of one cell agree: others say what the spread is
        samples = np.where(unknown, log_steps[:, None], samples)
    return Points(
        size, np.full(size.shape, 1.0 - sparsity), log_steps, samples,
        np.stack([c.censored for c in found.values()]),
    )  # fmt: skip
