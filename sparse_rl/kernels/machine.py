"""What this machine has: cores, memory, and the name of its processor.

Linux, macOS and Python's versions answer differently; whoever needs to know asks here.
"""

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

CORES = "SPARSE_RL_CORES"
"""Variable of a worker process: the numbers of the cores that are its share."""
CORE_COUNT, MEMORY = "SPARSE_RL_CORE_COUNT", "SPARSE_RL_MEMORY_BYTES"
"""Variables of a process beside others: how many cores and how much memory are its share."""
ASSUMED_BYTES = 8 << 30
"""The memory of a machine that does not tell."""
MEMBERSHIP = Path("/proc/self/cgroup")
"""Says which control groups this process is in, a line each: ``number:controllers:path``."""
GROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows control groups."""


def share() -> list[int]:
    """Numbers of the cores that :data:`CORES` names; none where it names none."""
    return [int(number) for number in os.environ.get(CORES, "").split(",") if number]


def core_numbers() -> list[int]:
    """Numbers of the cores that this process may use.

    Where the system does not say (macOS) they are the share that :data:`CORES` names, or else all.
    """
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return share() or list(range(os.cpu_count() or 1))


def cores() -> int:
    """How many cores this process may use, at least 1."""
    # From Python 3.13 on, what PYTHON_CPU_COUNT says is heeded, too.
    allowed = getattr(os, "process_cpu_count", os.cpu_count)()
    mine = os.environ.get(CORE_COUNT, "")
    return min([len(core_numbers()), allowed or 1, *([int(mine)] if mine.isdecimal() else [])])


def keep_to(numbers: Iterable[int]) -> None:
    """Keep this process to these cores, where the system can do that (Linux)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, numbers)


def memory_bytes() -> int:
    """The machine's memory, whoever uses it; :data:`ASSUMED_BYTES` if it does not tell."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return ASSUMED_BYTES
    return found if found > 0 else ASSUMED_BYTES


def allowed_bytes() -> int:
    """The memory that this process may take: the machine's, or less where something limits it.

    Limits are those of control groups, its own and all around it (``memory.max``, in version 1
    ``memory.limit_in_bytes``: containers and SLURM's jobs have them), of ``ulimit -v`` and ``-d``, and
    the share of a process beside others (:data:`MEMORY`).
    """
    share = os.environ.get(MEMORY, "")
    mine = [int(share)] if share.isdecimal() else []
    return min([memory_bytes(), *_of_groups(), *_of_ulimit(), *mine])


def _of_groups() -> list[int]:
    """Limits of the control groups that this process is in."""
    told = MEMBERSHIP.read_text().splitlines() if MEMBERSHIP.exists() else []
    found = []
    for line in told:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = GROUPS / "memory" if controllers else GROUPS  # version 2 has one tree, and names none
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        group = root / path.lstrip("/")
        # A container may see its own tree only, as the root, beside a path of the machine's.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                found += _limit(folder / name)
    return found


def _limit(file: Path) -> list[int]:
    try:
        told = file.read_text().strip()
    except OSError:
        return []
    return [int(told)] if told.isdecimal() else []  # else: max


def _of_ulimit() -> list[int]:
    try:
        import resource
    except ImportError:  # Windows
        return []
    limits = [resource.getrlimit(of)[0] for of in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return [limit for limit in limits if limit != resource.RLIM_INFINITY]


def peak_bytes() -> int:
    """The most memory that this process has held."""
    import resource  # Windows has none, and reads results

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def processor() -> str:
    """What code for just this processor depends on: a home may be shared by machines that differ."""
    told = Path("/proc/cpuinfo")
    if not told.exists():
        # macOS calls all of Apple's chips "arm": each machine stands for its own.
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    names = ("flags", "model name", "Features", "CPU ")  # the last two on ARM
    return "".join(line for line in told.read_text().splitlines() if line.startswith(names))
