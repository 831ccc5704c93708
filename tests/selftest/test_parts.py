"""What parts make of what they measure, by numbers made up by hand; and some of each real thing."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sparse_rl.runs
from sparse_rl.kernels import native
from sparse_rl.records import checkpoints, results
from sparse_rl.selftest import (
    ceilings,
    device,
    equal,
    humanoid,
    memory,
    packs,
    resume,
    storages,
    tasks,
    turns,
    updates,
)  # fmt: skip
from sparse_rl.selftest.child import Asked
from sparse_rl.selftest.lines import NOT_RUN, WRONG
from sparse_rl.sweeps.arguments import check_arguments

# Equal numbers


def chunk(
    begun: float = 0.0, ended: float = 0.0, mask: bool = True, row: Mapping[str, float] | None = None
) -> equal.Chunk:
    """Two networks; the numbers are added to the first weight of the second."""
    one = {"kernel": np.array([[3.0, -4.0]], np.float32)}

    def networks(second: list[float], more: float) -> Any:
        values = np.array(second, np.float32) + np.array([more, 0.0], np.float32)
        return {"actor": one, "critic": {"kernel": values}}

    actor = {"kernel": np.array([[3.0, -3.0]], np.float32)}
    after = networks([0.5 + 0.3, -8.0 + 0.4], ended) | {"actor": actor}
    supports = {"actor": None, "critic": {"kernel": np.array([mask, True])}}
    told = {"loss/critic": 2.0, "srank/actor": 5.0, "dormant_ratio/actor": 0.25, "regret": math.nan}
    return equal.Chunk(networks([0.5, -8.0], begun), after, supports, told | dict(row or {}))


def test_weights_lie_apart_by_the_worst_network_over_how_far_it_moved() -> None:
    """The critic's moved by 0.5, the actor's by 1; the largest of the critic is 8."""
    begun, ended = equal.weights_apart(chunk(begun=0.02, ended=0.04), chunk())
    assert begun == pytest.approx(0.02 / 8.0, rel=1e-5)
    assert ended == pytest.approx(0.04 / 0.5, rel=1e-5)
    still = chunk()._replace(ended=chunk().begun)
    assert math.isnan(equal.weights_apart(still, still)[1])


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (chunk(begun=7e-5, ended=0.009), None),
        (chunk(mask=False), "other weights are pruned"),
        (chunk(begun=1.6e-4), "weights begin 2e-05 of the largest apart"),
        (chunk(ended=0.011), "weights end 0.022 of what they moved apart"),
        (chunk(ended=math.nan), "weights end nan of what they moved apart"),
        (chunk(row={"loss/critic": 2.03}), None),
        (chunk(row={"loss/critic": 2.05}), "loss/critic is 2.05 and not 2"),
        (chunk(row={"srank/actor": 6.0}), None),
        (chunk(row={"srank/actor": 7.5}), "srank/actor is 7.5 and not 5"),
        (chunk(row={"dormant_ratio/actor": 0.25 + 0.12}), None),
        (chunk(row={"dormant_ratio/actor": 0.25 + 0.14}), "dormant_ratio/actor is 0.39 and not 0.25"),
        (chunk(row={"regret": 0.0}), "regret is 0 and not nan"),
    ],
)
def test_what_is_more_than_rounding_is_wrong(found: equal.Chunk, wrong: str | None) -> None:
    assert equal.judged(found, chunk())[1] == wrong


def test_a_run_in_which_nothing_moved_proves_nothing() -> None:
    still = chunk()._replace(ended=chunk().begun)
    assert equal.judged(still, still)[1] == "weights end nan of what they moved apart"


def test_a_comparison_with_itself_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed elsewhere than it was asked is wrong, however equal."""

    class At:
        def __init__(self, platform: str) -> None:
            self.platform = platform

    cpu, gpu = At("cpu"), At("gpu")
    monkeypatch.setattr(equal, "prepare_pack", lambda configs: (None, [None, None]))
    for at, wrong in ((gpu, None), (cpu, "sac, block: computed on cpu beside cpu")):

        def made(asked: Any, loop: Any, runs: Any, batched: bool, at: At = at) -> Any:
            assert asked is (gpu if batched else cpu)
            return [chunk(), chunk()], {at if batched else cpu}

        monkeypatch.setattr(equal, "chunk_on", made)
        (line,) = equal.compare(equal.Case("sac", "block"), gpu, cpu)
        assert line["row"].get(WRONG) == wrong
        assert (line["row"]["on"], line["row"]["beside"]) == (at.platform, "cpu")


