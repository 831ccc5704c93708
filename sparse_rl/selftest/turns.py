"""Processes that are measured in turns, so that a slow minute of the machine slows all alike.

Each is ready when it has said so, and answers every line that it is sent with one of JSON.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

KEEP_MEMORY = {f"MALLOC_{name}_": str(1 << 34) for name in ("MMAP_THRESHOLD", "TRIM_THRESHOLD")}
"""Between calls the allocator keeps what it has, as inside a loop of hundreds of updates: taking large
arrays from the system anew for every few updates would be a tenth of their time."""
READY = "ready"

Answer = dict[str, Any]


def answer(measure: Callable[[], Mapping[str, Any]]) -> None:
    """In such a process: measure whenever a line comes."""
    print(READY, flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure()), flush=True)


@contextmanager
def worker(module: str, what: Any, more: Mapping[str, str]) -> "Iterator[subprocess.Popen[str]]":
    """A process of ``python -m module WHAT``, as JSON, with these variables besides; ready soon.

    Raises:
        RuntimeError: from :func:`ready`, if it does not come so far.
    """
    command = [sys.executable, "-m", module, json.dumps(what)]
    variables = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", **KEEP_MEMORY, **more}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _ended(process: "subprocess.Popen[str]", when: str) -> RuntimeError:
    return RuntimeError(f"a process ended {when}: {str(process.args)[-200:]}")


def ready(process: "subprocess.Popen[str]") -> None:
    """Wait until a process can be measured.

    Raises:
        RuntimeError: it ended instead.
    """
    assert process.stdout
    for line in process.stdout:
        if line.strip() == READY:
            return
    raise _ended(process, "before it was ready")


def ask(process: "subprocess.Popen[str]") -> None:
    """Have it measure."""
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def hear(process: "subprocess.Popen[str]") -> Answer:
    """What it measured.

    Raises:
        RuntimeError: it ended instead.
    """
    assert process.stdout
    for line in process.stdout:
        if line.startswith("{"):
            found: Answer = json.loads(line)
            return found
    raise _ended(process, "while it was measured")


def measure(process: "subprocess.Popen[str]") -> Answer:
    """Ask and hear."""
    ask(process)
    return hear(process)


def side_by_side(processes: "Sequence[subprocess.Popen[str]]") -> list[Answer]:
    """All at the same time."""
    for process in processes:
        ask(process)
    return [hear(process) for process in processes]


def compare(workers: "Mapping[str, subprocess.Popen[str]]", rounds: int) -> dict[str, Answer]:
    """Rounds in turn; per process the last answer with the median of ``seconds``."""
    turns = [{name: measure(process) for name, process in workers.items()} for _ in range(rounds)]
    return {
        name: turns[-1][name] | {"seconds": statistics.median(each[name]["seconds"] for each in turns)}
        for name in workers
    }
