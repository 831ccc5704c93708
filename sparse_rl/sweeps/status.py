"""What of a study is done, under way and in trouble, as the disk tells it."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Group
from rich.table import Table

from sparse_rl.records import results
from sparse_rl.records.console import duration
from sparse_rl.settings.schema import rounded
from sparse_rl.sweeps.locks import FOLDER, is_owned
from sparse_rl.sweeps.squeue import alive

TROUBLES_SHOWN = 20
GONE = "its process is gone; the same sweep goes on from its last checkpoint"


def _rate(record: Mapping[str, Any]) -> float:
    """Env steps per second of a run's present attempt."""
    try:
        attempt, progress = record["attempts"][-1], record["progress"]
        began, now = (datetime.fromisoformat(t) for t in (attempt["started_at"], progress["written_at"]))
    except (KeyError, IndexError, TypeError, ValueError):  # of a record that somebody mended
        return 0.0
    seconds = (now - began).total_seconds()
    return (progress["env_steps"] - attempt["from_env_steps"]) / seconds if seconds > 0 else 0.0


def _number(value: object) -> float | None:
    """A return; ``None`` where there is none yet, or none that is a number."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _run(study: Path, run_id: str, planned: Mapping[str, Any]) -> dict[str, Any]:
    try:
        record = results.read_run(study / run_id)
    except results.RecordError as damaged:
        record = {"status": "pending", "reason": str(damaged)}
    run = {"run_id": run_id, **planned, "status": "pending", "reason": None, "done_env_steps": 0}
    run["sparsity"] = rounded(run["sparsity"])
    if record is None:
        return run
    run |= {"status": record["status"], "reason": record.get("reason")}
    progress = record.get("progress", {"env_steps": 0})
    run["done_env_steps"] = progress["env_steps"]
    run["return_mean"] = _number(progress.get("return_mean"))
    if record["status"] == "running":
        if is_owned(study / run_id):
            run["env_steps_per_second"] = _rate(record)
        else:
            run |= {"status": "preempted", "reason": GONE}
    return run


def survey(study: Path) -> dict[str, Any]:
    """What the disk says of a study: counts, rate, time left, and every run.

    Raises:
        FileNotFoundError: the folder is no study.
    """
    grid = results.read_grid(study)
    if not grid:
        raise FileNotFoundError(f"no study in {study}: expected {study}/{results.GRID}")
    runs = [_run(study, run_id, planned) for run_id, planned in grid.items()]
    jobs = {run: (job, now) for job, (now, names) in alive(study / FOLDER).items() for run in names}
    for run in runs:
        if run["run_id"] in jobs and run["status"] in ("pending", "preempted"):
            job, now = jobs[run["run_id"]]
            run["reason"] = f"job {job} is {now.state} ({now.reason})"
    rate = sum(run.get("env_steps_per_second", 0.0) for run in runs)
    waiting = [run for run in runs if run["status"] in ("pending", "running", "preempted")]
    left = sum(run["env_steps"] - run["done_env_steps"] for run in waiting)
    return {
        "study": str(study),
        "counts": dict(Counter(run["status"] for run in runs)),
        "env_steps_left": left,
        "env_steps_per_second": rate,
        "seconds_left": left / rate if rate else None if left else 0.0,
        "runs": runs,
    }


def _cell(runs: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(run["status"] for run in runs)
    words = [f"{counts[status]} {status}" for status in reversed(results.STATUSES) if counts[status]]
    return ", ".join(words)


def cell_words(runs: Sequence[Mapping[str, Any]]) -> str:
    """How the runs of a cell stand, and what they scored last, on average."""
    last = [run["return_mean"] for run in runs if run.get("return_mean") is not None]
    return _cell(runs) + (f"; last return {fmean(last):.4g}" if last else "")


def is_over(found: Mapping[str, Any]) -> bool:
    """Whether nothing is left to do."""
    return not {"pending", "running", "preempted"} & set(found["counts"])


def totals(found: Mapping[str, Any]) -> str:
    """How all runs stand, how fast they go and how long they will."""
    left = math.inf if found["seconds_left"] is None else found["seconds_left"]
    return (
        f"{_cell(found['runs'])} of {len(found['runs'])} runs; "
        f"{found['env_steps_per_second']:,.0f} env steps/s, {duration(left)} left"
    )


def show(found: Mapping[str, Any]) -> Group:
    """A table of widths and sparsities, totals, and what went wrong."""
    runs = found["runs"]
    rows = sorted({(run["env"], run["pattern"], run["width"]) for run in runs})
    sparsities = sorted({run["sparsity"] for run in runs})
    named = {"env": len({row[0] for row in rows}) > 1, "pattern": len({row[1] for row in rows}) > 1}
    axes = [name for name, several in named.items() if several]
    table = Table(*axes, "width", *(f"S = {s:g}" for s in sparsities), box=None, header_style="bold")
    for env, pattern, width in rows:
        point = {"env": env, "pattern": pattern, "width": width}
        cells = (
            cell_words([run for run in runs if {**run, **point, "sparsity": s} == run])
            for s in sparsities
        )
        table.add_row(*(point[name] for name in axes), str(width), *cells)
    troubled = [run for run in runs if run["reason"]]
    lines = [f"{run['run_id']}: {run['status']}: {run['reason']}" for run in troubled[:TROUBLES_SHOWN]]
    if len(troubled) > TROUBLES_SHOWN:
        lines.append(f"and {len(troubled) - TROUBLES_SHOWN} more; all of them: --json")
    return Group(table, "", totals(found), *lines)
