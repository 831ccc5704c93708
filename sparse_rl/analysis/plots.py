"""The figures that people explore: what :mod:`.figures` draws on paper, with every point to be asked."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparse_rl.analysis import intervals, looks, scores, statistics
from sparse_rl.analysis.choices import Choice
from sparse_rl.analysis.curves import sample_efficiency
from sparse_rl.analysis.figures import FORMATS, METRICS, SIZES, is_logarithmic, label_of, scaling_table
from sparse_rl.analysis.fits import Points
from sparse_rl.analysis.interactive import (
    MOST_RUNS,
    Panel,
    Plot,
    axis,
    dots,
    edges,
    layout,
    line,
    numbers,
    ranged,
    size_axis,
    spread,
    thread,
)
from sparse_rl.analysis.scores import RETURN


def _few(rows: pd.DataFrame) -> bool:
    return bool(rows["run_id"].nunique() <= MOST_RUNS)


def _run_words(run: pd.Series) -> str:
    """Which run that is."""
    ended = "" if run["status"] == "done" else f", {run['status']}"
    return (
        f"<b>{run['run_id']}</b><br>{run['env']}<br>width {run['width']:g}, sparsity "
        f"{run['sparsity']:g}, seed {run['seed']}, mask seed {run['mask_seed']}{ended}"
    )


def _cell_words(cells: pd.DataFrame, final: pd.DataFrame, metric: str, label: str) -> list[str]:
    """What each cell says of itself: its place, its value with the interval, its runs, their sizes."""
    told = []
    for _, cell in cells.iterrows():
        own = final[(final["width"] == cell["width"]) & (final["sparsity"] == cell["sparsity"])]
        diverged = int((own["status"] == "diverged").sum())
        runs = statistics.counted(own["run_id"].nunique(), "run")
        more = f", {diverged} of them diverged" if diverged else ""
        counts = own["parameters_nonzero"].iloc[0], own["parameters_total"].iloc[0]
        sizes = "" if np.isnan(counts[0]) else f"<br>{counts[0]:,.0f} of {counts[1]:,.0f} parameters"
        told.append(
            f"<b>width {cell['width']:g}, sparsity {cell['sparsity']:g}</b><br>{label}: "
            f"{spread(cell[metric], cell['low'], cell['high'])}<br>{runs}{more}{sizes}"
        )
    return told


def scaling(rows: pd.DataFrame, metrics: Sequence[str] = tuple(METRICS)) -> Plot:
    """Metrics against width and surviving parameters, a panel each.

    Args:
        rows: of one series, at least one run done.
    """
    marks = looks.marks(rows["sparsity"].unique())
    panels = [
        panel
        for metric in metrics
        if metric in rows and rows[metric].notna().any()
        for panel in _scaling_panels(rows, metric, marks)
    ]
    return Plot(panels, marks, seeds=_few(rows))


def _scaling_panels(rows: pd.DataFrame, metric: str, marks: Mapping[Any, looks.Mark]) -> Iterator[Panel]:
    final, table = scores.final_values(rows, metric), scaling_table(rows, metric)
    logarithmic, label = is_logarithmic(table, metric), label_of(rows, metric)
    ends = (looks.logarithmic_limits if logarithmic else looks.limits)(table, metric)
    for size, words in SIZES.items():
        if table[size].isna().any():
            continue
        data = []
        for level, (sparsity, mark) in enumerate(marks.items()):
            cells, own = (frame[frame["sparsity"] == sparsity] for frame in (table, final))
            hovers = _cell_words(cells, own, metric, label)
            targets = [f"cell-{width:g}-{sparsity:g}" for width in cells["width"]]
            data += line(cells, size, metric, level, mark, hovers, targets)
            data += edges(cells, size, metric, level, ends, hovers) if ends else []
            if _few(rows) and not own.empty:
                said = [f"{_run_words(run)}<br>{label}: {run[metric]:.4g}" for _, run in own.iterrows()]
                data.append(dots(own[size], own[metric], level, mark.symbol, said, own["run_id"]))
        ticks = size_axis(words, table[size].tolist(), size == "width")
        yield Panel(
            f"{label} against {words}", data, layout(ticks, axis(label, **ranged(ends, logarithmic)))
        )


def learning(rows: pd.DataFrame) -> Plot:
    """Return against env steps, a panel per width; runs that did not end are dotted."""
    marks = looks.marks(rows["sparsity"].unique())
    scored = rows[rows[RETURN].notna()]
    label, panels, seen = label_of(rows, RETURN), [], []
    for width, group in scored.groupby("width"):
        data = []
        for level, (sparsity, mark) in enumerate(marks.items()):
            cell = group[group["sparsity"] == sparsity]
            if (cell["status"] == "done").any():
                table = sample_efficiency(cell)
                seen.append(table)
                runs = statistics.counted(cell["run_id"].nunique(), "run")
                hovers = [
                    f"<b>width {width:g}, sparsity {sparsity:g}</b><br>{label}: "
                    f"{spread(at[RETURN], at['low'], at['high'])}<br>at {at['env_steps']:,.0f} env "
                    f"steps; {runs}"
                    for _, at in table.iterrows()
                ]
                target = [f"cell-{width:g}-{sparsity:g}"] * len(table)
                data += line(table, "env_steps", RETURN, level, mark, hovers, target, points=False)
            for _, run in cell.groupby("run_id"):
                ended = run["status"].iloc[0] == "done"
                if _few(rows) or not ended:
                    said = _run_words(run.iloc[0])
                    data.append(thread(run, "env_steps", RETURN, level, said, ended))
        steps = axis("env steps (frames)", tickformat="~s", nticks=6)
        panels.append(Panel(f"width {width:g}", data, layout(steps, axis(label))))
    if seen:
        _share(panels, looks.limits(pd.concat(seen), RETURN))
    return Plot(panels, marks, seeds=_few(rows))


def _share(panels: Sequence[Panel], ends: tuple[float, float] | None) -> None:
    """The same vertical axis in all panels."""
    for panel in panels:
        panel.layout["yaxis"] |= ranged(ends)


def heat_maps(rows: pd.DataFrame) -> Plot:
    """Return and dormant ratio by width and sparsity, a number in each cell."""
    panels = []
    for metric in (RETURN, "dormant_ratio/critic"):
        if metric not in rows or rows[metric].isna().all():
            continue
        final, table = scores.final_values(rows, metric), scaling_table(rows, metric)
        label = label_of(rows, metric)
        said = table.assign(said=_cell_words(table, final, metric, label))
        grid, words = (
            said.pivot(index="sparsity", columns="width", values=name) for name in (metric, "said")
        )
        ends = looks.limits(table.assign(low=table[metric], high=table[metric]), metric)
        data = {
            "type": "heatmap", "z": [numbers(row) for row in grid.to_numpy()],
            "x": [f"{width:g}" for width in grid.columns], "y": [f"{level:g}" for level in grid.index],
            "customdata": [[[word or ""] for word in row] for row in words.fillna("").to_numpy()],
            "texttemplate": "%{z:.4~g}", "colorscale": "Viridis", "reversescale": metric != RETURN,
            "hovertemplate": "%{customdata[0]}<extra></extra>", "xgap": 2, "ygap": 2,
            "colorbar": {"thickness": 12, "outlinewidth": 0}, "textfont": {"size": 13},
        } | ({"zmin": ends[0], "zmax": ends[1]} if ends else {})  # fmt: skip
        axes = axis(SIZES["width"], type="category"), axis("sparsity (share removed)", type="category")
        height = max(220, 90 + 46 * len(grid))
        panels.append(Panel(label, [data], layout(*axes), height))
    return Plot(panels, {})


def health(rows: pd.DataFrame, metric: str = "dormant_ratio/critic") -> Plot:
    """Return against a health metric: a point per run."""
    marks = looks.marks(rows["sparsity"].unique())
    final = scores.final_values(rows, RETURN).merge(
        scores.final_values(rows, metric)[["run_id", metric]], on="run_id"
    )
    widths = sorted(final["width"].unique())
    symbols = {width: looks.SYMBOLS[i % len(looks.SYMBOLS)] for i, width in enumerate(widths)}
    x, y = label_of(rows, metric), label_of(rows, RETURN)
    data = []
    for level, sparsity in enumerate(marks):
        for width in widths:
            own = final[(final["sparsity"] == sparsity) & (final["width"] == width)]
            said = [
                f"{_run_words(run)}<br>{y}: {run[RETURN]:.4g}<br>{x}: {run[metric]:.4g}"
                for _, run in own.iterrows()
            ]
            runs = own["run_id"].tolist()
            data.append(dots(own[metric], own[RETURN], level, symbols[width], said, runs, "cell", 9))
    words = ", ".join(f"{name.replace('-', ' ')} {width:g}" for width, name in symbols.items())
    return Plot([Panel(f"by width: {words}", data, layout(axis(x), axis(y)), 380)], marks)


def iso_flops(rows: pd.DataFrame, budgets: Sequence[float]) -> Plot:
    """Return at equal training FLOPs: a line per budget over sizes, a panel per sparsity."""
    marks, panels, seen = looks.marks(budgets), [], []
    words = FORMATS["training FLOPs"]
    for sparsity in sorted(rows["sparsity"].unique()):
        data = []
        for level, (budget, mark) in enumerate(marks.items()):
            table = scores.at_equal_flops(rows, budget, sparsity)
            if table.empty:
                continue
            seen.append(table)
            hovers = [
                f"<b>sparsity {sparsity:g}, {words(budget)} FLOPs</b><br>"
                f"{cell['parameters_nonzero']:,.0f} surviving parameters<br>"
                f"return: {spread(cell[RETURN], cell['low'], cell['high'])}"
                f"<br>{statistics.counted(int(cell['runs']), 'run')}"
                for _, cell in table.iterrows()
            ]
            data += line(table, "parameters_nonzero", RETURN, level, mark, hovers)
        sizes = size_axis(SIZES["parameters_nonzero"], rows["parameters_nonzero"].tolist(), False)
        panels.append(Panel(f"sparsity {sparsity:g}", data, layout(sizes, axis(METRICS[RETURN]))))
    if seen:
        _share(panels, looks.limits(pd.concat(seen), RETURN))
    return Plot(panels, marks, "training FLOPs", names={budget: words(budget) for budget in marks})


def profiles(final: pd.DataFrame) -> Plot:
    """Share of runs above each normalised score, a panel per width."""
    marks, panels = looks.marks(final["sparsity"].unique()), []
    thresholds = np.linspace(min(0.0, final[RETURN].min()), max(1.0, final[RETURN].max()), 101)
    for width, group in final.groupby("width"):
        data = []
        for (sparsity,), cell in scores.cell_scores(group, RETURN, ["sparsity"]).items():
            found = intervals.performance_profile(cell, thresholds)
            table = pd.DataFrame(
                {"x": thresholds, "y": found.value, "low": found.low, "high": found.high}
            )
            runs = statistics.counted(group[group["sparsity"] == sparsity]["run_id"].nunique(), "run")
            hovers = [
                f"<b>width {width:g}, sparsity {sparsity:g}</b><br>"
                f"{spread(at['y'], at['low'], at['high'])} of {runs} above {at['x']:.2f}"
                for _, at in table.iterrows()
            ]
            level = list(marks).index(sparsity)
            data += line(table, "x", "y", level, marks[sparsity], hovers, points=False)
        axes = axis("score τ (normalised)"), axis("share of runs above τ", range=[-0.02, 1.02])
        panels.append(Panel(f"width {width:g}", data, layout(*axes)))
    return Plot(panels, marks)


def held_out(points: Points, choice: Choice, xlabel: str, ylabel: str) -> Plot:
    """Laws fitted to the smaller sizes beside what was measured at all of them."""
    marks, data = looks.marks(choice.trials), []
    sizes = np.geomspace(points.size.min(), points.size.max(), 60)
    kept = np.full(sizes.shape, points.kept[0])
    for level, (name, mark) in enumerate(marks.items()):
        fit = choice.trials[name].fit
        low, high = statistics.interval(fit.predict_samples(sizes, kept))
        table = pd.DataFrame({"x": sizes, "y": fit.predict(sizes, kept), "low": low, "high": high})
        hovers = [
            f"<b>{name}</b><br>{spread(at['y'], at['low'], at['high'])}" for _, at in table.iterrows()
        ]
        data += line(table, "x", "y", level, mark, hovers, points=False)
    data += [_measured(points, ~choice.held, "circle", "fitted")]
    data += [_measured(points, choice.held, "circle-open", "held out")]
    ticks = size_axis(xlabel, points.size.tolist(), "width" in xlabel)
    span = points.score.max() - points.score.min() or 1.0
    ends = (points.score.min() - 0.4 * span, points.score.max() + 0.8 * span)
    axes = layout(ticks, axis(ylabel, **ranged(ends)))
    return Plot([Panel("filled: fitted, open: held out", data, axes, 360)], marks, "law")


def _measured(points: Points, chosen: Any, symbol: str, words: str) -> dict[str, Any]:
    """Points with bars, of no level."""
    size, at = points.size[chosen], points.score[chosen]
    low, high = (end[chosen] for end in statistics.interval(points.samples))
    told = [
        [f"<b>{words}</b>, size {x:,.0f}<br>{spread(y, a, b)}", ""]
        for x, y, a, b in zip(size, at, low, high, strict=True)
    ]
    return {
        "type": "scatter", "mode": "markers", "x": numbers(size), "y": numbers(at), "customdata": told,
        "marker": {"symbol": symbol, "size": 10, "color": "@text",
                   "line": {"width": 2, "color": "@text"}},
        "error_y": {"type": "data", "symmetric": False, "color": "@text",
                    "array": numbers(np.nan_to_num(high - at)),
                    "arrayminus": numbers(np.nan_to_num(at - low))},
        "hovertemplate": "%{customdata[0]}<extra></extra>", "meta": {"level": -1, "kind": "cell"},
    }  # fmt: skip
