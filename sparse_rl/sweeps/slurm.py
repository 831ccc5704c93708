"""SLURM through submitit: one job array, one task per element.

What SLURM does not take is offered again; what it ends is followed up (:class:`Queue`).
"""

import dataclasses
import functools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import submitit
from rich.console import Console

from sparse_rl.loops import MasterLoop
from sparse_rl.records import results
from sparse_rl.runs import PreparedPack
from sparse_rl.settings.launchers import SlurmConfig, build_launcher, check_job, lines
from sparse_rl.settings.run import RunConfig
from sparse_rl.settings.schema import ConfigError
from sparse_rl.simulators import plant_worker
from sparse_rl.simulators.plant_worker import Address
from sparse_rl.sweeps import inprocess
from sparse_rl.sweeps.locks import FOLDER, is_owned
from sparse_rl.sweeps.progress import PackProgress, last_line, poll
from sparse_rl.sweeps.squeue import (
    ENDED,
    JOBS,
    RefusedError,
    alive,
    array_limit,
    may_requeue,
    reasons,
    states,
)
from sparse_rl.sweeps.tasks import (
    Settings,
    Task,
    again,
    folder,
    is_unfinished,
    saved,
    status_of,
    train_task_file,
    write_task,
)

PATIENCE = (2.0, 30.0)
"""Seconds between two looks at the queue, when a sweep is young and when it has lasted."""
BACK_OFF = (5.0, 300.0)
"""Seconds until what SLURM refused is offered again: at first, and at most."""
GONE = "gone from the queue"
LEFT_ALONE = ("TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
"""Ends of jobs that are no fault of their runs."""
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
        """Called by submitit when SLURM announces preemption or the time limit.

        Where a job may not be queued again it ends, and whoever watches submits another.
        """
        self._stop.set()
        self._training.join()
        if not may_requeue(os.environ.get("SLURM_JOB_ID", "")):
            print("saved; this job may not be queued again", flush=True)
            sys.exit(0)
        return submitit.helpers.DelayedSubmission(TrainTask(), path)


class _Executor(submitit.SlurmExecutor):
    """Can write the text of a job on a machine without SLURM."""

    @classmethod
    def affinity(cls) -> int:
        return 1


def executor_of(home: Path, parameters: Mapping[str, Any]) -> submitit.SlurmExecutor:
    """Who submits, with parameters that fit each other.

    Raises:
        ConfigError: a parameter is unknown, of a wrong kind, or does not fit the others.
    """
    given = cast(SlurmConfig, build_launcher("slurm", parameters))
    limit, warning = given.timeout_min * 60, given.signal_delay_s
    if limit < warning + 2 * EARLY_SECONDS:
        raise ConfigError(
            f"hydra.launcher.timeout_min={given.timeout_min} is too short: SLURM warns "
            f"signal_delay_s={warning} s before the end, and up to {EARLY_SECONDS} s earlier; "
            f"give at least {-(-(warning + 2 * EARLY_SECONDS) // 60)}"
        )
    # A job may be requeued as often as it takes.
    executor = _Executor(home, max_num_timeout=1_000_000, python=given.python)
    named = {
        SBATCH_NAMES.get(field.name, field.name): getattr(given, field.name)
        for field in dataclasses.fields(given)
        if field.name not in ("python", "retries") and getattr(given, field.name) is not None
    }
    named["mem"] = None if given.mem_gb is None else f"{math.ceil(given.mem_gb * 1024)}MB"
    named |= {name: lines(named[name]) or None for name in ("setup", "teardown", "srun_args")}
    executor.update_parameters(**{name: value for name, value in named.items() if value is not None})
    return executor


def describe(
    packs: Sequence[PreparedPack], settings: Settings, *, retries: int = 3, **parameters: Any
) -> list[str]:
    """What would be submitted: the array, and the text of its jobs."""
    home = settings.study_dir.resolve() / FOLDER / "<time>"
    executor = executor_of(home, parameters)
    check_job(cast(SlurmConfig, build_launcher("slurm", parameters)), settings.devices_per_pack)
    masters = sum(isinstance(pack.loop, MasterLoop) for pack in packs)
    tasks = len(packs) - masters
    most = array_limit()
    if tasks > 1:
        executor.parameters["map_count"] = min(tasks, most)
    text = executor._make_submission_file_text(executor._submitit_command_str, "")
    arrays = f" in {-(-tasks // most)} arrays of at most {most}" if tasks > most else ""
    said = [f"\nSLURM: {tasks} tasks, one pack each{arrays}; sbatch would read", text]
    here = f"\n{masters} packs train here, the workers of each run in an array of jobs of their own"
    return [here, *said] if masters else said


def _submit(
    executor: submitit.SlurmExecutor, home: Path, tasks: Sequence[Task], settings: Settings
) -> dict[str, Task]:
    """Submit tasks as one array; job id → task.

    Raises:
        RefusedError: SLURM did not take them.
    """
    paths = [home / f"{task.name}.json" for task in tasks]
    for path, task in zip(paths, tasks, strict=True):
        task.saved = saved(task.pack, settings)
        write_task(path, [run.config for run in task.pack.runs], settings)
    try:
        jobs = executor.map_array(TrainTask(), list(map(str, paths)))
    except (RuntimeError, subprocess.SubprocessError) as error:
        raise RefusedError(str(error)) from error
    submitted = {job.job_id: task for job, task in zip(jobs, tasks, strict=True)}
    known = home / JOBS
    before = json.loads(known.read_text()) if known.exists() else {}
    runs = {i: [run.config.run_id for run in task.pack.runs] for i, task in submitted.items()}
    results.write_text(known, json.dumps({**before, **runs}))
    return submitted


@dataclass
class Queue:
    """Tasks of a sweep on their way through SLURM: those that wait for it, and those that it has."""

    out: Console
    executor: submitit.SlurmExecutor
    home: Path
    settings: Settings
    retries: int
    waiting: list[Task]
    jobs: dict[str, Task | None] = field(default_factory=dict)
    """Job id → its task; ``None``: of an earlier sweep."""
    held: list[Task] = field(default_factory=list)
    """Tasks whose runs another process trains."""
    taken: int = 0
    most: int = field(default_factory=array_limit)
    _again_at: float = 0.0
    _pause: float = BACK_OFF[0]
    _told: str = ""

    def offer(self) -> None:
        """Submit what waits, in arrays as large as SLURM takes them; the rest is offered again later.

        Raises:
            ConfigError: SLURM will take none of it, and has nothing of this sweep.
        """
        size = self.most
        while self.waiting and time.monotonic() >= self._again_at:
            some = self.waiting[:size]
            try:
                self.jobs |= _submit(self.executor, self.home, some, self.settings)
            except RefusedError as why:
                if why.for_room and len(some) > 1:
                    size = len(some) // 2
                    continue
                self._refused(why)
                return
            del self.waiting[: len(some)]
            self.taken += len(some)
            self._pause = BACK_OFF[0]

    def _refused(self, why: RefusedError) -> None:
        nothing_leaves = why.for_room and not self.jobs and not _anything_alive()
        if not why.passing or nothing_leaves:
            if not self.jobs:
                raise ConfigError(f"SLURM does not take the jobs: {why}")
            self.out.print(f"SLURM does not take {len(self.waiting)} tasks: {why}", markup=False)
            self.waiting.clear()
            return
        self._again_at = time.monotonic() + self._pause
        if str(why) != self._told:
            again = "they are offered again, less and less often"
            left = f"SLURM did not take {len(self.waiting)} tasks now: {why}; {again}"
            self.out.print(left, markup=False)
        self._told, self._pause = str(why), min(2 * self._pause, BACK_OFF[1])

    def look(self) -> str:
        """Follow up jobs that have ended; why others wait, in words."""
        free = [task for task in self.held if not any(map(is_owned, self._left(task)))]
        self.held = [task for task in self.held if task not in free]
        self.waiting += [task for task in free if self._left(task)]
        now = states()
        if now is None:
            return "SLURM does not answer"
        for job in [i for i in self.jobs if i not in now or now[i].state in ENDED]:
            task = self.jobs.pop(job)
            if task:
                self._follow(job, task, now[job].state if job in now else GONE)
        return reasons(now[job] for job in self.jobs)

    def _left(self, task: Task) -> list[Path]:
        """Folders of a task's runs that are not finished."""
        names = [run.config.run_id for run in task.pack.runs]
        study = self.settings.study_dir
        return [study / name for name in names if is_unfinished(self.settings, name)]

    def _follow(self, job: str, task: Task, state: str) -> None:
        left = self._left(task)
        if not left:
            return
        log = self.home / f"{job}_0_log.err"
        if state == "CANCELLED":
            self.out.print(f"job {job} ({task.name}): {state}", markup=False)
        elif any(map(is_owned, left)):
            said = "runs of it are trained elsewhere; it is submitted again once they are free"
            self.out.print(f"job {job} ({task.name}): {said}", markup=False)
            self.held.append(task)
        elif _was_saved(state, task, self.settings):
            self.out.print(f"job {job} ({task.name}): {state}, runs saved; it goes on", markup=False)
            self.waiting.append(task.rest(self.settings))
        else:
            told = f"job {job} ended {state}: {last_line(log)} ({log})"
            self.out.print(f"{task.name}: {told}", markup=False)
            self.waiting += again(task, self.settings, self.retries, told)


def _was_saved(state: str, task: Task, settings: Settings) -> bool:
    """Whether a job ended as one does that had to leave, and its runs are further than before."""
    statuses = {status_of(settings.study_dir, run.config.run_id) for run in task.pack.runs}
    stopped = state == "COMPLETED" and "preempted" in statuses
    return (stopped or state in LEFT_ALONE) and task.progressed(settings)


def _anything_alive() -> bool:
    return any(standing.state not in ENDED for standing in (states() or {}).values())


class Workers:
    """Workers of a master on the real clock as a job array; jobs that end are submitted again."""

    def __init__(self, home: Path, parameters: dict[str, Any], address: Address, count: int) -> None:
        self._executor, self._address, self._count = executor_of(home, parameters), address, count
        self._jobs: list[str] = []
        self._again_at = 0.0
        self._submit(count)

    def _submit(self, count: int) -> None:
        """Submit workers, as many as SLURM takes now; :meth:`renew` asks for the others."""
        most = array_limit()
        for begun in range(0, count, most):
            addresses = [self._address] * min(most, count - begun)
            try:
                jobs = self._executor.map_array(plant_worker.work, addresses)
            except (RuntimeError, subprocess.SubprocessError) as error:
                why = RefusedError(str(error))
                if not why.passing:
                    raise ConfigError(f"SLURM does not take the workers: {why}") from error
                self._again_at = time.monotonic() + BACK_OFF[0]
                return
            self._jobs += [job.job_id for job in jobs]

    def renew(self) -> int:
        now = states() if time.monotonic() >= self._again_at else None
        if now is None:
            return 0
        self._jobs = [i for i in self._jobs if i in now and now[i].state not in ENDED]
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
    earlier = {job: runs for job, (_, runs) in alive(settings.study_dir / FOLDER).items()}
    home = folder(settings).resolve()
    configs = [run.config for pack in packs for run in pack.runs]
    # Those that ended while this sweep planned: their jobs are no longer known.
    finished = {config.run_id for config in configs if not is_unfinished(settings, config.run_id)}
    others = _without(packs, finished.union(*earlier.values()))
    tasks = [Task(pack, f"task_{i:04d}") for i, pack in enumerate(others)]
    queue = Queue(out, executor_of(home, parameters), home, settings, retries, tasks)
    queue.jobs |= dict.fromkeys(earlier)
    queue.offer()
    wait = f", {len(queue.waiting)} wait for room" if queue.waiting else ""
    told = f"{queue.taken} tasks submitted{wait}, {len(earlier)} of an earlier sweep go on"
    out.print(f"{told}; logs in {home}")
    name = f"{len(queue.jobs) + len(queue.waiting)} jobs"
    with PackProgress(out, name, configs, before="waiting") as progress:
        try:
            _watch(queue, configs, progress)
        except KeyboardInterrupt:
            out.print(f"{len(queue.jobs)} jobs go on unwatched; the same command watches them again")
            raise


def _watch(queue: Queue, configs: Sequence[RunConfig], progress: PackProgress) -> None:
    """Look until nothing is left to do, less often the longer it takes."""
    began, ended = time.monotonic(), set[str]()
    while queue.jobs or queue.waiting or queue.held:
        least, most = PATIENCE
        time.sleep(min(max(least, (time.monotonic() - began) / 60), most))
        poll(queue.settings.study_dir, configs, progress, ended)
        progress.wait(queue.look())
        queue.offer()
    poll(queue.settings.study_dir, configs, progress, ended)
