"""From rows to scores: final values, values at a budget, cells with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparse_rl.analysis import doubts, intervals, statistics
from sparse_rl.analysis.load import DEPENDENCE, SEEDS, cell_of
from sparse_rl.analysis.load import RETURN as RETURN
from sparse_rl.analysis.once import once
from sparse_rl.analysis.statistics import LAST_SHARE as LAST_SHARE
from sparse_rl.analysis.statistics import Estimate, Scores

TRAINING_RETURN = "train_return_mean"
"""Of training episodes: what exploration scores, beside what :data:`RETURN` says of the best guess."""

SIZES = ["parameters_total", "parameters_nonzero", "flops_per_update"]

Cell = tuple[Any, ...]
"""Values of the columns that name a cell."""


def _first(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return frame.groupby("run_id")[list(columns)].first()


def _factor(rows: pd.DataFrame) -> list[str]:
    return [DEPENDENCE] if DEPENDENCE in rows else []


def with_untrained(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Rows in which a run that diverged before its first evaluation has one: the mean of its task's."""
    known = rows[metric].notna()
    without = (rows["status"] == "diverged") & ~known.groupby(rows["run_id"]).transform("any")
    if metric != RETURN or not without.any():
        return rows
    firsts = rows[known].drop_duplicates("run_id").groupby("env")[metric].mean()
    heads = rows.index[without & ~rows["run_id"].duplicated()]
    rows = rows.copy()
    rows.loc[heads, metric] = rows.loc[heads, "env"].map(firsts)
    return rows


def stopped_early(rows: pd.DataFrame, metric: str = RETURN) -> list[str]:
    """Runs that are ``done`` and have evaluations, but none in the last fifth of their training."""
    done = rows[rows["status"] == "done"]
    ends = done.groupby("run_id")["env_steps"].max()
    last = done[done[metric].notna()].groupby("run_id")["env_steps"].max()
    early = last <= (1.0 - LAST_SHARE) * ends[last.index]
    return sorted(map(str, early[early].index))


def final_values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per ended run: the mean of ``metric`` over the last fifth of its training.

    A run that diverged is a result: its return is that of its first evaluation, the untrained policy,
    and the mean of its task's first evaluations where it had none yet. Other metrics are those of runs
    that are ``done`` alone. A run whose evaluations stop before its training does has no final value.

    Args:
        rows: what :func:`sparse_rl.analysis.load` returns.
        metric: a column of it.

    Returns:
        Axes and sizes of the runs, ``env_steps``, ``updates`` and ``flops`` of the whole training,
        ``train_seconds``, and the value in column ``metric``.
    """
    axes = ["study", "status", *cell_of(rows), *SEEDS, *SIZES, "train_seconds", *_factor(rows)]
    needed = dict.fromkeys([*axes, "run_id", "env_steps", "updates", metric])
    return _final_values(rows[list(needed)], metric, axes).copy()


@once
def _final_values(rows: pd.DataFrame, metric: str, axes: Sequence[str]) -> pd.DataFrame:
    ended = ("done", "diverged") if metric == RETURN else ("done",)
    rows = with_untrained(rows, metric)
    known = rows[rows["status"].isin(ended) & rows[metric].notna()]
    end = known.groupby("run_id")["env_steps"].transform("max")
    stopped = known["run_id"].isin(stopped_early(rows, metric))
    known, end = known[~stopped], end[~stopped]
    late = known[(known["status"] == "done") & (known["env_steps"] > (1.0 - LAST_SHARE) * end)]
    untrained = known[known["status"] == "diverged"].drop_duplicates("run_id")
    values = pd.concat([late, untrained]).groupby("run_id")[metric].mean()
    ends = known.groupby("run_id")[["env_steps", "updates"]].max()
    final = _first(known, axes).join(ends).join(values)
    return final.assign(flops=final["flops_per_update"] * final["updates"]).reset_index()


BUDGETS = {
    "env_steps": "env steps (frames)",
    "flops": "training FLOPs",
    "wall_time": "training time (s)",
}
"""What a budget is counted in → axis label."""


def spent(rows: pd.DataFrame, unit: str) -> "pd.Series[float]":
    """What each row's run had spent by then, in a unit of ``BUDGETS``."""
    return rows["flops_per_update"] * rows["updates"] if unit == "flops" else rows[unit]


