"""What a coordinate check found: by how much layers of other widths and sparsities differ in size."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparse_rl.analysis.figures import style
from sparse_rl.analysis.looks import palette

GRID = ["width", "sparsity"]
"""What a parametrisation should make no difference of."""
SIZE = "preactivation"
ALIKE = ["env", "agent", "network", "parametrisation", "initial_scale", "distribution", "learning_rate"]
"""Rows that differ in one of these are of different checks."""


def factors(table: pd.DataFrame) -> pd.DataFrame:
    """The largest size over the smallest, among all cells of a grid.

    Args:
        table: a row per run, layer and look: ``preactivation``, the columns of :data:`ALIKE` and
            :data:`GRID`, ``seed``, ``layer``, ``updates``.

    Returns:
        A row per check, layer and look: ``factor`` of the cells' geometric means over seeds, ``low`` and
        ``high`` the least and the largest of single seeds' own, ``seeds``. A size that is 0 or no number
        makes it infinite, or no number.
    """

    def factor(sizes: pd.Series) -> float:
        return float(sizes.max() / sizes.min()) if sizes.min() > 0 else float("inf")

    def of_group(group: pd.DataFrame) -> pd.Series:
        cells = np.exp(np.log(group[SIZE].replace(0.0, np.nan)).groupby([group[x] for x in GRID]).mean())
        if not np.isfinite(group[SIZE]).all():
            return pd.Series({"factor": np.nan, "low": np.nan, "high": np.nan, "seeds": 0})
        single = group.groupby("seed")[SIZE].agg(factor)
        whole = factor(cells) if (group[SIZE] > 0).all() else float("inf")
        return pd.Series(
            {"factor": whole, "low": single.min(), "high": single.max(), "seeds": len(single)}
        )

    by = [*ALIKE, "layer", "updates"]
    return table.groupby(by, sort=False)[[*GRID, "seed", SIZE]].apply(of_group).reset_index()


def words(table: pd.DataFrame) -> Iterator[str]:
    """The factors after the last look, a line per check and layer."""
    found = factors(table)
    last = found[found["updates"] == found["updates"].max()]
    widths, sparsities = (sorted(table[name].unique()) for name in GRID)
    yield (
        f"largest over smallest pre-activation (√ of the mean square) among widths "
        f"{', '.join(f'{w}' for w in widths)} and sparsities {', '.join(f'{s:g}' for s in sparsities)}, "
        f"after {last['updates'].iloc[0]} updates; in brackets the range over seeds"
    )
    for alike, group in last.groupby(ALIKE, sort=False):
        told = dict(zip(ALIKE, alike, strict=True))
        yield (
            f"{told['agent']} ({told['network']}) on {told['env']}, {told['parametrisation']}, "
            f"initial scale {told['initial_scale']}, {told['distribution']}, "
            f"rate {told['learning_rate']:g}:"
        )
        for row in group.itertuples():
            yield f"  {row.layer}: {row.factor:.2f} ({row.low:.2f} to {row.high:.2f})"


def draw(table: pd.DataFrame) -> Figure:
    """Size against width, a row per check, a column per layer: dashed before the first update, solid
    after the last; a colour per sparsity; a band from the smallest seed to the largest."""
    checks = list(table.groupby(ALIKE, sort=False))
    layers = list(dict.fromkeys(table["layer"]))
    figure = Figure(figsize=(2.1 * len(layers) + 1.2, 2.2 * len(checks) + 0.8), layout="constrained")
    axes = figure.subplots(len(checks), len(layers), squeeze=False, sharex=True, sharey="col")
    colours = palette(table["sparsity"].unique())
    for row, (alike, group) in zip(axes, checks, strict=True):
        told = dict(zip(ALIKE, alike, strict=True))
        for ax, layer in zip(row, layers, strict=True):
            _panel(ax, group[group["layer"] == layer], colours)
            style(ax, "width (units)" if ax in axes[-1] else "", "")
            ax.set_title(layer, fontsize=7)
        row[0].set_ylabel(f"{told['parametrisation']}, {told['initial_scale']}\nRMS pre-activation")
    last = table["updates"].max()
    handles = [
        *(
            row[0].plot([], [], color=colour, label=f"sparsity {level:g}")[0]
            for level, colour in colours.items()
        ),
        row[0].plot([], [], color="grey", linestyle="--", label="before the first update")[0],
        row[0].plot([], [], color="grey", label=f"after {last} updates")[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    first = table.iloc[0]
    seeds = table["seed"].nunique()
    figure.suptitle(
        f"{first['agent']} on {first['env']}: geometric mean of {seeds} seeds, band: their range",
        fontsize=9,
    )
    return figure


def _panel(ax: Any, rows: pd.DataFrame, colours: dict[Any, Any]) -> None:
    last = rows["updates"].max()
    for sparsity, group in rows[rows["updates"].isin((0, last))].groupby("sparsity"):
        for updates, cell in group.groupby("updates"):
            sizes = np.log(cell.set_index("width")[SIZE]).groupby(level=0)
            middle, low, high = (np.exp(x) for x in (sizes.mean(), sizes.min(), sizes.max()))
            ends = updates == last
            ax.plot(middle.index, middle, color=colours[sparsity], linestyle="-" if ends else "--")
            if ends:
                ax.fill_between(low.index, low, high, color=colours[sparsity], alpha=0.2, linewidth=0)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
