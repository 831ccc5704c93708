"""The first thing a reader sees: does removing weights help at this width, and how sure is that?"""

import html
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sparse_rl.analysis import answers, looks, page, scores, statistics, verdicts
from sparse_rl.analysis.figures import FONT, style
from sparse_rl.analysis.interactive import Panel, Plot, axis, layout, numbers, ranged
from sparse_rl.analysis.looks import Mark
from sparse_rl.analysis.page import Html
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.series import Series

MATCHES = ("width", "parameters_nonzero", "flops")
"""What the first page holds equal."""
SIGNS = {"better": "▲", "same": "●", "worse": "▼", "cannot tell": "?"}
WORDS = {"better": "better", "same": "the same", "worse": "worse"}
VERDICTS = {
    "better": Mark((0.06, 0.42, 0.24), (0.5, 0.86, 0.64), (), "^", "triangle-up"),
    "same": Mark((0.12, 0.31, 0.53), (0.61, 0.78, 0.97), (), "o", "circle"),
    "worse": Mark((0.64, 0.15, 0.11), (0.97, 0.62, 0.58), (), "v", "triangle-down"),
    "cannot tell": Mark((0.4, 0.43, 0.47), (0.66, 0.69, 0.73), (), "D", "diamond-open"),
}
"""The looks of verdicts, as in the tables."""
NAMED = 4
"""Comparisons that a sentence names one by one."""

Comparisons = Mapping[str, pd.DataFrame]
"""What is held equal → a line per dense ``width`` and sparsity (:func:`.answers.compare`)."""


def comparisons(series: Series, margin: float) -> Comparisons:
    """Every sparsity beside dense, at equal width, surviving parameters and training FLOPs.

    What is not known of these runs (sizes of several tasks) is not held equal.

    Raises:
        ValueError: there is no dense run, or nothing beside it.
    """
    final = scores.final_values(series.rows, RETURN)
    if not (final["sparsity"] > 0).any():
        raise ValueError("no sparse run has ended")
    found = {}
    for at in MATCHES:
        if final[at].isna().any():
            continue
        table = answers.compare(final, at, margin=margin)
        dense = final[final["sparsity"] == 0].groupby("width")[at].mean()
        nearest = [int(np.abs(dense.to_numpy() - size).argmin()) for size in table["size"]]
        found[at] = table.assign(width=dense.index.to_numpy()[nearest])
    return found


def _places(lines: pd.DataFrame) -> str:
    places = zip(lines["sparsity"], lines["width"], strict=True)
    return ", ".join(f"sparsity {sparsity:g} at width {width:g}" for sparsity, width in places)


def answer(found: Comparisons, margin: float) -> str:
    """How many comparisons at equal width say what, and where; how many seeds would tell."""
    table = found["width"]
    if table.empty:
        return "No dense network has a sparse counterpart of its width."
    parts = []
    for word in get_args(verdicts.Verdict):
        lines = table[table["verdict"] == word]
        if lines.empty:
            continue
        where = f" ({_places(lines)})" if word != "cannot tell" and len(lines) <= NAMED else ""
        of = "all" if len(lines) == len(table) else f"{len(lines)}"
        verb = "these runs cannot tell" if word == "cannot tell" else f"sparse is {WORDS[word]}"
        parts.append(f"{verb} in {of}{where}")
    pairs = statistics.counted(len(table), "comparison")
    text = f"{pairs} of sparse with dense at equal width: {'; '.join(parts)}."
    doubt = table[table["verdict"] == "cannot tell"].sort_values("seeds", kind="stable")
    if doubt.empty or doubt["seeds"].isna().any():
        return text
    ends = doubt.iloc[[0, -1]].drop_duplicates("seeds")
    seeds = " to ".join(f"{n:,.0f} seeds ({_places(ends[ends['seeds'] == n])})" for n in ends["seeds"])
    return (
        f"{text} To tell a difference of {margin:.4g} there, in four of five such studies, each cell "
        f"needs at most {seeds}."
    )


def _signed(value: float) -> str:
    """Three digits with their sign, and no exponent where people need none."""
    text = f"{value:+,.0f}" if 100 <= abs(value) < 1e6 else f"{value:+.3g}"
    return text.replace("-", "−")


