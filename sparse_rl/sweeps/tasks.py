"""A task is what one process trains: runs of one pack that nobody else is training."""

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from sparse_rl.kernels.compilation import use_cache
from sparse_rl.records import checkpoints, results
from sparse_rl.runs import (
    OUT_OF_MEMORY,
    Policy,
    PreparedPack,
    Progress,
    Recorder,
    Watch,
    halves,
    parts_that_fit,
    prepare_pack,
    train_pack,
)
from sparse_rl.settings.run import RunConfig, named, run_config
from sparse_rl.sweeps.locks import FOLDER, lock_of

PATIENCE_SECONDS = 0.1
"""Whoever only asks whether a run is owned holds its lock for a moment."""


class Settings(NamedTuple):
    """What holds for a whole sweep and changes no run's numbers."""

    study_dir: Path
    logging: str = "none"
    checkpoint_every: int | None = None
    """Env steps between checkpoints; ``None``: once a minute."""
    retry_failed: bool = False
    keep_state: bool = False
    """Whether the state at the end of a run stays on disk."""
    keep_best: bool = False
    """Whether what the best evaluation saw stays there."""
    devices_per_pack: int = 1
    """Devices of one process that a pack's runs are shared out over."""

    @property
    def finished(self) -> tuple[str, ...]:
        """Statuses of runs that are not trained again."""
        return ("done", "diverged") if self.retry_failed else ("done", "diverged", "failed")


def status_of(study_dir: Path, run_id: str) -> str:
    """What the disk says of a run; ``pending`` if nothing, or nothing that can be read."""
    return str(results.known_run(study_dir / run_id).get("status", "pending"))


def is_unfinished(settings: Settings, run_id: str) -> bool:
    """Whether a run is still to be trained."""
    return status_of(settings.study_dir, run_id) not in settings.finished


@contextmanager
def owned(configs: Sequence[RunConfig], settings: Settings) -> Iterator[list[RunConfig]]:
    """Those runs that nobody else trains or has finished meanwhile; they are ours inside the block."""
    with contextlib.ExitStack() as stack:
        ours = []
        for config in configs:
            lock = lock_of(settings.study_dir / config.run_id)
            try:
                stack.enter_context(lock.acquire(timeout=PATIENCE_SECONDS, poll_interval=0.02))
            except Timeout:
                continue
            if status_of(settings.study_dir, config.run_id) not in settings.finished:
                ours.append(config)
        yield ours


@contextmanager
def _owned_part(pack: PreparedPack, settings: Settings) -> Iterator[PreparedPack]:
    """The part of a pack that is :func:`owned`."""
    with owned([run.config for run in pack.runs], settings) as ours:
        names = {config.run_id for config in ours}
        yield pack._replace(runs=[run for run in pack.runs if run.config.run_id in names])


def _ran_out_of_memory(study_dir: Path, run_id: str) -> bool:
    record = results.known_run(study_dir / run_id)
    reason = str(record.get("reason"))
    return record.get("status") == "failed" and any(sign in reason for sign in OUT_OF_MEMORY)


def train_task(pack: PreparedPack, settings: Settings, watch: Watch, stop: threading.Event) -> None:
    """Train those runs of a pack that are free. How each ended is on disk.

    More than this process's devices hold are trained one part after the other. Runs that ran out of
    memory are tried again in halves, down to each alone.
    """
    with _owned_part(pack, settings) as ours:
        for part in parts_that_fit(ours, settings.devices_per_pack):
            if not stop.is_set():
                _train(part, settings, watch, stop)


def _train(pack: PreparedPack, settings: Settings, watch: Watch, stop: threading.Event) -> None:
    policy = Policy(every=settings.checkpoint_every, keep=settings.keep_state, best=settings.keep_best)
    options = {"logging": settings.logging, "watch": watch, "policy": policy, "stop": stop}
    devices = settings.devices_per_pack
    train_pack(pack, settings.study_dir, devices=devices, **options)  # type: ignore[arg-type]
    if len(pack.runs) == 1 or stop.is_set():
        return
    study = settings.study_dir
    exhausted = [run for run in pack.runs if _ran_out_of_memory(study, run.config.run_id)]
    for half in halves(pack._replace(runs=exhausted)):
        _train(half, settings, watch, stop)


