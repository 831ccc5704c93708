"""Arrays in a file that knows when it is damaged.

A header of 64 bytes (:data:`MAGIC` and the SHA-256 of what follows), then an Arrow file with a row per
array: name, dtype, shape, CRC-32 and bytes. Arrow's reader trusts what it is given, and a wrong bit can
end the process, so it is given nothing that was not checked. It also unpacks what is compressed before
anybody could ask how large that is: a file with compressed rows is refused.

Files that were written before the header came begin with Arrow's own magic. They are read in a process
of their own first, which may die of them.
"""

import hashlib
import math
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from sparse_rl.records.results import write_aside

MAGIC = b"sparse_rl arrays, SHA-256:".ljust(32)
HEADER_BYTES = 64
ARROW = b"ARROW1"
SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "dtype": pa.string(),
        "shape": pa.list_(pa.int64()),
        "crc32": pa.uint32(),
        "data": pa.large_binary(),
    }
)
TRIAL_SECONDS = 600

Arrays = dict[str, np.ndarray]
"""Name → array: a state in the form in which it is written."""


class CheckpointError(Exception):
    """A file of arrays is damaged, or belongs to another program."""


def _record(name: str, array: np.ndarray) -> pa.RecordBatch:
    """One row, its bytes not copied."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    data = pa.py_buffer(array.reshape(-1).view(np.uint8))
    offsets = pa.py_buffer(np.array([0, array.nbytes], np.int64))
    columns = [
        pa.array([name]),
        pa.array([array.dtype.str]),
        pa.array([list(array.shape)], pa.list_(pa.int64())),
        pa.array([zlib.crc32(data)], pa.uint32()),
        pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data]),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def _digest(path: Path) -> bytes:
    """Of what follows the header; a disk that cannot be read is an ``OSError`` here, not a signal."""
    with path.open("rb") as file:
        file.seek(HEADER_BYTES)
        return hashlib.file_digest(file, "sha256").digest()


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays aside, then rename: a crash leaves what was there before."""

    def write(aside: Path) -> None:
        with pa.OSFile(str(aside), "wb") as sink:
            sink.write(bytes(HEADER_BYTES))
            with pa.ipc.new_file(sink, SCHEMA) as writer:
                for name, array in arrays.items():
                    writer.write_batch(_record(name, array))
        digest = _digest(aside)
        with aside.open("r+b") as file:
            file.write(MAGIC + digest)

    write_aside(path, write)


def _compressed(metadata: bytes) -> bool:
    """Whether a record batch says that it is compressed (Arrow's Message.fbs, tables of flatbuffers)."""

    def place(table: int, field: int) -> int:
        vtable = table - struct.unpack_from("<i", metadata, table)[0]
        if 4 + 2 * field >= struct.unpack_from("<H", metadata, vtable)[0]:
            return 0
        offset: int = struct.unpack_from("<H", metadata, vtable + 4 + 2 * field)[0]
        return offset and table + offset

    header = place(struct.unpack_from("<I", metadata, 0)[0], 2)
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    return bool(place(batch, 3))


def _rows(content: pa.Buffer) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of an Arrow file. Its footer only says where its messages are, one after the other."""
    if content[: len(ARROW)].to_pybytes() != ARROW or content[-len(ARROW) :].to_pybytes() != ARROW:
        raise CheckpointError("not a whole file of arrays")
    first, *messages = pa.ipc.MessageReader.open_stream(content[8:])
    if pa.ipc.read_schema(first) != SCHEMA:
        raise CheckpointError("not a file of arrays")
    for message in messages:
        if _compressed(message.metadata.to_pybytes()):
            raise CheckpointError("its rows are compressed")
        batch = pa.ipc.read_record_batch(message, SCHEMA)
        batch.validate(full=True)
        if batch.num_rows != 1:
            raise CheckpointError(f"{batch.num_rows} rows in a batch instead of one")
        name, dtype, shape, crc32, data = batch.columns
        size, bytes_ = math.prod(shape[0].as_py()), data[0].as_buffer()
        if zlib.crc32(bytes_) != crc32[0].as_py():
            raise CheckpointError(f"{name[0]} has changed since it was written")
        array = np.frombuffer(bytes_, np.dtype(dtype[0].as_py()), size).reshape(shape[0].as_py())
        yield name[0].as_py(), array.copy()


def _read(path: Path, header_bytes: int) -> Arrays:
    with pa.memory_map(str(path)) as source:
        return dict(_rows(source.read_buffer()[header_bytes:]))


def _survives(path: Path) -> None:
    """Raise :class:`CheckpointError` unless another process can read this file without a checksum."""
    trial = subprocess.run(
        [sys.executable, "-m", "sparse_rl.records.arrays", str(path)],
        capture_output=True,
        text=True,
        timeout=TRIAL_SECONDS,
        check=False,
    )
    if trial.returncode:
        told = trial.stderr.strip().splitlines()
        why = told[-1] if told and trial.returncode == 1 else f"reading it ends in {trial.returncode}"
        raise CheckpointError(why)


def _checked(path: Path) -> int:
    """Bytes before the Arrow file, which is safe to read."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
        file.seek(-min(len(header), len(ARROW)), os.SEEK_END)
        end = file.read()
    if header.startswith(ARROW):
        if end != ARROW:
            raise CheckpointError("not a whole file of arrays")
        _survives(path)
        return 0
    if not header.startswith(MAGIC):
        raise CheckpointError("not a file of arrays")
    if _digest(path) != header[len(MAGIC) :]:
        raise CheckpointError("it has changed since it was written, or is cut off")
    return HEADER_BYTES


def read_arrays(path: Path) -> Arrays:
    """What :func:`write_arrays` wrote, by this version or one before it.

    Raises:
        CheckpointError: the file is missing, cut off, changed, compressed or no file of arrays.
    """
    try:
        return _read(path, _checked(path))
    except CheckpointError:
        raise
    except Exception as error:  # whatever a reader makes of bytes that are not what they should be
        raise CheckpointError(" ".join(f"{type(error).__name__}: {error}".split())) from error


def _try() -> None:
    """Read a file without a checksum in this process, whatever becomes of it."""
    import resource  # Windows has none

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _read(Path(sys.argv[1]), 0)
    except Exception as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    _try()
