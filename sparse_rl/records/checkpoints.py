"""A run's whole state on disk: atomic, checked when read, and nothing in it can execute code.

``<run>/checkpoints/<env_steps>.arrow`` is a file of arrays (:mod:`~sparse_rl.records.arrays`). The last
two are kept, so that a damaged one costs one interval and not the run.
"""

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sparse_rl.kernels import keys
from sparse_rl.pruning import path_name
from sparse_rl.records.arrays import SCHEMA, Arrays, CheckpointError, read_arrays, write_arrays

__all__ = (
    "SCHEMA", "Arrays", "CheckpointError", "from_arrays", "path_of", "read_arrays", "remove", "save",
    "steps", "to_arrays", "write_arrays",
)  # fmt: skip

FOLDER = "checkpoints"
KEEP = 2


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


def path_of(run_dir: Path, env_steps: int) -> Path:
    return run_dir / FOLDER / f"{env_steps:012d}.arrow"


def steps(run_dir: Path) -> list[int]:
    """Env steps of the run's checkpoints, the newest first."""
    stems = (path.stem for path in (run_dir / FOLDER).glob("[0-9]*.arrow"))
    return sorted((int(stem) for stem in stems if stem.isdecimal()), reverse=True)


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
        with contextlib.suppress(OSError):  # what is not ours may stay: the run has ended
            for litter in folder.iterdir():  # a crash may have left a file that was being written
                litter.unlink()
            folder.rmdir()
