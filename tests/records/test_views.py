"""Weights & Biases and TensorBoard as views beside the rows on disk, read back."""

import json
import struct
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig

from sparse_rl.records import results, views
from sparse_rl.runs.lockstep import Policy, Progress
from sparse_rl.runs.pack import prepare_pack, train_pack

pytestmark = pytest.mark.usefixtures("programs_once")


@pytest.fixture
def wandb_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights & Biases without a network."""
    pytest.importorskip("wandb", reason="extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.usefixtures("wandb_offline")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")
def test_wandb_offline_shows_the_rows(make_config: MakeConfig, tmp_path: Path) -> None:
    pack = [make_config(seed=seed) for seed in (0, 1)]
    statuses = train_pack(prepare_pack(pack), tmp_path, logging="wandb")
    assert set(statuses.values()) == {"done"}
    for config in pack:
        (log,) = (tmp_path / config.run_id).rglob("*.wandb")
        content = log.read_bytes()
        assert b"return_mean" in content
        assert config.run_id.encode() in content
        assert len(results.read_metrics(tmp_path / config.run_id)) == 2


def wandb_records(path: Path) -> Iterator[bytes]:
    """Records of an offline log: LevelDB's log format in blocks of 32 KiB, after a header of 7 bytes."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def logged_rows(folder: Path) -> list[dict[str, Any]]:
    """Every row in the offline logs below a folder: column → value."""
    from wandb.proto import wandb_internal_pb2

    rows = []
    for path in folder.rglob("*.wandb"):
        for content in wandb_records(path):
            record = wandb_internal_pb2.Record.FromString(content)
            row = {
                i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item
            }
            rows += [row] if "env_steps" in row else []
    return rows


@pytest.mark.usefixtures("wandb_offline")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")
def test_wandb_shows_each_step_once_after_a_resume(make_config: MakeConfig, tmp_path: Path) -> None:
    """Interrupted twice; the attempt before had logged rows beyond its checkpoint."""
    config = make_config(env_steps=600)
    for until in (200, 400, None):
        stop = threading.Event()

        def watch(progress: Progress, until: int | None = until, stop: threading.Event = stop) -> None:
            if until and progress.env_steps >= until:
                stop.set()

        train_pack(
            prepare_pack([config]),
            tmp_path,
            logging="wandb",
            watch=watch,
            policy=Policy(every=300),
            stop=stop,
        )
    logged, rows = logged_rows(tmp_path), results.read_metrics(tmp_path / config.run_id)
    assert [row["env_steps"] for row in logged] == [100, 200, 300, 400, 500, 600]
    for shown, (_, row) in zip(logged, rows.iterrows(), strict=True):
        told = {name: float(shown[name]) for name in rows.columns}  # "NaN" of what was not measured
        assert told == pytest.approx(row.to_dict(), rel=1e-6, nan_ok=True)


def events(folder: Path) -> list[Any]:
    """What the event files below a folder hold: TFRecords of ``tensorflow.Event``."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.rglob("*tfevents*")):
        data, at = path.read_bytes(), 0
        while at < len(data):  # length, its checksum, the event, its checksum
            (size,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += 12 + size + 4
        assert at == len(data)
    return found


def scalars(folder: Path) -> list[tuple[str, int, float, float]]:
    """Tag, step, value and time of what is shown."""
    return [
        (value.tag, event.step, value.simple_value, event.wall_time)
        for event in events(folder)
        for value in event.summary.value
        if value.HasField("simple_value")
    ]


def test_tensorboard_shows_each_row_once_under_its_columns_names(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """Interrupted once; the attempt before had shown a row beyond its checkpoint."""
    pytest.importorskip("tensorboardX", reason="extra tensorboard is not installed")
    config = make_config(env_steps=400, eval_every=200)
    for until in (200, None):
        stop = threading.Event()

        def watch(progress: Progress, until: int | None = until, stop: threading.Event = stop) -> None:
            if until and progress.env_steps >= until:
                stop.set()

        policy = Policy(every=300)
        prepared = prepare_pack([config])
        train_pack(prepared, tmp_path, logging="tensorboard", watch=watch, policy=policy, stop=stop)
    rows = results.read_metrics(tmp_path / config.run_id)
    shown = scalars(tmp_path)
    assert {tag for tag, *_ in shown} == {n for n in rows.columns if rows[n].notna().any()} - {
        "env_steps"
    }
    expected = {
        (name, int(row["env_steps"])): row[name]
        for _, row in rows.iterrows()
        for name in rows.columns
        if name != "env_steps" and row[name] == row[name]
    }
    assert len(shown) == len(expected)
    for tag, step, value, _ in shown:
        assert value == pytest.approx(expected[tag, step], rel=1e-6)
    assert [step for tag, step, *_ in shown if tag == "return_mean"] == [200, 400]
    record = results.read_run(tmp_path / config.run_id) or {}
    began = datetime.fromisoformat(record["started_at"]).timestamp()
    for tag, _, value, time in shown:
        if tag == results.WALL_TIME:
            assert time == pytest.approx(began + value, abs=1e-2)
    texts = {value.tag: str(value.tensor) for event in events(tmp_path) for value in event.summary.value}
    assert config.run_id in texts["config/text_summary"]
    assert "done" in texts["status/text_summary"]


def test_a_missing_package_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sparse_rl\[tensorboard\]'"):
        views.check_available("tensorboard")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sparse_rl\[wandb\]'"):
        views.check_available("wandb")
    views.check_available("none")
