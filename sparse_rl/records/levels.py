"""Levels that a curriculum chose, kept for people: a few at a few moments of a run.

``<run>/levels.arrow`` is a file of arrays (:mod:`~sparse_rl.records.arrays`) with names like
``300000/hardest/levels/walls``. It is read by the analysis alone: no run needs it to go on.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sparse_rl.records.arrays import Arrays, CheckpointError, read_arrays, write_arrays

FILE = "levels.arrow"
MOMENTS = 6
"""Of a run: so many sixths of it are over."""


def moments(env_steps: int, log_every: int) -> set[int]:
    """The log points at which levels are kept: the first after each part of a run, and its end."""
    points = env_steps // log_every
    return {log_every * -(-points * part // MOMENTS) for part in range(1, MOMENTS + 1)}


def read(run_dir: Path) -> dict[int, Arrays]:
    """Env steps → what was kept then, in order; empty if nothing was.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = run_dir / FILE
    kept: dict[int, Arrays] = {}
    for name, array in (read_arrays(path) if path.exists() else {}).items():
        when, _, rest = name.partition("/")
        if not when.isdecimal() or not rest:
            raise CheckpointError(f"{name!r} is no name of levels")
        kept.setdefault(int(when), {})[rest] = array
    return dict(sorted(kept.items()))


def add(run_dir: Path, env_steps: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep what is shown of a run now, after what was kept before. What was kept later is of an attempt
    that went further, and goes; so does what cannot be read, for no run depends on it."""
    try:
        before = read(run_dir)
    except CheckpointError:
        before = {}
    kept = {when: held for when, held in before.items() if when < env_steps} | {env_steps: dict(arrays)}
    named = {f"{when}/{name}": x for when, held in kept.items() for name, x in held.items()}
    write_arrays(run_dir / FILE, named)
