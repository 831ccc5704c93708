"""Learning curves: of the runs of a cell at common steps, and their interquartile mean."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sparse_rl.analysis import intervals, scores, statistics
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.statistics import Floats


class Curves(NamedTuple):
    """Learning curves of runs at the same evaluations."""

    env_steps: Floats
    """[points]."""
    values: Floats
    """[points, runs]."""


def _common(curves: Sequence[Curves]) -> Floats:
    """Steps at which all curves have a value; where they share fewer than half of the coarsest one's,
    its own steps between the latest beginning and the earliest end."""
    steps = [curve.env_steps for curve in curves]
    coarsest = min(steps, key=len)
    shared = functools.reduce(np.intersect1d, steps)
    if 2 * len(shared) >= len(coarsest):
        return shared
    low, high = max(s[0] for s in steps), min(s[-1] for s in steps)
    within = coarsest[(coarsest >= low) & (coarsest <= high)]
    return within if len(within) else np.array([high])


def _read_at(curve: Curves, steps: Floats) -> Floats:
    """[steps, runs]: linear between evaluations."""
    return np.stack([np.interp(steps, curve.env_steps, run) for run in curve.values.T], axis=1)


def learning_curves(rows: pd.DataFrame, metric: str = RETURN) -> Curves:
    """Curves of the runs that ended, at the points that all finished ones have.

    A run that diverged stays at its first evaluation from its end on. Runs that were evaluated at other
    steps are read between theirs.

    Args:
        rows: of one cell and task.

    Raises:
        ValueError: no run is ``done``.
    """
    rows = scores.with_untrained(rows, metric)
    known = rows[rows[metric].notna()]
    done = known[known["status"] == "done"]
    if done.empty:
        raise ValueError("no run is done")
    runs = [
        Curves(run["env_steps"].to_numpy(dtype=float), run[[metric]].to_numpy())
        for _, run in done.sort_values("env_steps").groupby("run_id")
    ]
    steps = _common(runs)
    columns = [_read_at(run, steps) for run in runs]
    for _, run in known[known["status"] == "diverged"].groupby("run_id"):
        own = np.interp(steps, run["env_steps"], run[metric])
        columns.append(np.where(steps > run["env_steps"].max(), run[metric].iloc[0], own)[:, None])
    return Curves(steps, np.concatenate(columns, axis=1))


def sample_efficiency(rows: pd.DataFrame, metric: str = RETURN) -> pd.DataFrame:
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
    shared = _common(list(curves.values()))
    by_task = {env: _read_at(curve, shared) for env, curve in curves.items()}
    estimate = intervals.estimate(statistics.scores(by_task), resamples=500)
    return pd.DataFrame(
        {"env_steps": shared, metric: estimate.value, "low": estimate.low, "high": estimate.high}
    )
