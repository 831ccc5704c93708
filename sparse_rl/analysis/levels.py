"""Runs in environments with levels: who solves held-out ones, and what the frames went to."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sparse_rl.analysis import intervals, looks, scores, statistics
from sparse_rl.analysis.figures import band, style
from sparse_rl.analysis.load import CURRICULUM
from sparse_rl.analysis.tables import over_runs

SOLVED = "solve_rate/"
"""Beginning of the columns of held-out sets."""
STEPS = "steps_in_chunk/"
"""Beginning of the columns of frames by what they were for."""


def sets_of(rows: pd.DataFrame) -> list[str]:
    """The columns of held-out sets that were tried."""
    names = [str(name) for name in rows if str(name).startswith(SOLVED)]
    return [name for name in names if rows[name].notna().any()]


def cells(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Runs by curriculum, width and sparsity, named by what of it differs."""
    axes = [name for name in (CURRICULUM, "width", "sparsity") if name in rows]
    varied = [name for name in axes if rows[name].nunique() > 1] or axes[:1]
    for values, group in rows.groupby(axes, sort=False):
        told = dict(zip(axes, values, strict=True))
        words = [f"{told[name]}" if name == CURRICULUM else f"{name} {told[name]:g}" for name in varied]
        yield ", ".join(words), group


def curves(rows: pd.DataFrame) -> Figure:
    """Solve rate against env steps, a panel per held-out set, a line per curriculum, width and sparsity.

    Args:
        rows: of one environment and agent, at least one run done.
    """
    done = rows[rows["status"] == "done"]
    names, groups = sets_of(done), list(cells(done))
    looked = looks.marks(range(len(groups))).values()
    how: dict[str, Any] = {name: mark.line for (name, _), mark in zip(groups, looked, strict=True)}
    figure = Figure(figsize=(4.4 * len(names) + 2.2, 3.6), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for name, ax in zip(names, axes, strict=True):
        for label, group in groups:
            known = group[group[name].notna()]
            band(ax, _by_step(known, name), "env_steps", name, **how[label])
        style(ax, "env steps (frames, all that were simulated)", "solve rate (share of episodes)")
        ax.set_title(name.removeprefix(SOLVED), fontsize=10)
        ax.set_ylim(0, 1)
        ax.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    handles = [Line2D([], [], **look, label=label) for label, look in how.items()]
    figure.legend(handles=handles, loc="outside right center", frameon=False, handlelength=3.2)
    counts = sorted({group["run_id"].nunique() for _, group in groups})
    seeds = statistics.counted(counts[-1], "seed")
    many = seeds if len(counts) == 1 else f"{counts[0]} to {seeds}"
    kind = intervals.words("percentile" if counts[0] >= intervals.MANY else "t", cells=1)
    note = f"line: interquartile mean of {many}; band: {kind}"
    figure.suptitle(f"{rows['env'].iloc[0]}: held-out levels, drawn actions\n{note}", fontsize=10)
    return figure


def _by_step(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Interquartile mean with its interval at each log point that all of the runs have."""
    table = rows.pivot_table(index="env_steps", columns="run_id", values=metric).dropna()
    made = intervals.estimate(statistics.scores({"": table.to_numpy()}), resamples=500)
    columns = {"env_steps": table.index, metric: made.value, "low": made.low, "high": made.high}
    return pd.DataFrame(columns)


def finals(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per curriculum, width and sparsity: solve rates over the last fifth of training, and what
    the frames and updates were. Equal frames are not equal updates: both are here."""
    told = []
    for label, group in cells(rows[rows["status"] == "done"]):
        runs = group.groupby("run_id")
        row: dict[str, object] = {"": label, "runs": runs.ngroups}
        for name in sets_of(group):
            values = scores.final_values(group, name)[name].to_numpy()
            row[name.removeprefix(SOLVED)] = over_runs(values)
        row["frames"] = float(runs["env_steps"].max().mean())
        row["updates"] = float(runs["updates"].max().mean())
        for name in (str(name) for name in group if str(name).startswith(STEPS)):
            if group[name].notna().any() and (group[name] > 0).any():
                row[f"frames {name.removeprefix(STEPS)}"] = float(runs[name].sum().mean())
        told.append(row)
    return pd.DataFrame(told)
