"""Every cell at the best setting of a key that is no question of the study, a learning rate say.

To compare widths at one learning rate is to compare how well that rate suits them. But the best of
several settings, judged by the runs that chose it, is flattered: the luck of the best is part of its
score. So those that choose and those that judge are different seeds. Seeds that choose may be named;
else the choice is cross-fitted (Stone 1974, *Cross-validatory choice and assessment*): every seed is
judged at the setting that did best on the other seeds of its cell. Runs that choose for each other are
not independent: one that is lucky draws the others to where it was lucky. Of means over splits whose
training parts overlap Nadeau and Bengio (2003, *Inference for the generalization error*, eq. 9) have the
variance (1/n + n_test/n_train)·σ², here (1/n + 1/(n − 1))·σ².
"""

from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sparse_rl.analysis import keys, scores, statistics
from sparse_rl.analysis.load import DEPENDENCE, cell_of
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.statistics import counted


class Tuned(NamedTuple):
    """Runs that judge, and how their settings were chosen."""

    rows: pd.DataFrame
    """Those of the judging runs: in each cell, each seed at the one setting that was chosen for it."""
    choices: pd.DataFrame
    """A line per cell: its axes, ``chosen`` (setting and by how many seeds), ``tried``, the seeds that
    ``judge``, ``seeds left out`` because not all settings have them, and ``at the edge``."""
    words: list[str]
    """How it was chosen, and what is to be said against it."""


class _Cell(NamedTuple):
    chosen: dict[int, Any]
    """Judging seed → its setting."""
    tried: list[Any]
    left_out: int
    factor: float
    """How many times the variance is that of independent runs."""


def _best(table: pd.DataFrame, seeds: Sequence[int]) -> Any:
    """The setting of the highest interquartile mean over some seeds; of equal ones the first."""
    value = [
        float(statistics.iqm(statistics.scores({"": run}))) for run in table[list(seeds)].to_numpy()
    ]
    return table.index[int(np.argmax(value))]


def _choose(table: pd.DataFrame, choosing: Sequence[int], where: str, key: str) -> _Cell:
    """One cell's settings.

    Args:
        table: settings × seeds, nan where a seed was not run.
        choosing: seeds that choose; none: the others, for each.
    """
    if len(table) < 2:
        raise ValueError(f"{where} has one {key} ({table.index[0]}): there is nothing to choose from")
    common = [int(seed) for seed in table.columns[table.notna().all()]]
    left_out = table.shape[1] - len(common)
    have = f"{where} has seeds {', '.join(map(str, common)) or 'none'} at every {key}"
    if choosing:
        absent = [seed for seed in choosing if seed not in common]
        if absent:
            raise ValueError(f"{have}; it lacks {', '.join(map(str, absent))} of --tune-seeds")
        judges = [seed for seed in common if seed not in choosing]
        if not judges:
            raise ValueError(f"{have}: all of them choose, and none is left to judge")
        best = _best(table, choosing)
        return _Cell(dict.fromkeys(judges, best), list(table.index), left_out, 1.0)
    if len(common) < 2:
        raise ValueError(f"{have}; it takes two, one to choose and another to judge")
    chosen = {seed: _best(table, [other for other in common if other != seed]) for seed in common}
    factor = 1.0 + len(common) / (len(common) - 1)
    return _Cell(chosen, list(table.index), left_out, factor)


def _line(cell: _Cell) -> dict[str, Any]:
    counts = Counter(cell.chosen.values()).most_common()
    many = [f"{setting} ({n} of {len(cell.chosen)} seeds)" for setting, n in counts]
    numeric = all(isinstance(setting, int | float | np.number) for setting in cell.tried)
    ends = (cell.tried[0], cell.tried[-1]) if numeric else ()
    return {
        "chosen": str(counts[0][0]) if len(counts) == 1 else ", ".join(many),
        "tried": ", ".join(map(str, cell.tried)),
        "judge": ", ".join(map(str, cell.chosen)),
        "seeds left out": cell.left_out,
        "at the edge": "yes" if any(setting in ends for setting, _ in counts) else "",
    }


