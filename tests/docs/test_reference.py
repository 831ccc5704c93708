"""The pages of the reference say what the code has: every key, every preset, every column."""

import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import crew
import jax
import jax.numpy as jnp
import pytest
from conftest import SMALL

from sparse_rl.analysis import load, load_runs
from sparse_rl.records import results
from sparse_rl.runs import prepare_pack
from sparse_rl.runs.costs import Costs
from sparse_rl.runs.recorder import Recorder
from sparse_rl.settings.agents import AGENT_CONFIGS
from sparse_rl.settings.run import SWEEP_KEYS, RunConfig, run_config
from sparse_rl.sweeps.arguments import LAUNCHER
from sparse_rl.sweeps.presets import GROUPS

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "tests" / "studies" / "demo"
WRITER = runpy.run_path(str(ROOT / "docs" / "reference" / "write.py"))


@pytest.mark.parametrize("page", ["keys.md", "presets.md", "columns.md"])
def test_a_page_is_what_would_be_written_now(page: str) -> None:
    assert (ROOT / "docs" / page).read_text("utf-8") == WRITER["pages"]()[page], "run: make reference"


def test_every_key_is_described_and_nothing_else_is() -> None:
    """One without a line is a ``KeyError`` of the page above; here it is named."""
    said = WRITER["meanings"]("keys.toml")
    known = {one.name: set(WRITER["settings_of"](one)) for one in WRITER["SECTIONS"]}
    known |= {"groups": {*GROUPS, LAUNCHER}, "sweep": set(SWEEP_KEYS)}
    assert {name: set(lines) for name, lines in said.items()} == known
    short = [key for lines in said.values() for key, line in lines.items() if len(line) < 8]
    assert not short


def test_a_key_is_told_with_what_it_allows_and_who_reads_it() -> None:
    """Three lines by hand: one that all have alike, and two that differ."""
    page = (ROOT / "docs" / "keys.md").read_text("utf-8")
    lines = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    on_policy, values = "ppo, paac, dqn, ippo, mappo, pqn_vdn", "iql, vdn, qmix"
    assert lines["agent.memory_span"].split(" | ")[2:] == [
        "a whole number or null, >= 2",
        f"`null`: {on_policy}, {values} |",
    ]
    assert lines["agent.sequence_length"].split(" | ")[2:] == [
        f"a whole number or null, >= 1 ({on_policy}); a whole number, >= 1 ({values})",
        f"`null`: {on_policy}; `25`: {values} |",
    ]
    assert "`learning_rate_per_env` × `num_envs`: paac;" in lines["agent.learning_rate"]


@cache
def patterns() -> dict[str, dict[str, "re.Pattern[str]"]]:
    """Table → column of the dictionary → the names that it stands for."""
    tables = WRITER["meanings"]("columns.toml")
    return {name: {column: _pattern(column) for column in lines} for name, lines in tables.items()}


def _pattern(column: str) -> "re.Pattern[str]":
    text = re.escape(column).replace(r"\[", "(?:").replace(r"\]", ")?")
    return re.compile(re.sub(r"<\w+>", "[^/]+", text))


FIRST = jax.ShapeDtypeStruct((), jnp.int32)
TASKS = {
    "drq": ("probe", "picture"),
    "paac": ("probe", "discrete_truncation"),
    **dict.fromkeys(("dqn", "stream_q"), ("probe", "discrete_truncation")),
    "azopg": ("lqr", "chain"),
    **dict.fromkeys(("ippo", "mappo", "pqn_vdn", "iql", "vdn", "qmix"), ("jaxmarl", "crew")),
}
"""Agent → where it acts here, if not in the plainest task."""
MORE: dict[str, dict[str, Any]] = {
    "sac": {"pruning": {"method": "set", "change_every": 40}},
    "ppo": {"agent": {"memory": "gru", "num_envs": 4}},
    "mappo": {"agent": {"sharing": "masks"}},
    "dqn": {"diagnostics": {"preactivations": True}},
    "paac": {"env": {"source": "maze", "task": "5"}, "curriculum": {"method": "plr", "buffer_size": 20}},
}  # fmt: skip
"""Agent → settings under which more is measured."""


