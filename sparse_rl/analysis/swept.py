"""Score against any key that was swept: each width and sparsity its own curve."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from sparse_rl.analysis import figures, keys, looks, scores, verdicts
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.tables import spread


def _finals(series: Series, key: str) -> pd.DataFrame:
    return keys.beside(scores.final_values(series.rows, RETURN), series.rows, [key])


def _by(key: str) -> list[str]:
    """What names a cell: the key, and width and sparsity where they are others."""
    return list(dict.fromkeys([keys.column_of(key), "width", "sparsity"]))


def varies(series: Series, key: str) -> bool:
    """Whether ended runs of a series have several values of a key."""
    return _finals(series, key)[keys.column_of(key)].nunique() > 1


def table(series: Series, key: str) -> pd.DataFrame:
    """One row per value of a key, width and sparsity: the return with its interval, runs, diverged."""
    final, by = _finals(series, key), _by(key)
    told = scores.summary(final, RETURN, by)
    told[RETURN] = [spread(*row) for row in told[[RETURN, "low", "high"]].itertuples(index=False)]
    diverged = final.groupby(by)["status"].agg(lambda status: int((status == "diverged").sum()))
    return told.drop(columns=["low", "high"]).assign(diverged=diverged.to_numpy())


def _curves(series: Series, key: str) -> Iterator[tuple[str, dict[float, Any], int]]:
    """What a curve is of, its estimates by value of the key, and the fewest runs of a cell."""
    final, by = _finals(series, key), _by(key)
    others = by[1:]
    cells = scores.cell_estimates(final, RETURN, by, method="t")
    for values, group in final.groupby(others):
        own = {cell[0]: e for cell, e in cells.items() if cell[1:] == values}
        name = ", ".join(f"{name} {value:g}" for name, value in zip(others, values, strict=True))
        yield name, own, int(group.groupby(by[0])["run_id"].nunique().min())


def words(series: Series, key: str, margin: float) -> Iterator[str]:
    """Of each curve: whether more of the key is better, worse, no gain, or these runs cannot tell.

    Args:
        margin: differences within it do not matter.
    """
    if not pd.api.types.is_numeric_dtype(series.rows[keys.column_of(key)]):
        yield f"{key} is no number: its values have a table and no curve."
        return
    for name, own, runs in _curves(series, key):
        try:
            found = verdicts.growth(list(own.values()), list(own), margin)
        except ValueError as error:
            yield f"At {name} nothing can be said of {key}: {error}."
            continue
        step = verdicts.signed(found.difference, found.low, found.high)
        if found.kind == "grows":
            told = f"its largest value, {found.size:g}, is better than the one before by {step}"
        elif found.kind == "declines":
            told = f"{found.size:g} is best: a larger value differs from it by {step}"
        elif found.kind == "enough":
            beyond = f"no value above {found.size:g} is better within {margin:.4g}"
            told = f"{beyond}: the best differs by {step}"
        else:
            seeds = verdicts.seeds_at_most(runs, (found.high - found.low) / 2, margin)
            told = (
                f"these runs cannot tell whether more is better within {margin:.4g}: the last step "
                f"in it brought {step}, and at most {seeds:,.0f} seeds would tell"
            )
        yield f"{key} at {name}: {told}."


def figure(series: Series, key: str) -> Figure:
    """Return against a key: a panel per width, a line per sparsity."""
    final, column = _finals(series, key), keys.column_of(key)
    told = scores.summary(final, RETURN, _by(key))
    panels = sorted(told["width"].unique()) if column != "width" else [None]
    colours = looks.palette(told["sparsity"].unique())
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    size = (max(2.8 * columns, 4.5) + 1.2, 2.7 * lines + 0.8)
    drawn = Figure(figsize=size, layout="constrained")
    axes = drawn.subplots(lines, columns, sharey=True, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    numeric = pd.api.types.is_numeric_dtype(told[column])
    for panel, ax in zip(panels, axes.flat, strict=False):
        mine = told if panel is None else told[told["width"] == panel]
        for sparsity, curve in mine.groupby("sparsity"):
            x = curve.assign(**{column: curve[column] if numeric else curve[column].astype(str)})
            how = {"marker": "o", "markersize": 4, "label": f"{float(str(sparsity)):g}"}
            figures.band(ax, x, column, RETURN, colours[sparsity], **how)
        if numeric and (mine[column] > 0).all():
            ax.set_xscale("log")
            values = sorted(mine[column].unique())
            ax.set_xticks(values, [f"{value:g}" for value in values], fontsize=8)
            ax.minorticks_off()
        figures.style(ax, key, figures.label_of(series.rows, RETURN))
        ax.set_title("" if panel is None else f"width {panel}", fontsize=10)
    pairs = (zip(*ax.get_legend_handles_labels(), strict=True) for ax in axes.flat)
    handles = {label: handle for panel in pairs for handle, label in panel}
    drawn.legend(handles.values(), handles, title="sparsity", loc="outside right center", frameon=False)
    kind = scores.interval_words(final, RETURN, _by(key))
    drawn.suptitle(f"{series.label}: final return by {key}; band: {kind}", fontsize=10)
    return drawn
