"""SLURM through submitit: one job array, one task per element.

Works without an accounting database: what has ended is known from ``squeue`` and from the runs'
directories, never from ``sacct``.
"""

import functools
import json
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import submitit
from rich.console import Console

from sparse_rl.loops import MasterLoop
from sparse_rl.records import results
from sparse_rl.runs import PreparedPack
from sparse_rl.simulators import plant_worker
from sparse_rl.simulators.plant_worker import Address
from sparse_rl.sweeps import inprocess
from sparse_rl.sweeps.progress import PackProgress, poll
from sparse_rl.sweeps.tasks import (
    FOLDER,
    Settings,
    Task,
    again,
    folder,
    is_unfinished,
    train_task_file,
    write_task,
)

JOBS = "jobs.json"
POLL_SECONDS = 2.0
ENDED = {
    "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE",
}  # fmt: skip
"""States that a job does not leave. One that SLURM no longer lists has ended too."""
SBATCH_NAMES = {"name": "job_name", "timeout_min": "time", "mem_gb": "mem"}
"""Our parameters whose names say their units → submitit's."""
EARLY_SECONDS = 60
"""SLURM may send its warning so much earlier than asked."""


class TrainTask:
    """What a job does. Asked to leave, it saves its runs and lets itself be queued again."""

    def __call__(self, path: str) -> None:
        """Train the task at ``path``; the training has a thread of its own, signals come to this one."""
        self._stop, problems = threading.Event(), []

        def train() -> None:
            try:
                train_task_file(Path(path), self._stop)
            except BaseException as error:
                problems.append(error)

        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        self._training = threading.Thread(target=train)
        self._training.start()
        while self._training.is_alive():
            self._training.join(0.5)
        if problems:
            raise problems[0]

    def checkpoint(self, path: str) -> submitit.helpers.DelayedSubmission:
        """Called by submitit when SLURM announces preemption or the time limit."""
        self._stop.set()
        self._training.join()
        return submitit.helpers.DelayedSubmission(TrainTask(), path)


class _Executor(submitit.SlurmExecutor):
    """Can write the text of a job on a machine without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 1


def _executor(home: Path, parameters: dict[str, Any]) -> submitit.SlurmExecutor:
    """Check the parameters before anything is submitted.

    Raises:
        ValueError: a parameter is unknown (the message lists all) or does not fit the others.
    """
    limit, warning = parameters["timeout_min"] * 60, parameters["signal_delay_s"]
    if limit < warning + 2 * EARLY_SECONDS:
        raise ValueError(
            f"hydra.launcher.timeout_min={parameters['timeout_min']} is too short: SLURM warns "
            f"signal_delay_s={warning} s before the end, and up to {EARLY_SECONDS} s earlier; "
            f"give at least {-(-(warning + 2 * EARLY_SECONDS) // 60)}"
        )
    executor = _Executor(home, max_num_timeout=1_000_000)  # a job may be requeued as often as it takes
    memory = parameters["mem_gb"]
    given = parameters | {"mem_gb": None if memory is None else f"{memory}GB"}
    named = {SBATCH_NAMES.get(name, name): value for name, value in given.items() if value is not None}
    try:
        executor.update_parameters(**named)
    except ValueError as error:
        raise ValueError(f"hydra.launcher: {error}") from None
    return executor


def describe(
    packs: Sequence[PreparedPack], settings: Settings, *, retries: int = 3, **parameters: Any
) -> list[str]:
    """What would be submitted: the array, and the text of its jobs."""
    home = settings.study_dir.resolve() / FOLDER / "<time>"
    executor = _executor(home, parameters)
    masters = sum(isinstance(pack.loop, MasterLoop) for pack in packs)
    tasks = len(packs) - masters
    if tasks > 1:
        executor.parameters["map_count"] = tasks
    text = executor._make_submission_file_text(executor._submitit_command_str, "")
    lines = [f"\nSLURM: {tasks} tasks, one pack each; sbatch would read", text]
    here = f"\n{masters} packs train here, the workers of each run in an array of jobs of their own"
    return [here, *lines] if masters else lines


def states() -> dict[str, str] | None:
    """Job id → state of this user's jobs; ``None`` if SLURM does not answer now."""
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split("|", 1) for line in listed.stdout.split())


