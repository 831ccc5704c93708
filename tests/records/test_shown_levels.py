"""Levels and failures that are kept for people."""

from pathlib import Path

import numpy as np
import pytest

from sparse_rl.records import failures, levels
from sparse_rl.records.arrays import CheckpointError, write_arrays


def kept(number: int) -> dict[str, np.ndarray]:
    return {
        "wanted/levels/walls": np.full((2, 3), number % 2 == 0),
        "wanted/score": np.array([number], np.float32),
    }


@pytest.mark.parametrize(
    ("points", "expected"),
    [(12, [2, 4, 6, 8, 10, 12]), (7, [2, 3, 4, 5, 6, 7]), (3, [1, 2, 3]), (50, [9, 17, 25, 34, 42, 50])],
)
def test_moments_are_the_log_points_after_each_sixth(points: int, expected: list[int]) -> None:
    assert sorted(levels.moments(300 * points, 300)) == [300 * point for point in expected]


def test_what_a_longer_attempt_kept_goes_and_the_rest_stays_in_order(tmp_path: Path) -> None:
    assert levels.read(tmp_path) == {}
    for when in (900, 1000, 1100):
        levels.add(tmp_path, when, kept(when))
    once = (tmp_path / levels.FILE).read_bytes()
    levels.add(tmp_path, 1000, kept(1000))
    assert list(levels.read(tmp_path)) == [900, 1000]
    levels.add(tmp_path, 1100, kept(1100))
    assert (tmp_path / levels.FILE).read_bytes() == once
    for when, arrays in levels.read(tmp_path).items():
        assert arrays.keys() == kept(when).keys()
        assert arrays["wanted/score"].tolist() == [when]


def test_a_damaged_file_is_refused_and_no_run_depends_on_it(tmp_path: Path) -> None:
    levels.add(tmp_path, 900, kept(900))
    path = tmp_path / levels.FILE
    damaged = bytearray(path.read_bytes())
    damaged[-200] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="changed"):
        levels.read(tmp_path)
    levels.add(tmp_path, 1000, kept(1000))
    assert list(levels.read(tmp_path)) == [1000]
    write_arrays(path, {"parameters/w": np.zeros(3)})
    with pytest.raises(CheckpointError, match="'parameters/w' is no name of levels"):
        levels.read(tmp_path)


def test_failures_are_read_as_they_were_written(tmp_path: Path) -> None:
    assert failures.read(tmp_path) == []
    made = [
        {
            "env": "maze/9", "name": f"rooms/Labyrinth{i}", "run_id": "w8_é", "solve_rate": 0.1 * i,
            "way": np.array([[i, 2], [3, i]], np.int32),
            "level": {"walls": np.eye(3 + i) > 0, "direction": np.int32(i)},
        }
        for i in range(11)
    ]  # fmt: skip
    failures.write(tmp_path, made)
    found = failures.read(tmp_path)
    assert [one["name"] for one in found] == [one["name"] for one in made]
    for one, was in zip(found, made, strict=True):
        assert {n: one[n] for n in ("env", "run_id", "solve_rate")} == {
            n: was[n] for n in ("env", "run_id", "solve_rate")
        }
        np.testing.assert_array_equal(one["way"], was["way"])
        assert one["level"].keys() == {"walls", "direction"}
        np.testing.assert_array_equal(one["level"]["walls"], was["level"]["walls"])  # type: ignore[index]
    write_arrays(tmp_path / failures.FILE, {"0/env": np.asarray("maze/9")})
    with pytest.raises(CheckpointError, match="does not say of each failure"):
        failures.read(tmp_path)
    write_arrays(tmp_path / failures.FILE, {"parameters/w": np.zeros(3)})
    with pytest.raises(CheckpointError, match="'parameters/w' is no name of a failure"):
        failures.read(tmp_path)
