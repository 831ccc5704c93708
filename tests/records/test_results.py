"""Atomic writes, and files that know when they are damaged."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from sparse_rl.records import results, seals
from sparse_rl.records.results import RecordError

BEFORE = Path(__file__).parents[1] / "studies" / "demo"
"""Written before there were checksums."""
ROWS = [
    {
        "env_steps": i,
        "return_mean": np.nan if i % 3 else i * 1.5,
        "loss/critic": i * 0.1,
        "wall_time": i / 7,
    }
    for i in range(1, 30)
]


def test_a_write_that_breaks_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.write_metrics(tmp_path, [{"env_steps": 1, "return_mean": 0.5}])

    def broken(self: pd.DataFrame, path: Path, **options: object) -> None:
        path.write_bytes(b"half a fi")
        raise OSError("no space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", broken)
    with pytest.raises(OSError, match="no space"):
        results.write_metrics(tmp_path, [{"env_steps": 2, "return_mean": 0.7}])
    assert results.read_metrics(tmp_path)["env_steps"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.parquet"]


def test_nothing_yet_reads_as_nothing(tmp_path: Path) -> None:
    assert results.read_run(tmp_path) is None
    assert results.read_metrics(tmp_path).empty
    assert results.run_dirs(tmp_path) == []


def test_missing_evaluations_stay_missing(tmp_path: Path) -> None:
    results.write_metrics(tmp_path, [{"env_steps": 1}, {"env_steps": 2, "return_mean": 3.0}])
    frame = results.read_metrics(tmp_path)
    assert frame["return_mean"].isna().tolist() == [True, False]
    assert frame["env_steps"].dtype == "int64"


def test_a_configuration_cannot_execute_code(tmp_path: Path) -> None:
    (tmp_path / results.CONFIG).write_text("agent: !!python/object/apply:os.system ['touch hacked']")
    with pytest.raises(RecordError, match="could not determine a constructor"):
        results.read_config(tmp_path)


def test_no_wrong_bit_changes_a_row(tmp_path: Path) -> None:
    """Of the footer either: there page checksums would let a name, a type or a place change."""
    results.write_metrics(tmp_path, ROWS)
    expected = results.read_metrics(tmp_path)
    path = tmp_path / results.METRICS
    whole = path.read_bytes()
    seed = random.randrange(2**32)
    print(f"seed of the damages: {seed}")
    refused = 0
    for bit in random.Random(seed).sample(range(8 * len(whole)), 1000):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            pd.testing.assert_frame_equal(results.read_metrics(tmp_path), expected)
        except RecordError:
            refused += 1
    assert refused == 1000


def test_rows_do_not_depend_on_what_pandas_says_of_them(tmp_path: Path) -> None:
    """The fuzzer found a damage to it and to the seal's name at once, when that was let through."""
    results.write_metrics(tmp_path, ROWS)
    expected = results.read_metrics(tmp_path)
    path = tmp_path / results.METRICS
    plain = seals.unsealed_rows(path.read_bytes())
    path.write_bytes(seals.seal_rows(plain.replace(b"numpy_type", b"numpx_type")))
    pd.testing.assert_frame_equal(results.read_metrics(tmp_path), expected)


def test_other_readers_can_check_pages(tmp_path: Path) -> None:
    results.write_metrics(tmp_path, ROWS)
    path = tmp_path / results.METRICS
    whole = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    last = column.data_page_offset + column.total_compressed_size - 1
    path.write_bytes(whole[:last] + bytes([whole[last] ^ 1]) + whole[last + 1 :])
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(path, page_checksum_verification=True).read()


def test_equal_rows_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        results.write_metrics(tmp_path / name, ROWS)
    assert (tmp_path / "a" / results.METRICS).read_bytes() == (
        tmp_path / "b" / results.METRICS
    ).read_bytes()


def test_what_was_written_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    (some, *_) = results.run_dirs(BEFORE)
    plain = pq.ParquetFile(some / results.METRICS).read().to_pandas()
    pd.testing.assert_frame_equal(results.read_metrics(some)[list(plain)], plain)
    record, config = results.read_run(some), results.read_config(some)
    assert record is not None
    assert record["run_id"] == some.name
    assert config["width"] == record["width"]
    assert some.name in results.read_grid(BEFORE)
    shutil.copytree(some, tmp_path / "cut")
    path = tmp_path / "cut" / results.METRICS
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RecordError):
        results.read_rows(tmp_path / "cut")


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "[" * 100_000, "{\"status\": \"dole\"}", "{\"status\": [\"done\"]}",
        "{\"status\": \"done\", \"progress\": {\"env_steps\": -1}}",
        "{\"status\": \"done\", \"progress\": []}", "{\"status\": \"done\", \"attempts\": {}}",
        "{\"status\": \"done\", \"attempts\": [3]}",
    ],
)  # fmt: skip
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    for name, read in (
        (results.RUN, results.read_run),
        (results.CONFIG, results.read_config),
        (results.GRID, results.read_grid),
    ):
        path = tmp_path / name
        path.write_bytes(text.encode() if name == results.RUN or "status" not in text else b"\xff\xfe")
        with pytest.raises(RecordError) as caught:
            read(tmp_path)
        assert str(caught.value).startswith(f"{path} cannot be read: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        results.write_run(tmp_path, {"status": "done"})
    finally:
        os.umask(before)
    assert (tmp_path / results.RUN).stat().st_mode & 0o777 == mode
