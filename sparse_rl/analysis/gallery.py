"""Levels for people: what a curriculum wanted over time, the hardest that was solved, and held-out
levels that were not."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparse_rl.analysis import mazes
from sparse_rl.analysis.load import CURRICULUM
from sparse_rl.analysis.mazes import Maze
from sparse_rl.records import failures, levels
from sparse_rl.records.arrays import Arrays, CheckpointError

KINDS = {"wanted": "wanted most", "made": "made by the teacher", "hardest": "hardest solved"}
"""Kind of levels in a run's file → its words."""
CONSTANT = ("solvable",)
"""What is told of a level that is no number of it."""


class Shown(NamedTuple):
    """The gallery of one run."""

    name: str
    figure: Figure
    caption: str


def middle_run(rows: pd.DataFrame, names: list[str]) -> tuple[Path, str] | None:
    """The folder and id of the run in the middle: of those done, by the mean of their last solve rates;
    ``None`` where none is done.

    Args:
        rows: of one curriculum.
        names: columns of solve rates.
    """
    done = rows[(rows["status"] == "done") & rows[names].notna().all(axis=1)]
    last = done.sort_values("env_steps").groupby("run_id", sort=True).tail(1)
    if last.empty:
        return None
    ordered = last.assign(rate=last[names].mean(axis=1)).sort_values(["rate", "run_id"])
    chosen = ordered.iloc[(len(ordered) - 1) // 2]
    return Path(str(chosen["study"])) / str(chosen["run_id"]), str(chosen["run_id"])


def galleries(rows: pd.DataFrame, names: list[str]) -> Iterator[Shown | str]:
    """A picture for each curriculum whose levels were kept; a sentence where they cannot be read.

    Args:
        rows: of one environment and agent.
        names: columns of solve rates, by which a run is chosen.
    """
    if CURRICULUM not in rows:
        return
    for method, group in rows.groupby(CURRICULUM, sort=False):
        found = middle_run(group, names)
        if found is None:
            continue
        run_dir, run_id = found
        try:
            kept = levels.read(run_dir)
        except CheckpointError as error:
            yield f"{run_dir / levels.FILE} cannot be read: {error}"
            continue
        if kept:
            yield _shown(str(method), run_id, kept)


def _shown(method: str, run_id: str, kept: Mapping[int, Arrays]) -> Shown:
    which = f"{method}: run {run_id}, the middle one of its curriculum by solve rate"
    sheet = _sheet(kept)
    if sheet is not None:
        how = "Rows: env steps. Below a maze: actions of its shortest solution (turns count; ∞: none)"
        what = "its highest return so far (none: never ended), and whether it is an edit"
        return Shown(method, sheet, f"Levels of {which}. {how}, {what}")
    kind = _kinds(next(iter(kept.values())))[0]
    numbers = {when: _numbers(held, kind) for when, held in kept.items()}
    return Shown(method, mazes.scatter(numbers, f"levels {KINDS[kind]}"), f"Levels of {which}")


def _numbers(held: Arrays, kind: str) -> dict[str, np.ndarray]:
    """What is told of the levels of a kind that are there."""
    begin = f"{kind}/told/"
    told = {n.removeprefix(begin): x for n, x in held.items() if n.startswith(begin)}
    return {name: x[held[f"{kind}/there"]] for name, x in told.items() if name not in CONSTANT}


def _kinds(held: Arrays) -> list[str]:
    return [kind for kind in KINDS if f"{kind}/there" in held]


def _sheet(kept: Mapping[int, Arrays]) -> Figure | None:
    """Rows of mazes: of every moment what was wanted, and of the last what was hardest; ``None``: they
    are no mazes."""
    made: dict[str, list[tuple[Maze, str, np.ndarray | None]]] = {}
    last = max(kept)
    for when, held in kept.items():
        for kind in _kinds(held):
            if kind == "hardest" and when != last:
                continue
            row = list(_mazes(held, kind))
            if None in row:
                return None
            name = f"{when / 1e6:.3g}M" if kind != "hardest" else KINDS[kind].replace(" ", "\n")
            made[name] = [one for one in row if one is not None]
    made = {name: row for name, row in made.items() if row}
    return mazes.sheet(made) if made else None


def _mazes(held: Arrays, kind: str) -> Iterator[tuple[Maze, str, np.ndarray | None] | None]:
    """The levels of a kind that are there, with their words; ``None`` for one that is no maze."""
    leaves = {n.removeprefix(f"{kind}/levels/"): x for n, x in held.items() if f"{kind}/levels/" in n}
    for i in np.flatnonzero(held[f"{kind}/there"]):
        maze = mazes.maze_of({name: x[i] for name, x in leaves.items()})
        yield None if maze is None else (maze, _words(held, kind, int(i)), None)


def _words(held: Arrays, kind: str, i: int) -> str:
    shortest, highest = held[f"{kind}/told/shortest"][i], held[f"{kind}/highest"][i]
    parts = [f"{shortest:.0f}" if np.isfinite(shortest) else "∞"]
    if kind != "made":
        parts.append(f"{highest:.2f}" if np.isfinite(highest) else "none")
    return ", ".join([*parts, *(["edit"] if held[f"{kind}/edited"][i] else [])])


def failed(study: str | Path) -> Figure | str | None:
    """Held-out levels that were solved least often, with an episode in each; ``None`` where none are
    kept, a sentence where their file cannot be read."""
    try:
        found: list[dict[str, Any]] = failures.read(Path(study))
    except CheckpointError as error:
        return f"{Path(study) / failures.FILE} cannot be read: {error}"
    rows: dict[str, list[tuple[Maze, str, np.ndarray | None]]] = {}
    for one in found:
        maze = mazes.maze_of(one["level"])
        if maze is not None:
            words = f"{one['name']}\nsolved {one['solve_rate']:.0%}; here {len(one['way'])} actions"
            rows.setdefault(one["env"], []).append((maze, words, one["way"]))
    return mazes.sheet(rows) if rows else None
