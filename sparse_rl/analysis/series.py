"""What belongs on one curve, and the queries that find it again in the rows."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from sparse_rl.analysis import scores
from sparse_rl.analysis.load import CURRICULUM
from sparse_rl.analysis.ranges import SCORE_RANGES, Ranges, normalised

TOGETHER = ["env", "agent", "network", "variant"]
"""Runs that differ in one of these are never on one curve, dense ones included."""
PRUNED = ["pattern", "distribution"]
"""Nor are pruned runs that differ in one of these; dense runs have neither."""


class Series(NamedTuple):
    """A width × sparsity grid: one task, agent and way to prune, with the dense runs beside it."""

    label: str
    shared: dict[str, Any]
    """What all of its runs share."""
    pruned: dict[str, Any]
    """What its pruned runs share beside; empty if all are dense."""
    rows: pd.DataFrame

    def query(self, width: int | None = None, sparsity: float | None = None) -> str:
        """For ``DataFrame.query``: the rows of one cell, or of a column, a row or all of the grid."""
        words = dict(self.shared)
        if sparsity != 0.0:
            words |= self.pruned
        words |= {k: v for k, v in (("width", width), ("sparsity", sparsity)) if v is not None}
        alone = " and ".join(f"{name} == {_plain(value)!r}" for name, value in words.items())
        if sparsity is not None or not self.pruned:
            return alone
        dense = {name: value for name, value in words.items() if name not in self.pruned}
        dense_words = " and ".join(
            f"{n} == {_plain(v)!r}" for n, v in (dense | {"sparsity": 0.0}).items()
        )
        return f"({alone}) or ({dense_words})"


def _plain(value: Any) -> Any:
    """A number or a text as Python writes it."""
    return value.item() if hasattr(value, "item") else value


def _name(shared: Mapping[str, Any], differ: Mapping[str, int]) -> str:
    kept = [str(value) for name, value in shared.items() if name == "env" or differ[name] > 1]
    return ", ".join(word for word in kept if word)


def split(rows: pd.DataFrame) -> Iterator[Series]:
    """The grids that a study holds; every run is in one, dense runs in each of their task and agent."""
    pruned = rows["sparsity"] > 0
    together = [*TOGETHER, CURRICULUM] if CURRICULUM in rows else TOGETHER
    differ = {name: rows[name].nunique() for name in together}
    differ |= {name: rows.loc[pruned, name].nunique() for name in PRUNED}
    for values, group in rows.groupby(together, dropna=False):
        shared = dict(zip(together, values, strict=True))
        sparse = group[group["sparsity"] > 0]
        if sparse.empty:
            yield Series(_name(shared, differ), shared, {}, group)
        for kinds, _ in sparse.groupby(PRUNED):
            how = dict(zip(PRUNED, kinds, strict=True))
            alike = (group[PRUNED] == pd.Series(how)).all(axis=1)
            chosen = group[(group["sparsity"] == 0) | alike]
            yield Series(_name(shared | how, differ), shared, how, chosen)


def pool(grids: Iterable[Series], ranges: Ranges = SCORE_RANGES) -> Iterator[Series]:
    """Grids that differ in their task only, as one of normalised scores; none where a range is unknown.

    Cells that lack one of the tasks are left out, and the label says how many: averages over different
    tasks are no curve. Networks for several tasks have several sizes: in a pooled grid only the width is
    known.
    """
    alike: dict[str, list[Series]] = {}
    for grid in grids:
        how = {**grid.shared, **grid.pruned}
        del how["env"]
        alike.setdefault(str(how), []).append(grid)
    for group in alike.values():
        rows = pd.concat([grid.rows for grid in group], ignore_index=True)
        tasks = sorted(map(str, rows["env"].unique()))
        try:
            scored = normalised(rows, ranges=ranges)
        except ValueError:
            continue
        if len(tasks) > 1:
            cells = scored.groupby(["width", "sparsity"])["env"]
            whole = cells.transform("nunique") == len(tasks)
            without = len(cells) - scored[whole].groupby(["width", "sparsity"]).ngroups
            if not whole.any():
                continue
            shared = {name: value for name, value in group[0].shared.items() if name != "env"}
            words = [f"{len(tasks)} tasks, normalised", *(group[0].label.split(", ")[1:])]
            words += [f"without {without} cells that lack a task"] if without else []
            unknown = {name: float("nan") for name in scores.SIZES}
            yield Series(", ".join(words), shared, group[0].pruned, scored[whole].assign(**unknown))
