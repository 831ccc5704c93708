"""Is a run that was killed the same run? A sweep is killed with SIGKILL midway and typed again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from sparse_rl.records import checkpoints, results
from sparse_rl.selftest.child import Asked
from sparse_rl.selftest.lines import WRONG, Lines, doing, row

NAME = "resume"
RUN = (
    "width=16", "sparsity=0,0.5", "seed=0", "agent=sac_small", "env=gymnax/pendulum",
    "agent.batch_size=32", "log_every=100", "checkpoint_every=200", "eval_every=5000", f"name={NAME}",
)  # fmt: skip
STEPS, SMALL_STEPS = 20_000, 4000


def outcomes(study: Path) -> dict[str, tuple[bytes, bytes]]:
    """run_id → bytes of rows and of trained parameters; only of runs that are done."""
    found = {}
    for run_dir in results.run_dirs(study):
        record = results.read_run(run_dir)
        if record and record["status"] == "done":
            files = (run_dir / results.METRICS, run_dir / results.PARAMETERS)
            found[run_dir.name] = (files[0].read_bytes(), files[1].read_bytes())
    return found


def sweep(folder: Path, steps: int) -> "subprocess.Popen[bytes]":
    """The command, in a folder."""
    command = [sys.executable, "-m", "sparse_rl.sweep", *RUN, f"env_steps={steps}"]
    return subprocess.Popen([*command, f"results_dir={folder}"], stdout=subprocess.DEVNULL)


def killed(process: "subprocess.Popen[bytes]", study: Path) -> bool:
    """Kill a sweep once it has saved something; whether it was still under way."""
    while process.poll() is None:
        if any(checkpoints.steps(run_dir) for run_dir in results.run_dirs(study)):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.01)
    return False


def judged(
    peace: Mapping[str, tuple[bytes, bytes]], war: Mapping[str, tuple[bytes, bytes]], began: int
) -> str | None:
    """What is wrong with runs that were killed, beside those that were not.

    Args:
        peace, war: run_id → bytes, of both.
        began: the most env steps from which an attempt at a killed run went on.
    """
    if not peace or set(peace) != set(war):
        return f"{len(peace)} runs are done undisturbed, and {len(war)} after the kill"
    if not began:
        return "no run went on from a checkpoint"
    other = [run_id for run_id in peace if peace[run_id] != war[run_id]]
    return f"other bytes of {', '.join(other)}" if other else None


def _went_on_from(study: Path) -> int:
    """The most env steps from which an attempt began."""
    records = (results.read_run(run_dir) or {} for run_dir in results.run_dirs(study))
    return max((a["from_env_steps"] for record in records for a in record["attempts"]), default=0)


def lines_of(asked: Asked) -> Lines:
    """One row."""
    steps = SMALL_STEPS if asked.quick else STEPS
    peace, war = Path(asked.folder) / "peace", Path(asked.folder) / "killed"
    yield doing("undisturbed")
    status = sweep(peace, steps).wait()
    if status:
        raise RuntimeError(f"the sweep ended with status {status}")
    yield doing("killed in the middle")
    under_way = killed(sweep(war, steps), war / NAME)
    yield doing("typed again")
    sweep(war, steps).wait()
    expected, found, began = outcomes(peace / NAME), outcomes(war / NAME), _went_on_from(war / NAME)
    wrong = judged(expected, found, began) if under_way else "it ended before it was killed"
    told = {"runs": len(expected), "env steps": steps, "went on from": began}
    yield row(**told, **{"bytes equal": expected == found}, **({WRONG: wrong} if wrong else {}))
