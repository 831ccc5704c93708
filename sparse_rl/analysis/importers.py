"""Other people's runs as rows like ours."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparse_rl.settings.schema import rounded

PUBLISHED = ["exp_name", "env_name", "seed", "metric", "env_step", "value"]
"""Columns of the layout in which SimBa's results are published (Lee et al. 2024)."""

NAMES = {"avg_return": "return_mean", "eval/avg_return": "return_mean"}
"""Their metrics → ours."""

STATES = {
    "finished": "done",
    "running": "running",
    "failed": "failed",
    "crashed": "failed",
    "killed": "preempted",
}
"""Weights & Biases' states → ours."""

AXES: dict[str, str | float] = {
    "agent": "imported", "network": "", "pattern": "unstructured", "distribution": "", "variant": "",
    "sparsity": 0.0, "mask_seed": 0,
    "parameters_total": float("nan"), "parameters_nonzero": float("nan"),
    "flops_per_update": float("nan"), "train_seconds": float("nan"), "updates": float("nan"),
}  # fmt: skip
"""Columns that others may lack → what is taken then."""


def _completed(rows: pd.DataFrame) -> pd.DataFrame:
    missing = {name: value for name, value in AXES.items() if name not in rows}
    blank = {name: rows[name].fillna(value) for name, value in AXES.items() if name in rows}
    rows = rows.assign(**missing, **blank).sort_values(["run_id", "env_steps"], ignore_index=True)
    return rows.assign(sparsity=rows["sparsity"].map(rounded))


def _number(pattern: str, text: str) -> float | None:
    found = re.search(pattern, text)
    return float(found.group(1)) if found else None


def read_csv(path: str | Path, **how: Any) -> pd.DataFrame:
    """:func:`pandas.read_csv`, whose errors name the file.

    Raises:
        ValueError: it is empty, no UTF-8, or lines differ in their number of columns.
    """
    try:
        return pd.read_csv(path, **how)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def read_header(path: str | Path) -> list[str]:
    """Names of a CSV file's columns as they stand there, twice where they stand twice; none of an empty
    file.

    Raises:
        ValueError: it is no UTF-8.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except UnicodeDecodeError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str | Path, error: Exception) -> ValueError:
    return ValueError(f"{path} cannot be read as CSV in UTF-8: {error}")


def _refuse_no_numbers(long: pd.DataFrame, path: str | Path) -> None:
    """Steps and values are numbers, and finite; a blank value is none.

    Raises:
        ValueError: one is not; it names the file, the line and what stands there.
    """
    for name in ("env_step", "value"):
        number = pd.to_numeric(long[name], errors="coerce")
        wrong = ~np.isfinite(number) & (long[name].notna() | (name == "env_step"))
        if wrong.any():
            at = wrong.idxmax()
            raise ValueError(
                f"{path}, line {at + 2}: {name} is {long.loc[at, name]}, which is no finite number"
            )


def read_published(
    paths: Iterable[str | Path],
    width: str = r"width(\d+)",
    sparsity: str = r"sparsity(0?\.\d+|[01])",
) -> pd.DataFrame:
    """Rows from CSV files with columns ``exp_name, env_name, seed, metric, env_step, value``.

    Tasks are spelt with hyphens: files that belong together have both ``dog_run`` and ``dog-run``. Runs
    are taken to be ``done``.

    Args:
        paths: the files.
        width, sparsity: regular expressions with one group that find the axes in ``exp_name``; where no
            sparsity is found it is 0.

    Raises:
        ValueError: a file cannot be read or has other columns, a step or value is no finite number, an
            experiment tells no width, or a run has two values of one metric at one step.
    """
    frames = []
    for path in paths:
        frame = read_csv(path)
        missing = [name for name in PUBLISHED if name not in frame]
        if missing:
            raise ValueError(
                f"{path} lacks the columns {', '.join(missing)}; expected {', '.join(PUBLISHED)}"
            )
        _refuse_no_numbers(frame, path)
        frames.append(frame[PUBLISHED])
    long = pd.concat(frames, ignore_index=True)
    widths = {name: _number(width, str(name)) for name in long["exp_name"].unique()}
    unknown = [name for name, found in widths.items() if found is None]
    if unknown:
        raise ValueError(f"no width is found by {width!r} in {', '.join(map(str, unknown))}")
    levels = {name: _number(sparsity, str(name)) or 0.0 for name in widths}
    long["env"] = long["env_name"].str.replace("_", "-")
    long["run_id"] = long["exp_name"] + "_" + long["env"] + "_seed" + long["seed"].astype(str)
    long["metric"] = long["metric"].replace(NAMES)
    twice = long.duplicated(["run_id", "metric", "env_step"])
    if twice.any():
        first = long[twice].iloc[0]
        raise ValueError(f"{first['run_id']} has two values of {first['metric']} at {first['env_step']}")
    keys = ["run_id", "exp_name", "env", "seed", "env_step"]
    rows = long.pivot(index=keys, columns="metric", values="value").reset_index()
    rows.columns.name = None
    rows = rows.rename(columns={"env_step": "env_steps", "exp_name": "study"})
    return _completed(
        rows.assign(
            width=rows["study"].map(widths).astype(int),
            sparsity=rows["study"].map(levels),
            status="done",
        )
    )


SAME_NAME = (
    "its runs have one name, and a chart tells runs apart by their names alone; give them names of "
    "their own in Weights & Biases and export again"
)


def _read_chart(path: str | Path) -> pd.DataFrame:
    """A chart's columns; two of one name would become one of another name."""
    twice = [name for name, times in Counter(read_header(path)).items() if times > 1]
    if twice:
        raise ValueError(f"{path} has two columns {twice[0]!r}: {SAME_NAME}")
    return read_csv(path)