def at_budget(
    rows: pd.DataFrame, unit: str, budget: float, metric: str = RETURN, carry: bool = False
) -> pd.DataFrame:
    """One row per run: ``metric`` when it had spent ``budget``, linear between log points.

    Runs that never spent so much are left out: nothing is extrapolated. A run that diverged counts with
    its first evaluation at every budget beyond its end, as it does in :func:`final_values`.

    Args:
        unit: of ``BUDGETS``.
        carry: a run that ended before it spent so much counts with its last value: who has the budget
        may
            leave some of it.

    Raises:
        ValueError: the unit is unknown.
    """
    if unit not in BUDGETS:
        raise ValueError(f"unit must be one of {', '.join(BUDGETS)}, got {unit!r}")
    rows = with_untrained(rows, metric)
    known = rows[rows[metric].notna()].assign(_spent=spent(rows, unit))
    reached = {}
    for run_id, run in known.groupby("run_id"):
        first, last = run["_spent"].iloc[0], run["_spent"].iloc[-1]
        diverged = run["status"].iloc[0] == "diverged" and metric == RETURN
        if diverged and budget > last:
            reached[run_id] = float(run[metric].iloc[0])
        elif first <= budget and (budget <= last or carry):
            reached[run_id] = float(np.interp(budget, run["_spent"], run[metric]))
    axes = _first(known, ["study", "status", *cell_of(known), *SEEDS, *SIZES, *_factor(known)])
    values = pd.Series(reached, name=metric, dtype=float).rename_axis("run_id")
    return axes.join(values, how="inner").reset_index()


def cell_scores(final: pd.DataFrame, metric: str, by: Sequence[str]) -> dict[Cell, Scores]:
    """Cell → scores of its runs, by task.

    Args:
        final: one row per run (:func:`final_values`); of one task, or of several with scores normalised.
        by: columns whose values name a cell.
    """
    return {
        cell: statistics.scores({str(env): task[metric] for env, task in group.groupby("env")})
        for cell, group in final.groupby(list(by), dropna=False)
    }


def cell_estimates(
    final: pd.DataFrame,
    metric: str,
    by: Sequence[str],
    statistic: statistics.Statistic = statistics.iqm,
    resamples: int = statistics.RESAMPLES,
    seed: int = 0,
    method: intervals.Method | None = None,
) -> dict[Cell, Estimate]:
    """Cell → statistic with its interval; cells are drawn independently of each other.

    So few runs in so few cells that no interval can be told (:func:`.intervals.untold`) have none (nan);
    samples have the spread that is seen.
    Cells with few runs borrow from each other what their spread is (:mod:`.intervals`): hand over all
    cells of a study, and choose of what comes back.
    """
    cells = cell_scores(final, metric, by)
    factors = None
    if DEPENDENCE in final:
        factors = list(final.groupby(list(by), dropna=False)[DEPENDENCE].max())
    found = intervals.estimates(list(cells.values()), statistic, resamples, seed, method, factors)
    if intervals.untold(list(cells.values())):
        found = [e._replace(low=e.low * np.nan, high=e.high * np.nan) for e in found]
    return dict(zip(cells, found, strict=True))


def interval_words(final: pd.DataFrame, metric: str, by: Sequence[str]) -> str:
    """What the intervals of :func:`cell_estimates` are called."""
    cells = list(cell_scores(final, metric, by).values())
    if intervals.untold(cells):
        return "no interval (so few runs may not show those that fail)"
    return intervals.words(intervals.method_for(cells), len(cells))


def interval_doubts(final: pd.DataFrame, metric: str, by: Sequence[str]) -> list[str]:
    """What is to be said against the intervals of :func:`cell_estimates`."""
    return doubts.doubts(list(cell_scores(final, metric, by).values()))


def refuse_uneven_tasks(final: pd.DataFrame, by: Sequence[str]) -> None:
    """Cells are compared on the same tasks, or not at all.

    Raises:
        ValueError: a cell has other tasks than another one; it names both, and what is missing.
    """
    tasks = {cell: set(group["env"]) for cell, group in final.groupby(list(by), dropna=False)}
    every = set().union(*tasks.values())
    for cell, own in tasks.items():
        if own != every:
            said = ", ".join(f"{name} {value}" for name, value in zip(by, cell, strict=True))
            raise ValueError(
                f"cells of different tasks cannot be compared: {said} lacks "
                f"{', '.join(sorted(map(str, every - own)))}; choose tasks that all have"
            )


def summary(final: pd.DataFrame, metric: str, by: Sequence[str], **options: Any) -> pd.DataFrame:
    """One row per cell: its statistic, ``low`` and ``high``, and the number of runs.

    Args:
        options: of :func:`cell_estimates`.
    """
    estimates = cell_estimates(final, metric, by, **options)
    rows = [
        {
            **dict(zip(by, cell, strict=True)),
            metric: float(e.value),
            "low": float(e.low),
            "high": float(e.high),
        }
        for cell, e in estimates.items()
    ]
    counts = final.groupby(list(by), dropna=False)["run_id"].nunique()
    return pd.DataFrame(rows).assign(runs=counts.to_numpy())


@once
def _at_flops(rows: pd.DataFrame, budget: float) -> pd.DataFrame:
    """Of all sparsities: every panel of both pictures asks for its own."""
    at = at_budget(rows, "flops", budget)
    return at if at.empty else summary(at, RETURN, ["sparsity", "parameters_nonzero"])


def at_equal_flops(rows: pd.DataFrame, budget: float, sparsity: float) -> pd.DataFrame:
    """:func:`summary` by surviving parameters of one sparsity at a budget of training FLOPs.

    Cells of the other sparsities lend their spread. Empty where no run of it spent so much.
    """
    table = _at_flops(rows, budget)
    return table[table["sparsity"] == sparsity]
