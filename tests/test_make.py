"""Which Python ``make`` takes, with commands of our own on the path."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAKE = shutil.which("make")

pytestmark = pytest.mark.skipif(MAKE is None, reason="there is no make")


def put(folder: Path, name: str, version: tuple[int, int] | None) -> None:
    """A command that is Python of this version; ``None``: one that does not run, like pyenv's."""
    command = folder / name
    pretend = f"import sys; sys.version_info = {version}; "
    works = f'exec {sys.executable} -c "{pretend} $2"'
    command.write_text(f"#!/bin/sh\n{works if version else 'exit 127'}\n")
    command.chmod(0o755)


def planned(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """What ``make`` would do on a machine that has only the commands in a folder."""
    assert MAKE is not None
    return subprocess.run(
        [MAKE, "--dry-run", "demo", f"VENV={folder / 'venv'}", *arguments],
        cwd=ROOT,
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("commands", "taken"),
    [
        ({"python3.14": None, "python3.13": (3, 13), "python3.11": (3, 11)}, "python3.13"),
        ({"python3.14": (3, 14), "python3": (3, 12)}, "python3.14"),
        ({"python3.11": None, "python3": (3, 12)}, "python3"),
        ({"python3.12": (3, 10), "python3.11": (3, 11)}, "python3.11"),
    ],
)
def test_the_newest_python_that_runs_is_taken(
    tmp_path: Path, commands: dict[str, tuple[int, int] | None], taken: str
) -> None:
    for name, version in commands.items():
        put(tmp_path, name, version)
    assert planned(tmp_path).stdout.splitlines()[0] == f"{taken} -m venv {tmp_path / 'venv'}"


def test_another_one_can_be_chosen(tmp_path: Path) -> None:
    put(tmp_path, "python3.13", (3, 13))
    put(tmp_path, "mine", (3, 12))
    assert planned(tmp_path, "PYTHON=mine").stdout.startswith("mine -m venv")


@pytest.mark.parametrize("versions", [[], [(3, 10)], [(3, 15)]])
def test_without_one_there_is_one_clear_line(tmp_path: Path, versions: list[tuple[int, int]]) -> None:
    for version in versions:
        put(tmp_path, "python3", version)
    result = planned(tmp_path)
    assert result.returncode != 0
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    assert "no Python 3.11 to 3.14" in line
    assert "make PYTHON=/path/to/python" in line


@pytest.mark.parametrize(
    ("tests", "types", "passes"), [(0, 0, True), (1, 0, False), (0, 1, False), (3, 2, False)]
)
def test_tests_and_types_are_asked_side_by_side_and_both_must_pass(
    tmp_path: Path, tests: int, types: int, passes: bool
) -> None:
    """Commands that wait for each other: one after the other they would never end."""
    meet = "touch {0}; while [ ! -e {1} ]; do sleep 0.02; done; echo {2}; exit {3}"
    here, there = tmp_path / "tests", tmp_path / "types"
    commands = {
        "ruff": "exit 0",
        "python": meet.format(here, there, "the tests", tests),
        "mypy": meet.format(there, here, "the types", types),
    }
    (tmp_path / "bin").mkdir()
    for name, says in commands.items():
        command = tmp_path / "bin" / name
        command.write_text(f"#!/bin/sh\n{says}\n")
        command.chmod(0o755)
    (tmp_path / ".dev").touch()
    assert MAKE is not None
    done = subprocess.run(
        [MAKE, "--silent", "test", f"VENV={tmp_path}", f"--assume-old={tmp_path / '.dev'}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["the tests", "the types"], done.stderr
    assert (done.returncode == 0) == passes