def _ids(table: pd.DataFrame, where: str | Path) -> dict[str, str]:
    """What a chart may call a run → its id: the id itself, or its display name where only it has that.

    Raises:
        ValueError: an id stands in the table twice.
    """
    repeated = table.loc[table["run_id"].duplicated(), "run_id"]
    if len(repeated):
        raise ValueError(f"{where} has two runs {repeated.iloc[0]!r}: {SAME_NAME}")
    names = table["Name"] if "Name" in table else table["run_id"]
    named = {n: i for n, i in zip(names, table["run_id"], strict=True) if (names == n).sum() == 1}
    return named | {run_id: run_id for run_id in table["run_id"]}


def read_table(
    path: str | Path, columns: Mapping[str, str], states: Sequence[str] = ("State",)
) -> pd.DataFrame:
    """The table of runs with our names. ``run_id`` is the column ``ID``, else the display name.

    Args:
        states: columns of how runs ended that it must have.
    """
    text = [name for name, ours in columns.items() if ours == "run_id"] + ["ID", "Name"]
    table = read_csv(path, dtype=dict.fromkeys(text, str)).rename(columns=dict(columns))
    if "run_id" not in table:
        key = "ID" if "ID" in table else "Name"
        table = table.rename(columns={key: "run_id"})
    needed = [name for name in ("run_id", *states, "env", "width", "seed") if name not in table]
    if needed:
        raise ValueError(
            f"{path} lacks {', '.join(needed)}; name the columns that hold them (columns=…)"
        )
    return table


def _series(charts: Sequence[str | Path], table: pd.DataFrame, runs: str | Path) -> pd.DataFrame:
    """``run_id, env_steps, metric, value`` of all charts."""
    ids, series, strangers = _ids(table, runs), [], set()
    shared = set(table["Name"][table["Name"].duplicated()]) if "Name" in table else set()
    for path in charts:
        chart = _read_chart(path)
        step = chart.columns[0]
        if "time" in step.lower():
            raise ValueError(f"{path} is drawn over {step!r}; export it over Step or env_steps")
        for column in chart.columns[1:]:
            name, dash, metric = column.rpartition(" - ")
            if not dash or metric.endswith(("__MIN", "__MAX", "_step")):
                continue
            if name in ids:
                values = chart[[step, column]].dropna().set_axis(["env_steps", "value"], axis=1)
                series.append(values.assign(run_id=ids[name], metric=NAMES.get(metric, metric)))
            elif name in shared:
                raise ValueError(f"{path}: {runs} has several runs {name!r}: {SAME_NAME}")
            else:
                strangers.add(name)
    if strangers:
        raise ValueError(f"runs of the charts that are not in {runs}: {', '.join(sorted(strangers))}")
    if not series:
        raise ValueError(f"no column `<run> - <metric>` in {', '.join(map(str, charts))}")
    return pd.concat(series, ignore_index=True)


def read_wandb(
    charts: Sequence[str | Path], runs: str | Path, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Rows from files that Weights & Biases exports: charts as CSV, and the table of runs as CSV.

    A run is known by its id, which the table has where its column ``ID`` is shown. Charts have display
    names only: a name that several runs have is refused, for nothing tells whose numbers are whose.

    Args:
        charts: "Export CSV" of line charts: a column of steps (its name becomes ``env_steps``) and
            ``<run> - <metric>`` for each run; minima and maxima of grouped charts are passed over.
        runs: "Export table as CSV" of the runs: ``Name``, ``State``, maybe ``ID``, and configuration
            columns.
        columns: names in the table → our names, for axes that are called otherwise
            (``{"critic_hidden_dim": "width"}``); ``env``, ``width`` and ``seed`` must come out of it.

    Raises:
        ValueError: a run of a chart is not in the table, or shares its name with another one, a run has
            two values of one metric at one step, an axis is missing, a chart is drawn over time, or
            ``charts`` is no list.
    """
    if isinstance(charts, str | Path):
        raise ValueError(f"charts are a list of files, got {str(charts)!r}")
    table = read_table(runs, columns or {})
    return joined(_series(charts, table, runs), table, runs, columns or {})


def joined(
    long: pd.DataFrame, table: pd.DataFrame, runs: str | Path, columns: Mapping[str, str]
) -> pd.DataFrame:
    """Rows of ``run_id, env_steps, metric, value`` with what the table says of each run.

    Raises:
        ValueError: a run has two values of a metric at one step, or an axis is blank.
    """
    long = long.assign(metric=long["metric"].replace({**NAMES, **columns}))
    twice = long.duplicated(["run_id", "metric", "env_steps"])
    if twice.any():
        first = long[twice].iloc[0]
        where = f"{first['run_id']} has two values of {first['metric']} at {first['env_steps']}"
        raise ValueError(f"{where}: give each chart once")
    rows = long.pivot(index=["run_id", "env_steps"], columns="metric", values="value").reset_index()
    rows.columns.name = None
    described = table[[name for name in table if name == "run_id" or name not in rows]]
    rows = rows.merge(described, on="run_id", validate="many_to_one")
    for name in ("env", "width", "seed"):
        blank = rows.loc[rows[name].isna(), "run_id"].unique()
        if len(blank):
            raise ValueError(f"{runs} does not say the {name} of {', '.join(map(str, blank))}")
    states = rows["State"].map(STATES).fillna("failed") if "State" in rows else "done"
    return _completed(rows.assign(status=states, study=Path(runs).stem))
