"""Every command line in README and the pages works: sweeps are composed and checked, other commands read
their arguments, targets of make exist, and Python runs."""

import argparse
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
import recipes
from commands import ROOT, Command, commands, commands_of, snippets
from fuzzing.lines import outcome
from hydra._internal.hydra import Hydra
from hydra.types import RunMode

from sparse_rl.runs import prepare_pack

SWEEP = "python -m sparse_rl.sweep"
CHECK = "python -m sparse_rl.coordinates"
"""Reads what a sweep reads."""
PLAN = "plan=true"


def test_commands_are_found_in_every_form() -> None:
    page = """
Text with `make demo X=1` and `python -m
sparse_rl.laws a --only b`, and `width=3`.

    python -m sparse_rl.sweep width=1,2 'seed=range(2)' \\
        sparsity=0   # python -m sparse_rl.none
    mkdir -p results && tar -xJf a.tar.xz
    sparse-rl video results/a/<run_id> …

```bash
make x
```
```python
make = python -m sparse_rl.nothing
```
"""
    assert [one.words for one in commands_of("p", page)] == [
        ("make", "x"),
        ("python", "-m", "sparse_rl.sweep", "width=1,2", "seed=range(2)", "sparsity=0"),
        ("mkdir", "-p", "results"),
        ("tar", "-xJf", "a.tar.xz"),
        ("python", "-m", "sparse_rl.video", "results/a/run_id"),
        ("make", "demo", "X=1"),
        ("python", "-m", "sparse_rl.laws", "a", "--only", "b"),
    ]
    assert len(commands(SWEEP)) > 40


def sweeps() -> dict[tuple[str, ...], Command]:
    """Arguments of a sweep → where they are shown; with and without ``plan=true`` is one."""
    shown = [*commands(SWEEP), *commands(CHECK)]
    return {tuple(w for w in one.words[3:] if w != PLAN): one for one in shown}


def test_every_sweep_is_taken_and_has_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused only when it is counted are blocks that a layer is too small for."""
    monkeypatch.chdir(tmp_path)  # away from runs that are finished in results/
    recipes.write(tmp_path)  # a page says how a reader names a package of his own
    monkeypatch.syspath_prepend(str(tmp_path))
    before = sorted(tmp_path.iterdir())
    # Hydra would compose once more to find the mode, which is this one always.
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: RunMode.MULTIRUN)
    wrong, counted = [], 0
    for words, command in sweeps().items():
        came = outcome([*words, PLAN])
        if came.status or not came.configs:
            wrong.append(f"{command}: {came.said.strip()}")
        compiled = [config for config in came.configs if config.env.source == "gymnax"]
        blocks = [config for config in compiled if config.storage.storage == "block"]
        if blocks:
            _, (run,) = prepare_pack([max(blocks, key=lambda config: config.sparsity)])
            assert run.costs.parameters_nonzero < run.costs.parameters_total / 5
            counted += 1
    assert not wrong
    assert counted
    assert sorted(tmp_path.iterdir()) == before


class Parsed(Exception):  # noqa: N818
    """Arguments were read, and nothing was done."""


def read_arguments(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program read its arguments and stop there.

    Raises:
        SystemExit: it refused them.
    """
    read = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> None:
        read(parser, args, namespace)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    _, *words = command.words
    if words[0] == "-m":
        monkeypatch.setattr(sys, "argv", words[1:])
        main = __import__(words[1], fromlist=["main"]).main
        main()
    else:
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")


OTHERS = [
    one
    for one in commands("python ")
    if not " ".join(one.words).startswith((SWEEP, CHECK)) and not one.words[1].startswith("docs/")
]


@pytest.mark.parametrize("command", OTHERS, ids=str)
def test_every_other_command_takes_its_arguments(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if len(command.words) == 3:  # it is only named
        assert (ROOT / "sparse_rl" / f"{command.words[2].split('.')[1]}.py").exists()
        return
    with pytest.raises(Parsed):
        read_arguments(command, monkeypatch)


def test_scripts_that_are_shown_are_there() -> None:
    """Other tests run them (``test_storage.py``, ``test_torch.py``, ``test_api.py``)."""
    scripts = [one.words[1] for one in commands("python docs/")]
    assert len(scripts) == 3
    assert all((ROOT / script).exists() for script in scripts)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_every_target_of_make_exists_and_reads_its_variables(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    shown = commands("make ")
    assert len(shown) > 20
    words = [(command, word) for command in shown for word in command.words[1:]]
    for command, word in words:
        name, given, _ = word.partition("=")
        assert not given or f"$({name})" in makefile, f"{command}: nothing reads {name}"
    targets = sorted({word for _, word in words if "=" not in word})
    assert "demo" in targets
    dry = ["make", "--dry-run", f"VENV={tmp_path}", f"PYTHON={sys.executable}", *targets]
    result = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_what_is_installed_is_an_extra_of_ours_or_jax() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shown = set()
    for command in commands("pip "):
        assert command.words[1] == "install", command
        last = command.words[-1]
        found = re.fullmatch(r"\.\[(\w+)\]", last)
        assert found or last == "jax[cuda13]", f"{command}: the package is on no index"
        shown |= {found.group(1)} if found else set()
    assert shown == set(project["optional-dependencies"])


def test_archives_that_are_unpacked_are_there_and_hold_what_is_read() -> None:
    shown = commands("tar ")
    assert shown
    for command in shown:
        path = ROOT / command.words[2]
        with tarfile.open(path) as archive:
            assert archive.getnames()[0].split("/")[0] == path.name.split(".")[0]


network = nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(1)])
GIVEN: dict[str, dict[str, Any]] = {
    "docs/pruning_other_networks.md": {
        "network": network,
        "x": jnp.ones((8, 4)),
        "params": network.init(jax.random.key(0), jnp.ones((8, 4)))["params"],
        "mask_key": jax.random.key(1),
        "transformed": SimpleNamespace(apply=lambda params, x: network.apply({"params": params}, x)),
    },
}
"""Page → what its reader has already."""
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    if snippets(path)
)


@pytest.mark.parametrize("page", PAGES)
def test_python_that_is_shown_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "demo").symlink_to(ROOT / "tests" / "studies" / "demo")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = dict(GIVEN.get(page, {}))
    for block in snippets(ROOT / page):
        if "torch" in block:
            pytest.importorskip("torch")
        exec(compile(block, page, "exec"), names)
    if "env" in names:
        told = names["env"].step(jax.random.key(0), jnp.float32(0.5), jnp.array([1.0]))[1]
        assert told.observation == pytest.approx(0.6)
        assert told.reward == pytest.approx(-0.36)
