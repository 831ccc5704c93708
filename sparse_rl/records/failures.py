"""Held-out levels that trained agents failed in, kept for people: each with an episode in it.

``<study>/failures.arrow`` is a file of arrays (:mod:`~sparse_rl.records.arrays`) with names like
``0/level/walls``. Words are arrays of one string.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparse_rl.records.arrays import CheckpointError, read_arrays, write_arrays

FILE = "failures.arrow"
WORDS = ("env", "name", "run_id")
"""Of a failure: the environment, the level's set and name, who played."""
NUMBERS = ("solve_rate",)
"""Share of all episodes in it that were solved, whoever played."""


def write(study: Path, failures: Iterable[Mapping[str, Any]]) -> None:
    """Keep them, in place of what was kept before.

    Args:
        study: its folder.
        failures: each with :data:`WORDS`, :data:`NUMBERS`, ``way`` (int32 ``[T, 2]``: where the agent
            was) and ``level`` (name → array).
    """
    arrays: dict[str, np.ndarray] = {}
    for i, one in enumerate(failures):
        arrays |= {f"{i}/{name}": np.asarray(one[name]) for name in (*WORDS, *NUMBERS, "way")}
        arrays |= {f"{i}/level/{name}": np.asarray(x) for name, x in one["level"].items()}
    write_arrays(study / FILE, arrays)


def read(study: Path) -> list[dict[str, Any]]:
    """What :func:`write` kept; empty if nothing was.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = study / FILE
    found: dict[int, dict[str, Any]] = {}
    for name, array in (read_arrays(path) if path.exists() else {}).items():
        number, _, rest = name.partition("/")
        if not number.isdecimal() or not rest:
            raise CheckpointError(f"{name!r} is no name of a failure")
        one = found.setdefault(int(number), {"level": {}})
        if rest.startswith("level/"):
            one["level"][rest.removeprefix("level/")] = array
        else:
            one[rest] = array if rest == "way" else array.item()
    if any({*WORDS, *NUMBERS, "way", "level"} != set(one) for one in found.values()):
        raise CheckpointError("it does not say of each failure what it was")
    return [found[number] for number in sorted(found)]
