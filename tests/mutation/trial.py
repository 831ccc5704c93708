"""One fault in a copy of the tree, and whether a test notices."""

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

LEFT_OUT = (".git", "results", ".venv", "docs", "benchmarks", "*.egg-info", "__pycache__", ".mypy_cache")
NOTICED = (1, 2)
"""pytest's statuses: a test failed; a file of tests could not be loaded."""
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


@contextmanager
def copied(root: Path = ROOT) -> Iterator[Path]:
    """A copy of the tree, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="sparse_rl_mutant_"))
    try:
        shutil.copytree(
            root, folder, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT_OUT)
        )
        yield folder
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


def run(copy: Path, tests: Sequence[str], timeout: float) -> tuple[int, str]:
    """pytest's status and output; one that hangs counts as a failure."""
    command = [
        *(sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider"),
        *tests,
    ]
    paths = os.pathsep.join((str(copy), str(copy / "tests")))
    env = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=copy, env=env, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return 1, "FAILED within its time\n"
    return done.returncode, done.stdout + done.stderr


def killer_of(output: str) -> str:
    """The test that failed first, from pytest's short summary."""
    for line in output.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return line.split(" ", 1)[1].split(" - ")[0].strip()
    return "pytest itself"


def attempt(fault: Fault, copy: Path, tests: Sequence[str], timeout: float) -> Outcome:
    """Put the fault into the copy, run the tests until one fails, and take it out again.

    Raises ``RuntimeError`` where pytest found no test, which would look as if all had passed.
    """
    path = copy / fault.file
    text = path.read_text()
    begun = time.monotonic()
    path.write_text(fault.put(text))
    try:
        status, output = run(copy, tests, timeout)
    finally:
        path.write_text(text)
    killed = status in NOTICED or CANNOT_BEGIN in output
    if status != 0 and not killed:
        raise RuntimeError(f"pytest ended with {status} for {fault.file}: {output[-500:]}")
    seconds = time.monotonic() - begun
    return Outcome(killed, killer_of(output) if killed else "", seconds, len(tests))
