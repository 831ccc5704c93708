"""The run directory: ``results/<name>/<run_id>/``, with a configuration, a record and rows.

Every file is written aside and renamed, so a reader or a crash never sees half of one.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

Status = Literal["pending", "running", "done", "failed", "diverged", "preempted"]
STATUSES: tuple[str, ...] = get_args(Status)
CONFIG, RUN, METRICS, TIMES = "config.yaml", "run.json", "metrics.parquet", "times.parquet"
GRID = "grid.json"
PLAIN: dict[str, Any] = {"use_dictionary": False, "write_statistics": False}
"""Of Parquet files: what would help to search large columns only makes short ones slower to read."""
PARAMETERS = "parameters.arrow"
WALL_TIME = "wall_time"
TIME_SHARE = "time_share/"
RESTARTS = "worker_restarts"
"""The columns that differ when a run is repeated, the second a prefix: they have a file of their own."""
EPISODES_DISTINCT = "eval_episodes_distinct"
"""How many of an evaluation's episodes differ: its mean is over so many, whatever their number."""


def write_aside(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    aside = Path(name)
    try:
        write(aside)
        with aside.open("rb") as written:  # on the disk before it takes the old one's place
            os.fsync(written.fileno())
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text aside, and rename it to ``path``."""
    write_aside(path, lambda aside: aside.write_text(text))


def write_config(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Write the run's resolved configuration."""
    text = yaml.safe_dump(dict(config), sort_keys=False)
    write_text(run_dir / CONFIG, text)


def write_run(run_dir: Path, record: Mapping[str, Any]) -> None:
    """Write the run's identity, counts, versions, timings and status."""
    text = json.dumps(record, indent=2) + "\n"
    write_text(run_dir / RUN, text)


def write_metrics(run_dir: Path, rows: Iterable[Mapping[str, float]]) -> None:
    """Write all rows so far; ``env_steps`` and ``updates`` are whole numbers, the rest float64.

    Equal runs have equal bytes: when a row was made is written beside the metrics.
    """
    frame = pd.DataFrame(list(rows))
    timed = [n for n in frame if n in (WALL_TIME, RESTARTS) or str(n).startswith(TIME_SHARE)]
    if timed:
        times, frame = frame[["env_steps", *timed]], frame.drop(columns=timed)
        write_aside(run_dir / TIMES, lambda path: times.to_parquet(path, index=False, **PLAIN))
    write_aside(run_dir / METRICS, lambda path: frame.to_parquet(path, index=False, **PLAIN))


def read_config(run_dir: Path) -> dict[str, Any]:
    """The run's resolved configuration."""
    return dict(yaml.safe_load((run_dir / CONFIG).read_text()))


def read_run(run_dir: Path) -> dict[str, Any] | None:
    """The run's record, or ``None`` if there is none."""
    try:
        return dict(json.loads((run_dir / RUN).read_text()))
    except FileNotFoundError:
        return None


def read_rows(run_dir: Path) -> pa.Table | None:
    """The run's rows with their times, as columns; ``None`` before the first."""
    path, times = run_dir / METRICS, run_dir / TIMES
    if not path.exists():
        return None
    rows = pq.ParquetFile(path).read(use_threads=False)
    if times.exists():
        at = pq.ParquetFile(times).read(use_threads=False)
        if at["env_steps"] != rows["env_steps"]:  # a crash between their writing leaves one row more
            return rows.join(at, "env_steps").sort_by("env_steps")
        for name in at.drop_columns("env_steps").column_names:
            rows = rows.append_column(name, at[name])
    return rows


def read_metrics(run_dir: Path) -> pd.DataFrame:
    """The run's rows, with the seconds at which each was made; empty if it has none yet."""
    rows = read_rows(run_dir)
    return pd.DataFrame() if rows is None else rows.to_pandas()


def remove_metrics(run_dir: Path) -> None:
    """Forget a run's rows."""
    for name in (METRICS, TIMES):
        (run_dir / name).unlink(missing_ok=True)


def write_grid(study: Path, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Add runs to the study's list of what was asked for: run_id → axes and budget."""
    text = json.dumps({**read_grid(study), **runs}, indent=0)
    write_text(study / GRID, text)


def read_grid(study: Path) -> dict[str, dict[str, Any]]:
    """Every run that sweeps in this folder were asked for; empty if there was none."""
    path = study / GRID
    return dict(json.loads(path.read_text())) if path.exists() else {}


def run_dirs(study: Path) -> list[Path]:
    """Directories of the study's runs, in order of their names."""
    return sorted(path.parent for path in study.glob(f"*/{RUN}"))
