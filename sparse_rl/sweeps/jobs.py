"""What a job of SLURM does: train a task in its own process, or several in processes side by side."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import submitit

from sparse_rl.records import results
from sparse_rl.sweeps.places import how_it_ended, shares, start_worker
from sparse_rl.sweeps.squeue import may_requeue
from sparse_rl.sweeps.tasks import is_unfinished, read_task, train_task_file

LOOK_SECONDS = 0.5


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
        return _queued_again(TrainTask(), path)


def _queued_again(task: Callable[..., None], *arguments: object) -> submitit.helpers.DelayedSubmission:
    """What submitit queues again. Where that is forbidden the job ends; who watches submits another."""
    if not may_requeue(os.environ.get("SLURM_JOB_ID", "")):
        print("saved; this job may not be queued again", flush=True)
        sys.exit(0)
    return submitit.helpers.DelayedSubmission(task, *arguments)


class End(NamedTuple):
    """How the process of one task ended, in a job of several."""

    broke: bool
    said: str


def _mark(task_file: Path) -> Path:
    return task_file.with_suffix(".ended")


def end_of(task_file: Path) -> End | None:
    """How the process of a task ended; ``None`` if it has not, or had a job of its own."""
    try:
        told = results.read_record(_mark(task_file), "broke")
    except results.RecordError:
        return None
    return End(bool(told["broke"]), str(told["said"])) if told else None


def forget_end(task_file: Path) -> None:
    """Forget how a task's process ended: another will train it."""
    _mark(task_file).unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    """Whether a task has a run to train. One whose process broke is left to whoever watches."""
    end = end_of(path)
    if end and end.broke:
        return False
    try:
        configs, settings = read_task(path)
    except results.RecordError:
        return True  # its process says so, and breaks alone
    return any(is_unfinished(settings, config.run_id) for config in configs)


class TrainTogether:
    """What a job of several tasks does: a process for each, which breaks alone.

    How each ended is noted at once beside its task, for whoever watches. Asked to leave, all save their
    runs, and the job lets itself be queued again.
    """

    def __call__(self, paths: Sequence[str]) -> None:
        """Train the tasks at ``paths``; a thread looks after the processes, signals come to this one.

        Raises:
            RuntimeError: a process broke; the others ended as they should.
        """
        self._leave, broken = threading.Event(), list[str]()
        signal.signal(signal.SIGTERM, lambda *_: self._leave.set())

        def look_after() -> None:
            try:
                _look_after(list(map(Path, paths)), self._leave, broken)
            except Exception as error:
                broken.append(f"{type(error).__name__}: {error}")

        self._looking = threading.Thread(target=look_after)
        self._looking.start()
        while self._looking.is_alive():
            self._looking.join(LOOK_SECONDS)
        if broken:
            raise RuntimeError("; ".join(broken))

    def checkpoint(self, paths: Sequence[str]) -> submitit.helpers.DelayedSubmission:
        """Called by submitit when SLURM announces preemption or the time limit."""
        self._leave.set()
        self._looking.join()
        return _queued_again(TrainTogether(), list(paths))


def _look_after(files: Sequence[Path], leave: threading.Event, broken: list[str]) -> None:
    """Train tasks in processes side by side, and note how each ends.

    Args:
        files: the tasks.
        leave: once it is set, all are asked to save their runs and to end.
        broken: what is to be said of those that broke; is added to.
    """
    busy: dict[Path, subprocess.Popen[bytes]] = {}
    try:
        for path, place in zip(files, shares(len(files)), strict=True):
            if _is_left(path):
                forget_end(path)
                busy[path] = start_worker(path, place)
        asked = False
        while busy:
            if leave.wait(LOOK_SECONDS) and not asked:
                asked = True
                for worker in busy.values():
                    worker.terminate()
            time.sleep(LOOK_SECONDS if asked else 0)
            for path, worker in [item for item in busy.items() if item[1].poll() is not None]:
                del busy[path]
                broken += _note(path, worker.returncode, asked)
    finally:
        for worker in busy.values():
            worker.terminate()
        for worker in busy.values():
            worker.wait()


def _note(path: Path, code: int, asked: bool) -> list[str]:
    """Note how a process ended that was asked to leave or not; what is to be said of one that broke."""
    said = how_it_ended(code, path.with_suffix(".log")) if code else "done"
    broke = code != 0 and not (asked and code == -signal.SIGTERM)
    with contextlib.suppress(OSError):  # a full disk: the job's own end tells
        results.write_record(_mark(path), {"broke": broke, "said": said})
    return [f"{path.stem}: {said}"] if broke else []
