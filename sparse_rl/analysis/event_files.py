"""Scalars of TensorBoard's event files, read without TensorFlow.

A file is a list of records: length (uint64, little-endian), its checksum (4 bytes), an ``Event`` as
protocol buffer, its checksum. Checksums are not verified: a record that is cut ends the file, as in
TensorBoard.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

FILES = "*tfevents*"
FLOAT = 1
"""A tensor's kind of number: 32 bits."""


def _events(path: Path) -> Iterator[bytes]:
    content, at = path.read_bytes(), 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        end = at + 12 + length
        if end + 4 > len(content):
            return
        yield content[at + 12 : end]
        at = end + 4


def scalars(path: Path) -> pd.DataFrame:
    """``metric, env_steps, value`` of one file; of a metric's values at one step the last counts.

    Raises:
        ModuleNotFoundError: tensorboardX, which knows the format, is not installed.
        ValueError: it is no event file.
    """
    try:
        from google.protobuf.message import DecodeError
        from tensorboardX.proto.event_pb2 import Event
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "TensorBoard's files need tensorboardX: pip install 'sparse_rl[tensorboard]'"
        ) from error
    found: list[tuple[str, int, float]] = []
    for record in _events(path):
        try:
            event = Event.FromString(record)
        except DecodeError as error:
            raise ValueError(f"{path} is no TensorBoard event file ({error})") from error
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            if kind == "simple_value":
                found.append((value.tag, event.step, value.simple_value))
            elif kind == "tensor" and value.tensor.dtype == FLOAT:  # TensorFlow 2
                content, numbers = value.tensor.tensor_content, list(value.tensor.float_val)
                numbers = list(struct.unpack("<f", content)) if len(content) == 4 else numbers
                found += [(value.tag, event.step, n) for n in numbers if len(numbers) == 1]
    table = pd.DataFrame(found, columns=["metric", "env_steps", "value"])
    return table.drop_duplicates(["metric", "env_steps"], keep="last")


def run_folders(folder: Path) -> dict[str, list[Path]]:
    """Folders below (or the folder itself) that hold event files: path from here → files by name."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob(FILES)):
        found.setdefault(path.parent.relative_to(folder).as_posix(), []).append(path)
    return found
