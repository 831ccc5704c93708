"""Read studies from disk into tidy tables."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from sparse_rl.kernels.machine import cores
from sparse_rl.records import results
from sparse_rl.settings.schema import rounded

NESTED = ("host", "versions", "flags", "timings", "progress", "attempts")
"""Parts of a run's record that are no columns of their own kind."""

CELL = ["env", "agent", "network", "pattern", "distribution", "variant", "width", "sparsity"]
"""What runs share that differ in their seeds only."""

CURRICULUM = "curriculum"
"""Who chose the levels: one more thing that runs share, where any run has it."""

TOGETHER = "runs_at_once"
"""How many runs of its study were going on in the middle of a run: what its time is to be read
beside."""

SEEDS = ["seed", "mask_seed"]

ROUNDED = ("sparsity", "actor_sparsity", "critic_sparsity", "learning_rate")
"""Axes that may come from arithmetic: runs that were recorded before settings were rounded are rounded
here, so that they fall on their points."""


def cell_of(frame: pd.DataFrame) -> list[str]:
    """What these runs share that differ in their seeds only."""
    return [*CELL, CURRICULUM] if CURRICULUM in frame else CELL


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in record.items() if key not in NESTED}
    return {**flat, **record.get("timings", {})}


def _study_runs(folder: Path) -> pd.DataFrame:
    """The study's runs: those with a record, and those that were asked for and have none yet."""
    found = [results.read_run(run_dir) for run_dir in results.run_dirs(folder)]
    records = {record["run_id"]: _flat(record) for record in found if record}
    grid = results.read_grid(folder)
    for run_id, asked in grid.items():
        axes = {**asked, "env_steps_planned": asked["env_steps"]}
        del axes["env_steps"]
        pending = {"run_id": run_id, "status": "pending", "reason": None}
        records[run_id] = axes | records.get(run_id, pending)
    if not records:
        raise FileNotFoundError(f"no runs in {folder}: expected {folder}/<run_id>/{results.RUN}")
    runs = pd.DataFrame(list(records.values())).assign(study=str(folder))
    return runs.assign(**{name: runs[name].map(rounded) for name in ROUNDED if name in runs})


def load_runs(*studies: str | Path) -> pd.DataFrame:
    """One row per run, finished or not: identity, counts, costs, status, reason, timings.

    A run that is in several studies appears once, and where it is done if it is anywhere. ``variant``
    tells apart runs that differ in more than the axes, as ``key=value`` of their configurations.

    Args:
        studies: ``results/<name>``, one or more.

    Raises:
        FileNotFoundError: a folder holds no run.
    """
    runs = pd.concat([_study_runs(Path(study)) for study in studies], ignore_index=True)
    undone = (runs["status"] != "done").sort_values(kind="stable").index
    runs = runs.loc[undone].drop_duplicates("run_id").sort_index().reset_index(drop=True)
    if {"started_at", "ended_at"} <= set(runs):
        runs[TOGETHER] = _at_once(runs)
    runs["variant"] = ""
    if CURRICULUM in runs:
        runs[CURRICULUM] = runs[CURRICULUM].fillna("none")
    axes = [name for name in (*cell_of(runs), *SEEDS) if name in runs]
    alike = runs.duplicated(axes, keep=False)
    if alike.any():
        runs["variant"] = _variants(runs, alike)
    return runs


def _at_once(runs: pd.DataFrame) -> "pd.Series[float]":
    """Runs of the same study that had begun and not ended half way through each run; nan if it has no
    end."""
    begun, ended = (
        pd.to_datetime(runs[name], utc=True, errors="coerce", format="ISO8601")
        for name in ("started_at", "ended_at")
    )
    middle = begun + (ended - begun) / 2
    counts = pd.Series(float("nan"), index=runs.index)
    for _, group in runs[middle.notna()].groupby("study"):
        first, last = begun[group.index].sort_values(), ended[group.index].sort_values()
        there = first.searchsorted(middle[group.index], "right")
        counts[group.index] = there - last.searchsorted(middle[group.index], "left")
    return counts


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(rounded(value) if isinstance(value, float) else value)


def _variants(runs: pd.DataFrame, alike: "pd.Series[bool]") -> list[str]:
    """What else was varied where axes and seeds alone do not tell runs apart."""
    configs = [
        dict(_leaves(results.read_config(Path(study) / run_id))) if status != "pending" else {}
        for study, run_id, status in zip(runs["study"], runs["run_id"], runs["status"], strict=True)
    ]
    table = pd.DataFrame(configs, index=runs.index).astype("string")
    axes = {
        "width",
        "sparsity",
        "seed",
        "mask_seed",
        "pruning.actor_sparsity",
        "pruning.critic_sparsity",
    }
    groups = table[alike].groupby(
        [runs.loc[alike, name] for name in (*cell_of(runs), *SEEDS)], dropna=False
    )
    counts = groups.nunique()
    varied = [name for name in table.columns if name not in axes and (counts[name] > 1).any()]
    return [" ".join(f"{name}={row[name]}" for name in varied) for _, row in table.iterrows()]


def load(*studies: str | Path) -> pd.DataFrame:
    """One row per run and log point, each with its run's axes beside its numbers.

    Columns carry the names of the data dictionary in the README. A run that has no rows yet does not
    appear here; :func:`load_runs` lists it with its status.

    Args:
        studies: ``results/<name>``, one or more.

    Raises:
        FileNotFoundError: a folder holds no run.
    """
    runs = load_runs(*studies)
    dirs = [Path(study) / run_id for study, run_id in zip(runs["study"], runs["run_id"], strict=True)]
    with ThreadPoolExecutor(cores()) as pool:
        tables = list(pool.map(results.read_rows, dirs))
    counts = [table.num_rows if table is not None else 0 for table in tables]
    if not sum(counts):
        return runs.iloc[:0].assign(env_steps=pd.Series(dtype="int64"))
    some = [table for table in tables if table is not None]
    rows = pa.concat_tables(some, promote_options="permissive").to_pandas()
    axes = runs.loc[runs.index.repeat(counts)].reset_index(drop=True)
    return pd.concat([rows, axes], axis=1)
