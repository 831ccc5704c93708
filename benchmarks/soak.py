"""Kill a sweep at random for twenty minutes, with each launcher, and compare with an undisturbed one.

    make soak
    python benchmarks/soak.py --minutes 20 --launchers inprocess processes slurm

A grid of 64 runs is trained once in peace. Then, for each launcher, the same grid is trained while
something is killed with SIGKILL every few seconds: the sweep itself (in-process), a worker or the sweep
(processes), a task of a job or the sweep (SLURM; a private one of one node is started, which needs root
and the Debian packages slurm-wlm and munge). A sweep that was killed is started again by the same
command. When its share of the minutes is over a launcher is left alone to finish.

Every run must end ``done`` with the same bytes of metrics and trained parameters as in peace, and no
attempt may begin before the newest checkpoint that was there when a process was killed.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sparse_rl.records import checkpoints, results
from sparse_rl.selftest.resume import outcomes

CHECKPOINT_EVERY = 1000
SPARED_SECONDS = 10.0
"""So long a process is let live, for most of a short life is spent on importing and compiling."""
GRID = (
    "width=8,16", "sparsity=0,0.5,0.8,0.9", "seed=range(8)", "agent.batch_size=64",
    "agent.actor_width_ratio=1", "log_every=200", "eval_every=5000", "env.eval_episodes=4",
    f"checkpoint_every={CHECKPOINT_EVERY}",
)  # fmt: skip
OPTIONS = {
    "inprocess": (),
    "processes": ("hydra/launcher=processes", "hydra.launcher.retries=1000", "max_runs_per_pack=4"),
    "slurm": (
        "hydra/launcher=slurm", "hydra.launcher.retries=1000", "hydra.launcher.cpus_per_task=1",
        "hydra.launcher.array_parallelism=2", "max_runs_per_pack=8",
    ),
}  # fmt: skip
STUDY = Path("results") / "demo"
PATTERNS = {"inprocess": (), "processes": ("sweeps.worker",), "slurm": ("submitit.core._submit",)}


class Kill(NamedTuple):
    """Something was killed."""

    at: datetime
    saved: dict[str, int]
    """run_id → env steps of its newest checkpoint at that time."""


def start(folder: Path, launcher: str, steps: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "sparse_rl.sweep", *GRID, f"env_steps={steps}", *OPTIONS[launcher]]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def victims(folder: Path, launcher: str) -> list[int]:
    """Processes that train, by what is in their command lines; not those that only just began."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
            here = str(folder) in words or (path.parent / "cwd").readlink() == folder
            ours = here and any(pattern in words for pattern in PATTERNS[launcher])
            if ours and age(path.parent) > SPARED_SECONDS:
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return found


def age(process: Path) -> float:
    """Seconds since a process began (proc(5): field 22 counts clock ticks since boot)."""
    started = int((process / "stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - started / os.sysconf("SC_CLK_TCK")


def saved(folder: Path) -> dict[str, int]:
    """run_id → env steps of its newest checkpoint."""
    run_dirs = results.run_dirs(folder / STUDY)
    return {run_dir.name: max(checkpoints.steps(run_dir), default=0) for run_dir in run_dirs}


def hurry_slurm() -> None:
    """Requeued jobs wait for two minutes; here they need not."""
    command = ["squeue", "--me", "-h", "--array", "-t", "PENDING", "-o", "%i %r"]
    for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
        job, reason = line.split(maxsplit=1)
        if reason == "BeginTime":
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)


def disturb(
    folder: Path, launcher: str, steps: int, seconds: float, every: float
) -> tuple[list[Kill], float]:
    """Train under fire, then in peace until all is done: the kills, and seconds in all."""
    begun = time.monotonic()
    kills: list[Kill] = []
    sweep, following = start(folder, launcher, steps), begun + every
    while True:
        time.sleep(0.3)
        now = time.monotonic()
        if launcher == "slurm":
            hurry_slurm()
        if sweep.poll() == 0:
            return kills, now - begun
        if sweep.poll() is not None:
            sweep = start(folder, launcher, steps)
        elif now - begun < seconds and now > following:
            others = victims(folder, launcher)
            itself = launcher == "inprocess" or random.random() < 0.1
            if itself or others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(sweep.pid if itself else random.choice(others), signal.SIGKILL)
                    kills.append(Kill(datetime.now(UTC), saved(folder)))
            following = now + random.expovariate(1 / every)


def attempts_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """run_id → its attempts."""
    run_dirs = results.run_dirs(folder / STUDY)
    return {run_dir.name: (results.read_run(run_dir) or {})["attempts"] for run_dir in run_dirs}


def trained_twice(attempts: dict[str, list[dict[str, Any]]], kills: list[Kill]) -> list[str]:
    """Attempts that began before a checkpoint that was there when something had been killed."""
    return [
        f"{run_id} from {attempt['from_env_steps']} with a checkpoint at {kill.saved[run_id]}"
        for kill in kills
        for run_id in kill.saved
        for attempt in attempts[run_id]
        if datetime.fromisoformat(attempt["started_at"]) > kill.at
        and attempt["from_env_steps"] < kill.saved[run_id]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="of killing, over all launchers")
    parser.add_argument("--every", type=float, default=20.0, help="mean seconds between kills")
    parser.add_argument("--env-steps", type=int, default=40_000)
    parser.add_argument("--launchers", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    options = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if "slurm" in options.launchers:
            sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
            from slurm_cluster import cluster

            (root / "cluster").mkdir()
            stack.enter_context(cluster(root / "cluster"))
        folders = {name: root / name for name in ("peace", *options.launchers)}
        for folder in folders.values():
            folder.mkdir()
        begun = time.monotonic()
        if start(folders["peace"], "inprocess", options.env_steps).wait():
            raise RuntimeError((folders["peace"] / "log.txt").read_text())
        expected = outcomes(folders["peace"] / STUDY)
        print(f"in peace: {len(expected)} runs done in {time.monotonic() - begun:.0f} s", flush=True)
        share = 60 * options.minutes / len(options.launchers)
        for launcher in options.launchers:
            kills, seconds = disturb(
                folders[launcher], launcher, options.env_steps, share, options.every
            )
            equal = outcomes(folders[launcher] / STUDY) == expected
            attempts = attempts_of(folders[launcher])
            twice = trained_twice(attempts, kills)
            counts = list(map(len, attempts.values()))
            print(
                f"{launcher}: {len(kills)} kills in {seconds:.0f} s, {sum(counts)} attempts (at most "
                f"{max(counts)} of a run), {len(twice)} from before a checkpoint, "
                f"{'all bytes equal' if equal else 'DIFFERENT'}",
                flush=True,
            )
            if not equal or twice:
                sys.exit("\n".join(twice))
            if len(kills) < share / options.every / 4:
                sys.exit(f"too few kills in {share:.0f} s for one every {options.every:.0f} s")


if __name__ == "__main__":
    main()
