"""Which rows a law is fitted to: of studies or of published files, chosen by task, sparsity and seed."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from sparse_rl.analysis import load, scores
from sparse_rl.analysis.importers import read_published
from sparse_rl.analysis.scores import RETURN
from sparse_rl.settings.schema import rounded


def read(paths: Sequence[Path]) -> pd.DataFrame:
    """Rows of studies (folders with a grid), or of CSV files in the published layout.

    Raises:
        FileNotFoundError: a path does not exist or holds neither.
        ValueError: studies and CSV files are mixed, or a file has another layout.
    """
    files: list[Path] = []
    for path in paths:
        files += sorted(path.glob("*.csv")) if path.is_dir() else [path] if path.suffix == ".csv" else []
    if not files:
        return load(*paths)
    if any(path.is_dir() and not any(path.glob("*.csv")) for path in paths):
        raise ValueError("give studies or CSV files, not both")
    return read_published(files)


def choose_rows(
    rows: pd.DataFrame, tasks: Sequence[str], sparsity: float, shared_seeds: bool
) -> pd.DataFrame:
    """Tasks, sparsity and seeds that were asked for.

    Raises:
        ValueError: nothing is left.
    """
    if tasks:
        kept = rows["env"].map(lambda env: any(fnmatchcase(env, task) for task in tasks))
        if not kept.any():
            raise ValueError(f"no task matches; there are {', '.join(sorted(rows['env'].unique()))}")
        rows = rows[kept]
    levels = sorted(rows["sparsity"].unique())
    rows = rows[rows["sparsity"].map(rounded) == rounded(sparsity)]
    if rows.empty:
        raise ValueError(f"no run has sparsity {sparsity:g}; there are {levels}")
    if shared_seeds:
        widths = rows["width"].nunique()
        in_all = rows.groupby(["env", "seed"])["width"].transform("nunique") == widths
        if not in_all.any():
            raise ValueError("no task has a seed that all widths share")
        rows = rows[in_all]
    return rows


def score_table(rows: pd.DataFrame, at_steps: float | None) -> pd.DataFrame:
    """One row per run: its return at ``at_steps``, or its final one; normalised if tasks are several."""
    if at_steps is None:
        final = scores.final_values(rows, RETURN)
    else:
        final = scores.at_budget(rows, "env_steps", at_steps)
    if final.empty:
        raise ValueError("no run has a value there")
    return scores.normalised(final) if final["env"].nunique() > 1 else final