def record_failure(pack: PreparedPack, settings: Settings, reason: str) -> None:
    """Record that nobody could train these runs."""
    with _owned_part(pack, settings) as ours:
        for run in ours.runs:
            recorder = Recorder(settings.study_dir / run.config.run_id, run.config, run.costs, "none")
            recorder.finish("failed", reason, {})


def saved(pack: PreparedPack, settings: Settings) -> dict[str, int]:
    """run_id → env steps that a crash would leave: a finished run's, else its newest checkpoint's."""

    def of(config: RunConfig) -> int:
        if not is_unfinished(settings, config.run_id):
            return config.env_steps
        return max(checkpoints.steps(settings.study_dir / config.run_id), default=0)

    return {run.config.run_id: of(run.config) for run in pack.runs}


@dataclass
class Task:
    """Runs of one pack for one process, and how often processes broke on them in vain."""

    pack: PreparedPack
    name: str
    crashes: int = 0
    saved: dict[str, int] = field(default_factory=dict)
    """:func:`saved` when it was last handed out."""

    def progressed(self, settings: Settings) -> bool:
        """Whether a run got further, for good, since the task was handed out."""
        return any(now > self.saved.get(i, 0) for i, now in saved(self.pack, settings).items())

    def rest(self, settings: Settings) -> "Task":
        """What is left of it, together."""
        left = [r for r in self.pack.runs if is_unfinished(settings, r.config.run_id)]
        return Task(self.pack._replace(runs=left), self.name)

    def halves(self, settings: Settings) -> list["Task"]:
        """What is left after a crash: two tasks, so that a run that kills its process is found."""
        parts = halves(self.rest(settings).pack)
        return [Task(part, f"{self.name}{'ab'[i]}", self.crashes + 1) for i, part in enumerate(parts)]


def again(task: Task, settings: Settings, retries: int, reason: str) -> list[Task]:
    """The tasks that take a broken one's place; none after too many crashes that saved nothing."""
    if task.progressed(settings):
        task.crashes = 0
    halves = task.halves(settings)
    if task.crashes < retries:
        return halves
    for half in halves:
        record_failure(half.pack, settings, f"{reason}, {task.crashes + 1} times")
    return []


def folder(settings: Settings) -> Path:
    """A new folder for what belongs to this sweep and to no run: tasks and logs."""
    stamp = f"{datetime.now():%Y%m%d_%H%M%S}_{os.getpid()}"
    made = settings.study_dir / FOLDER / stamp
    made.mkdir(parents=True)
    return made


def write_task(path: Path, configs: Sequence[RunConfig], settings: Settings) -> None:
    """Write a task for a worker as JSON."""
    task = {
        "settings": settings._asdict() | {"study_dir": str(settings.study_dir.resolve())},
        "runs": [dataclasses.asdict(config) for config in configs],
        "run_ids": [config.run_id for config in configs],
    }
    results.write_record(path, task)


def read_task(path: Path) -> tuple[list[RunConfig], Settings]:
    """What :func:`write_task` wrote.

    Raises:
        RecordError: it is damaged: another run would train under the name of one.
    """
    task = results.read_record(path, "settings")
    settings = Settings(**task["settings"] | {"study_dir": Path(task["settings"]["study_dir"])})
    configs = [run_config(run) for run in task["runs"]]
    names = task.get("run_ids") or [config.run_id for config in configs]  # of a sweep before there were
    return [named(config, name) for config, name in zip(configs, names, strict=True)], settings


def train_task_file(path: Path, stop: threading.Event) -> None:
    """Train a task that :func:`write_task` wrote, without progress: whoever watches reads the disk."""
    use_cache()
    configs, settings = read_task(path)
    train_task(prepare_pack(configs), settings, _print_notes, stop)


def _print_notes(progress: Progress) -> None:
    if progress.note:
        with contextlib.suppress(OSError):  # a log on a full disk
            print(f"{progress.run_id}: {progress.note}", flush=True)
