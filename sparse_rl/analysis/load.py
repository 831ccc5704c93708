"""Read studies from disk into tidy tables."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sparse_rl.analysis import foreign, keys
from sparse_rl.kernels.machine import cores
from sparse_rl.records import results
from sparse_rl.settings.schema import rounded

NESTED = ("host", "versions", "flags", "timings", "progress", "attempts")
"""Parts of a run's record that are no columns of their own kind."""

CELL = ["env", "agent", "network", "pattern", "distribution", "variant", "width", "sparsity"]
"""What runs share that differ in their seeds only."""

RETURN = "return_mean"
FOLDER = "_folder"
"""Where a run lies, which is its id unless somebody renamed it; no column of what others see."""

CURRICULUM = "curriculum"
"""Who chose the levels: one more thing that runs share, where any run has it."""

TOGETHER = "runs_at_once"
"""How many runs of its study were going on in the middle of a run: what its time is to be read
beside."""

DEPENDENCE = "variance_factor"
"""How many times the variance of a cell's mean is that of as many independent runs, where any are not:
runs whose setting other runs chose (:mod:`.tuning`)."""

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


class Problem(NamedTuple):
    """Something of a study that could not be read, or is not what it says."""

    run_id: str
    file: str
    reason: str


class Loaded(NamedTuple):
    """All that studies hold, and what is wrong with it."""

    runs: pd.DataFrame
    """:func:`load_runs`."""
    rows: pd.DataFrame
    """:func:`load`."""
    problems: list[Problem]


def _record(run_dir: Path, problems: list[Problem]) -> dict[str, Any]:
    """A run's record, flat; where it cannot be read, a failed run of the folder's name."""
    file = str(run_dir / results.RUN)
    try:
        record = results.read_run(run_dir) or {}
        flat = _flat(record)
        name = str(flat["run_id"])
    except results.RecordError as error:  # it begins with the file, which stands beside it
        reason = str(error).removeprefix(f"{file} ")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"cannot be read ({type(error).__name__}: {error})"
    else:
        if name != run_dir.name:
            elsewhere = f"is in a folder of another name ({run_dir.name}); it is read from there"
            problems.append(Problem(name, file, elsewhere))
        return flat | {FOLDER: run_dir.name}
    problems.append(Problem(run_dir.name, file, reason))
    return {"run_id": run_dir.name, "status": "failed", "reason": f"{results.RUN} {reason}"}


def _study_runs(folder: Path, problems: list[Problem]) -> pd.DataFrame:
    """The study's runs: those with a record, and those that were asked for and have none yet."""
    found = [_record(run_dir, problems) for run_dir in results.run_dirs(folder)]
    records = {record["run_id"]: record for record in found}
    try:
        grid = results.read_grid(folder)
    except ValueError as error:
        grid, file = {}, str(folder / results.GRID)
        problems.append(Problem("", file, f"cannot be read ({error}); what was asked for is not known"))
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
    tells apart runs that differ in more than the axes, as ``key=value`` of their configurations. A run
    whose record cannot be read counts as failed, with the reason.

    Args:
        studies: ``results/<name>``, one or more.

    Raises:
        FileNotFoundError: a folder holds no run.
    """
    return _runs(studies, []).drop(columns=FOLDER)


def _runs(
    studies: Sequence[str | Path], problems: list[Problem], by: Sequence[str] = ()
) -> pd.DataFrame:
    parts = [_study_runs(Path(study), problems) for study in studies]
    runs = pd.concat(parts, ignore_index=True)
    undone = (runs["status"] != "done").sort_values(kind="stable").index
    runs = runs.loc[undone].drop_duplicates("run_id").sort_index().reset_index(drop=True)
    if FOLDER not in runs:
        runs[FOLDER] = runs["run_id"]
    runs[FOLDER] = runs[FOLDER].fillna(runs["run_id"])
    if {"started_at", "ended_at"} <= set(runs):
        runs[TOGETHER] = _at_once(runs)
    runs["variant"] = ""
    if CURRICULUM in runs:
        runs[CURRICULUM] = runs[CURRICULUM].fillna("none")
    dirs = [Path(study) / name for study, name in zip(runs["study"], runs[FOLDER], strict=True)]
    runs = keys.attached(runs, dirs, by)
    swept = [keys.column_of(key) for key in by]
    axes = list(dict.fromkeys(n for n in (*cell_of(runs), *swept, *SEEDS) if n in runs))
    alike = runs.duplicated(axes, keep=False)
    if alike.any():
        runs["variant"] = _variants(runs, alike, axes)
        ended = runs["status"].isin(["done", "diverged"])
        again = ended & runs[ended].duplicated([*axes, "variant"]).reindex(runs.index, fill_value=False)
        for _, run in runs[again].iterrows():
            file = str(Path(run["study"]) / run[FOLDER])
            same = "has the axes, seeds and configuration of another run; it is left out"
            problems.append(Problem(run["run_id"], file, same))
        runs = runs[~again].reset_index(drop=True)
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


def _variants(runs: pd.DataFrame, alike: "pd.Series[bool]", by: Sequence[str]) -> list[str]:
    """What else was varied where axes and seeds alone do not tell runs apart."""
    configs = [
        keys.config_of(Path(study) / folder) if status != "pending" else {}
        for study, folder, status in zip(runs["study"], runs[FOLDER], runs["status"], strict=True)
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
    groups = table[alike].groupby([runs.loc[alike, name] for name in by], dropna=False)
    counts = groups.nunique()
    varied = [name for name in table.columns if name not in axes and (counts[name] > 1).any()]
    return [" ".join(f"{name}={row[name]}" for name in varied) for _, row in table.iterrows()]


def load(*studies: str | Path) -> pd.DataFrame:
    """One row per run and log point, each with its run's axes beside its numbers.

    Columns carry the names of ``docs/columns.md``. A run that has no rows yet, or none
    that can be read, does not appear here: :func:`load_runs` lists it, and :func:`load_all` says why.

    Args:
        studies: ``results/<name>``, one or more.

    Raises:
        FileNotFoundError: a folder holds no run.
    """
    return load_all(*studies).rows


def load_all(*studies: str | Path, by: Sequence[str] = ()) -> Loaded:
    """Runs, rows, and what could not be read or is not what it says.

    Args:
        studies: ``results/<name>``, one or more; or other people's files (:mod:`.foreign`).
        by: keys of the configurations (``agent.learning_rate``) that become columns
            (:func:`.keys.column_of`): runs that differ in them alone are no variants. Rows of a run
            that lacks one are left out.

    Raises:
        FileNotFoundError: a folder holds no run.
        ValueError: no run has such a key, or files are of no known kind or mixed with studies.
    """
    if others := [path for path in map(Path, studies) if foreign.is_foreign(path)]:
        return _foreign(others, studies, by)
    problems: list[Problem] = []
    runs = _runs(studies, problems, by)
    dirs = [Path(study) / name for study, name in zip(runs["study"], runs[FOLDER], strict=True)]
    with ThreadPoolExecutor(cores()) as pool:
        read = list(pool.map(_read_rows, dirs))
    for run_id, (_, found) in zip(runs["run_id"], read, strict=True):
        problems += [problem._replace(run_id=str(run_id)) for problem in found]
    tables = [table for table, _ in read]
    runs = runs.drop(columns=FOLDER)
    counts = [table.num_rows if table is not None else 0 for table in tables]
    if not sum(counts):
        rows = runs.iloc[:0].assign(env_steps=pd.Series(dtype="int64"))
        return Loaded(runs, rows, problems + _unsaid(runs, rows))
    some = [table for table in tables if table is not None]
    numbers = pa.concat_tables(some, promote_options="permissive").to_pandas()
    axes = runs.loc[runs.index.repeat(counts)].reset_index(drop=True)
    rows = _usable(pd.concat([numbers, axes], axis=1), problems, by)
    return Loaded(runs, rows, problems + _unsaid(runs, rows))


def _foreign(paths: Sequence[Path], studies: Sequence[str | Path], by: Sequence[str]) -> Loaded:
    """Other people's runs: what a run is stands in its rows."""
    if len(paths) < len(studies):
        raise ValueError("give studies or other people's files, not both")
    rows = foreign.read(paths)
    absent = [key for key in by if keys.column_of(key) not in rows]
    if absent:
        there = ", ".join(map(str, rows.columns))
        raise ValueError(f"these files have no column {', '.join(absent)}; there are {there}")
    runs = rows.groupby("run_id", as_index=False).first()
    early = foreign.ended_early(rows)
    told = [Problem("", ", ".join(map(str, paths)), early)] if early else []
    return Loaded(runs.assign(reason=None), rows, [*_unsaid(runs, rows), *told])


