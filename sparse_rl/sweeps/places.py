"""What processes that train side by side get of a machine or a job: an accelerator, cores, memory."""

import contextlib
import itertools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from sparse_rl.kernels.machine import CORE_COUNT, CORES, MEMORY, allowed_bytes, core_numbers
from sparse_rl.settings.launchers import check_together
from sparse_rl.sweeps.progress import last_line

Place = Mapping[str, str]
"""Environment variables of a process."""
DEVICES, FRACTION = "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"
NO_DEVICE = ("", "-1", "none", "void", "NoDevFiles")
XLA_TAKES = 0.75
"""The share of an accelerator's memory that XLA takes where nobody says how much."""


def _visible() -> list[str]:
    """The accelerators that this process may see; none where nobody says, or says that there is none.

    CUDA reads no further than the first name that is none: ``-1``, and ``NoDevFiles`` of older SLURMs.
    """
    names = (name.strip() for name in os.environ.get(DEVICES, "").split(","))
    return list(itertools.takewhile(lambda name: name not in NO_DEVICE, names))


def accelerators() -> list[str]:
    """The accelerators of this machine that this process may use."""
    found = [p.name.removeprefix("nvidia") for p in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    return _visible() if DEVICES in os.environ else found


def _on(devices: Sequence[str], number: int, of: int) -> dict[str, str]:
    """The accelerator of one process, and its share of that memory where others are on it."""
    together = math.ceil(of / len(devices))
    place = {DEVICES: devices[number % len(devices)]}
    if together > 1:
        try:
            whole = float(os.environ.get(FRACTION, XLA_TAKES))
        except ValueError:
            raise ValueError(
                f"{FRACTION}={os.environ[FRACTION]} is not allowed; give a number"
            ) from None
        place[FRACTION] = f"{whole / together:.3f}"
    return place


def _several(devices: Sequence[str], workers: int | None, each: int) -> list[dict[str, str]]:
    """Workers with several accelerators of their own."""
    if each > len(devices):
        raise ValueError(
            f"devices_per_pack={each} is more than this machine's {len(devices)} accelerators; "
            f"give at most {max(len(devices), 1)}"
        )
    available = len(devices) // each
    if (workers or 1) > available:
        raise ValueError(
            f"hydra.launcher.workers={workers} is more than this machine's {len(devices)} accelerators, "
            f"{each} each (devices_per_pack); give at most {available}"
        )
    count = workers or available
    memory = {MEMORY: str(allowed_bytes() // count)}
    groups = [devices[i * each : (i + 1) * each] for i in range(count)]
    return [{DEVICES: ",".join(group)} | memory for group in groups]


def places(workers: int | None, packs_per_job: int = 1, devices_each: int = 1) -> list[dict[str, str]]:
    """What each worker process of this machine gets: accelerators, or cores; and its share of memory.

    Args:
        workers: accelerators or shares of the cores; ``None``: all accelerators, else all cores.
        packs_per_job: processes on each.
        devices_each: accelerators of a worker; several are no process's but its own.

    Raises:
        ValueError: more workers than accelerators or cores, or fewer accelerators than a worker needs.
    """
    check_together(packs_per_job, devices_each)
    devices, cores = accelerators(), core_numbers()
    if devices_each > 1:
        return _several(devices, workers, devices_each)
    available = len(devices) or len(cores) // packs_per_job
    workers = workers or max(available, 1)
    count = workers * packs_per_job
    if workers > available:
        what = f"{len(devices)} accelerators" if devices else f"{len(cores)} cores"
        each = f" with hydra.launcher.packs_per_job={packs_per_job} on each" if packs_per_job > 1 else ""
        most = f"give at most {available}" if available else f"give at most {len(cores)} packs_per_job"
        raise ValueError(
            f"hydra.launcher.workers={workers}{each} is more than this machine's {what}; {most}"
        )
    memory = {MEMORY: str(allowed_bytes() // count)}
    if devices:
        return [_on(devices[:workers], i, count) | memory for i in range(count)]
    return [{CORES: ",".join(map(str, cores[i::count]))} | memory for i in range(count)]


def _granted_bytes(cores: int) -> int:
    """The memory of this job: what SLURM tells, or less where something limits it."""
    whole, each = (os.environ.get(f"SLURM_MEM_PER_{of}", "") for of in ("NODE", "CPU"))
    told = int(whole) if whole.isdecimal() else int(each) * cores if each.isdecimal() else 0
    return min(told << 20 or allowed_bytes(), allowed_bytes())


def shares(packs: int) -> list[dict[str, str]]:
    """What each pack of this job gets of its cores, its memory and the accelerators that SLURM gave it.

    A process is kept to cores of its own only where SLURM keeps the job to its own: elsewhere other jobs
    may be on them.
    """
    numbers = core_numbers()
    granted = int(os.environ.get("SLURM_CPUS_PER_TASK", len(numbers)))
    devices, memory = _visible(), str(_granted_bytes(granted) // packs)
    found = []
    for i in range(packs):
        mine = [str(number) for number in numbers[i::packs]]
        place = {MEMORY: memory, CORE_COUNT: str(max(1, len(range(i, granted, packs))))}
        place |= {CORES: ",".join(mine)} if mine and len(numbers) == granted else {}
        found.append(place | (_on(devices, i, packs) if devices else {}))
    return found


def start_worker(path: Path, place: Place) -> "subprocess.Popen[bytes]":
    """Start a process that trains the task at ``path``; what it says is in a log beside it.

    SIGUSR1 and SIGUSR2, with which SLURM warns all processes of a job, end none that only just began.
    """
    command = [sys.executable, "-m", "sparse_rl.sweeps.worker", str(path)]
    with path.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            ["/bin/sh", "-c", 'trap "" USR1 USR2; exec "$@"', "worker", *command],
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
