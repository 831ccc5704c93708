"""The run directory: ``results/<name>/<run_id>/``, with a configuration, a record and rows.

Every file is written aside and renamed, so a reader or a crash never sees half of one. What changed
later is noticed by its seal (:mod:`~.seals`); records are checked for their form as well, for people may
mend them. Files that were written before there were seals are read as they are.
"""

import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from sparse_rl.records import seals

Status = Literal["pending", "running", "done", "failed", "diverged", "preempted"]
STATUSES: tuple[str, ...] = get_args(Status)
CONFIG, RUN, METRICS, TIMES = "config.yaml", "run.json", "metrics.parquet", "times.parquet"
GRID = "grid.json"
COMMANDS = "commands.json"
"""Of a study: what was typed to train its runs."""
QUESTIONS = "questions.json"
"""Of a study: what it asks."""
PLAIN: dict[str, Any] = {
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,
}
"""Of Parquet files: what would help to search large columns only makes short ones slower to read. The
checksums of pages are for readers other than ours, which know nothing of seals."""
DAMAGED = ".damaged"
"""Ending of a record that could not be read, once another took its place."""
PARAMETERS = "parameters.arrow"
"""Of a run: what acting needs, as it was at the end."""
BEST = "best.arrow"
"""The same as it was at the best evaluation, where that was asked for."""
AT = "env_steps"
"""In :data:`BEST`: when that was, an int64."""
MOST_BYTES = 1 << 30
"""Of a record: the list of a million runs has a quarter of that."""
WALL_TIME = "wall_time"
TIME_SHARE = "time_share/"
RESTARTS = "worker_restarts"
"""The columns that differ when a run is repeated, the second a prefix: they have a file of their own."""
EPISODES_DISTINCT = "eval_episodes_distinct"
"""How many of an evaluation's episodes differ: its mean is over so many, whatever their number."""


class RecordError(ValueError):
    """A file of a run or a study is damaged; the message begins with its path."""


def unreadable(path: Path, why: object) -> RecordError:
    """The error for a damaged file, in one line."""
    return RecordError(f"{path} cannot be read: {' '.join(str(why).split()) or 'it is empty'}")


def _mapping(
    path: Path, parse: Callable[[str], Any] = json.loads, first: str | None = None
) -> dict[str, Any]:
    """What a file of text says.

    Args:
        path: the file.
        parse: reads its text.
        first: the name with which it begins if it has no seal; ``None``: any.

    Raises:
        RecordError: it has changed since it was written, or is no mapping from names.
        FileNotFoundError: there is none.
    """
    try:
        with path.open("rb", buffering=0) as file:  # of ten thousand runs, each read once
            if os.fstat(file.fileno()).st_size > MOST_BYTES:
                raise seals.SealError(f"it has more than {MOST_BYTES:,} bytes")
            content = file.readall()
        found = parse(seals.unsealed(content, first).decode())
    except FileNotFoundError:
        raise
    except Exception as error:  # recursion, encodings, folders: whatever a reader meets
        raise unreadable(path, error) from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise unreadable(path, "it holds no record")
    if seals.NAME in found:
        raise unreadable(path, "its checksum is not where it was written")
    return found


def read_record(path: Path, first: str | None = None) -> dict[str, Any]:
    """What :func:`write_record` wrote; empty if there is nothing.

    Args:
        path: the file.
        first: the name with which the record begins; ``None``: any.

    Raises:
        RecordError: it is damaged.
    """
    try:
        return _mapping(path, first=first)
    except FileNotFoundError:
        return {}


