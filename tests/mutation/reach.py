"""Which tests reach a line: one run of the suite under coverage, with the test as context."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from mutation.faults import ROOT, Fault

EVERYTHING_ELSE = ("sweeps", "runs")
"""Rooms whose tests run whole sweeps, for lines that no test reaches in its own process."""


class Reach(NamedTuple):
    """What a run of the suite told."""

    tests: dict[tuple[str, int], set[str]]
    """(file, line) → tests that were running when it was."""
    seconds: dict[str, float]
    """How long each test took."""

    def of(self, fault: Fault, text: str) -> list[str]:
        """Tests to run, likely and quick ones first: those of its own room, then by their time.

        A function that is compiled runs once per program: where the tests of a file share one, only the
        first is seen to reach it. So files are asked, and the tests seen come first.
        """
        begin = fault.line(text)
        lines = range(begin, begin + fault.was.count("\n") + 1)
        seen = set().union(*(self.tests.get((fault.file, line), set()) for line in lines))
        files = {test.split("::")[0] for test in seen} or self.mirrored(fault)
        others = {test for test in self.seconds if test.split("::")[0] in files} - seen
        return [*self.sorted(seen, fault), *self.sorted(others, fault)]

    def mirrored(self, fault: Fault) -> set[str]:
        """Test files of the fault's room, or those that run whole sweeps."""
        for rooms in ((fault.room,), EVERYTHING_ELSE):
            places = tuple(place for room in rooms for place in (f"tests/{room}/", f"tests/test_{room}"))
            found = {test.split("::")[0] for test in self.seconds if test.startswith(places)}
            if found:
                return found
        return set()

    def sorted(self, tests: set[str], fault: Fault) -> list[str]:
        """A room's own tests first, then by time."""
        own = (f"tests/{fault.room}/", f"tests/test_{fault.room}")
        return sorted(tests, key=lambda t: (not t.startswith(own), self.seconds.get(t, 0.0), t))


def measure(folder: Path) -> None:
    """Run the suite under coverage; what it told lies in ``folder`` afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile"),
        *("--cov=sparse_rl", "--cov-context=test", "--cov-report="),
        *(f"--junitxml={folder / 'times.xml'}", "-o", "junit_family=xunit1"),
    ]
    env = os.environ | {"COVERAGE_FILE": str(folder / "coverage")}
    subprocess.run(command, cwd=ROOT, env=env, check=False)


def read(folder: Path) -> Reach:
    """What ``measure`` left. Raises ``FileNotFoundError`` where it has not been run."""
    from coverage import CoverageData

    for name in ("coverage", "times.xml"):
        if not (folder / name).exists():
            raise FileNotFoundError(folder / name)
    data = CoverageData(basename=str(folder / "coverage"))
    data.read()
    tests: dict[tuple[str, int], set[str]] = defaultdict(set)
    for file in data.measured_files():
        for line, contexts in data.contexts_by_lineno(file).items():
            reached = {context.split("|")[0] for context in contexts if context}
            tests[str(Path(file).relative_to(ROOT)), line] |= reached
    seconds = {}
    for case in ElementTree.parse(folder / "times.xml").iter("testcase"):
        seconds[f"{case.get('file')}::{case.get('name')}"] = float(case.get("time") or 0.0)
    return Reach(dict(tests), seconds)