def _words(key: str, choices: pd.DataFrame, choosing: Sequence[int]) -> list[str]:
    if choosing:
        named = ", ".join(map(str, choosing))
        told = [
            f"{key} is the best of each cell by seeds {named}; all scores are of the other seeds, which "
            "had no part in the choice."
        ]
    else:
        told = [
            f"{key} is chosen in each cell, and no seed judges a choice that it had a part in: each is "
            "judged at the setting that did best on the other seeds of its cell (cross-fitted)."
        ]
    edge = int((choices["at the edge"] == "yes").sum())
    if edge:
        told.append(
            f"In {edge} of {counted(len(choices), 'cell')} the choice lies at the edge of what was "
            f"tried: a better {key} may lie beyond."
        )
    if choices["tried"].nunique() > 1:
        told.append(
            f"Not all cells tried the same settings of {key}: those that tried more are at an advantage."
        )
    if choices["seeds left out"].any():
        told.append("Seeds that not all settings of a cell have are left out; the table counts them.")
    return told


def _refuse_sizes(final: pd.DataFrame, cell: Sequence[str], key: str) -> None:
    """A key that changes the network is an axis, and no setting to choose."""
    counts = final.groupby(list(cell), dropna=False)["parameters_total"].nunique()
    if (counts > 1).any():
        raise ValueError(f"{key} changes the number of parameters: compare its values with --by {key}")


def tune(rows: pd.DataFrame, key: str, choosing: Sequence[int] = (), by: Sequence[str] = ()) -> Tuned:
    """Every cell's runs at the setting of ``key`` that suits it, judged by seeds that did not choose it.

    A cell is a task, agent, network, way to prune, width and sparsity. What is compared afterwards is
    how well cells do with a setting that so many seeds would choose, which is at most their best.

    Args:
        rows: with the key's column (``load_all(…, by=[key])``).
        choosing: seeds that choose; by default each seed's others (cross-fitted).
        by: further keys that name a cell.

    Raises:
        ValueError: there is nothing to choose from, a cell's settings share no seeds to choose and to
            judge, or the key changes the network's size.
    """
    column = keys.column_of(key)
    final = keys.beside(scores.final_values(rows, RETURN), rows, [key, *by])
    if final.empty:
        raise ValueError("no run has ended: there is nothing to choose from")
    axes = [name for name in cell_of(final) if name != column]
    cell_names = list(dict.fromkeys([*axes, *map(keys.column_of, by)]))
    _refuse_sizes(final, cell_names, key)
    varied = [name for name in cell_names if name in ("width", "sparsity") or final[name].nunique() > 1]
    lines: list[dict[str, Any]] = []
    judges: dict[str, float] = {}
    for values, runs in final.groupby(cell_names, dropna=False):
        named = dict(zip(cell_names, values, strict=True))
        where = ", ".join(f"{name} {named[name]}" for name in varied)
        cell = _choose(runs.pivot_table(RETURN, column, "seed"), choosing, where, key)
        setting = runs["seed"].map(cell.chosen)
        judging = runs.loc[setting.notna() & (runs[column] == setting), "run_id"]
        judges |= dict.fromkeys(judging, cell.factor)
        lines.append({name: named[name] for name in varied} | _line(cell))
    choices = pd.DataFrame(lines)
    told = _words(key, choices, choosing)
    judged = rows[rows["run_id"].isin(judges)].reset_index(drop=True)
    return Tuned(judged.assign(**{DEPENDENCE: judged["run_id"].map(judges)}), choices, told)


def add_options(parser: ArgumentParser) -> None:
    """``--tune`` and ``--tune-seeds``, for every command that has them."""
    parser.add_argument(
        "--tune",
        metavar="KEY",
        help="every cell at its best setting of a key, e.g. agent.learning_rate; seeds that choose do "
        "not judge",
    )
    parser.add_argument(
        "--tune-seeds", nargs="+", type=int, default=[], metavar="SEED",
        help="these choose, all others judge (default: each seed is judged where the others choose)",
    )  # fmt: skip
