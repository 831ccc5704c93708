"""Worker processes on this machine: one per accelerator, or a few cores each."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from sparse_rl.kernels.machine import CORES, core_numbers
from sparse_rl.runs import PreparedPack, cut
from sparse_rl.sweeps.progress import PackProgress, last_line, poll
from sparse_rl.sweeps.tasks import Settings, Task, again, folder, saved, write_task

POLL_SECONDS = 0.5


def tasks_of(packs: Sequence[PreparedPack], processes: int) -> list[Task]:
    """Packs cut so that there is work for every process, where there are runs enough."""
    size = math.ceil(sum(len(pack.runs) for pack in packs) / processes)
    parts = [part for pack in packs for part in cut(pack, size)]
    return [Task(part, f"task_{i:04d}") for i, part in enumerate(parts)]


def places(workers: int | None, devices: int = 1) -> list[dict[str, str]]:
    """Environment variables that give each worker its own accelerators, or its own cores.

    Args:
        workers: how many; ``None``: as many as there is room for.
        devices: accelerators of a worker.

    Raises:
        ValueError: more workers than accelerators or cores.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [p.name.removeprefix("nvidia") for p in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    gpus = [d for d in (visible.split(",") if visible is not None else found) if d]
    cores = core_numbers()
    if devices > 1 and devices > len(gpus):
        raise ValueError(
            f"devices_per_pack={devices} is more than this machine's {len(gpus)} accelerators; "
            f"give at most {max(len(gpus), 1)}"
        )
    available = len(gpus) // devices or len(cores)
    workers = workers or available
    if workers > available:
        what = f"{len(gpus)} accelerators" if gpus else f"{len(cores)} cores"
        what += f", {devices} each (devices_per_pack)" if devices > 1 else ""
        raise ValueError(
            f"hydra.launcher.workers={workers} is more than this machine's {what}; "
            f"give at most {available}"
        )
    if gpus:
        groups = [gpus[i * devices : (i + 1) * devices] for i in range(workers)]
        return [{"CUDA_VISIBLE_DEVICES": ",".join(group)} for group in groups]
    return [{CORES: ",".join(map(str, cores[i::workers]))} for i in range(workers)]


def _start(
    task: Task, home: Path, settings: Settings, place: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    path = home / f"{task.name}.json"
    task.saved = saved(task.pack, settings)
    write_task(path, [run.config for run in task.pack.runs], settings)
    with path.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "sparse_rl.sweeps.worker", str(path)],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **place},
            start_new_session=True,  # Ctrl-C reaches this process, which asks the workers to stop
        )


def how_it_ended(code: int, log: Path) -> str:
    """A sentence about a worker that broke: its signal, or the last line that it wrote."""
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"worker ended by {signal.Signals(-code).name}"
    return f"worker ended with status {code}: {last_line(log)} ({log})"


def describe(
    packs: Sequence[PreparedPack], settings: Settings, *, workers: int | None = None, retries: int = 3
) -> list[str]:
    """What would be started where."""
    if retries < 0:
        raise ValueError(f"hydra.launcher.retries={retries} is not allowed; give 0 or more")
    devices = settings.devices_per_pack
    free = places(workers, devices)
    on = "one accelerator" if "CUDA_VISIBLE_DEVICES" in free[0] else "one share of the cores"
    on = f"{devices} accelerators" if devices > 1 else on
    tasks = len(tasks_of(packs, len(free))) if packs else 0
    return [f"{tasks} tasks for {len(free)} worker processes, {on} each"]


def train(
    out: Console,
    packs: Sequence[PreparedPack],
    settings: Settings,
    *,
    workers: int | None = None,
    retries: int = 3,
) -> None:
    """Train all packs in worker processes.

    A worker that breaks costs what its runs did since their last checkpoints: the rest of its task is
    halved and tried again, ``retries`` times.
    """
    if not packs:
        return
    free = places(workers, settings.devices_per_pack)
    home = folder(settings)
    waiting = tasks_of(packs, len(free))
    busy: list[tuple[subprocess.Popen[bytes], Task, dict[str, str]]] = []
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
