"""Teams whose members were trained apart, beside those trained together.

Cells of a matrix share runs, so they are no samples of their own: intervals come from resampling *runs*,
rows and columns together. A resample's pairs of a run with itself are self-play and left out.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparse_rl.analysis import looks, statistics
from sparse_rl.analysis.tables import spread

AXES = ("agent", "width", "sparsity")
"""What a cell is called by. Runs of a cell differ in seeds alone, so that two may have one name."""
CELL = (*AXES, "cell")


class Played(NamedTuple):
    """Mean returns of R runs with each other under one policy."""

    runs: list[str]
    cells: list[tuple[object, ...]]
    """Of each run, :data:`CELL`."""
    returns: statistics.Floats
    """``[R, R]``: row: who sits first; mean over how many seats it has; nan where they did not meet."""


def played(rows: pd.DataFrame, policy: str) -> Played:
    """The matrix of one policy.

    Args:
        rows: of ``crossplay.parquet``.
        policy: ``drawn`` or ``greedy``.
    """
    of = rows[rows["policy"] == policy]
    axes = [f"one/{axis}" for axis in CELL]
    alone = of[of["self_play"]].sort_values(axes, kind="stable")
    runs = list(alone["one/run_id"])
    cells = list(alone[axes].itertuples(index=False, name=None))
    table = of.pivot_table(index="one/run_id", columns="other/run_id", values="return_mean")
    return Played(runs, cells, table.reindex(index=runs, columns=runs).to_numpy(float))


def self_play(returns: statistics.Floats, chosen: np.ndarray) -> float:
    """Mean return of the chosen runs with themselves."""
    return float(np.mean(np.diag(returns)[chosen]))


def cross_play(returns: statistics.Floats, one: np.ndarray, other: np.ndarray) -> float:
    """Mean return of the chosen runs with other chosen ones, in both orders; nan if none met.

    Args:
        returns: ``[R, R]``.
        one, other: indices of runs, maybe repeated.
    """
    both = np.concatenate([returns[np.ix_(one, other)].ravel(), returns[np.ix_(other, one)].ravel()])
    apart = np.concatenate(
        [(one[:, None] != other[None]).ravel(), (other[:, None] != one[None]).ravel()]
    )
    met = both[apart & np.isfinite(both)]
    return float(np.mean(met)) if met.size else float("nan")


def _numbers(returns: statistics.Floats, own: np.ndarray, others: np.ndarray) -> list[float]:
    """Self-play, cross-play within the cell, what is lost, cross-play with other cells."""
    alone, within = self_play(returns, own), cross_play(returns, own, own)
    return [alone, within, alone - within, cross_play(returns, own, others)]


NAMES = ("self-play", "cross-play", "gap", "with others")


def cell_numbers(
    of: Played, cell: tuple[object, ...], resamples: int = statistics.RESAMPLES
) -> Mapping[str, tuple[float, float, float]]:
    """Of the runs of a cell: value, and 95 % interval from resampled runs; nan where it is not known.

    Args:
        of: the matrix.
        cell: one of its cells.
        resamples: how many.
    """
    own = np.flatnonzero([c == cell for c in of.cells])
    others = np.flatnonzero([c != cell for c in of.cells])
    values = _numbers(of.returns, own, others)
    if len(own) < 2:
        return {name: (value, np.nan, np.nan) for name, value in zip(NAMES, values, strict=True)}
    rng, samples = np.random.default_rng(0), []
    for _ in range(resamples):
        again = rng.choice(own, len(own))
        beside = rng.choice(others, len(others)) if len(others) else others
        samples.append(_numbers(of.returns, again, beside))
    found = {}
    for name, value, column in zip(NAMES, values, np.array(samples).T, strict=True):
        known = column[np.isfinite(column)]
        low, high = statistics.interval(known) if known.size else (np.nan, np.nan)
        found[name] = value, float(low), float(high)
    return found


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per policy and cell: self-play, cross-play among its runs, the gap, play with others."""
    told = []
    for policy in rows["policy"].unique():
        of = played(rows, policy)
        for cell in dict.fromkeys(of.cells):
            numbers = cell_numbers(of, cell)
            told.append(
                {"policy": policy, **dict(zip(AXES, cell, strict=False))}
                | {"runs": sum(c == cell for c in of.cells)}
                | {name: spread(*number) for name, number in numbers.items()}
            )
    return pd.DataFrame(told)


def matrix(rows: pd.DataFrame, policy: str) -> Figure:
    """Mean returns, a row per run that sits first and a column per run that sits after it."""
    of = played(rows, policy)
    labels = [f"{agent} {width} {sparsity:g}" for agent, width, sparsity, _ in of.cells]
    side = max(4.0, 0.42 * len(of.runs) + 2.4)
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    ax = figure.subplots()
    few = len(of.runs) <= 12
    looks.heat_map(
        of.returns, ax, square=True, cmap="viridis", annot=few, fmt=".3g", xticklabels=labels,
        yticklabels=labels, cbar_kws={"label": "mean return of the team"},
    )  # fmt: skip
    ax.set_xlabel("sits after it (agent, width, sparsity)")
    ax.set_ylabel("sits first")
    episodes = int(rows["episodes"].min())
    ax.set_title(
        f"{rows['env'].iloc[0]}: cross-play, {policy} actions, {episodes} episodes a match", fontsize=10
    )
    return figure
