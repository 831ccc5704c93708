"""Worker processes on this machine: one per accelerator, or a few cores each."""

import math
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sparse_rl.kernels.machine import MEMORY
from sparse_rl.runs import PreparedPack, cut
from sparse_rl.sweeps.places import DEVICES, FRACTION, Place, how_it_ended, places, start_worker
from sparse_rl.sweeps.plan import amount
from sparse_rl.sweeps.progress import PackProgress, poll
from sparse_rl.sweeps.tasks import Settings, Task, again, folder, saved, write_task

POLL_SECONDS = 0.5


def tasks_of(packs: Sequence[PreparedPack], processes: int) -> list[Task]:
    """Packs cut so that there is work for every process, where there are runs enough."""
    size = math.ceil(sum(len(pack.runs) for pack in packs) / processes)
    parts = [part for pack in packs for part in cut(pack, size)]
    return [Task(part, f"task_{i:04d}") for i, part in enumerate(parts)]


def _start(task: Task, home: Path, settings: Settings, place: Place) -> "subprocess.Popen[bytes]":
    path = home / f"{task.name}.json"
    task.saved = saved(task.pack, settings)
    write_task(path, [run.config for run in task.pack.runs], settings)
    return start_worker(path, place)


def describe(
    packs: Sequence[PreparedPack],
    settings: Settings,
    *,
    workers: int | None = None,
    packs_per_job: int = 1,
    retries: int = 3,
) -> list[str]:
    """What would be started where."""
    devices = settings.devices_per_pack
    free = places(workers, packs_per_job, devices)
    on = "accelerator" if DEVICES in free[0] else "share of the cores"
    each = f"one {on} each" if FRACTION not in free[0] else f"{packs_per_job} on each accelerator"
    each = f"{devices} accelerators each" if devices > 1 else each
    tasks = len(tasks_of(packs, len(free))) if packs else 0
    memory = amount(int(free[0][MEMORY]), "B")
    return [f"{tasks} tasks for {len(free)} worker processes, {each}, {memory} of memory each"]


def train(
    out: Console,
    packs: Sequence[PreparedPack],
    settings: Settings,
    *,
    workers: int | None = None,
    packs_per_job: int = 1,
    retries: int = 3,
) -> None:
    """Train all packs in worker processes.

    A worker that breaks costs what its runs did since their last checkpoints: the rest of its task is
    halved and tried again, ``retries`` times.
    """
    if not packs:
        return
    free: list[Place] = [*places(workers, packs_per_job, settings.devices_per_pack)]
    home = folder(settings)
    waiting = tasks_of(packs, len(free))
    busy: list[tuple[subprocess.Popen[bytes], Task, Place]] = []
    configs = [run.config for pack in packs for run in pack.runs]
    ended = set[str]()
    with PackProgress(out, f"{len(waiting)} tasks, {len(free)} workers", configs) as progress:
        try:
            while waiting or busy:
                while waiting and free:
                    task, place = waiting.pop(0), free.pop(0)
                    busy.append((_start(task, home, settings, place), task, place))
                time.sleep(POLL_SECONDS)
                poll(settings.study_dir, configs, progress, ended)
                for worker, task, place in [item for item in busy if item[0].poll() is not None]:
                    busy.remove((worker, task, place))
                    free.append(place)
                    if worker.returncode:
                        reason = how_it_ended(worker.returncode, home / f"{task.name}.log")
                        out.print(f"{task.name}: {reason}", markup=False)
                        waiting += again(task, settings, retries, reason)
        finally:
            for worker, *_ in busy:
                worker.terminate()
            for worker, *_ in busy:
                worker.wait()
        poll(settings.study_dir, configs, progress, ended)
