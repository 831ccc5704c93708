"""The house: doors at the top level, one-way imports, configuration as package data."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("agents", "pruning", "sweeps", "analysis", "conf")


@pytest.mark.parametrize("room", ROOMS)
def test_each_door_is_a_relative_link_to_its_room(room: str) -> None:
    door = ROOT / room
    assert door.is_symlink()
    assert door.readlink() == Path("sparse_rl") / room
    assert (door / ("sweep.yaml" if room == "conf" else "__init__.py")).exists()


def imported(folder: str) -> set[str]:
    """Modules of ours that the files under ``folder`` import."""
    path = ROOT / "sparse_rl" / folder
    found: set[str] = set()
    for file in [path] if path.is_file() else path.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                found.add(node.module)
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("sparse_rl")}


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("pruning", ("agents", "envs", "networks", "config", "experiment", "sweeps", "analysis")),
        ("analysis", ("agents", "envs", "networks", "pruning", "experiment", "sweeps", "config")),
        ("envs", ("agents", "pruning", "experiment", "sweeps", "analysis")),
        ("agents", ("experiment", "sweeps", "analysis")),
        ("experiment.py", ("sweeps", "analysis")),
        ("sweeps", ("analysis",)),
    ],
)
def test_imports_go_one_way(room: str, never: tuple[str, ...]) -> None:
    names = imported(room)
    assert names, "the check reads nothing"
    for other in never:
        assert not {n for n in names if n.split(".")[1:2] == [other]}, f"{room} imports {other}"


def test_every_library_import_of_analysis_is_free_of_jax() -> None:
    for file in (ROOT / "sparse_rl" / "analysis").rglob("*.py"):
        assert "jax" not in file.read_text()


def test_no_function_is_long() -> None:
    for file in (ROOT / "sparse_rl").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 70, f"{file}:{node.name}"
