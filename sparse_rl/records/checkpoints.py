"""A run's whole state on disk: atomic, checked when read, and nothing in it can execute code.

``<run>/checkpoints/<env_steps>.arrow`` is an Arrow file with a row per array: name, dtype, shape, CRC-32
and bytes. The last two are kept, so that a damaged one costs one interval and not the run.
"""

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa

from sparse_rl.kernels import keys
from sparse_rl.pruning import path_name
from sparse_rl.records.results import write_aside

FOLDER = "checkpoints"
KEEP = 2
SCHEMA = pa.schema(
    {
        "name": pa.string(),
        "dtype": pa.string(),
        "shape": pa.list_(pa.int64()),
        "crc32": pa.uint32(),
        "data": pa.large_binary(),
    }
)

Arrays = dict[str, np.ndarray]
"""Name → array: a state in the form in which it is written."""


class CheckpointError(Exception):
    """A checkpoint is damaged, or belongs to another program."""


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def to_arrays(tree: Any) -> Arrays:
    """The leaves of a pytree by their paths, on the host; random keys as their words."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    host = jax.device_get([jax.random.key_data(x) if _is_key(x) else x for _, x in leaves])
    return {path_name(path): np.asarray(x) for (path, _), x in zip(leaves, host, strict=True)}


def from_arrays(like: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The pytree that :func:`to_arrays` took apart.

    Args:
        like: a pytree of its structure, with shapes and dtypes.
        arrays: of :func:`to_arrays`.

    Raises:
        CheckpointError: an array is missing, or has another shape or dtype.
    """

    def leaf(path: tuple[Any, ...], shape: Any) -> Any:
        name = path_name(path)
        words = jax.eval_shape(jax.random.key_data, shape) if _is_key(shape) else shape
        found = arrays.get(name)
        if found is None or (found.shape, found.dtype) != (words.shape, words.dtype):
            have = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise CheckpointError(f"{name}: {have} instead of {words.dtype}{list(words.shape)}")
        return keys.wrapped(found) if _is_key(shape) else jnp.asarray(found)

    return jax.tree_util.tree_map_with_path(leaf, like)


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


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays aside, then rename: a crash leaves what was there before."""

    def write(aside: Path) -> None:
        with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
            for name, array in arrays.items():
                writer.write_batch(_record(name, array))

    write_aside(path, write)


def _rows(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        if reader.schema != SCHEMA:
            raise CheckpointError("not a checkpoint")
        for i in range(reader.num_record_batches):
            name, dtype, shape, crc32, data = reader.get_batch(i).columns
            size, content = math.prod(shape[0].as_py()), data[0].as_buffer()
            if zlib.crc32(content) != crc32[0].as_py():
                raise CheckpointError(f"{name[0]} has changed since it was written")
            array = np.frombuffer(content, np.dtype(dtype[0].as_py()), size).reshape(shape[0].as_py())
            yield name[0].as_py(), array.copy()


def read_arrays(path: Path) -> Arrays:
    """What :func:`write_arrays` wrote.

    Raises:
        CheckpointError: the file is cut off, changed or no checkpoint.
    """
    try:
        return dict(_rows(path))
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise CheckpointError(str(error)) from error


def path_of(run_dir: Path, env_steps: int) -> Path:
    return run_dir / FOLDER / f"{env_steps:012d}.arrow"


def steps(run_dir: Path) -> list[int]:
    """Env steps of the run's checkpoints, the newest first."""
    return sorted((int(path.stem) for path in (run_dir / FOLDER).glob("[0-9]*.arrow")), reverse=True)


def save(run_dir: Path, env_steps: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a checkpoint, then let go of those before the last two."""
    write_arrays(path_of(run_dir, env_steps), arrays)
    remove(run_dir, steps(run_dir)[KEEP:])


def remove(run_dir: Path, which: Iterable[int] | None = None) -> None:
    """Delete some of a run's checkpoints, by default all and their folder."""
    for env_steps in steps(run_dir) if which is None else which:
        path_of(run_dir, env_steps).unlink(missing_ok=True)
    folder = run_dir / FOLDER
    if which is None and folder.exists():
        for litter in folder.iterdir():  # a crash may have left a file that was being written
            litter.unlink()
        folder.rmdir()