TWO_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from types import SimpleNamespace as Of
from sparse_rl.selftest import equal

agent = Of(parameters=lambda a: {"net": a}, supports=lambda a: {"net": a > 0})
loop = Of(
    agent=agent,
    init=lambda x: Of(agent=x),
    chunk=lambda i, s: (Of(agent=jnp.sin(s.agent)), {"precise": jnp.sum(s.agent)}),
)
runs = [Of(inputs=np.float32([1, 2])), Of(inputs=np.float32([3, -4]))]
devices = jax.devices()
for batched in (True, False):
    for device in devices:
        found, at = equal.chunk_on(device, loop, runs, batched)
        assert at == {device}, at
        np.testing.assert_allclose(found[1].ended["net"], np.sin([3, -4]), rtol=1e-6)
        assert float(found[0].row["precise"]) == 3.0
assert len(devices) == 2
"""


def test_a_chunk_is_computed_on_the_device_that_was_asked_for() -> None:
    flags = "--xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}"}
    ended = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_every_agent_comes_in_every_storage_and_each_once_before_any_comes_again() -> None:
    every = equal.cases(quick=False)
    agents = [case.agent for case in every]
    assert len(set(every)) == len(every) == 3 * len(set(agents))
    assert len(set(agents[: len(every) // 3])) == len(set(agents)) >= 14
    assert {case.storage for case in every[:3]} == set(equal.STORAGES)
    assert set(equal.cases(quick=True)) <= set(every)
    for case in every:
        config = equal.config_of(case, 3)
        assert (config.storage.storage, config.sparsity, config.seed) == (case.storage, 0.5, 3)
        assert config.env_steps == config.log_every


def test_runs_that_keep_episodes_learn_by_new_targets() -> None:
    """What only looks right would be refused minutes later: targets that are never new, say."""
    (case,) = [case for case in equal.cases(quick=True) if case.agent == "vdn"]
    (run,) = sparse_rl.runs.prepare_pack([equal.config_of(case, seed=0)]).runs
    assert run.costs.updates > 2


@pytest.mark.usefixtures("without_health")
def test_the_batched_program_of_a_pack_computes_what_each_run_does_alone() -> None:
    cpu = jax.devices()[0]
    (line,) = equal.compare(equal.Case("ppo", "block"), cpu, cpu)
    assert WRONG not in line["row"], line
    assert 0.0 < line["row"]["apart"] < 1e-3


def test_an_environment_that_is_not_installed_is_named_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compare(case: equal.Case, *_: Any) -> Any:
        if case.agent == "vdn":
            raise ModuleNotFoundError("pip install 'sparse_rl[teams]'")
        yield {"row": case._asdict()}

    monkeypatch.setattr(equal, "compare", compare)
    found = [each["row"] for each in equal.lines_of(Asked("cpu", True, 9.0, "")) if "row" in each]
    assert len(found) == len(equal.QUICK)
    (missing,) = (row for row in found if NOT_RUN in row)
    assert missing[NOT_RUN] == "vdn, compact not run: pip install 'sparse_rl[teams]'"


# Storages and ceilings


def test_rates_are_of_one_update_beside_what_the_device_can_do() -> None:
    told = {"seconds": 0.002, "flops": 4e9, "bytes": 6e8, "state": 7e6, "peak": 9e7}
    row = storages.rates("block", told, most_flops=5e12, most_bytes=2e12)
    assert row == {
        "variant": "block", "ms": 2.0, "GFLOP/s": 2000.0, "of ceiling": 0.4, "GB/s": 300.0,
        "of copy": pytest.approx(0.15), "state MB": 7.0, "peak MB": 90.0,
    }  # fmt: skip


@pytest.mark.parametrize("seconds", [1e-6, math.nan, 0.0])
def test_rates_that_no_device_has_are_wrong(seconds: float) -> None:
    told = {"seconds": seconds or math.inf, "flops": 4e9, "bytes": 6e8, "state": 7e6, "peak": 9e7}
    assert WRONG in storages.rates("block", told, most_flops=3e15, most_bytes=2e12)


def test_ceilings_count_what_is_read_and_written_and_both_operations(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []

    def seconds(function: Any, *arrays: Any) -> float:
        given.append((jnp.asarray(function(*arrays)), arrays))
        return 0.5

    monkeypatch.setattr(ceilings, "best_seconds", seconds)
    assert ceilings.copied_bytes_per_second(30) == 2 * 30 * 4 / 0.5
    for products, dtype in (("float32", jnp.float32), ("bfloat16", jnp.bfloat16)):
        assert ceilings.flops_per_second(6, products) == 2 * 6**3 / 0.5
        made, (a, _) = given[-1]
        assert (a.dtype, made.dtype) == (dtype, jnp.float32)
        np.testing.assert_array_equal(made, 6.0)


def test_the_best_of_a_few_calls_is_the_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 3.0, 10.0, 12.5, 20.0, 29.0, 30.0, 34.0, 40.0, 45.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert ceilings.best_seconds(lambda x: x + 1.0, jnp.ones(3)) == 2.5


def test_the_floor_has_as_many_weights_as_survive() -> None:
    every = updates.variants(1000, 0.91, 6, "bfloat16")
    assert {name: v.width for name, v in every.items()} == {
        "dense": 1000, "masked": 1000, "compact": 1000, "block": 1000, "floor": 300,
    }  # fmt: skip
    assert {name: v.sparsity for name, v in every.items()} == {
        "dense": 0.0, "masked": 0.91, "compact": 0.91, "block": 0.91, "floor": 0.0,
    }  # fmt: skip
    assert {v.products for v in every.values()} == {"bfloat16"}


def test_kernels_for_gpus_are_measured_on_gpus_beside_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    (group,) = (storages.groups(1024, "float32", "gpu", storages.FULL._replace(together=4096)),)
    names = [name for each in group for name in each]
    assert names == ["dense", "masked", "compact", "block", "floor", storages.PALLAS]
    alone = storages.groups(8192, "float32", "gpu", storages.FULL)
    assert [len(each) for each in alone] == [1] * 6
    assert storages.PALLAS not in [
        n for g in storages.groups(64, "float32", "cpu", storages.QUICK) for n in g
    ]

    asked = []

    class Nothing:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    def worker(module: str, what: Any, more: Any) -> Nothing:
        asked.append((what.storage, dict(more)))
        return Nothing()

    monkeypatch.setattr(turns, "worker", worker)
    monkeypatch.setattr(turns, "ready", lambda process: None)
    monkeypatch.setattr(turns, "compare", lambda workers, rounds: {})
    every = updates.variants(64, 0.9, 5, "float32")
    storages.measured({"block": every["block"], storages.PALLAS: every["block"]}, 1)
    assert asked == [("block", {}), ("block", {native.VARIABLE: native.PALLAS})]


# Processes in turns

COUNTS = """
import json, sys
from sparse_rl.selftest import turns
name, *seconds = json.loads(sys.argv[1])
every = iter(seconds)
print("what libraries say", flush=True)
turns.answer(lambda: {"seconds": next(every), "name": name})
"""


@pytest.fixture
def counting(tmp_path: Path) -> dict[str, str]:
    """Variables with which ``-m counts`` is a process that answers with what it was given."""
    (tmp_path / "counts.py").write_text(COUNTS)
    return {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}


def test_processes_answer_in_turns_and_their_medians_count(counting: dict[str, str]) -> None:
    given = {"a": ["a", 3.0, 1.0, 2.0, 9.0], "b": ["b", 7.0, 5.0, 50.0, 8.0]}
    with (
        turns.worker("counts", given["a"], counting) as a,
        turns.worker("counts", given["b"], counting) as b,
    ):
        for process in (a, b):
            turns.ready(process)
        found = turns.compare({"a": a, "b": b}, 3)
        assert found == {"a": {"seconds": 2.0, "name": "a"}, "b": {"seconds": 7.0, "name": "b"}}
        assert [each["seconds"] for each in turns.side_by_side([b, a])] == [8.0, 9.0]
        with pytest.raises(RuntimeError, match="ended while it was measured"):
            turns.measure(a)


def test_a_process_that_ends_before_it_is_ready_is_told_of(counting: dict[str, str]) -> None:
    nothing = turns.worker("counts", [], counting)  # to unpack
    with nothing as process, pytest.raises(RuntimeError, match="ended before it was ready"):
        turns.ready(process)


# Packs


def test_env_steps_per_second_are_of_all_runs_and_the_gain_is_over_the_best_of_single_ones() -> None:
    assert packs.steps_per_second(8, 500, 2.0) == 2000.0
    rows = [
        {"runs": 1, "processes": 1, "env steps/s": 100.0},
        {"runs": 64, "processes": 1, "env steps/s": 3000.0},
        {"runs": 4, "processes": 4, "env steps/s": 150.0},
    ]
    gains = [row["over one process per run"] for row in packs.compared(rows)]
    assert gains == [pytest.approx(2 / 3), 20.0, 1.0]


def test_a_pack_trains_all_of_its_runs_and_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs one by one, as on a CPU: chunks of 30 env steps of two frames each."""
    task = tasks.Task(
        "three", {"name": "sac"}, {"source": "gymnax", "task": "Pendulum-v1", "action_repeat": 2}, 16, 30
    )
    asked: list[Any] = []

    def compiled(loop: Any, inputs: Any, layout: str) -> Any:
        assert (len(inputs), layout) == (3, "map")

        def train(first: Any, state: Any) -> Any:
            asked.append((int(first), int(state)))
            return state, {}

        return sparse_rl.runs.lockstep.Programs(lambda one: one.seed, train, train, 0.0)

    monkeypatch.setattr(sparse_rl.runs, "compile_programs", compiled)
    measured = packs.pack(task, False, 3)
    assert measured() > 0.0
    assert sorted(asked) == [(first, seed) for first in (0, 15) for seed in range(3)]


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("task", [*tasks.TASKS, tasks.HUMANOID], ids=lambda task: task.name)
def test_tasks_are_runs_of_whole_chunks(task: tasks.Task, quick: bool) -> None:
    config = tasks.config_of(task, quick, seed=5)
    assert config.log_every == (task.small_steps if quick else task.steps)
    assert config.env_steps == 100 * config.log_every
    assert config.seed == 5
    assert config.env.source == task.env["source"]


