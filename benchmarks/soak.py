"""Kill a sweep at random for twenty minutes, with each launcher, and compare with an undisturbed one.

    make soak
    python benchmarks/soak.py --minutes 20 --launchers inprocess processes slurm

A grid of 64 runs is trained once in peace. Then, for each launcher, the same grid is trained while
something is killed with SIGKILL every few seconds: the sweep itself (in-process), a worker or the sweep
(processes), a task of a job or the sweep (SLURM; a private one of one node is started, which needs root
and the Debian packages slurm-wlm and munge). A sweep that was killed is started again by the same
command. When its share of the minutes is over a launcher is left alone to finish.

Every run must end ``done`` with the same bytes of metrics and trained parameters as in peace, and no
attempt may begin before the last checkpoint of the one before.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from sparse_rl import results

CHECKPOINT_EVERY = 1000
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
PATTERNS = {"inprocess": (), "processes": ("sweeps.worker",), "slurm": ("submitit.core._submit",)}


def start(folder: Path, launcher: str, steps: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "sparse_rl.sweep", *GRID, f"env_steps={steps}", *OPTIONS[launcher]]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def outcomes(folder: Path) -> dict[str, tuple[bytes, bytes]]:
    """run_id → bytes of rows and of trained parameters; only of runs that are done."""
    found = {}
    for run_dir in results.run_dirs(folder / "results" / "demo"):
        record = results.read_run(run_dir)
        if record and record["status"] == "done":
            files = (run_dir / results.METRICS, run_dir / results.PARAMETERS)
            found[run_dir.name] = (files[0].read_bytes(), files[1].read_bytes())
    return found


def victims(folder: Path, launcher: str) -> list[int]:
    """Processes that train, by what is in their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and any(pattern in words for pattern in PATTERNS[launcher]):
            found.append(int(path.parent.name))
    return found


def hurry_slurm() -> None:
    """Requeued jobs wait for two minutes; here they need not."""
    command = ["squeue", "--me", "-h", "--array", "-t", "PENDING", "-o", "%i %r"]
    for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
        job, reason = line.split(maxsplit=1)
        if reason == "BeginTime":
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)


def disturb(folder: Path, launcher: str, steps: int, seconds: float, every: float) -> tuple[int, float]:
    """Train under fire, then in peace until all is done: kills, and seconds in all."""
    begun, kills = time.monotonic(), 0
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
            itself = not others or random.random() < 0.1
            try:
                os.kill(sweep.pid if itself else random.choice(others), signal.SIGKILL)
                kills += 1
            except ProcessLookupError:
                pass
            following = now + random.expovariate(1 / every)


def lost(folder: Path) -> tuple[int, int, int]:
    """Attempts in all, the most of one run, and the most env steps that an attempt did again."""
    records = [results.read_run(run_dir) for run_dir in results.run_dirs(folder / "results" / "demo")]
    attempts = [record["attempts"] for record in records if record]
    again = [one.get("repeats_env_steps", 0) for each in attempts for one in each]
    return sum(map(len, attempts)), max(map(len, attempts)), max(again)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="of killing, over all launchers")
    parser.add_argument("--every", type=float, default=12.0, help="mean seconds between kills")
    parser.add_argument("--env-steps", type=int, default=10_000)
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
        expected = outcomes(folders["peace"])
        print(f"in peace: {len(expected)} runs done in {time.monotonic() - begun:.0f} s", flush=True)
        share = 60 * options.minutes / len(options.launchers)
        for launcher in options.launchers:
            kills, seconds = disturb(
                folders[launcher], launcher, options.env_steps, share, options.every
            )
            equal = outcomes(folders[launcher]) == expected
            attempts, most, again = lost(folders[launcher])
            print(
                f"{launcher}: {kills} kills in {seconds:.0f} s, {attempts} attempts (at most {most} of "
                f"a run), at most {again} env steps trained again, of {CHECKPOINT_EVERY} between "
                f"checkpoints; "
                f"{'all bytes equal' if equal else 'DIFFERENT'}",
                flush=True,
            )
            if not equal or again > CHECKPOINT_EVERY:
                sys.exit(1)


if __name__ == "__main__":
    main()
