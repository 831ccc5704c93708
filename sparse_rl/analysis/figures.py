"""Figures of publication quality. Each takes rows of one series and says what its bands are."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sparse_rl.analysis import intervals, looks, scores, statistics
from sparse_rl.analysis.choices import Choice
from sparse_rl.analysis.curves import sample_efficiency
from sparse_rl.analysis.fits import Points
from sparse_rl.analysis.looks import Mark, palette
from sparse_rl.analysis.scores import LAST_SHARE, RETURN

METRICS: Mapping[str, str] = {
    RETURN: "return (per episode)",
    "dormant_ratio/critic": "dormant ratio, critic (share)",
    "grad_norm/critic": "gradient norm, critic (L2)",
}
"""Column → axis label with its unit."""

SIZES: Mapping[str, str] = {
    "width": "critic width (units)",
    "parameters_nonzero": "surviving parameters (count)",
}

LOGARITHMIC = ("grad_norm/critic",)
FORMATS: Mapping[str, Callable[[float], str]] = {
    "sparsity": lambda level: f"{level:g}",
    "training FLOPs": ticker.EngFormatter(places=1, sep=" ").format_eng,
}
"""What a legend's colours stand for → how its levels are written."""


FONT = 10
"""Points; every text of every figure."""


def style(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3, linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, marks: Mapping[Any, Mark], title: str, points: bool = True) -> None:
    handles = [
        Line2D(
            [], [], **mark.line, marker=mark.marker if points else None, markersize=5,
            label=FORMATS[title](level),
        )
        for level, mark in marks.items()
    ]  # fmt: skip
    figure.legend(
        handles=handles, title=title, loc="outside right center", frameon=False, handlelength=3.2
    )


def _at_the_edge(ax: Axes, table: pd.DataFrame, x: str, y: str, color: Any) -> None:
    """Values beyond the axis, as triangles at its edge with what they are."""
    bottom, top = ax.get_ylim()
    for _, cell in table[(table[y] < bottom) | (table[y] > top)].iterrows():
        below = cell[y] < bottom
        at, inwards = (bottom, 8) if below else (top, -8)
        ax.plot(
            [cell[x]], [at], "v" if below else "^", color=color, markersize=8, clip_on=False, zorder=6
        )
        ax.annotate(
            f"{cell[y]:.4g}", (cell[x], at), (6, inwards), textcoords="offset points", color=color,
            fontsize=FONT, va="bottom" if below else "top",
        )  # fmt: skip


def _size_axis(ax: Axes, size: str, values: Sequence[float]) -> None:
    ax.set_xscale("log", base=2 if size == "width" else 10)
    if size == "width":
        ax.set_xticks(sorted(set(values)))
        ax.xaxis.set_major_formatter(ticker.ScalarFormatter())
    else:
        narrow = max(values) < 30 * min(values)
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0) if narrow else (1.0,)))
        ax.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())


def band(ax: Axes, table: pd.DataFrame, x: str, y: str, color: Any, **how: Any) -> None:
    """A line with its interval, a single point with a bar; where there is one run there is neither."""
    if len(table) == 1:
        how = {"marker": "o", "markersize": 4} | how  # one point of a line cannot be seen
    ax.plot(table[x], table[y], color=color, **how)
    if len(table) == 1 and table["low"].notna().all():
        ax.vlines(table[x], table["low"], table["high"], color=color)
    ax.fill_between(table[x], table["low"], table["high"], color=color, alpha=0.2, linewidth=0)


def _seeds(final: pd.DataFrame) -> str:
    counts = final.groupby(["env", "width", "sparsity"])["run_id"].nunique()
    low, high = counts.min(), counts.max()
    return statistics.counted(low, "seed") if low == high else f"{low} to {high} seeds"


def centre_of(final: pd.DataFrame) -> str:
    """What a point is: of fewer than four runs the interquartile mean is the mean."""
    counts = final.groupby(["width", "sparsity"])["run_id"].nunique()
    return "mean" if counts.max() < 4 else "interquartile mean"


def seeds_note(final: pd.DataFrame, alone: bool = False) -> str:
    """What line and band are, and from how many runs; diverged ones are named.

    Args:
        alone: each cell's interval is its own, and borrows no spread from others.
    """
    diverged = int((final["status"] == "diverged").sum())
    by = ["width", "sparsity"]
    kind = scores.interval_words(final, RETURN, by).replace("moderated " if alone else "", "")
    note = f"line: {centre_of(final)} of {_seeds(final)}; band: {kind}"
    return note + (f"; {diverged} diverged, counted as untrained" if diverged else "")


