"""A part in a process of its own: started, listened to, killed at its limit, judged."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sparse_rl.records.console import duration
from sparse_rl.selftest import lines
from sparse_rl.selftest.lines import NOT_RUN, WRONG, Line

Status = Literal["running", "passed", "passed in part", "failed", "broke", "killed", "not run"]
GOOD: tuple[Status, ...] = ("passed", "passed in part")
POLL_SECONDS = 0.1


@dataclass
class Outcome:
    """How a part went, so far."""

    status: Status
    why: str = ""
    seconds: float = 0.0
    limit: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def measured(self) -> list[dict[str, Any]]:
        """Rows with numbers."""
        return [row for row in self.rows if NOT_RUN not in row]


Watch = Callable[[Outcome, str | None], None]
"""Called with what came, and with what the part does next, if it said so."""


def _take(outcome: Outcome, found: Sequence[Line], watch: Watch) -> bool:
    """Whether the part has come to its end."""
    for line in found:
        if "row" in line:
            outcome.rows.append(line["row"])
        elif "note" in line:
            outcome.notes.append(line["note"])
    if found:
        watch(outcome, next((line["doing"] for line in reversed(found) if "doing" in line), None))
    return any("done" in line for line in found)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a part and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: Path) -> str:
    text = log.read_text(errors="replace").strip() if log.exists() else ""
    return text.splitlines()[-1][:300] if text else "it wrote nothing"


def judged(outcome: Outcome, ended: bool, killed: bool, code: int, log: Path) -> Outcome:
    """How a part went, once its process is gone.

    Args:
        outcome: its rows.
        ended: whether it said that it came to its end.
        killed: whether it was killed at its limit.
        code: its exit status.
        log: what it printed.
    """
    wrong = [row[WRONG] for row in outcome.rows if row.get(WRONG)]
    missing = [row[NOT_RUN] for row in outcome.rows if NOT_RUN in row]
    if killed:
        rows = f"after {len(outcome.measured)} rows"
        outcome.status, outcome.why = "killed", f"at its limit of {duration(outcome.limit)}, {rows}"
    elif code or not ended:
        outcome.status, outcome.why = "broke", f"status {code}: {_last_line(log)}"
    elif wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        outcome.status, outcome.why = "failed", f"{wrong[0]}{more}"
    elif not outcome.measured:
        outcome.status = "not run" if missing else "broke"
        outcome.why = "; ".join(missing) or "it measured nothing"
    else:
        outcome.status = "passed in part" if missing else "passed"
        outcome.why = "; ".join(missing)
    return outcome


def run(
    command: Sequence[str], said: Path, limit: float, environment: Mapping[str, str], watch: Watch
) -> Outcome:
    """Run a part until it ends, or until its time is up.

    Args:
        command: of its process, which leads a group: all of it is killed.
        said: the file of its lines; what it prints goes beside it.
        limit: seconds.
        environment: variables of its process.
        watch: hears what comes.
    """
    outcome, log = Outcome("running", limit=limit), said.with_suffix(".log")
    begun, read, ended = time.monotonic(), 0, False
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=dict(environment), start_new_session=True,
        )  # fmt: skip
    try:
        while True:
            alive = process.poll() is None  # before reading: what it said last is read then
            found, read = lines.read(said, read)
            outcome.seconds = time.monotonic() - begun
            ended |= _take(outcome, found, watch)
            if not alive or outcome.seconds > limit:
                break
            time.sleep(POLL_SECONDS)
    finally:
        code = process.poll()
        _kill(process)
    return judged(outcome, ended, code is None, code or 0, log)
