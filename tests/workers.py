"""How many workers the suite has, and what each of them holds."""

import functools
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import contexts
import jax
import pytest
from holding import PEAK, held

from sparse_rl.kernels import machine
from sparse_rl.kernels.compilation import give_back_memory

WORKER_BYTES = 3 << 30
"""What a worker of the suite and the processes that it starts come to hold."""
MOST_HELD = 5 << 29
"""What the worker itself may come to hold."""
MOST_WORKERS = 8
HERE = Path(__file__).parent
FIRST = ("sweeps/test_slurm.py", "sweeps/test_launchers.py", "test_mutants.py")
"""Files that take minutes, much of it in waiting. Begun last, they keep one worker after the rest."""

gc.set_threshold(50_000, 20, 20)  # a twentieth of the time goes to looking for garbage otherwise
gc.freeze()  # libraries are no garbage: nobody looks through them after each file

_peaks: dict[str, int] = {}
"""File of tests → bytes that a worker held at most while they ran."""


def free_memory() -> int:
    """Bytes that nobody needs now and that we may take; half of all where the system does not say."""
    told = Path("/proc/meminfo")
    lines = told.read_text().splitlines() if told.exists() else []
    for line in lines:
        if line.startswith("MemAvailable:"):
            return min(int(line.split()[1]) << 10, machine.allowed_bytes())
    return machine.allowed_bytes() // 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """``-n auto``: one worker more than there are cores, as far as memory goes now. Tests of launchers
    wait for minutes, for daemons and for processes that they kill."""
    return max(1, min(machine.cores() + 1, free_memory() // WORKER_BYTES, MOST_WORKERS))


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Those of :data:`FIRST` come first; ``--no-loadscope-reorder`` keeps it so."""
    first = {HERE / name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: first.get(item.path, len(first)))


def forget_programs() -> None:
    """Let go of all that was compiled here, or kept by a cache of the tests, and of its memory."""
    for module in list(sys.modules.values()):
        if HERE in Path(getattr(module, "__file__", None) or "/").parents:
            for function in vars(module).values():
                if isinstance(function, functools._lru_cache_wrapper):
                    function.cache_clear()
    jax.clear_caches()
    contexts.renew()
    gc.collect()
    give_back_memory()


def most_held() -> int:
    """Bytes of memory that this process had at most; 0 where the system does not say."""
    return held("VmHWM")


def check_memory(file: str) -> None:
    """Raises ``MemoryError`` where this process took more than its share while a file's tests ran."""
    peak = _peaks[file] = most_held()
    if peak > MOST_HELD:
        raise MemoryError(f"{file} took a worker to {peak >> 20} MB; {MOST_HELD >> 20} are allowed")


@pytest.fixture(autouse=True, scope="module")
def programs_go_with_their_file(request: pytest.FixtureRequest) -> Iterator[None]:
    """A worker takes many files, and none uses the programs of another: kept, they come to 6 GB."""
    if PEAK.exists():
        PEAK.write_text("5")
    yield
    forget_programs()
    check_memory(request.node.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker says what it held."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peaks"] = dict(_peaks)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """The process that the workers tell listens."""
    _peaks.update(getattr(node, "workeroutput", {}).get("peaks", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The files with the highest peaks."""
    highest = sorted(_peaks.items(), key=lambda peak: -peak[1])[:5]
    told = ", ".join(f"{file} {peak >> 20} MB" for file, peak in highest if peak)
    if told:
        terminalreporter.write_line(f"memory of a worker, at most: {told}")
