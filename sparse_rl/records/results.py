"""The run directory: ``results/<name>/<run_id>/``, with a configuration, a record and rows.

Every file is written aside and renamed, so a reader or a crash never sees half of one. What changed
later is noticed: rows have a checksum of their file, and records, which people may mend, are checked for
their form. Rows that were written before there were checksums are read as they are.
"""

import hashlib
import json
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

Status = Literal["pending", "running", "done", "failed", "diverged", "preempted"]
STATUSES: tuple[str, ...] = get_args(Status)
CONFIG, RUN, METRICS, TIMES = "config.yaml", "run.json", "metrics.parquet", "times.parquet"
GRID = "grid.json"
COMMANDS = "commands.json"
QUESTIONS = "questions.json"
"""Of a study: what was typed to train its runs."""
PLAIN: dict[str, Any] = {
    "use_dictionary": False,
    "write_statistics": False,
    "write_page_checksum": True,
}
"""Of Parquet files: what would help to search large columns only makes short ones slower to read. The
checksums of pages are for readers other than ours, which know nothing of :data:`SEAL`."""
SEAL = b"sparse_rl.sha256"
"""Before the checksum of a file of rows, which stands between its pages and its footer. Readers of
Parquet go from the footer to the pages and see neither; whoever writes the rows anew leaves it out."""
HEX = 64
DAMAGED = ".damaged"
"""Ending of a record that could not be read, once another took its place."""
PARAMETERS = "parameters.arrow"
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


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """What a file of text says.

    Raises:
        RecordError: it is no mapping from names.
        FileNotFoundError: there is none.
    """
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except Exception as error:  # recursion, encodings, folders: whatever a reader meets
        raise unreadable(path, error) from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise unreadable(path, "it holds no record")
    return found


def read_found(path: Path) -> dict[str, Any]:
    """What was found out about a run earlier; empty if nothing was, or if it is damaged."""
    try:
        return _mapping(path, json.loads)
    except (FileNotFoundError, RecordError):
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
        write_aside(run_dir / TIMES, lambda path: _write_sealed(path, times))
    write_aside(run_dir / METRICS, lambda path: _write_sealed(path, frame))


def _footer(content: bytes) -> int:
    """Where the footer of a Parquet file begins: its length stands before the last magic."""
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def _write_sealed(path: Path, frame: pd.DataFrame) -> None:
    """Write rows, with the checksum of their file before its footer."""
    frame.to_parquet(path, index=False, **PLAIN)
    content = path.read_bytes()
    at = _footer(content)
    path.write_bytes(content[:at] + SEAL + _digest(content) + content[at:])


def _unsealed(content: bytes) -> bytes:
    """The file as it was before it had a checksum; itself if it has none.

    Raises:
        RecordError: it has changed since.
    """
    at = _footer(content)
    begin = at - len(SEAL) - HEX
    if begin < 0 or content[begin : at - HEX] != SEAL:
        return content
    plain = content[:begin] + content[at:]
    if _digest(plain) != content[at - HEX : at]:
        raise RecordError("it has changed since it was written")
    return plain


def _read_sealed(path: Path) -> pa.Table:
    """Rows that are as they were written.

    Raises:
        RecordError: they are not, or are no rows.
    """
    try:
        content = pa.BufferReader(_unsealed(path.read_bytes()))
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
    return _mapping(run_dir / CONFIG, yaml.safe_load)


def read_run(run_dir: Path) -> dict[str, Any] | None:
    """The run's record, or ``None`` if there is none.

    Raises:
        RecordError: it is damaged: no JSON, or not of the form of a record.
    """
    path = run_dir / RUN
    try:
        record = _mapping(path, json.loads)
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


def remove_metrics(run_dir: Path) -> None:
    """Forget a run's rows."""
    for name in (METRICS, TIMES):
        (run_dir / name).unlink(missing_ok=True)


def write_grid(study: Path, runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Add runs to the study's list of what was asked for: run_id → axes and budget."""
    text = json.dumps({**read_grid(study), **runs}, indent=0)
    write_text(study / GRID, text)


def read_grid(study: Path) -> dict[str, dict[str, Any]]:
    """Every run that sweeps in this folder were asked for; empty if there was none.

    Raises:
        RecordError: the list is damaged.
    """
    path = study / GRID
    try:
        grid = _mapping(path, json.loads)
    except FileNotFoundError:
        return {}
    for run_id, axes in grid.items():
        if not isinstance(axes, dict) or not _is_count(axes.get("env_steps")):
            raise unreadable(path, f"{run_id} does not say how many env_steps")
    return grid


def add_command(study: Path, command: str) -> None:
    """Keep a command that trained runs of this study, with the time when it was first given."""
    _add_dated(study / COMMANDS, command)


def read_commands(study: Path) -> dict[str, str]:
    """Command → when it was first given, in order; empty if none was kept.

    Raises:
        RecordError: the list is damaged.
    """
    return _read_dated(study / COMMANDS)


def add_question(study: Path, question: str) -> None:
    """Keep what a study asks, with the time when it was first asked: before what it trains then."""
    _add_dated(study / QUESTIONS, question)


def read_questions(study: Path) -> dict[str, str]:
    """Question → when it was first asked, in order; empty if none was kept.

    Raises:
        RecordError: the list is damaged.
    """
    return _read_dated(study / QUESTIONS)


def _add_dated(path: Path, words: str) -> None:
    known = _read_dated(path)
    if words not in known:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_text(path, json.dumps({**known, words: now}, indent=0) + "\n")


def _read_dated(path: Path) -> dict[str, str]:
    try:
        found = _mapping(path, json.loads)
    except FileNotFoundError:
        return {}
    if not all(isinstance(when, str) for when in found.values()):
        raise unreadable(path, "it has entries without a time")
    return found


def run_dirs(study: Path) -> list[Path]:
    """Directories of the study's runs, in order of their names."""
    return sorted(path.parent for path in study.glob(f"*/{RUN}"))
