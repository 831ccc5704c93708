"""One fault in a copy of the tree, and whether a test notices."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mutation.faults import ROOT, Fault
from mutation.nursery import LATE, LIBRARIES

LEFT_OUT = (".git", "results", ".venv", "benchmarks", "*.egg-info", "__pycache__", ".mypy_cache")
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""A fork has no threads, so none may be waiting before it."""
NOTICED = (1, 2)
"""pytest's statuses: a test failed; a file of tests could not be loaded. An error in it is 1 too."""
CANNOT_BEGIN = "while loading conftest"
"""What pytest says, with another status, where the code cannot even be imported."""


class Outcome(NamedTuple):
    """What became of a fault."""

    killed: bool
    killer: str
    """The first test that failed; empty: none did."""
    seconds: float
    asked: int
    """How many tests were to run."""


class Copy(NamedTuple):
    """A copy of the tree, and what runs tests in it."""

    folder: Path
    nursery: "subprocess.Popen[str]"


@contextmanager
def copied(root: Path = ROOT, libraries: Sequence[str] = LIBRARIES) -> Iterator[Copy]:
    """A copy of the tree with a nursery, both gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sparse_rl_mutant_"))
    left_out = shutil.ignore_patterns(*LEFT_OUT)
    paths = os.pathsep.join(map(str, (folder, folder / "tests", Path(__file__).parents[1])))
    env = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1", **ONE_THREAD}
    command = [sys.executable, "-m", "mutation.nursery", *libraries]
    try:
        shutil.copytree(root, folder, symlinks=True, dirs_exist_ok=True, ignore=left_out)
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=folder, env=env, stdin=pipe, stdout=pipe, text=True) as made:
            yield Copy(folder, made)
            made.terminate()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def affordable(tests: Sequence[str], seconds: dict[str, float], most: float) -> list[str]:
    """As many of the tests, in their order, as take so many seconds; one at least."""
    chosen: list[str] = []
    total = 0.0
    for test in tests:
        total += seconds.get(test, 1.0)
        if chosen and total > most:
            break
        chosen.append(test)
    return chosen


def run(copy: Copy, tests: Sequence[str], timeout: float) -> tuple[int, str]:
    """pytest's status and output; one that hangs counts as a failure."""
    stdin, stdout = copy.nursery.stdin, copy.nursery.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(json.dumps({"tests": list(tests), "timeout": timeout}) + "\n")
    stdin.flush()
    status, output = json.loads(stdout.readline())
    return status, output


def killer_of(status: int, output: str) -> str | None:
    """What noticed: the test that failed first, by pytest's summary, or pytest that could not begin."""
    if CANNOT_BEGIN in output or output == LATE:
        return "pytest itself"
    for line in output.splitlines():
        if status in NOTICED and line.startswith(("FAILED tests/", "ERROR tests/")):
            return line.split(" ", 1)[1].split(" - ")[0].strip()
    return None


def passes(copy: Copy, test: str, timeout: float = 300.0) -> bool:
    """Whether a test passes without any fault: if not, it cannot notice one."""
    return run(copy, [test], timeout)[0] == 0


def attempt(fault: Fault, copy: Copy, tests: Sequence[str], timeout: float) -> Outcome:
    """Put the fault into the copy, run the tests until one fails, and take it out again.

    Raises ``RuntimeError`` where pytest found no test, which would look as if all had passed.
    """
    path = copy.folder / fault.file
    text = path.read_text()
    begun = time.monotonic()
    path.write_text(fault.put(text))
    try:
        status, output = run(copy, tests, timeout)
    finally:
        path.write_text(text)
    killer = killer_of(status, output)
    if status != 0 and killer is None:
        raise RuntimeError(f"pytest ended with {status} for {fault.file}: {output[-500:]}")
    seconds = time.monotonic() - begun
    return Outcome(killer is not None, killer or "", seconds, len(tests))