def _cell(lines: pd.DataFrame) -> str:
    if lines.empty:
        return '<td class="none">–</td>'
    (line,) = (row for _, row in lines.iterrows())
    word = str(line["verdict"])
    spread = _signed(line["difference"])
    if np.isfinite(line["low"]):
        spread += f" [{_signed(line['low'])}, {_signed(line['high'])}]"
    kind = word.replace(" ", "-")
    return (
        f'<td class="{kind}"><b><span aria-hidden="true">{SIGNS[word]}</span> {word}</b>'
        f"<small>{spread}</small></td>"
    )


def _matrix(table: pd.DataFrame, words: str, widths: list[float], levels: list[float]) -> str:
    heads = "".join(f'<th scope="col">sparsity {level:g}</th>' for level in levels)
    lines = "".join(
        f'<tr><th scope="row">{width:g}</th>'
        + "".join(
            _cell(table[(table["width"] == width) & (table["sparsity"] == level)]) for level in levels
        )
        + "</tr>"
        for width in widths
    )
    return (
        f'<table class="verdicts"><caption>At equal {html.escape(words)}</caption><thead><tr>'
        f'<th scope="col">width</th>{heads}</tr></thead><tbody>{lines}</tbody></table>'
    )


def verdict_tables(series: Series, found: Comparisons, margin: float) -> str:
    """Width × sparsity: better, same, worse or cannot tell, a table per thing that is held equal."""
    final = scores.final_values(series.rows, RETURN)
    widths = sorted(final.loc[final["sparsity"] == 0, "width"].unique())
    levels = sorted(final.loc[final["sparsity"] > 0, "sparsity"].unique())
    made = [_matrix(table, answers.MATCHES[at], widths, levels) for at, table in found.items()]
    note = (
        "Each number is the score of sparse less that of dense. Rows are widths of the dense network. "
        "The 95\N{NO-BREAK SPACE}% intervals of a table hold all at once. Differences within "
        f"{margin:.4g} count as the same. – : the sparse networks do not reach that size."
    )
    return f'<div>{"".join(made)}<p class="note">{note}</p></div>'


def compared(series: Series, margin: float) -> Comparisons | str:
    """:func:`comparisons`, or why there are none."""
    try:
        return comparisons(series, margin)
    except ValueError as error:
        return str(error)


def overview(series: Series, found: Comparisons | str, margin: float, figure: str) -> Html:
    """The answer, the scaling figure and the verdicts of one grid.

    Args:
        found: of :func:`compared`.
        figure: the scaling figure, as HTML.
    """
    if isinstance(found, str):
        told, made = f"Sparse and dense cannot be compared: {found}.", ""
    else:
        told, made = answer(found, margin), verdict_tables(series, found, margin)
        final = scores.final_values(series.rows, RETURN)
        made += page.words(scores.interval_doubts(final, RETURN, ["width", "sparsity"]))
    return Html(
        f'<div class="front"><h3>{html.escape(series.label)}</h3>'
        f'<p class="answer">{html.escape(told)}</p><div class="beside">{figure}{made}</div></div>'
    )


def _named(table: pd.DataFrame) -> list[str]:
    return [f"{s:g} at {w:g}" for s, w in zip(table["sparsity"], table["width"], strict=True)]


def _ends(found: Comparisons) -> tuple[float, float] | None:
    table = pd.concat(list(found.values()))
    return looks.limits(table.assign(low=table["low"], high=table["high"]), "difference")


