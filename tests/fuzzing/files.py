"""Files that a disk, a copy or a hand has damaged; and whether whoever reads them notices."""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparse_rl.records import failures, levels, results
from sparse_rl.records.arrays import CheckpointError, read_arrays, write_arrays
from sparse_rl.records.results import RecordError
from sparse_rl.runs.probing import PROBE
from sparse_rl.sweeps.squeue import JOBS, jobs_in


def _flip(rng: random.Random, data: bytearray) -> bytearray:
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _cut(rng: random.Random, data: bytearray) -> bytearray:
    return data[: rng.randrange(len(data))]


def _block(rng: random.Random, data: bytearray) -> bytearray:
    """A block of zeros, of noise, or of another place."""
    size = min(len(data), rng.choice((1, 8, 64, 512)))
    at, other = rng.randrange(len(data) - size + 1), rng.randrange(len(data) - size + 1)
    data[at : at + size] = rng.choice(
        (bytes(size), rng.randbytes(size), bytes(data[other : other + size]))
    )
    return data


def _move(rng: random.Random, data: bytearray) -> bytearray:
    """Bytes that are twice there, or not at all."""
    at, size = rng.randrange(len(data)), rng.choice((1, 7, 64))
    return rng.choice((data[:at] + data[at : at + size] + data[at:], data[:at] + data[at + size :]))


def _other(rng: random.Random, data: bytearray) -> bytearray:
    """Another file altogether."""
    return bytearray(
        rng.choice((b"", b"\x00", b"PK\x03\x04", b"[]", b"ARROW1\x00\x00", rng.randbytes(200)))
    )


DAMAGES = (_flip, _flip, _flip, _cut, _block, _move, _other)
ROWS: Any = [
    {"env_steps": i, "updates": 2 * i, "return_mean": np.nan if i % 3 else 1.5 * i, "wall_time": i / 7}
    for i in range(1, 40)
]
ARRAYS = {"weights": np.linspace(-1, 1, 60, dtype=np.float32).reshape(5, 12), "steps": np.array(7)}
FAILURE: Any = {
    "env": "maze/9", "name": "rooms/Labyrinth", "run_id": "w8_s0_seed0_x", "solve_rate": 0.25,
    "way": np.zeros((5, 2), np.int32), "level": ARRAYS,
}  # fmt: skip
RECORD: Any = {
    "run_id": "w8_s0_seed0_x", "status": "running", "reason": None, "width": 8,
    "attempts": [{"from_env_steps": 0}], "progress": {"env_steps": 40, "updates": 3, "return_mean": 0.5},
}  # fmt: skip


class Kind(NamedTuple):
    """A kind of file, how it is read, and with what it may be refused."""

    name: str
    path: Path
    read: Callable[[], Any]


def _arrays(path: Path) -> Any:
    return {name: (str(x.dtype), x.shape, x.tobytes()) for name, x in read_arrays(path).items()}


def kinds(folder: Path) -> list[Kind]:
    """One file of each kind, written as runs write them."""
    for path in (folder / "parameters.arrow", folder / "checkpoints" / "40.arrow"):
        write_arrays(path, ARRAYS)
    levels.add(folder, 40, ARRAYS)
    failures.write(folder, [FAILURE])
    results.write_metrics(folder, ROWS)
    results.write_run(folder, RECORD)
    results.write_config(folder, {"agent": {"name": "sac"}, "width": 8, "seed": 1234567})
    results.write_grid(folder, {"w8": {"env_steps": 40, "width": 8}})
    results.add_words(folder / results.COMMANDS, "python -m sparse_rl.sweep width=8")
    found, task, jobs = folder / PROBE, folder / "task_0000.json", folder / JOBS
    results.write_record(found, {"asked": {"updates": 100}, "before": {"return_mean": 12.25}})
    results.write_record(task, {"settings": {"logging": "none"}, "runs": [{"width": 8, "seed": 3}]})
    results.write_record(jobs, {"7_0": ["w8_s0_seed0_x"], "7_1": ["w8_s0_seed1_x"]})
    results.add_words(folder / results.QUESTIONS, "Does it pay?")
    arrays = [
        Kind(path.name, path, lambda path=path: _arrays(path))  # type: ignore[misc]
        for path in (folder / "parameters.arrow", folder / "checkpoints" / "40.arrow")
    ]
    shown = [
        Kind(levels.FILE, folder / levels.FILE, lambda: repr(levels.read(folder))),
        Kind(failures.FILE, folder / failures.FILE, lambda: repr(failures.read(folder))),
    ]
    rows = [
        Kind(name, folder / name, lambda: results.read_metrics(folder).to_json())
        for name in (results.METRICS, results.TIMES)
    ]
    return [
        *arrays,
        *shown,
        *rows,
        Kind(results.RUN, folder / results.RUN, lambda: results.read_run(folder)),
        Kind(results.CONFIG, folder / results.CONFIG, lambda: results.read_config(folder)),
        Kind(results.GRID, folder / results.GRID, lambda: results.read_grid(folder)),
        Kind(
            results.COMMANDS,
            folder / results.COMMANDS,
            lambda: results.read_words(folder / results.COMMANDS),
        ),
        Kind(PROBE, found, lambda: results.read_record(found, "asked")),
        Kind(task.name, task, lambda: results.read_record(task, "settings")),
        Kind(JOBS, jobs, lambda: _jobs(jobs)),
        Kind(
            results.QUESTIONS,
            folder / results.QUESTIONS,
            lambda: results.read_words(folder / results.QUESTIONS),
        ),
    ]


def _jobs(path: Path) -> Any:
    """Jobs of a list; whoever reads one that is damaged does without it."""
    found = jobs_in(path)
    if not found:
        raise RecordError("no list")
    return found


def damaged(rng: random.Random, folder: Path) -> Iterator[tuple[str, str]]:
    """Damage files without end, and read them.

    Yields:
        The kind of file; ``refused``, ``unchanged``, or what is wrong.
    """
    files = kinds(folder)
    whole = {kind.name: (kind.path.read_bytes(), kind.read()) for kind in files}
    while True:
        kind = rng.choice(files)
        content, expected = whole[kind.name]
        kind.path.write_bytes(rng.choice(DAMAGES)(rng, bytearray(content)))
        yield kind.name, _read(kind, expected)
        kind.path.write_bytes(content)


def _read(kind: Kind, expected: Any) -> str:
    try:
        found = kind.read()
    except (CheckpointError, RecordError) as error:
        return "refused" if "\n" not in str(error) else f"a refusal of several lines: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if json.dumps(found, default=str) == json.dumps(expected, default=str):
        return "unchanged"
    return "WRONG: taken, and not what was written"
