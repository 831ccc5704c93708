"""From rows to scores: final values, values at a budget, learning curves, cells with intervals."""

import functools
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sparse_rl.analysis import statistics
from sparse_rl.analysis.load import SEEDS, cell_of
from sparse_rl.analysis.statistics import Estimate, Floats, Scores

RETURN = "return_mean"
TRAINING_RETURN = "train_return_mean"
"""Of training episodes: what exploration scores, beside what :data:`RETURN` says of the best guess."""

SIZES = ["parameters_total", "parameters_nonzero", "flops_per_update"]

LAST_SHARE = 0.2
"""A run's final value is the mean over this last share of its training."""

SCORE_RANGES: dict[str, tuple[float, float]] = {
    "playground/*": (0.0, 1000.0),
    "dm_control/*": (0.0, 1000.0),
    "dm_control_pixels/*": (0.0, 1000.0),
    "pixels/*": (0.0, 1000.0),
    "maze/*": (0.0, 1.0),
    "classic/pendulum": (-1200.0, 0.0),
    "classic/cartpole": (0.0, 500.0),
    "dog-*": (0.0, 1000.0),
    "humanoid-*": (0.0, 1000.0),
    "gymnax/Pendulum-v1": (-1200.0, 0.0),
    "gymnax/MountainCarContinuous-v0": (0.0, 100.0),
}
"""Task (with wildcards) → returns that count as 0 and 1.

DM Control's rewards lie in [0, 1] for 1000 frames (Tassa et al. 2018). Pendulum's are ≤ 0, and a random
policy has −1202 ± 17 (1,000 episodes); mountain car pays 100 for the goal.
"""

Cell = tuple[Any, ...]
"""Values of the columns that name a cell."""

Ranges = Mapping[str, tuple[float, float]]


def score_range(env: str, ranges: Ranges = SCORE_RANGES) -> tuple[float, float]:
    """Returns that count as 0 and 1 on a task.

    Raises:
        ValueError: none is known.
    """
    for pattern, bounds in ranges.items():
        if fnmatchcase(env, pattern):
            return bounds
    known = ", ".join(ranges)
    raise ValueError(
        f"no score range is known for {env}; give ranges={{{env!r}: (low, high)}} ({known})"
    )


def normalised(frame: pd.DataFrame, metric: str = RETURN, ranges: Ranges = SCORE_RANGES) -> pd.DataFrame:
    """A copy with ``metric`` as a score: 0 and 1 at the ends of its task's range.

    Raises:
        ValueError: a task has no known range.
    """
    known = {**ranges, **SCORE_RANGES, **ranges}  # those that are given come first, and hold
    bounds = {env: score_range(str(env), known) for env in frame["env"].unique()}
    low, high = (frame["env"].map({env: b[i] for env, b in bounds.items()}) for i in (0, 1))
    return frame.assign(**{metric: (frame[metric] - low) / (high - low)})


def _first(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return frame.groupby("run_id")[list(columns)].first()


def final_values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per ended run: the mean of ``metric`` over the last fifth of its training.

    A run that diverged is a result: its return is that of its first evaluation, the untrained policy.
    Other metrics are those of runs that are ``done`` alone.

    Args:
        rows: what :func:`sparse_rl.analysis.load` returns.
        metric: a column of it.

    Returns:
        Axes and sizes of the runs, ``env_steps``, ``updates`` and ``flops`` of the whole training,
        ``train_seconds``, and the value in column ``metric``.
    """
    ended = ("done", "diverged") if metric == RETURN else ("done",)
    known = rows[rows["status"].isin(ended) & rows[metric].notna()]
    end = known.groupby("run_id")["env_steps"].transform("max")
    late = known[(known["status"] == "done") & (known["env_steps"] > (1.0 - LAST_SHARE) * end)]
    untrained = known[known["status"] == "diverged"].drop_duplicates("run_id")
    values = pd.concat([late, untrained]).groupby("run_id")[metric].mean()
    axes = ["study", "status", *cell_of(known), *SEEDS, *SIZES, "train_seconds"]
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


def at_budget(rows: pd.DataFrame, unit: str, budget: float, metric: str = RETURN) -> pd.DataFrame:
    """One row per run: ``metric`` when it had spent ``budget``, linear between log points.

    Runs that never spent so much are left out: nothing is extrapolated.

    Args:
        unit: of ``BUDGETS``.

    Raises:
        ValueError: the unit is unknown.
    """
    if unit not in BUDGETS:
        raise ValueError(f"unit must be one of {', '.join(BUDGETS)}, got {unit!r}")
    known = rows[rows[metric].notna()].assign(_spent=spent(rows, unit))
    reached = {}
    for run_id, run in known.groupby("run_id"):
        if run["_spent"].iloc[0] <= budget <= run["_spent"].iloc[-1]:
            reached[run_id] = float(np.interp(budget, run["_spent"], run[metric]))
    axes = _first(known, ["study", "status", *cell_of(known), *SEEDS, *SIZES])
    values = pd.Series(reached, name=metric, dtype=float).rename_axis("run_id")
    return axes.join(values, how="inner").reset_index()


class Curves(NamedTuple):
    """Learning curves of runs at the same evaluations."""

    env_steps: Floats
    """[points]."""
    values: Floats
    """[points, runs]."""


def learning_curves(rows: pd.DataFrame, metric: str = RETURN) -> Curves:
    """Curves of the runs that ended, at the points that all finished ones have.

    A run that diverged stays at its first evaluation from its end on.

    Args:
        rows: of one cell and task.

    Raises:
        ValueError: no run is ``done``.
    """
    known = rows[rows[metric].notna()]
    done = known[known["status"] == "done"]
    if done.empty:
        raise ValueError("no run is done")
    table = done.pivot(index="env_steps", columns="run_id", values=metric).dropna()
    for run_id, run in known[known["status"] == "diverged"].groupby("run_id"):
        curve = run.set_index("env_steps")[metric].reindex(table.index)
        table[run_id] = curve.fillna(run[metric].iloc[0])
    return Curves(table.index.to_numpy(dtype=float), table.to_numpy())


def sample_efficiency(rows: pd.DataFrame, metric: str = RETURN, resamples: int = 500) -> pd.DataFrame:
    """Interquartile mean over runs, and tasks if several, at each evaluation that all have.

    Args:
        rows: of one cell; of several tasks with scores normalised.

    Returns:
        ``env_steps``, the value in column ``metric``, ``low`` and ``high``.
    """
    finished = rows[rows["status"] == "done"].groupby("env")["run_id"].nunique()
    curves = {
        str(env): learning_curves(task, metric)
        for env, task in rows.groupby("env")
        if finished.get(env, 0) > 0
    }
    steps = [curve.env_steps for curve in curves.values()]
    shared = functools.reduce(np.intersect1d, steps)
    by_task = {env: curve.values[np.isin(curve.env_steps, shared)] for env, curve in curves.items()}
    estimate = statistics.bootstrap(statistics.scores(by_task), resamples=resamples)
    return pd.DataFrame(
        {"env_steps": shared, metric: estimate.value, "low": estimate.low, "high": estimate.high}
    )


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
) -> dict[Cell, Estimate]:
    """Cell → statistic with its interval; cells are resampled independently of each other."""
    cells = cell_scores(final, metric, by)
    return {
        cell: statistics.bootstrap(scores, statistic, resamples, [seed, i])
        for i, (cell, scores) in enumerate(cells.items())
    }


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