def forest(found: Comparisons, margin: float, label: str) -> Figure:
    """Every comparison with its interval, a panel per thing that is held equal; the margin is shaded."""
    most = max(len(table) for table in found.values())
    figure = Figure(figsize=(3.6 * len(found) + 1.4, 0.3 * most + 1.7), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    colours = {word: mark.colour for word, mark in VERDICTS.items()}
    ends = _ends(found)
    for (at, table), ax in zip(found.items(), axes, strict=True):
        y = np.arange(len(table))[::-1]
        ax.axvspan(-margin, margin, color="0.9", zorder=0)
        ax.axvline(0.0, color="0.4", linewidth=0.8)
        ax.hlines(y, table["low"], table["high"], color="0.35", linewidth=1.4)
        bottom, top = ends if ends else (-1.0, 1.0)
        shown = table["difference"].clip(bottom, top)
        for x, height, word, real in zip(shown, y, table["verdict"], table["difference"], strict=True):
            marker = VERDICTS[word].marker if x == real else "<" if real < bottom else ">"
            ax.plot([x], [height], marker, color=colours[word], markersize=7, clip_on=False, zorder=4)
        ax.set_xlim(bottom, top)
        ax.set_ylim(-0.7, most - 0.3)
        style(ax, "sparse less dense (return)", "sparsity at width" if ax is axes[0] else "")
        ax.set_yticks(y, _named(table))
        ax.set_title(f"equal {answers.MATCHES[at]}", fontsize=FONT)
    figure.suptitle(
        f"{label}: 95 % intervals, which hold all at once in a panel; shaded: counts as the same",
        fontsize=FONT,
    )
    return figure


def _lines(table: pd.DataFrame) -> Iterator[str]:
    for _, line in table.iterrows():
        doubt = "" if np.isnan(line["seeds"]) else f"<br>at most {line['seeds']:,.0f} seeds would tell"
        spread = verdicts.signed(*line[["difference", "low", "high"]])
        yield (
            f"<b>sparsity {line['sparsity']:g} at width {line['width']:g}</b>: {line['verdict']}<br>"
            f"{spread}<br>dense {line['reference']:.4g}, sparse "
            f"{line[RETURN]:.4g}{doubt}"
        )


def _verdict_trace(
    table: pd.DataFrame, word: str, level: int, ends: tuple[float, float] | None
) -> dict[str, Any]:
    """The comparisons of one verdict; what lies beyond the axis stands at its edge."""
    own = table[table["verdict"] == word]
    x = own["difference"] if ends is None else own["difference"].clip(*ends)
    inside = 0.0 if ends is None else 0.005 * (ends[1] - ends[0])
    off = np.sign(own["difference"] - x)
    symbols = {-1.0: "triangle-left", 0.0: VERDICTS[word].symbol, 1.0: "triangle-right"}
    cells = zip(own["width"], own["sparsity"], strict=True)
    return {
        "type": "scatter", "mode": "markers", "x": numbers(x - off * inside), "y": _named(own),
        "marker": {"color": f"@{level}", "symbol": [symbols[side] for side in off], "size": 10},
        "error_x": {"type": "data", "symmetric": False, "color": f"@{level}", "width": 3,
                    "array": numbers((own["high"] - x).fillna(0).clip(lower=0)),
                    "arrayminus": numbers((x - own["low"]).fillna(0).clip(lower=0))},
        "customdata": [[said, f"cell-{w:g}-{s:g}"]
                       for said, (w, s) in zip(_lines(own), cells, strict=True)],
        "hovertemplate": "%{customdata[0]}<extra></extra>", "meta": {"level": level, "kind": "cell"},
        "cliponaxis": False,
    }  # fmt: skip


def forest_plot(found: Comparisons, margin: float) -> Plot:
    """The same, to be explored: colours stand for verdicts."""
    marks, ends = VERDICTS, _ends(found)
    panels = []
    for at, table in found.items():
        names = _named(table)
        data = [
            _verdict_trace(table, word, level, ends)
            for level, word in enumerate(marks)
            if (table["verdict"] == word).any()
        ]
        band = {
            "type": "rect", "xref": "x", "yref": "paper", "x0": -margin, "x1": margin, "y0": 0, "y1": 1,
            "fillcolor": "@grid", "line": {"width": 0}, "layer": "below",
        }  # fmt: skip
        zero = band | {"x0": 0, "x1": 0, "line": {"width": 1, "color": "@line"}}
        order = {"categoryorder": "array", "categoryarray": names[::-1], "type": "category"}
        x_axis = axis("sparse less dense (return)", **ranged(ends))
        made = layout(x_axis, axis("sparsity at width", **order), shapes=[band, zero])
        panels.append(
            Panel(f"At equal {answers.MATCHES[at]}", data, made, max(180, 90 + 26 * len(table)))
        )
    return Plot(panels, marks, "verdict")


def scaling_words(series: Series) -> str:
    """What the scaling figure shows, for who cannot see it."""
    final = scores.final_values(series.rows, RETURN)
    table = scores.summary(final, RETURN, ["sparsity", "width"])
    told = [
        f"sparsity {sparsity:g}: "
        + ", ".join(f"{v:.4g} at width {w:g}" for v, w in zip(own[RETURN], own["width"], strict=True))
        for sparsity, own in table.groupby("sparsity")
    ]
    runs = statistics.counted(final["run_id"].nunique(), "run")
    return f"Return by width, {runs}. {'; '.join(told)}"
