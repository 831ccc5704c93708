"""Records that know when they are damaged, and those of before, which do not."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from sparse_rl.records import results, seals
from sparse_rl.records.results import RecordError

ARCHIVES = Path(__file__).parents[2] / "docs" / "results"
RUN = {"run_id": "w8_x", "status": "done", "attempts": [{"from_env_steps": 0}], "timings": {"a": 1.25}}
CONFIG = {"agent": {"name": "sac", "learning_rate": 3e-4}, "width": 8, "env": {"name": "größe"}}
GRID = {"w8_x": {"env_steps": 40, "width": 8}}
KINDS: list[tuple[str, Callable[[Path], object], Callable[[Path], Any]]] = [
    (results.RUN, lambda d: results.write_run(d, RUN), results.read_run),
    (results.CONFIG, lambda d: results.write_config(d, CONFIG), results.read_config),
    (results.GRID, lambda d: results.write_grid(d, GRID), results.read_grid),
    (
        results.COMMANDS,
        lambda d: results.add_words(d / results.COMMANDS, "x=1"),
        lambda d: results.read_words(d / results.COMMANDS),
    ),
]


@pytest.mark.parametrize(("name", "write", "read"), KINDS, ids=[kind[0] for kind in KINDS])
def test_no_wrong_bit_of_a_record_is_taken(
    tmp_path: Path, name: str, write: Callable[[Path], object], read: Callable[[Path], Any]
) -> None:
    """Every bit, those of the seal among them: a digit of a budget reads as well as another."""
    write(tmp_path)
    path, expected = tmp_path / name, read(tmp_path)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(RecordError, match=str(path)):
            print(bit, read(tmp_path))
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(RecordError):
            print(size, read(tmp_path))
    path.write_bytes(whole)
    assert read(tmp_path) == expected


def test_a_seal_is_no_part_of_what_a_record_says(tmp_path: Path) -> None:
    """Others read it as the JSON and the YAML that it is."""
    for _, write, _ in KINDS:
        write(tmp_path)
    assert results.read_run(tmp_path) == RUN
    assert json.loads((tmp_path / results.RUN).read_text()) == RUN | {
        seals.NAME: seals.digest((json.dumps(RUN, indent=2) + "\n").encode()).decode()
    }
    assert yaml.safe_load((tmp_path / results.CONFIG).read_text()) == CONFIG
    assert results.read_config(tmp_path) == CONFIG
    results.write_run(tmp_path / "none", {})
    assert (tmp_path / "none" / results.RUN).read_text() == "{}\n"


def test_who_mends_a_record_takes_its_checksum_out(tmp_path: Path) -> None:
    for _, write, _ in KINDS:
        write(tmp_path)
    for name, was, now in (
        (results.RUN, '"status": "done"', '"status": "failed"'),
        (results.CONFIG, "width: 8", "width: 16"),
        (results.GRID, '"width": 8', '"width": 16'),
    ):
        path = tmp_path / name
        mended = path.read_text().replace(was, now)
        path.write_text(mended)
        with pytest.raises(RecordError, match=r"if that was you, take its line with sha256 out"):
            dict(KINDS_READ)[name](tmp_path)
        lines = [line for line in mended.splitlines(keepends=True) if seals.NAME not in line]
        path.write_text("".join(lines))
        assert dict(KINDS_READ)[name](tmp_path)
    assert (results.read_run(tmp_path) or {})["status"] == "failed"
    assert results.read_config(tmp_path)["width"] == 16
    assert results.read_grid(tmp_path)["w8_x"]["width"] == 16


KINDS_READ = [(name, read) for name, _, read in KINDS]


def test_a_checksum_elsewhere_is_none(tmp_path: Path) -> None:
    """Another program wrote the file anew: nobody can tell what it changed."""
    results.write_grid(tmp_path, GRID)
    path = tmp_path / results.GRID
    path.write_text(json.dumps(json.loads(path.read_text())))
    with pytest.raises(RecordError, match="its checksum is not where it was written"):
        results.read_grid(tmp_path)


def test_a_file_that_is_no_record_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.write_run(tmp_path, RUN)
    monkeypatch.setattr(results, "MOST_BYTES", 100)
    with pytest.raises(RecordError, match="it has more than 100 bytes"):
        results.read_run(tmp_path)


def test_rows_whose_checksum_is_gone_are_no_rows_of_before(tmp_path: Path) -> None:
    """Their pages say that they were sealed; rows that pandas writes by itself were not."""
    results.write_metrics(tmp_path, [{"env_steps": 100, "return_mean": 1.5}])
    path = tmp_path / results.METRICS
    content = path.read_bytes()
    at = content.index(seals.ROWS)
    bare = content[:at] + content[at + len(seals.ROWS) + seals.HEX :]
    path.write_bytes(bare)
    with pytest.raises(RecordError, match="its checksum is gone"):
        results.read_metrics(tmp_path)
    pd.read_parquet(io.BytesIO(bare)).to_parquet(path, index=False)
    assert results.read_metrics(tmp_path)["return_mean"].tolist() == [1.5]


def test_the_archives_are_read(tmp_path: Path) -> None:
    """Studies of before there were seals, and of before records had them."""
    read = 0
    for archive in sorted(ARCHIVES.glob("*.tar.xz")):
        with tarfile.open(archive) as files:
            wanted = [m for m in files if not m.name.endswith((".arrow", ".lock"))]
            files.extractall(tmp_path / archive.name, wanted, filter="data")
        for record in sorted((tmp_path / archive.name).rglob(results.RUN)):
            run_dir = record.parent
            known = results.read_run(run_dir)
            assert known is not None
            assert results.read_config(run_dir)["width"] == known["width"]
            assert len(results.read_metrics(run_dir)) > 0
            read += 1
        for grid in (tmp_path / archive.name).rglob(results.GRID):
            assert results.read_grid(grid.parent)
    assert read > 200
