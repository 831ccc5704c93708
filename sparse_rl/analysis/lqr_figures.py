"""Figures of the calibration bench (:mod:`sparse_rl.analysis.lqr`), theory beside measurement."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from sparse_rl.analysis import looks

BAND = "95 % bootstrap interval"
COLOURS = {"asynchronous": "#1b3a6b", "synchronous": "#c8553d"}
LINES = {"fixed": "-", "tuned": ":"}


def _style(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def _powers(ax: Axes, ticks: list[float]) -> None:
    """Both axes logarithmic, ticks at the numbers of workers."""
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(ticks)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def _one_speed_up(ax: Axes, curves: pd.DataFrame) -> None:
    for (master, choice), curve in curves.groupby(["master", "choice"]):
        ordered = curve.sort_values("workers")
        colour, line = COLOURS[str(master)], LINES[str(choice)]
        ax.plot(
            ordered["workers"], ordered["speed_up"], line, color=colour, marker="o", markersize=3,
            label=f"{master}, {choice} step",
        )  # fmt: skip
        ax.fill_between(ordered["workers"], ordered["low"], ordered["high"], color=colour, alpha=0.15)
        if choice == "fixed":
            ax.plot(
                ordered["workers"], ordered["theory"], color=colour, linewidth=0.8, alpha=0.6,
                dashes=(4, 3), label=f"theory, {master}",
            )  # fmt: skip
    _powers(ax, sorted(curves["workers"].unique()))
    _style(ax, "workers M", "speed-up to 1 % of the cost gap")
    ax.set_title(f"{curves['durations'].iloc[0]} durations", fontsize=10)


def speed_up(curves: pd.DataFrame) -> Figure:
    """Speed-up against workers, a panel per kind of durations, asynchronous beside synchronous."""
    kinds = [group for _, group in curves.groupby("durations")]
    figure = Figure(figsize=(1.2 + 3.4 * len(kinds), 3.6), layout="constrained")
    for ax, group in zip(np.atleast_1d(figure.subplots(1, len(kinds))), kinds, strict=True):
        _one_speed_up(ax, group)
    shown = {
        label: handle
        for ax in figure.axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(shown.values(), shown.keys(), loc="outside right center", frameon=False, fontsize=8)
    name, seeds = f"{curves['env'].iloc[0]}, width {curves['width'].iloc[0]}", curves["runs"].min()
    figure.suptitle(f"{name}: medians of {seeds} seeds; band: {BAND}", fontsize=10)
    return figure


def entries(points: pd.DataFrame, slopes: pd.DataFrame) -> Figure:
    """Updates and structural gap against free entries."""
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    shades = np.linspace(0.0, 1.0, points["pattern"].nunique() + 3)[1:-1]  # neither black nor yellow
    colours = mpl.colormaps["viridis"](shades)
    for (pattern, curve), colour in zip(points.groupby("pattern"), colours, strict=False):
        d = curve["free_entries"]
        slope = slopes.loc[slopes["pattern"] == pattern, "slope"]
        label = f"{pattern}" + (f", slope {slope.iloc[0]:.2f}" if len(slope) else "")
        left.plot(d, curve["updates"], "o-", color=colour, markersize=4, label=label)
        flow = "theory: gradient flow" if pattern == points["pattern"].max() else None
        left.plot(d, curve["flow_updates"], color=colour, linewidth=0.9, dashes=(4, 3), label=flow)
        left.fill_between(d, curve["low"], curve["high"], color=colour, alpha=0.2)
        gaps = curve[curve["sparsity"] > 0]
        right.plot(gaps["free_entries"], 100 * gaps["structural_gap"], "o-", color=colour, markersize=4)
        low, high = 100 * gaps["gap_low"], 100 * gaps["gap_high"]
        right.fill_between(gaps["free_entries"], low, high, color=colour, alpha=0.2, label=pattern)
    left.set_yscale("log")
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xticks(sorted(points["free_entries"].unique()))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    _style(left, "free entries d", "updates to 1 % of the cost gap")
    _style(right, "free entries d", "structural gap (% of J*)")
    left.legend(frameon=False, fontsize=8)
    right.legend(frameon=False, fontsize=8)
    seeds = f"Medians of {points['runs'].min()} seeds"
    figure.suptitle(f"{seeds}; band, left: {BAND}; right: all masks", fontsize=10)
    return figure


def joint(table: pd.DataFrame) -> Figure:
    """Time to the target and the gain by sparsity, by free entries and workers."""
    figure = Figure(figsize=(9.4, 3.2), layout="constrained")
    panels = {"time": "time (mean durations of an estimate)", "gain": "times as fast as dense"}
    shared = table[table["workers"].isin(_everywhere(table))]
    for ax, (column, title) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        grid = shared.pivot_table(index="free_entries", columns="workers", values=column)
        colours = np.log(grid) if column == "time" else grid
        written = grid.map(lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}")
        looks.heat_map(colours, ax, annot=written, fmt="", cmap="viridis", cbar=False)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("workers M")
        ax.set_ylabel("free entries d")
        ax.set_yticklabels([f"{d:.0f}" for d in grid.index], rotation=0)
    return figure


def _everywhere(table: pd.DataFrame) -> Iterator[int]:
    """Numbers of workers that were tried at every sparsity."""
    levels = table["sparsity"].nunique()
    tried = table.groupby("workers")["sparsity"].nunique()
    return iter(tried.index[tried == levels])


def throughput(table: pd.DataFrame) -> Figure:
    """Estimates per second of real workers, beside one."""
    figure = Figure(figsize=(4.8, 3.6), layout="constrained")
    ax = figure.subplots()
    for (work, master), curve in table.groupby(["work", "master"]):
        ax.plot(curve["workers"], curve["speed_up"], "o-", markersize=4, label=f"{work}-bound, {master}")
    workers = sorted(table["workers"].unique())
    ax.plot(workers, workers, color="black", linewidth=0.8, dashes=(4, 3), label="linear")
    _powers(ax, workers)
    _style(ax, "worker processes M", "estimates per second, beside one")
    ax.legend(frameon=False, fontsize=8)
    return figure
