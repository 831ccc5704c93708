"""Files of arrays: what is damaged is refused before Arrow sees it, what is old is read with care."""

import hashlib
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparse_rl.records import arrays
from sparse_rl.records.arrays import HEADER_BYTES, MAGIC, CheckpointError, read_arrays, write_arrays

KEPT = {"weights": np.linspace(0.5, 3.5, 6, dtype=np.float32).reshape(2, 3), "steps": np.array(17)}
FLIPS, CUTS = 1500, 150


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.arrow"
    write_arrays(path, KEPT)
    return path


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_arrays(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_bit_or_a_missing_end_is_seen_before_arrow_sees_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow's reader dies of some of these: here it is not even asked, nor is another process."""
    whole = file.read_bytes()
    monkeypatch.setattr(arrays, "_read", lambda *_: pytest.fail("Arrow saw what was damaged"))
    monkeypatch.setattr(arrays, "_survives", lambda *_: pytest.fail("taken for a file of before"))
    seed = random.randrange(2**32)
    print(f"seed of the damages: {seed}")
    rng = random.Random(seed)
    for bit in rng.sample(range(8 * len(whole)), FLIPS):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        refused(file, bytes(flipped))
    for length in rng.sample(range(len(whole)), CUTS):
        refused(file, whole[:length])


def sealed(arrow: bytes) -> bytes:
    """As of somebody who knows how checksums are made."""
    return MAGIC + hashlib.sha256(arrow).digest() + arrow


def rows(batch: pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def row(size: int) -> pa.RecordBatch:
    return arrays._record("zeros", np.zeros(size, np.uint8))


def test_what_would_unpack_to_more_than_it_is_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = rows(row(1 << 24), compression="zstd")
    assert len(small) < 4000
    unpack = pa.ipc.read_record_batch
    monkeypatch.setattr(pa.ipc, "read_record_batch", lambda *_: pytest.fail("it was unpacked"))
    assert "compressed" in refused(tmp_path / "a.arrow", sealed(small))
    monkeypatch.setattr(pa.ipc, "read_record_batch", unpack)
    (tmp_path / "b.arrow").write_bytes(sealed(rows(row(9))))
    assert read_arrays(tmp_path / "b.arrow")["zeros"].size == 9


def test_whatever_is_no_file_of_arrays_is_a_checkpoint_error(tmp_path: Path) -> None:
    path = tmp_path / "a.arrow"
    other = pa.record_batch([pa.array([1, 2])], names=["other"])
    two = pa.Table.from_batches([row(3), row(5)]).combine_chunks().to_batches()[0]
    for content in (b"", b"PK\x03\x04", bytes(200), sealed(b""), sealed(rows(other)), sealed(rows(two))):
        refused(path, content)
    with pytest.raises(CheckpointError):
        read_arrays(tmp_path)
    with pytest.raises(CheckpointError):
        read_arrays(tmp_path / "missing.arrow")


def test_files_of_before_are_tried_in_a_process_of_their_own(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = file.read_bytes()[HEADER_BYTES:]
    file.write_bytes(before)
    again = read_arrays(file)
    assert {name: array.tobytes() for name, array in again.items()} == {
        name: array.tobytes() for name, array in KEPT.items()
    }
    place = before.index(KEPT["weights"].tobytes())
    changed = before[:place] + b"\x07" + before[place + 1 :]
    assert "weights has changed since it was written" in refused(file, changed)
    killed = subprocess.CompletedProcess([], -11, "", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **options: killed)
    assert "-11" in refused(file, before)