def _title(rows: pd.DataFrame) -> str:
    names = sorted(map(str, rows["env"].unique()))
    return names[0] if len(names) == 1 else f"{len(names)} tasks"


def label_of(rows: pd.DataFrame, metric: str) -> str:
    """An axis label with its unit; the return of several tasks is a normalised score."""
    if metric == RETURN and rows["env"].nunique() > 1:
        return "score (normalised, per episode)"
    return METRICS.get(metric, metric)


def scaling_table(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A line per sparsity and width: the metric with its interval, runs, and surviving parameters."""
    final = scores.final_values(rows, metric)
    table = scores.summary(final, metric, ["sparsity", "width"])
    survivors = final.groupby(["sparsity", "width"])["parameters_nonzero"].first()
    return table.join(survivors, on=["sparsity", "width"])


def is_logarithmic(table: pd.DataFrame, metric: str) -> bool:
    """Whether a metric's axis is."""
    return metric in LOGARITHMIC and bool((table[metric] > 0).all())


def note(rows: pd.DataFrame) -> str:
    """What line, band and triangles of :func:`scaling_curves` are, as a sentence."""
    told = seeds_note(scores.final_values(rows, RETURN))
    return f"{told[0].upper()}{told[1:]}; a triangle at the edge: beyond the axis"


def scaling_curves(
    rows: pd.DataFrame, label: str | None = None, metrics: Sequence[str] = tuple(METRICS)
) -> Figure:
    """Return, dormant ratio and gradient norm against width and against surviving parameters.

    Values that are far out (:func:`.looks.far_out`) do not set an axis, and stand at its edge.

    Args:
        rows: one series' rows, at least one run done.
        label: its name; by default its task's.
        metrics: columns, of which those that are there are drawn.
    """
    metrics = [metric for metric in metrics if metric in rows and rows[metric].notna().any()]
    sizes = {size: text for size, text in SIZES.items() if rows[size].notna().any()}
    marks = looks.marks(rows["sparsity"].unique())
    figure = Figure(figsize=(9.0, 3.0 * len(metrics) + 0.4), layout="constrained")
    axes = figure.subplots(len(metrics), len(sizes), sharey="row", squeeze=False)
    for metric, line in zip(metrics, axes, strict=True):
        table = scaling_table(rows, metric)
        logarithmic = is_logarithmic(table, metric)
        ends = (looks.logarithmic_limits if logarithmic else looks.limits)(table, metric)
        for (size, xlabel), ax in zip(sizes.items(), line, strict=True):
            ax.set_yscale("log" if logarithmic else "linear")
            ax.set_ylim(ends)
            for sparsity, curve in table.groupby("sparsity"):
                mark = marks[sparsity]
                band(ax, curve, size, metric, **mark.line, marker=mark.marker, markersize=5)
                _at_the_edge(ax, curve, size, metric, mark.colour)
            style(ax, xlabel, label_of(rows, metric))
            _size_axis(ax, size, table[size].tolist())
    _legend(figure, marks, "sparsity")
    note = seeds_note(scores.final_values(rows, RETURN))
    figure.suptitle(
        f"{label or _title(rows)}: mean over the last {LAST_SHARE:.0%} of training\n{note}",
        fontsize=FONT,
    )
    return figure


def learning_curves(rows: pd.DataFrame, label: str | None = None) -> Figure:
    """Return against env steps, one panel per width; runs that did not end are dotted, one by one.

    Args:
        rows: of one series.
        label: its name; by default its task's.
    """
    marks = looks.marks(rows["sparsity"].unique())
    scored = rows[rows[RETURN].notna()]
    widths = sorted(scored["width"].unique())
    columns = 2 if len(widths) == 4 else min(len(widths), 3)
    lines = -(-len(widths) // columns)
    figure = Figure(figsize=(max(3.2 * columns, 5.0) + 1.2, 2.8 * lines + 0.8), layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(widths) :]:
        ax.set_axis_off()
    for width, ax in zip(widths, axes.flat, strict=False):
        for sparsity, cell in scored[scored["width"] == width].groupby("sparsity"):
            if (cell["status"] == "done").any():
                band(ax, sample_efficiency(cell), "env_steps", RETURN, **marks[sparsity].line)
            for _, run in cell[~cell["status"].isin(["done"])].groupby("run_id"):
                ax.plot(run["env_steps"], run[RETURN], ":", color=marks[sparsity].colour, linewidth=1.2)
        style(ax, "env steps (frames)", label_of(rows, RETURN))
        ax.set_title(f"width {width}", fontsize=FONT)
        ax.tick_params(labelbottom=True)
        ax.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    _legend(figure, marks, "sparsity", points=False)
    partial = rows.loc[rows["status"] != "done", "run_id"].nunique()
    final = scores.final_values(rows, RETURN)
    note = seeds_note(final, alone=True) if (rows["status"] == "done").any() else ""
    dotted = f"\ndotted: {statistics.counted(partial, 'run')} that did not end done" if partial else ""
    figure.suptitle(f"{label or _title(rows)}\n{note}{dotted}", fontsize=FONT)
    return figure


def heat_maps(rows: pd.DataFrame, label: str | None = None) -> Figure:
    """Return and dormant ratio by width and sparsity: interquartile means over seeds."""
    metrics = [metric for metric in (RETURN, "dormant_ratio/critic") if metric in rows]
    cells = rows[["width", "sparsity"]].nunique()
    height = max(1.6 + 0.55 * float(cells["sparsity"]), 3.0)  # a label needs its room
    figure = Figure(figsize=(4.6 * len(metrics), height), layout="constrained")
    axes = figure.subplots(1, len(metrics), squeeze=False)[0]
    for metric, ax in zip(metrics, axes, strict=True):
        table = scores.summary(
            scores.final_values(rows, metric), metric, ["sparsity", "width"], resamples=2
        )
        grid = table.pivot(index="sparsity", columns="width", values=metric)
        looks.heat_map(
            grid, annot=True, fmt=".4g", cmap="viridis" if metric == RETURN else "viridis_r", ax=ax,
            cbar_kws={"label": label_of(rows, metric)}, linewidths=0.5, annot_kws={"fontsize": FONT},
        )  # fmt: skip
        ax.set_xlabel(SIZES["width"])
        ax.set_ylabel("sparsity (share of weights removed)")
        ax.tick_params(rotation=0)
    final = scores.final_values(rows, RETURN)
    figure.suptitle(f"{label or _title(rows)}: {centre_of(final)} of {_seeds(final)}", fontsize=FONT)
    return figure


def health_against_score(
    rows: pd.DataFrame, health: str = "dormant_ratio/critic", label: str | None = None
) -> Figure:
    """Return against a health metric: a point per run, colour for sparsity, marker for width."""
    final = scores.final_values(rows, RETURN).merge(
        scores.final_values(rows, health)[["run_id", health]], on="run_id"
    )
    colours = palette(final["sparsity"].unique())
    widths = sorted(final["width"].unique())
    markers = dict(zip(widths, "osD^vPX*<>" * 3, strict=False))
    figure = Figure(figsize=(6.6, 4.2), layout="constrained")
    ax = figure.subplots()
    for (width, sparsity), cell in final.groupby(["width", "sparsity"]):
        how = {
            "color": colours[sparsity],
            "marker": markers[width],
            "s": 38,
            "alpha": 0.85,
            "linewidth": 0,
        }
        ax.scatter(cell[health], cell[RETURN], **how)
    style(ax, label_of(rows, health), label_of(rows, RETURN))
    entries = [Line2D([], [], linestyle="", marker="", label="sparsity")]
    entries += [
        Line2D([], [], linestyle="", marker="o", color=c, label=f"{s:g}") for s, c in colours.items()
    ]
    entries += [Line2D([], [], linestyle="", marker="", label="width")]
    entries += [
        Line2D([], [], linestyle="", marker=m, color="0.4", label=f"{w}") for w, m in markers.items()
    ]
    figure.legend(handles=entries, loc="outside right center", frameon=False)
    figure.suptitle(
        f"{label or _title(rows)}: a point per run, mean over the last {LAST_SHARE:.0%} of training",
        fontsize=FONT,
    )
    return figure


def iso_flops(rows: pd.DataFrame, budgets: Sequence[float], label: str | None = None) -> Figure:
    """Return at equal training FLOPs: a line per budget over sizes, a panel per sparsity."""
    levels = sorted(rows["sparsity"].unique())
    marks = looks.marks(budgets)
    figure = Figure(figsize=(3.0 * len(levels) + 1.4, 3.4), layout="constrained")
    axes = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    shown = list(rows["parameters_nonzero"])
    for level, ax in zip(levels, axes, strict=True):
        for budget, mark in marks.items():
            table = scores.at_equal_flops(rows, budget, level)
            if not table.empty:
                how = {**mark.line, "marker": mark.marker, "markersize": 5}
                band(ax, table, "parameters_nonzero", RETURN, **how)
        style(ax, SIZES["parameters_nonzero"], METRICS[RETURN] if level == levels[0] else "")
        _size_axis(ax, "parameters_nonzero", shown)
        ax.set_title(f"sparsity {level:g}", fontsize=FONT)
    _legend(figure, marks, "training FLOPs")
    kind = scores.interval_words(scores.final_values(rows, RETURN), RETURN, ["width", "sparsity"])
    figure.suptitle(f"{label or _title(rows)}: return at equal compute; band: {kind}", fontsize=FONT)
    return figure


def performance_profiles(final: pd.DataFrame, label: str) -> Figure:
    """Share of runs above each normalised score: a line per sparsity, a panel per width.

    Args:
        final: one row per run, ``return_mean`` normalised; runs of several tasks are pooled.
    """
    widths = sorted(final["width"].unique())
    marks = looks.marks(final["sparsity"].unique())
    thresholds = np.linspace(min(0.0, final[RETURN].min()), max(1.0, final[RETURN].max()), 101)
    columns = min(len(widths), 4)
    lines = -(-len(widths) // columns)
    figure = Figure(figsize=(2.6 * columns + 1.2, 2.5 * lines + 0.7), layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for ax in axes.flat[len(widths) :]:
        ax.set_axis_off()
    for width, ax in zip(widths, axes.flat, strict=False):
        cells = scores.cell_scores(final[final["width"] == width], RETURN, ["sparsity"])
        for (sparsity,), cell in cells.items():
            profile = intervals.performance_profile(cell, thresholds)
            table = pd.DataFrame(
                {"x": thresholds, "y": profile.value, "low": profile.low, "high": profile.high}
            )
            band(ax, table, "x", "y", **marks[sparsity].line)
        style(ax, "score τ (normalised)", "share of runs above τ")
        ax.set_title(f"width {width}", fontsize=FONT)
        ax.label_outer()
    _legend(figure, marks, "sparsity", points=False)
    figure.suptitle(f"{label}: performance profiles; band: 95 % Wilson interval", fontsize=FONT)
    return figure


def held_out(points: Points, choice: Choice, xlabel: str, ylabel: str, label: str) -> Figure:
    """Laws fitted to the smaller sizes beside what was measured at all of them."""
    figure = Figure(figsize=(6.8, 4.0), layout="constrained")
    ax = figure.subplots()
    low, high = statistics.interval(points.samples)
    errors = np.nan_to_num(np.abs(np.stack([low, high]) - points.score))
    for chosen, face in ((~choice.held, "black"), (choice.held, "white")):
        ax.errorbar(
            points.size[chosen], points.score[chosen], yerr=errors[:, chosen], fmt="o", color="black",
            markerfacecolor=face, capsize=2, zorder=5,
            label="fitted" if face == "black" else "held out",
        )  # fmt: skip
    sizes = np.geomspace(points.size.min(), points.size.max(), 100)
    kept = np.full(sizes.shape, points.kept[0])
    for (name, trial), color in zip(choice.trials.items(), looks.COLOUR_BLIND, strict=False):
        law_low, law_high = statistics.interval(trial.fit.predict_samples(sizes, kept))
        ax.plot(sizes, trial.fit.predict(sizes, kept), color=color, label=name)
        ax.fill_between(sizes, law_low, law_high, color=color, alpha=0.12, linewidth=0)
    style(ax, xlabel, ylabel)
    _size_axis(ax, "width" if "width" in xlabel else "parameters", points.size.tolist())
    draws = "what the runs leave open" if np.isfinite(points.samples).all() else "(none: one seed)"
    span = points.score.max() - points.score.min() or 1.0
    ax.set_ylim(points.score.min() - 0.4 * span, points.score.max() + 0.8 * span)
    figure.legend(loc="outside right center", frameon=False)
    figure.suptitle(
        f"{label}\nlaws fitted to the smaller sizes; bars and bands: 95 % of {draws}", fontsize=FONT
    )
    return figure
