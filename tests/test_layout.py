"""The house: doors at the top level, one-way imports, configuration as package data."""

import ast
import os
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "sparse_rl"
DOORS = ("agents", "pruning", "sweeps", "analysis", "conf")

ROOMS = (
    ("__main__", "api"),
    (
        "sweep",
        "coordinates",
        "status",
        "report",
        "laws",
        "claim",
        "plan_seeds",
        "probe",
        "held_out",
        "crossplay",
        "video",
    ),
    ("sweeps",),
    ("runs",),
    ("loops",),
    ("curricula",),
    ("agents",),
    ("experience",),
    ("envs",),
    ("simulators",),
    ("torch_modules",),
    ("diagnostics",),
    ("analysis",),
    ("settings",),
    ("records",),
    ("pruning",),
    ("networks",),
    ("kernels",),
    ("extensions",),
)
"""From the top floor down: a room imports its own files and rooms on floors below, never above."""
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
LIGHT = {"settings", "records", "kernels", "simulators"}
"""Rooms whose face must not load jax: worker processes and the analysis enter by it."""


@pytest.mark.parametrize("room", DOORS)
def test_each_door_is_a_relative_link_to_its_room(room: str) -> None:
    door = ROOT / room
    assert door.is_symlink()
    assert door.readlink() == Path("sparse_rl") / room
    assert (door / ("sweep.yaml" if room == "conf" else "__init__.py")).exists()


class Import(NamedTuple):
    """One file of ours imports from another."""

    file: Path
    module: str
    """``sparse_rl.envs`` or ``sparse_rl.envs.vector``."""
    name: str | None
    """What is taken out of it; ``None``: the module itself."""

    @property
    def above(self) -> str:
        """The room of the file that imports."""
        return self.file.relative_to(PACKAGE).with_suffix("").parts[0]

    @property
    def below(self) -> str:
        """The room that is imported from: for ``from sparse_rl import envs`` it is the name."""
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 else str(self.name)

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)} imports {self.name or ''} from {self.module}"


def imports() -> list[Import]:
    """All imports from the package by files of the package, in functions too."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found += [Import(file, node.module, alias.name) for alias in node.names]
            elif isinstance(node, ast.Import):
                found += [Import(file, alias.name, None) for alias in node.names]
    ours = [one for one in found if one.module.split(".")[0] == "sparse_rl"]
    return [
        one
        for one in ours
        if one.below not in ("None", "__version__") and one.file != PACKAGE / "__init__.py"
    ]


def test_every_file_has_a_floor() -> None:
    here = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py"} - {"__init__"}
    here |= {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert here == set(FLOORS)


def test_no_room_imports_from_a_room_above_it() -> None:
    found = imports()
    assert len(found) > 500, "the check reads nothing"
    up = [str(one) for one in found if FLOORS[one.below] < FLOORS[one.above]]
    beside = [
        str(one) for one in found if one.below != one.above and FLOORS[one.below] == FLOORS[one.above]
    ]
    assert not up + beside


def test_no_two_files_import_each_other_in_a_circle() -> None:
    def name_of(file: Path) -> str:
        return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")

    files = {name_of(file) for file in PACKAGE.rglob("*.py")}
    arrows: dict[str, set[str]] = {name: set() for name in files}
    for one in imports():
        whole = f"{one.module}.{one.name}"
        arrows[name_of(one.file)].add(whole if whole in files else one.module)
    order = TopologicalSorter({name: below - {name} for name, below in arrows.items()})
    order.prepare()  # CycleError names the files


def test_rooms_are_entered_by_their_faces() -> None:
    """What rooms above use is in the face; nobody takes a room's private names."""
    faces = {
        room: ast.parse(path.read_text())
        for path in PACKAGE.glob("*/__init__.py")
        if (room := path.parent.name)
    }
    for room, face in faces.items():
        assert len(ast.get_docstring(face) or "") > 40, f"{room}/__init__.py does not say what is in it"
    wrong = []
    for one in imports():
        if one.below == one.above or one.below not in faces:
            continue
        private = any(part.startswith("_") for part in [*one.module.split("."), one.name or ""])
        around = one.module.count(".") > 1 and one.below not in LIGHT | {"sweeps", "analysis"}
        if private or around:
            wrong.append(str(one))
    assert not wrong


@pytest.mark.parametrize("room", sorted(LIGHT))
def test_light_faces_do_not_load_jax(room: str) -> None:
    check = f"import sys, sparse_rl.{room}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "module",
    [
        "settings.envs",
        "records.results",
        "kernels.compilation",
        "kernels.machine",
        "simulators.worker",
        "simulators.plant_worker",
    ],
)
def test_what_starts_before_jax_or_without_it_does_not_load_it(module: str) -> None:
    check = f"import sys, sparse_rl.{module}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0


def test_every_library_import_of_analysis_is_free_of_jax() -> None:
    for file in (PACKAGE / "analysis").rglob("*.py"):
        assert "jax" not in file.read_text()


def test_no_function_and_no_class_is_long() -> None:
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                most = 200 if isinstance(node, ast.ClassDef) else 60
                assert (node.end_lineno or 0) - node.lineno < most, f"{file}:{node.name}"


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
