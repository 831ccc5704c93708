"""Read a study from disk into tidy tables."""

from pathlib import Path
from typing import Any

import pandas as pd

from sparse_rl import results

NESTED = ("host", "versions", "timings", "progress", "attempts")
"""Parts of a run's record that are no columns of their own kind."""

LAST_SHARE = 0.2
"""A run's final value is the mean over this last share of its training."""


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in record.items() if key not in NESTED}
    return {**flat, **record["timings"]}


def load_runs(study: str | Path) -> pd.DataFrame:
    """One row per run, finished or not: identity, counts, costs, status, reason, timings.

    Args:
        study: ``results/<name>``.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    folder = Path(study)
    records = [results.read_run(run_dir) for run_dir in results.run_dirs(folder)]
    if not records:
        raise FileNotFoundError(f"no runs in {folder}: expected {folder}/<run_id>/{results.RUN}")
    return pd.DataFrame([_flat(record) for record in records if record])


def load(study: str | Path) -> pd.DataFrame:
    """One row per run and log point, each with its run's axes beside its numbers.

    Columns carry the names of the data dictionary in the README. A run that has no rows yet does not
    appear here; :func:`load_runs` lists it with its status.

    Args:
        study: ``results/<name>``.

    Raises:
        FileNotFoundError: the folder holds no run.
    """
    folder = Path(study)
    runs = load_runs(folder)
    frames = []
    for _, run in runs.iterrows():
        rows = results.read_metrics(folder / run["run_id"])
        if not rows.empty:
            frames.append(rows.assign(run_id=run["run_id"]))
    if not frames:
        return runs.iloc[:0].assign(env_steps=pd.Series(dtype="int64"))
    return pd.concat(frames, ignore_index=True).merge(runs, on="run_id", validate="many_to_one")


def final_values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per finished run: the mean of ``metric`` over the last fifth of its training.

    Args:
        rows: what :func:`load` returns.
        metric: a column of it.

    Returns:
        The runs that are ``done``, with their axes, and the value in column ``metric``.
    """
    done = rows[(rows["status"] == "done") & rows[metric].notna()]
    end = done.groupby("run_id")["env_steps"].transform("max")
    late = done[done["env_steps"] > (1.0 - LAST_SHARE) * end]
    axes = ["run_id", "env", "agent", "width", "sparsity", "seed", "mask_seed", "pattern"]
    axes += ["parameters_total", "parameters_nonzero"]
    return late.groupby(axes)[metric].mean().reset_index()
