"""Other people's files as rows: published CSVs, exports of Weights & Biases, TensorBoard's event files.

What columns and metrics are called there is said once, in a file ``columns.yaml`` beside them: their
name → ours, ``critic_hidden_dim: width``, ``eval/episode_return: return_mean``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import yaml

from sparse_rl.analysis import event_files
from sparse_rl.analysis.importers import (
    PUBLISHED,
    joined,
    read_header,
    read_published,
    read_table,
    read_wandb,
)
from sparse_rl.analysis.statistics import LAST_SHARE

COLUMNS = "columns.yaml"
RETURN = "return_mean"


def is_foreign(path: Path) -> bool:
    """Whether a path is no study of ours, but a CSV file or a folder with such or with event files."""
    if path.is_file():
        return path.suffix == ".csv"
    return path.is_dir() and (
        any(path.glob("*.csv")) or (not _of_ours(path) and any(path.rglob(event_files.FILES)))
    )


def _of_ours(path: Path) -> bool:
    return (path / "grid.json").exists() or any(path.glob("*/run.json"))


def columns_of(folder: Path) -> dict[str, str]:
    """Their names → ours, as ``columns.yaml`` in a folder has them; none without it.

    Raises:
        ValueError: it is no mapping of texts.
    """
    path = folder / COLUMNS
    if not path.exists():
        return {}
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise ValueError(f"{path} must map their names to ours, as in `critic_hidden_dim: width`")
    return {str(theirs): ours for theirs, ours in found.items()}


def _kind(path: Path, columns: Mapping[str, str]) -> str:
    """``published``, ``chart`` or ``table`` (of runs).

    Raises:
        ValueError: it is none of them, or no text in UTF-8.
    """
    header = read_header(path)
    if set(PUBLISHED) <= set(header):
        return "published"
    if any(" - " in name for name in header):
        return "chart"
    ours = {columns.get(name, name) for name in header}
    if ours & {"Name", "ID", "run_id"}:
        return "table"
    missing = ", ".join(name for name in PUBLISHED if name not in header)
    raise ValueError(
        f"{path} is no published file (it lacks the columns {missing}), no chart of Weights & Biases "
        "(columns `<run> - <metric>`) and no table of runs (columns Name, env, width, seed)"
    )


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """Rows of other people's runs.

    Args:
        paths: CSV files, or folders of them; folders of event files with a table of runs as CSV, whose
            ``Name`` is a run's folder.

    Raises:
        ValueError: a file is none of these, kinds are mixed, the table of runs is missing, axes are
            blank, or no metric is the return.
        ModuleNotFoundError: event files, and tensorboardX is not installed.
    """
    files = [f for p in paths for f in (sorted(p.glob("*.csv")) if p.is_dir() else [p])]
    folders = [p for p in paths if p.is_dir()]
    columns: dict[str, str] = {}
    for folder in dict.fromkeys([*folders, *(file.parent for file in files)]):
        columns |= columns_of(folder)
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(_kind(file, columns), []).append(file)
    events = {p: found for p in folders if (found := event_files.run_folders(p))}
    if "published" in kinds:
        if len(kinds) > 1 or events:
            raise ValueError("published files and other kinds of files are read apart: give one kind")
        rows = read_published(kinds["published"])
        return _scored(rows.rename(columns=columns))
    tables = kinds.get("table", [])
    if len(tables) != 1:
        there = f"there are {', '.join(map(str, tables))}" if tables else "there is none"
        raise ValueError(
            f"charts and event files do not say what runs are: give one table of runs as CSV, {there}"
        )
    if events and "chart" in kinds:
        raise ValueError("charts and event files are read apart: give one kind")
    if events:
        return _scored(_read_events(events, tables[0], columns))
    return _scored(read_wandb(kinds.get("chart", []), tables[0], columns))


def _read_events(
    events: Mapping[Path, Mapping[str, Sequence[Path]]], runs: Path, columns: Mapping[str, str]
) -> pd.DataFrame:
    """Rows of event files; a run goes on in its folder's further files."""
    table, parts = read_table(runs, columns, states=()), []
    names = table["Name"] if "Name" in table else table["run_id"]
    ids = dict(zip(names, table["run_id"], strict=True))
    if len(ids) < len(names):
        twice = names[names.duplicated()].iloc[0]
        raise ValueError(f"{runs} has two runs {twice!r}: a folder is one run")
    strangers = sorted({name for found in events.values() for name in found} - set(ids))
    if strangers:
        raise ValueError(f"folders with event files that are not in {runs}: {', '.join(strangers)}")
    for found in events.values():
        for name, files in found.items():
            told = pd.concat([event_files.scalars(file) for file in files], ignore_index=True)
            told = told.drop_duplicates(["metric", "env_steps"], keep="last")
            parts.append(told.assign(run_id=ids[name]))
    return joined(pd.concat(parts, ignore_index=True), table, runs, columns)


def _scored(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that have a return.

    Raises:
        ValueError: no metric is one.
    """
    if RETURN not in rows:
        names = [str(name) for name in rows.columns]
        there = ", ".join(n for n in names if "return" in n.lower() or "reward" in n.lower())
        raise ValueError(
            f"no metric is the return; say which in {COLUMNS}, as in `eval/reward: {RETURN}`"
            + (f" (there are {there})" if there else "")
        )
    return rows


def ended_early(rows: pd.DataFrame) -> str:
    """Words on runs that end before the last fifth of their task's longest one; empty if none does.

    Other people's files do not say how long a run was meant to be: its last values are its final ones.
    """
    known = rows[rows[RETURN].notna() & (rows["status"] == "done")]
    last = known.groupby(["env", "run_id"])["env_steps"].max()
    longest = last.groupby("env").transform("max")
    early = last[last <= (1.0 - LAST_SHARE) * longest]
    if early.empty:
        return ""
    env, run_id = early.index[0]
    return (
        f"{len(early)} of {len(last)} runs end earlier than others of their task, as {run_id} at "
        f"{early.iloc[0]:,.0f} of {longest[env, run_id]:,.0f} env steps: final values are of unequal "
        "training (laws: --at-steps)"
    )
