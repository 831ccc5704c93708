"""A pack over several devices of one process: forced ones of a CPU, in a process of their own."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig

from sparse_rl.records import checkpoints
from sparse_rl.runs import pack as experiment
from sparse_rl.runs.pack import (
    PreparedPack,
    check_devices,
    cut,
    devices_here,
    prepare_pack,
    shares,
    workers,
)
from sparse_rl.settings.schema import ConfigError
from sparse_rl.sweeps import inprocess, tasks
from sparse_rl.sweeps.run import _count
from sparse_rl.sweeps.tasks import Settings

TWO = "--xla_force_host_platform_device_count=2"
CHILD = Path(__file__).with_name("on_two_devices.py")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the process found (:mod:`on_two_devices`)."""
    folder = tmp_path_factory.mktemp("devices")
    flags = f"{os.environ['XLA_FLAGS']} {TWO}"
    paths = os.pathsep.join([str(CHILD.parents[1]), str(CHILD.parents[2])])
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": paths}
    subprocess.run([sys.executable, str(CHILD), str(folder)], env=environment, check=True)
    found: dict[str, Any] = json.loads((folder / "told.json").read_text())
    return found


def test_rows_are_those_of_one_device_byte_for_byte(told: dict[str, Any]) -> None:
    """Three runs batched 2 + 1, with our own kernels multiplying blocks."""
    assert told["kernels"] or not told["compiler"]
    assert told["shared"] == told["cut"]
    assert len(set(told["shared"].values())) == 3  # seeds differ


def test_runs_that_are_mapped_have_their_bytes_on_any_device(told: dict[str, Any]) -> None:
    assert told["mapped on two"] == told["mapped on one"]
    assert told["mapped to"] == [0, 1]


def test_each_device_trains_its_share_with_programs_of_its_own(told: dict[str, Any]) -> None:
    assert told["places"] == {"0": [0, 1], "1": [2]}
    assert told["compiled"] == dict.fromkeys(("jit(init)", "jit(chunk)", "jit(evaluate)"), 2)


def test_states_are_handed_over_on_every_device(told: dict[str, Any]) -> None:
    """A chunk takes its state's place: what it was given is gone."""
    assert told["donated"] == [True, True]


def test_runs_go_on_from_one_device_to_two_and_back(told: dict[str, Any]) -> None:
    """The run of seed 1: on the first device, on the second, and on the first again."""
    assert told["begun at"] == [0, 128, 256]
    assert told["moved"] == told["mapped on one"]


def test_a_run_that_diverges_on_a_device_stops_nothing_else(told: dict[str, Any]) -> None:
    assert told["statuses"] == ["diverged", "done", "done"]
    assert told["beside a diverged one"] == told["shared"]["2"]


def test_more_devices_than_there_are_are_refused(make_config: MakeConfig) -> None:
    assert len(devices_here(1)) == 1
    with pytest.raises(
        ConfigError, match="devices_per_pack=2: this process has 1 cpu device; give at mo"
    ):
        devices_here(2)


def test_what_the_host_drives_has_one_device(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, _ = prepare_pack([make_config()])
    check_devices(loop, 2)
    monkeypatch.setattr(experiment, "DRIVEN", (type(loop),))
    check_devices(loop, 1)
    with pytest.raises(ConfigError, match=r"agent=sac on env=gymnax/Pendulum-v1 are driven by the host"):
        check_devices(loop, 2)


def test_runs_are_shared_out_by_where_they_can_go_on(make_config: MakeConfig, tmp_path: Path) -> None:
    runs = prepare_pack([make_config(seed=seed) for seed in range(5)]).runs

    def grouped(layout: Any, devices: int) -> list[list[int]]:
        found = shares(runs, layout, devices, tmp_path)
        return [[run.config.seed for run in group] for group in found]

    assert grouped("map", 3) == [[0], [1], [2], [3], [4]]
    assert grouped("vmap", 1) == [[0, 1, 2, 3, 4]]
    assert grouped("vmap", 3) == [[0, 1], [2, 3], [4]]
    for seed, steps in ((0, 300), (0, 200), (1, 200), (2, 300), (3, 200), (4, 300)):
        path = checkpoints.path_of(tmp_path / runs[seed].config.run_id, steps)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert grouped("vmap", 1) == [[0, 2, 4], [1, 3]]  # none is in all of them
    assert grouped("vmap", 3) == [[0, 2], [4], [1, 3]]
    for seed in (2, 4):
        checkpoints.path_of(tmp_path / runs[seed].config.run_id, 200).touch()
    assert grouped("vmap", 1) == [[0, 1, 2, 3, 4]]  # all have that of 200


def test_programs_run_side_by_side_on_their_devices(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = prepare_pack([make_config(seed=seed) for seed in range(3)]).runs
    monkeypatch.setattr(experiment, "cores", lambda: 8)
    assert [workers(runs, "vmap", devices) for devices in (1, 2, 4)] == [1, 2, 3]
    assert workers(runs, "map", 2) == 3
    monkeypatch.setattr(experiment, "SIDE_BY_SIDE_FLOPS", 0)  # one fills its device
    assert [workers(runs, "map", devices) for devices in (1, 2)] == [1, 2]


@pytest.mark.parametrize("given", [None, 0, -1, True, 1.5, "2"])
def test_what_is_no_number_of_devices_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=f"devices_per_pack={given!r} is not allowed; give a whole"):
        _count({"devices_per_pack": given}, "devices_per_pack")


def test_the_command_refuses_devices_that_are_not_there(make_config: MakeConfig, tmp_path: Path) -> None:
    pack = prepare_pack([make_config()])
    assert inprocess.describe([pack], Settings(tmp_path)) == []
    assert inprocess.describe([], Settings(tmp_path, devices_per_pack=2)) == []
    with pytest.raises(ConfigError, match="devices_per_pack=2: this process has 1 cpu device"):
        inprocess.describe([pack], Settings(tmp_path, devices_per_pack=2))


def test_a_worker_is_told_of_its_devices(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut to what they hold together, each part is shared out over all of them."""
    tasks.write_task(tmp_path / "task.json", [make_config()], Settings(tmp_path, devices_per_pack=3))
    _, settings = tasks.read_task(tmp_path / "task.json")
    pack = prepare_pack([make_config(seed=seed) for seed in range(5)])
    told: list[tuple[int, int]] = []
    stop = threading.Event()

    def cut_to_four(pack: PreparedPack, devices: int) -> list[PreparedPack]:
        assert devices == 3
        return cut(pack, 4)

    def train_pack(part: PreparedPack, study: Path, *, devices: int, **options: Any) -> None:
        told.append((len(part.runs), devices))

    monkeypatch.setattr(tasks, "parts_that_fit", cut_to_four)
    monkeypatch.setattr(tasks, "train_pack", train_pack)
    tasks.train_task(pack, settings, lambda progress: None, stop)
    assert told == [(4, 3), (1, 3)]
    stop.set()
    tasks.train_task(pack, settings, lambda progress: None, stop)
    assert len(told) == 2