# Memory


def test_memory_is_wrong_where_a_full_pack_would_not_fit() -> None:
    found = {"planned": 4e8, "measured": 4.9e8, "of": "x", "fit": 7, "bytes": 1e9}
    row = memory.told("block", 1024, 0.9, 3, found)
    assert row["measured / planned"] == pytest.approx(1.225)
    assert row["a pack is cut at"] == 7
    assert WRONG not in row
    assert WRONG not in memory.told("block", 1024, 0.9, 3, found | {"measured": 5.6e8})
    more = memory.told("block", 1024, 0.9, 3, found | {"measured": 5.8e8})
    assert more[WRONG] == "block, width 1024: 1.45 times the planned memory"


@pytest.mark.skipif(not memory.FORGET.exists(), reason="Linux tells it")
def test_a_peak_is_what_was_held_since_and_not_before() -> None:
    first = np.ones(12_000_000)
    del first
    begin = memory.forget()
    second = np.ones(5_000_000)
    held = memory.peak_since(begin)
    assert 36e6 < held < 60e6 or second.sum() == 0.0


# Killed runs


def run_dir(study: Path, name: str, status: str, rows: bytes, begins: list[int]) -> Path:
    folder = study / name
    folder.mkdir(parents=True)
    attempts = [{"from_env_steps": begin, "started_at": "2026-01-01T00:00:00+00:00"} for begin in begins]
    record = {"run_id": name, "status": status, "reason": None, "attempts": attempts}
    (folder / results.RUN).write_text(json.dumps(record))
    (folder / results.METRICS).write_bytes(rows)
    (folder / results.PARAMETERS).write_bytes(b"p" + rows)
    return folder


