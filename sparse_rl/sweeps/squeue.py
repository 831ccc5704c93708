"""What SLURM says: how jobs stand and why, how many an array may have, and what a refusal means.

Works without an accounting database: what has ended is known from ``squeue`` and from the runs'
directories, never from ``sacct``. Nothing here is heavy: ``sparse_rl.status`` asks, too.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sparse_rl.records import results

JOBS = "jobs.json"
"""In the folder of a sweep: job id → its runs."""
ENDED = {
    "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE",
    "PREEMPTED", "REVOKED",
}  # fmt: skip
"""States that a job does not leave. One that SLURM no longer lists has ended too."""
ANSWER_SECONDS = 60
ARRAY_LIMIT = 1001
"""SLURM's own default of MaxArraySize, where it does not say."""
LIMITS = re.compile(
    r"MaxSubmit|GrpSubmit|MaxJobs|QOS\w*Limit|Assoc\w*Limit|job submit limit|accounting/QOS", re.I
)
"""In refusals that end when jobs do: an account or a queue may have only so many."""
PASSING = re.compile(
    r"timed out|unable to contact|temporarily|try again|retry|zero bytes|connection refused"
    r"|communication|standby|unexpected message|resource temporarily",
    re.IGNORECASE,
)
"""In refusals that a busy or absent controller gives."""


class Standing(NamedTuple):
    """How a job stands."""

    state: str
    reason: str
    """Why it waits; ``None`` as a word where SLURM has not said yet."""


class RefusedError(Exception):
    """SLURM did not take jobs."""

    def __init__(self, said: str) -> None:
        marked = re.findall(r"(?:sbatch|scontrol): error: (.*)", said)
        words = "; ".join(dict.fromkeys(marked)) or said.strip().rpartition("\n")[2]
        super().__init__(" ".join(words.split()) or "sbatch said nothing")
        self.for_room = bool(LIMITS.search(said))
        """Whether it ends when other jobs do."""
        self.passing = self.for_room or bool(PASSING.search(said))


def _ask(*command: str) -> str | None:
    """What a command of SLURM's says; ``None`` if it does not answer now."""
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=ANSWER_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return asked.stdout


def states() -> dict[str, Standing] | None:
    """Job id → how this user's jobs stand; ``None`` if SLURM does not answer now."""
    options = ("--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r")
    listed = _ask("squeue", *options)
    if listed is None:
        return None
    rows = (line.strip().split("|", 2) for line in listed.splitlines() if line.count("|") >= 2)
    return {job: Standing(state, reason) for job, state, reason in rows}


def array_limit() -> int:
    """Jobs that an array may have: SLURM counts its indices from 0 to below MaxArraySize."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "", re.M)
    return max(1, int(found[1])) if found else ARRAY_LIMIT


def may_requeue(job: str) -> bool:
    """Whether SLURM lets this job be queued again."""
    return "Requeue=0" not in (_ask("scontrol", "show", "job", "-o", job) or "").split()


def reasons(standings: Iterable[Standing]) -> str:
    """Why jobs wait, in words: ``3 wait (Resources), 1 waits (PartitionTimeLimit)``."""
    waiting = Counter(s.reason for s in standings if s.state == "PENDING" and s.reason != "None")
    return ", ".join(
        f"{n} wait{'s' if n == 1 else ''} ({reason})" for reason, n in waiting.most_common()
    )


def jobs_in(file: Path) -> dict[str, list[str]]:
    """Job id → its runs; none where the list is damaged: its runs are found by their locks."""
    try:
        found = results.read_record(file)
    except (OSError, results.RecordError):
        return {}
    return found if all(isinstance(runs, list) for runs in found.values()) else {}


def alive(sweeps: Path) -> dict[str, tuple[Standing, list[str]]]:
    """Job id → how it stands and its runs, of jobs that sweeps of a study submitted and that live.

    Args:
        sweeps: the folder of the study's sweeps.
    """
    submitted = {
        job: runs for file in sorted(sweeps.glob(f"*/{JOBS}")) for job, runs in jobs_in(file).items()
    }
    now = (states() or {}) if submitted else {}
    return {
        job: (now[job], runs)
        for job, runs in submitted.items()
        if job in now and now[job].state not in ENDED
    }