def _read_rows(run_dir: Path) -> tuple[pa.Table | None, list[Problem]]:
    """A run's rows as far as they can be read: without its times if those are damaged."""
    damaged = (OSError, ValueError, KeyError, pa.ArrowException)
    try:
        table = results.read_rows(run_dir)
    except damaged as error:
        try:
            table = pq.ParquetFile(run_dir / results.METRICS).read(use_threads=False)
        except damaged:
            reason = f"cannot be read ({error})"
            return None, [Problem("", str(run_dir / results.METRICS), reason)]
        reason = f"cannot be read ({error}); the rows have no times"
        return table, [Problem("", str(run_dir / results.TIMES), reason)]
    if table is None:
        return None, []
    odd = [f.name for f in table.schema if not pa.types.is_primitive(f.type)]
    if "env_steps" not in table.column_names or odd:
        reason = f"has columns that are no numbers: {', '.join(odd)}" if odd else "has no env_steps"
        return None, [Problem("", str(run_dir / results.METRICS), reason)]
    return table, []


def _usable(rows: pd.DataFrame, problems: list[Problem], by: Sequence[str]) -> pd.DataFrame:
    """Rows with a width, a sparsity and every key; returns that are infinite are none."""
    needed = {"width": results.RUN, "sparsity": results.RUN} | dict.fromkeys(by, results.CONFIG)
    for key, file in needed.items():
        name = keys.column_of(key)
        if name in rows and rows[name].isna().any():
            for run_id in rows.loc[rows[name].isna(), "run_id"].unique():
                problems.append(Problem(str(run_id), file, f"has no {key}; it is left out"))
            rows = rows[rows[name].notna()].reset_index(drop=True)
            rows[name] = keys.numbers(rows[name]) if key in by else rows[name]
    if RETURN in rows and np.isinf(rows[RETURN]).any():
        for run_id in rows.loc[np.isinf(rows[RETURN]), "run_id"].unique():
            reason = f"has infinite values of {RETURN}; these rows have none"
            problems.append(Problem(str(run_id), results.METRICS, reason))
        rows[RETURN] = rows[RETURN].where(np.isfinite(rows[RETURN]))
    return rows


def _unsaid(runs: pd.DataFrame, rows: pd.DataFrame) -> list[Problem]:
    """Runs that are done by their record, and have no return to show for it."""
    done = runs.loc[runs["status"] == "done", "run_id"]
    scored = set(rows.loc[rows[RETURN].notna(), "run_id"]) if RETURN in rows else set()
    return [
        Problem(str(run_id), results.METRICS, "the run is done and has no return")
        for run_id in done
        if run_id not in scored
    ]
