"""The house: doors at the top level, one-way imports, configuration as package data."""

import ast
import os
import shutil
import subprocess
import sys
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
        (
            "kernels",
            ("agents", "envs", "networks", "pruning", "config", "experiment", "sweeps", "analysis"),
        ),
        ("analysis", ("agents", "envs", "networks", "pruning", "experiment", "sweeps", "config")),
        ("envs", ("agents", "pruning", "experiment", "sweeps", "analysis")),
        ("simulators", ("agents", "envs", "networks", "pruning", "config", "experiment", "sweeps")),
        ("agents", ("experiment", "sweeps", "analysis")),
        ("experiment.py", ("sweeps", "analysis")),
        ("torch_modules.py", ("agents", "envs", "experiment", "sweeps", "analysis")),
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


@pytest.mark.parametrize("statement", ["import agents", "from pruning import random_masks"])
def test_bare_imports_of_the_doors_are_refused(statement: str) -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "-"]
    result = subprocess.run(ruff, input=statement, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert "the top-level folder is only a door" in result.stdout


def test_the_wheel_sweeps_from_an_empty_directory(tmp_path: Path) -> None:
    """Configuration and the Hydra plugin travel with the package."""
    wheels, site, empty = tmp_path / "wheels", tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    source = tmp_path / "source"  # building in the checkout would leave files there
    shutil.copytree(
        ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(".git", ".venv", "results", "build")
    )
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(source)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = wheels.iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    arguments = ["width=8", "sparsity=0.5", "seed=0", "env_steps=200", "log_every=100"]
    where = (
        "import sparse_rl, hydra_plugins.sparse_rl_plugin as p; print(sparse_rl.__file__, p.__file__)"
    )
    run = {
        "cwd": empty,
        "capture_output": True,
        "text": True,
        "env": {**os.environ, "PYTHONPATH": str(site)},
    }
    found = subprocess.run([sys.executable, "-c", where], **run)  # type: ignore[call-overload]
    assert found.stdout.count(str(site)) == 2
    swept = subprocess.run([sys.executable, "-m", "sparse_rl.sweep", *arguments], **run)  # type: ignore[call-overload]
    assert swept.returncode == 0, swept.stderr
    assert len(list(empty.glob("results/demo/*/metrics.parquet"))) == 1