def read_found(path: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """What was found out about a run earlier, and what had been ``asked``; empty if nothing was.

    A damaged file is named, and counts as none.
    """
    try:
        return read_record(path, "asked")
    except RecordError as damaged:
        say(f"{damaged}; it is made anew")
        return {}


def put_aside(path: Path) -> None:
    """Rename a damaged file, so that a new one can take its place and nothing is lost."""
    path.replace(path.with_name(path.name + DAMAGED))


def write_aside(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` on a temporary file beside ``path``, then rename it to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    os.close(os.open(aside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # less the umask
    try:
        write(aside)
        with aside.open("rb") as written:  # on the disk before it takes the old one's place
            os.fsync(written.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text aside, and rename it to ``path``."""
    write_aside(path, lambda aside: aside.write_text(text))


def write_record(path: Path, record: Mapping[str, Any], indent: int | None = None) -> None:
    """Write a record as JSON with its seal."""
    write_text(path, seals.seal_json(json.dumps(record, indent=indent) + "\n"))


def write_config(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Write the run's resolved configuration."""
    text = yaml.safe_dump(dict(config), sort_keys=False)
    write_text(run_dir / CONFIG, seals.seal_yaml(text))


def write_run(run_dir: Path, record: Mapping[str, Any]) -> None:
    """Write the run's identity, counts, versions, timings and status."""
    write_record(run_dir / RUN, record, indent=2)


def write_metrics(run_dir: Path, rows: Iterable[Mapping[str, float]]) -> None:
    """Write all rows so far; ``env_steps`` and ``updates`` are whole numbers, the rest float64.

    Equal runs have equal bytes: when a row was made is written beside the metrics.
    """
    frame = pd.DataFrame(list(rows))
    timed = [n for n in frame if n in (WALL_TIME, RESTARTS) or str(n).startswith(TIME_SHARE)]
    if timed:
        times, frame = frame[["env_steps", *timed]], frame.drop(columns=timed)
        write_aside(run_dir / TIMES, lambda path: _write_sealed(path, times))
    write_aside(run_dir / METRICS, lambda path: _write_sealed(path, frame))


def _write_sealed(path: Path, frame: pd.DataFrame) -> None:
    """Write rows with their seal."""
    frame.to_parquet(path, index=False, **PLAIN)
    path.write_bytes(seals.seal_rows(path.read_bytes()))


def _read_sealed(path: Path) -> pa.Table:
    """Rows that are as they were written.

    Raises:
        RecordError: they are not, or are no rows.
    """
    try:
        content = pa.BufferReader(seals.unsealed_rows(path.read_bytes()))
        whole = pq.ParquetFile(content, page_checksum_verification=True)
        # Names and types are the file's own; what pandas says of them may be damaged where the seal is.
        return whole.read(use_threads=False).replace_schema_metadata(None)
    except Exception as error:  # whatever a reader makes of bytes that are not what they should be
        raise unreadable(path, error) from error


def read_config(run_dir: Path) -> dict[str, Any]:
    """The run's resolved configuration.

    Raises:
        RecordError: it is damaged.
        FileNotFoundError: there is none.
    """
    return _mapping(run_dir / CONFIG, yaml.safe_load, "agent")


def read_run(run_dir: Path) -> dict[str, Any] | None:
    """The run's record, or ``None`` if there is none.

    Raises:
        RecordError: it is damaged: no JSON, or not of the form of a record.
    """
    path = run_dir / RUN
    try:
        record = _mapping(path, first="run_id")
    except FileNotFoundError:
        return None
    problem = _problem(record)
    if problem:
        raise unreadable(path, problem)
    return record


def known_run(run_dir: Path) -> dict[str, Any]:
    """The run's record; empty if there is none, or none that can be read."""
    try:
        return read_run(run_dir) or {}
    except RecordError:
        return {}


def _is_time(value: object) -> bool:
    try:
        datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _problem(record: Mapping[str, Any]) -> str | None:
    """What keeps a record from being one that this package wrote; ``None`` if nothing does."""
    if record.get("status") not in STATUSES:
        return f"status={record.get('status')!r} is none of {', '.join(STATUSES)}"
    progress, attempts = record.get("progress", {"env_steps": 0}), record.get("attempts", [])
    if not isinstance(progress, dict) or not _is_count(progress.get("env_steps")):
        return "progress does not say how many env_steps"
    if not isinstance(attempts, list) or not all(isinstance(one, dict) for one in attempts):
        return "attempts is no list of attempts"
    return None


def read_rows(run_dir: Path) -> pa.Table | None:
    """The run's rows with their times, as columns; ``None`` before the first.

    Raises:
        RecordError: they are damaged.
    """
    path, times = run_dir / METRICS, run_dir / TIMES
    if not path.exists():
        return None
    rows = _read_sealed(path)
    if times.exists():
        at = _read_sealed(times)
        if at["env_steps"] != rows["env_steps"]:  # a crash between their writing leaves one row more
            return rows.join(at, "env_steps").sort_by("env_steps")
        for name in at.drop_columns("env_steps").column_names:
            rows = rows.append_column(name, at[name])
    return rows


def read_metrics(run_dir: Path) -> pd.DataFrame:
    """The run's rows, with the seconds at which each was made; empty if it has none yet.

    Raises:
        RecordError: they are damaged.
    """
    rows = read_rows(run_dir)
    return pd.DataFrame() if rows is None else rows.to_pandas()


def best_of(rows: Iterable[Mapping[str, float]]) -> int | None:
    """The env steps of a run's best evaluation, by ``return_mean`` (likeliest actions); of several that
    are as good the first; ``None`` before any."""
    best: tuple[float, int] | None = None
    for row in rows:
        score = row.get("return_mean", math.nan)
        if math.isfinite(score) and (best is None or score > best[0]):
            best = score, int(row["env_steps"])
    return None if best is None else best[1]


def remove_metrics(run_dir: Path) -> None:
    """Forget a run's rows."""
    for name in (METRICS, TIMES):
        (run_dir / name).unlink(missing_ok=True)


def write_grid(study: Path, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Add runs to the study's list of what was asked for: run_id → axes and budget."""
    write_record(study / GRID, {**read_grid(study), **runs}, indent=0)


def read_grid(study: Path) -> dict[str, dict[str, Any]]:
    """Every run that sweeps in this folder were asked for; empty if there was none.

    Raises:
        RecordError: the list is damaged.
    """
    path = study / GRID
    grid = read_record(path)
    for run_id, axes in grid.items():
        if not isinstance(axes, dict) or not _is_count(axes.get("env_steps")):
            raise unreadable(path, f"{run_id} does not say how many env_steps")
    return grid


def add_words(path: Path, words: str) -> None:
    """Keep words of a study (:data:`COMMANDS`, :data:`QUESTIONS`), with the time when they were first
    said."""
    known = read_words(path)
    if words not in known:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_record(path, {**known, words: now}, indent=0)


def read_words(path: Path) -> dict[str, str]:
    """Words → when they were first said, in order; empty if none were kept.

    Raises:
        RecordError: the list is damaged.
    """
    found = read_record(path)
    if not all(map(_is_time, found.values())):
        raise unreadable(path, "it has entries without a time")
    return found


def run_dirs(study: Path) -> list[Path]:
    """Directories of the study's runs, in order of their names."""
    return sorted(path.parent for path in study.glob(f"*/{RUN}"))