def test_killed_runs_are_the_same_only_with_the_same_bytes_from_a_checkpoint() -> None:
    peace = {"a": (b"r", b"p"), "b": (b"s", b"q")}
    assert resume.judged(peace, dict(peace), 400) is None
    assert resume.judged(peace, dict(peace), 0) == "no run went on from a checkpoint"
    assert resume.judged(peace, peace | {"b": (b"s", b"x")}, 400) == "other bytes of b"
    assert resume.judged(peace, peace | {"a": (b"x", b"p")}, 400) == "other bytes of a"
    assert (
        resume.judged(peace, {"a": (b"r", b"p")}, 9)
        == "2 runs are done undisturbed, and 1 after the kill"
    )
    assert resume.judged({}, {}, 9) == "0 runs are done undisturbed, and 0 after the kill"


def test_outcomes_are_of_runs_that_are_done(tmp_path: Path) -> None:
    run_dir(tmp_path, "a", "done", b"rows", [0, 400])
    run_dir(tmp_path, "b", "running", b"more", [0])
    assert resume.outcomes(tmp_path) == {"a": (b"rows", b"prows")}
    assert resume._went_on_from(tmp_path) == 400


def test_a_sweep_is_killed_once_it_has_saved_something(tmp_path: Path) -> None:
    folder = run_dir(tmp_path, "a", "running", b"", [0])
    saves = checkpoints.path_of(folder, 200)
    script = (
        "import sys, time, pathlib; time.sleep(1.0); p = pathlib.Path(sys.argv[1]); "
        "p.parent.mkdir(); p.write_bytes(b''); time.sleep(float(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(saves), "60"])
    assert resume.killed(process, tmp_path)
    assert process.returncode == -9
    assert saves.exists()
    saves.unlink()
    saves.parent.rmdir()
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    assert not resume.killed(ended, tmp_path)


def test_the_run_that_is_killed_can_be_typed() -> None:
    assert check_arguments([*resume.RUN, "env_steps=4000"])


# The humanoid


def test_a_network_is_told_of_by_its_last_row_and_last_return() -> None:
    first = {
        "env_steps": 40.0, "return_mean": 7.5, "loss/critic": math.nan, "compile_seconds": 3.0,
        "env_steps_per_second": 20.0, "updates_per_second": 30.0,
    }  # fmt: skip
    last = first | {"env_steps": 80.0, "return_mean": math.nan, "loss/critic": 0.25}
    row = humanoid.told(humanoid.Case(512, 0.9, "block"), [first, last])
    assert (row["env steps"], row["return"], row["env steps/s"], row["updates/s"]) == (
        80,
        7.5,
        20.0,
        30.0,
    )
    assert WRONG not in row
    assert "not finite" in humanoid.told(humanoid.Case(512, 0.9, "block"), [first])[WRONG]


def test_each_network_has_its_share_of_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def trained(case: humanoid.Case, quick: bool, seconds: float, folder: Path) -> list[Any]:
        asked.append(seconds)
        return []

    monkeypatch.setattr(humanoid, "trained", trained)
    said = list(humanoid.lines_of(Asked("gpu", False, 100.0, "")))
    assert asked == pytest.approx([85.0 / 6, 85.0 / 5, 85.0 / 4, 85.0 / 3, 85.0 / 2, 85.0], rel=0.02)
    assert not [line for line in said if "row" in line]
    assert sum("Not compiled in its time" in line.get("note", "") for line in said) == 6


# The device


def test_a_device_is_the_one_that_was_asked_for() -> None:
    assert device.named("gpu", "gpu") is None
    assert device.named("gpu", "cpu") == "jax finds no gpu here, only a cpu"
    (line,) = device.lines_of(Asked("cpu", True, 1.0, ""))
    assert line["row"]["platform"] == "cpu"
    assert WRONG not in line["row"]
    (other,) = device.lines_of(Asked("tpu", True, 1.0, ""))
    assert other["row"][WRONG] == "jax finds no tpu here, only a cpu"
