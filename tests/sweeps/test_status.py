"""What the status command says of a study, from its files alone."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from sparse_rl import status
from sparse_rl.records import results
from sparse_rl.sweeps.locks import LOCK


def study(folder: Path) -> Path:
    """By hand: one done, one under way, one whose process is gone, one failed, one not begun."""
    axes = {"env": "gymnax/Pendulum-v1", "agent": "sac", "pattern": "unstructured", "env_steps": 1000}
    grid = {f"run{i}": {**axes, "width": 8 * (1 + i // 3), "sparsity": 0.9, "seed": i} for i in range(5)}
    results.write_grid(folder, grid)
    times = {"started_at": "2026-11-22T10:00:00+00:00", "written_at": "2026-11-22T10:00:04+00:00"}
    for i, (state, steps) in enumerate(
        [("done", 1000), ("running", 600), ("running", 300), ("failed", 0)]
    ):
        record = {
            "status": state,
            "reason": "MemoryError: 4 TB" if state == "failed" else None,
            "attempts": [{"started_at": times["started_at"], "from_env_steps": 200}],
            "progress": {"env_steps": steps, "written_at": times["written_at"]},
        }
        results.write_run(folder / f"run{i}", record)
    return folder


def test_counts_rate_and_time_left_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """(600 − 200) env steps in 4 s; 400 + 700 + 1000 are left: 21 s."""
    folder = study(tmp_path)
    with FileLock(folder / "run1" / LOCK):
        status.main([str(folder), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {"done": 1, "running": 1, "preempted": 1, "failed": 1, "pending": 1}
    assert found["env_steps_per_second"] == 100.0
    assert found["env_steps_left"] == 2100
    assert found["seconds_left"] == 21.0


def test_the_table_names_what_went_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status.main([str(study(tmp_path)), "--once"])
    shown = capsys.readouterr().out
    for part in (
        "S = 0.9",
        "2 preempted, 1 done",
        "1 failed, 1 pending",
        "run3: failed: MemoryError: 4 TB",
    ):
        assert part in shown
    assert "of 5 runs" in shown


def test_one_point_is_one_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of studies whose settings were not rounded yet."""
    folder = study(tmp_path)
    grid = results.read_grid(folder)
    grid["run0"] |= {"sparsity": 0.1 * 3}
    grid["run1"] |= {"sparsity": 0.3}
    results.write_grid(folder, grid)
    status.main([str(folder), "--once"])
    assert capsys.readouterr().out.count("S = 0.3") == 1


def test_a_folder_that_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        status.main([str(tmp_path / "none")])
    assert "no study in" in capsys.readouterr().err