def _submit(
    out: Console,
    executor: submitit.SlurmExecutor,
    home: Path,
    tasks: list[Task],
    settings: Settings,
) -> dict[str, Task]:
    """Submit tasks as one array; job id → task, nothing if SLURM refused."""
    if not tasks:
        return {}
    paths = [home / f"{task.name}.json" for task in tasks]
    for path, task in zip(paths, tasks, strict=True):
        write_task(path, [run.config for run in task.pack.runs], settings)
    try:
        jobs = executor.map_array(TrainTask(), list(map(str, paths)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        out.print(f"SLURM did not take the jobs: {error}", markup=False)
        return {}
    submitted = {job.job_id: task for job, task in zip(jobs, tasks, strict=True)}
    known = home / JOBS
    before = json.loads(known.read_text()) if known.exists() else {}
    runs = {i: [run.config.run_id for run in task.pack.runs] for i, task in submitted.items()}
    results.write_text(known, json.dumps({**before, **runs}))
    return submitted


def adopted(settings: Settings) -> dict[str, list[str]]:
    """Job id → runs of jobs of earlier sweeps in this folder that still wait or work."""
    now = states() or {}
    alive = {i for i, state in now.items() if state not in ENDED}
    files = (settings.study_dir / FOLDER).glob(f"*/{JOBS}")
    return {i: runs for file in files for i, runs in json.loads(file.read_text()).items() if i in alive}


class Workers:
    """Workers of a master on the real clock as a job array; jobs that end are submitted again."""

    def __init__(self, home: Path, parameters: dict[str, Any], address: Address, count: int) -> None:
        self._executor, self._address, self._count = _executor(home, parameters), address, count
        self._jobs: list[str] = []
        self._submit(count)

    def _submit(self, count: int) -> None:
        jobs = self._executor.map_array(plant_worker.work, [self._address] * count)
        self._jobs += [job.job_id for job in jobs]

    def renew(self) -> int:
        now = states()
        if now is None:
            return 0
        self._jobs = [i for i in self._jobs if now.get(i) not in (None, *ENDED)]
        missing = self._count - len(self._jobs)
        if missing > 0:
            self._submit(missing)
        return missing

    def dismiss(self) -> None:
        if self._jobs:
            subprocess.run(["scancel", *self._jobs], capture_output=True, check=False)


def _train_masters(
    out: Console, packs: Sequence[PreparedPack], settings: Settings, parameters: dict[str, Any]
) -> None:
    """Runs whose workers are on the real clock: the master works here, its workers are jobs."""
    home = folder(settings).resolve()
    home.chmod(0o700)  # the workers' key is in it
    hire = functools.partial(Workers, home, parameters)
    hired = [pack._replace(loop=cast(MasterLoop, pack.loop)._replace(hire=hire)) for pack in packs]
    out.print(f"masters work here, their workers are jobs; logs in {home}")
    inprocess.train(out, hired, settings)


def _without(packs: Sequence[PreparedPack], names: set[str]) -> list[PreparedPack]:
    left = (p._replace(runs=[r for r in p.runs if r.config.run_id not in names]) for p in packs)
    return [pack for pack in left if pack.runs]


def train(
    out: Console,
    packs: Sequence[PreparedPack],
    settings: Settings,
    *,
    retries: int = 3,
    **parameters: Any,
) -> None:
    """Submit all packs and watch until their runs have ended; masters of workers train here, first.

    Jobs of an earlier sweep that still wait or work are watched, not submitted again. A job that broke
    is halved and submitted again, ``retries`` times; one that was cancelled is not.
    """
    masters = [pack for pack in packs if isinstance(pack.loop, MasterLoop)]
    if masters:
        _train_masters(out, masters, settings, parameters)
    packs = [pack for pack in packs if not isinstance(pack.loop, MasterLoop)]
    if not packs:
        return
    earlier = adopted(settings)
    home = folder(settings).resolve()
    executor = _executor(home, parameters)
    configs = [run.config for pack in packs for run in pack.runs]
    # Those that ended while this sweep planned: their jobs are no longer known.
    finished = {config.run_id for config in configs if not is_unfinished(settings, config.run_id)}
    others = _without(packs, finished.union(*earlier.values()))
    tasks = [Task(pack, f"task_{i:04d}") for i, pack in enumerate(others)]
    jobs: dict[str, Task | None] = dict.fromkeys(earlier)
    jobs |= _submit(out, executor, home, tasks, settings)
    out.print(f"{len(tasks)} tasks submitted, {len(earlier)} of an earlier sweep go on; logs in {home}")
    with PackProgress(out, f"{len(jobs)} jobs", configs) as progress:
        try:
            while jobs:
                time.sleep(POLL_SECONDS)
                poll(settings.study_dir, configs, progress)
                more: list[Task] = []
                for i, state in _ended(jobs):
                    task = jobs.pop(i)
                    if task and any(is_unfinished(settings, r.config.run_id) for r in task.pack.runs):
                        out.print(f"job {i} ({task.name}): {state}", markup=False)
                        if state != "CANCELLED":
                            more += again(task, settings, retries, f"job {i} ended {state}")
                jobs |= _submit(out, executor, home, more, settings)
        except KeyboardInterrupt:
            out.print(f"{len(jobs)} jobs go on unwatched; the same command watches them again")
            raise


def _ended(jobs: dict[str, Any]) -> list[tuple[str, str]]:
    """Jobs that will do nothing more, and how SLURM calls that."""
    now = states()
    if now is None:
        return []
    found = ((i, now.get(i, "gone from the queue")) for i in jobs)
    return [(i, state) for i, state in found if state in ENDED or i not in now]
