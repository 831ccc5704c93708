"""Scaling curves and learning curves, drawn with seaborn."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sparse_rl.analysis.load import LAST_SHARE, final_values

METRICS: Mapping[str, str] = {
    "return_mean": "return (per episode)",
    "dormant_ratio/critic": "dormant ratio, critic (share)",
    "grad_norm/critic": "gradient norm, critic (L2)",
}
"""Column → axis label with its unit."""

SIZES: Mapping[str, str] = {
    "width": "critic width (units)",
    "parameters_nonzero": "surviving parameters (count)",
}

LOGARITHMIC = ("grad_norm/critic",)


def _style(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3, linewidth=0.6)
    sns.despine(ax=ax)


def _palette(rows: pd.DataFrame) -> dict[float, Any]:
    """A colour per sparsity, dark for dense, from a colour-blind safe map; the same in all panels."""
    levels = sorted(rows["sparsity"].unique())
    return dict(zip(levels, sns.color_palette("viridis", len(levels)), strict=True))


def _line(ax: Axes, data: pd.DataFrame, x: str, y: str, palette: dict[float, Any], **how: Any) -> None:
    """Mean over seeds with the range from the lowest to the highest seed, one line per sparsity."""
    sns.lineplot(
        data,
        x=x,
        y=y,
        hue="sparsity",
        palette=palette,
        errorbar=("pi", 100),
        ax=ax,
        legend=False,
        **how,
    )


def _legend(figure: Figure, palette: dict[float, Any], marker: str | None) -> None:
    handles = [
        Line2D([], [], color=color, marker=marker, markersize=5, label=f"{sparsity:g}")
        for sparsity, color in palette.items()
    ]
    figure.legend(
        handles=handles,
        title="sparsity",
        loc="outside right center",
        frameon=False,
    )


def seeds_note(rows: pd.DataFrame) -> str:
    """What line and band are, and from how many seeds."""
    counts = rows.groupby(["width", "sparsity"])["run_id"].nunique()
    low, high = counts.min(), counts.max()
    seeds = f"{low}" if low == high else f"{low} to {high}"
    return f"line: mean of {seeds} seeds; band: lowest to highest seed"


def scaling_curves(rows: pd.DataFrame) -> Figure:
    """Return, dormant ratio and gradient norm against width and against surviving parameters.

    Args:
        rows: one environment's rows of :func:`sparse_rl.analysis.load`, at least one run done.
    """
    palette = _palette(rows)
    figure = Figure(figsize=(9.0, 9.0), layout="constrained")
    axes = figure.subplots(len(METRICS), len(SIZES), sharey="row", squeeze=False)
    for (metric, ylabel), line in zip(METRICS.items(), axes, strict=True):
        final = final_values(rows, metric)
        for (size, xlabel), ax in zip(SIZES.items(), line, strict=True):
            _line(ax, final, size, metric, palette, marker="o", markersize=5)
            _style(ax, xlabel, ylabel)
        # Scales come after both panels are drawn: on a logarithmic axis seaborn averages logarithms.
        for size, ax in zip(SIZES, line, strict=True):
            ax.set_xscale("log", base=2 if size == "width" else 10)
            if size == "width":
                ax.set_xticks(sorted(final["width"].unique()))
                ax.xaxis.set_major_formatter(ticker.ScalarFormatter())
            else:
                ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))
                ax.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
            ax.xaxis.set_minor_formatter(ticker.NullFormatter())
        if metric in LOGARITHMIC and (final[metric] > 0).all():
            line[0].set_yscale("log")
    _legend(figure, palette, "o")
    figure.suptitle(
        f"{rows['env'].iloc[0]}: mean over the last {LAST_SHARE:.0%} of training\n{seeds_note(rows)}",
        fontsize=10,
    )
    return figure


def learning_curves(rows: pd.DataFrame) -> Figure:
    """Return against env steps, one panel per width.

    Args:
        rows: one environment's rows of :func:`sparse_rl.analysis.load`.
    """
    palette = _palette(rows)
    scored = rows[rows["return_mean"].notna()]
    widths = sorted(scored["width"].unique())
    columns = 2 if len(widths) == 4 else min(len(widths), 3)
    lines = -(-len(widths) // columns)
    figure = Figure(figsize=(max(3.2 * columns, 5.0) + 1.2, 2.8 * lines + 0.8), layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(widths) :]:
        ax.set_axis_off()
    for width, ax in zip(widths, axes.flat, strict=False):
        _line(ax, scored[scored["width"] == width], "env_steps", "return_mean", palette)
        _style(ax, "env steps (frames)", METRICS["return_mean"])
        ax.set_title(f"width {width}", fontsize=10)
        ax.tick_params(labelbottom=True)
        ax.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    _legend(figure, palette, None)
    figure.suptitle(f"{rows['env'].iloc[0]}\n{seeds_note(scored)}", fontsize=10)
    return figure
