"""Any key of a run's configuration as a column: what was swept beside width and sparsity."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from sparse_rl.records import results
from sparse_rl.settings.schema import rounded

COLUMNS = {"env_steps": "env_steps_planned"}
"""Keys whose column has another name: a row's ``env_steps`` are those that its run had done by then."""


def column_of(key: str) -> str:
    """The column that holds a key."""
    return COLUMNS.get(key, key)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(rounded(value) if isinstance(value, float) else value)


def config_of(run_dir: Path) -> dict[str, str]:
    """A run's configuration, flat; nothing where it cannot be read: its record has the axes."""
    try:
        return dict(_leaves(results.read_config(run_dir)))
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        return {}


def numbers(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Numbers where all that is known are numbers, whole ones as whole; else texts."""
    known = values.dropna()
    try:
        told = pd.to_numeric(known)
    except (ValueError, TypeError):
        return values
    if len(told) < len(values):
        return told.reindex(values.index)
    whole = np.isfinite(told).all() and (told == told.round()).all()
    return told.astype(np.int64) if whole else told


def _unknown(key: str, tables: Sequence[Mapping[str, str]]) -> str:
    """What to say of a key that no run has."""
    every = sorted({name for table in tables for name in table})
    swept = [name for name in every if len({table.get(name) for table in tables}) > 1]
    near = [name for name in every if key in name] + get_close_matches(key, every, 3, 0.5)
    meant = f"; near to it are {', '.join(dict.fromkeys(near))}" if near else ""
    return f"no run's configuration has {key}{meant}; these runs differ in {', '.join(swept) or 'none'}"


def attached(runs: pd.DataFrame, dirs: Sequence[Path], keys: Sequence[str]) -> pd.DataFrame:
    """Runs with a column per key, from their configurations; nothing where a run has none.

    Args:
        dirs: each run's folder, in the order of ``runs``.

    Raises:
        ValueError: no run has a key; it says which are near, and in which the runs differ.
    """
    if not keys:
        return runs
    tables = [config_of(folder) for folder in dirs]
    for key in keys:
        found = pd.Series([table.get(key) for table in tables], index=runs.index, dtype=object)
        if found.isna().all():
            raise ValueError(_unknown(key, [table for table in tables if table]))
        runs = runs.assign(**{column_of(key): numbers(found)})
    return runs


def beside(final: pd.DataFrame, rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """One row per run with the keys' columns, which each run has once.

    Raises:
        ValueError: there is no such column.
    """
    columns = [column_of(key) for key in keys]
    absent = [column for column in columns if column not in rows]
    if absent:
        raise ValueError(f"these runs do not say their {', '.join(absent)}")
    mine = [column for column in columns if column not in final]
    return final.join(rows.groupby("run_id")[mine].first(), on="run_id") if mine else final