def recorded(agent: str) -> tuple[RunConfig, Costs, set[str]]:
    """A run of an agent, and the columns of its rows; nothing is trained."""
    source, task = TASKS.get(agent, ("probe", "truncation"))
    more = MORE.get(agent, {})
    env = {"source": source, "task": task, "eval_episodes": 3} | more.get("env", {})
    settings = {"name": agent, **SMALL.get(agent, {}), **more.get("agent", {})}
    axes = {"width": 3 if agent == "azopg" else 12, "sparsity": 0.5}
    budget = {"env_steps": 200, "log_every": 100, "eval_every": 100}
    rest = ("pruning", "curriculum", "diagnostics")
    others: dict[str, Any] = {name: more[name] for name in rest if name in more}
    config = run_config({"agent": settings, "env": env, **axes, **budget, **others})
    loop: Any
    loop, (run,) = prepare_pack([config])
    state = jax.eval_shape(loop.init, run.inputs)
    rows = jax.eval_shape(loop.chunk, FIRST, state)[1]
    evaluated = jax.eval_shape(loop.evaluate, FIRST, state)
    return config, run.costs, {"env_steps", "updates", *rows, *evaluated} - {"updates_in_chunk"}


def undescribed(names: set[str], *tables: str) -> set[str]:
    """Names that no line of the tables stands for."""
    lines = [pattern for table in tables for pattern in patterns()[table].values()]
    return {name for name in names if not any(line.fullmatch(name) for line in lines)}


LIKE = {"ddpg": "sac", "ippo": "mappo", "pqn_vdn": "dqn", "iql": "qmix", "vdn": "qmix"}
"""Agent → another that measures the same and more: tracing one takes seconds."""
ELSEWHERE = {
    results.WALL_TIME,
    results.RESTARTS,
    f"{results.TIME_SHARE}inference",
    "workers_lost",
    "flops",
}
"""Columns of environments of the host, of the real clock and of tables, which no run has here."""


@pytest.fixture
def columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[str]]:
    """Of runs of every kind of agent: of their rows, of their records, and of rows that are loaded."""
    crew.install(monkeypatch)
    rows: set[str] = set()
    record: set[str] = set()
    for agent in AGENT_CONFIGS.keys() - LIKE.keys():
        config, costs, measured = recorded(agent)
        rows |= measured
        Recorder(tmp_path, config, costs, "none")
        record |= results.read_run(tmp_path).keys()  # type: ignore[union-attr]
        results.remove_metrics(tmp_path)
    added = {*load_runs(DEMO), *load(DEMO)}
    return {"rows": rows, "record": record, "loaded": added}


def test_every_column_is_described_and_nothing_else_is(columns: dict[str, set[str]]) -> None:
    rows, record, loaded = columns.values()
    assert not undescribed(rows, "metrics")
    assert not undescribed(record, "run")
    assert not undescribed(loaded, "metrics", "times", "run", "loaded")
    found = rows | record | loaded | ELSEWHERE
    stale = [
        column
        for lines in patterns().values()
        for column, line in lines.items()
        if not any(map(line.fullmatch, found))
    ]
    assert not stale


def test_a_column_comes_from_a_file_that_is_there() -> None:
    for lines in WRITER["meanings"]("columns.toml").values():
        for column, (unit, meaning, file) in lines.items():
            assert unit, column
            assert len(meaning) > 5, column
            assert (ROOT / "sparse_rl" / file).is_file(), column


def test_what_is_implemented_is_in_the_files_that_are_named() -> None:
    page = (ROOT / "docs" / "implemented.md").read_text("utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 25
    for row in rows:
        files = re.findall(r"`([^`]+)`", row[4])
        assert files, row
        assert all((ROOT / "sparse_rl" / file).exists() for file in files), row
