"""What figures that people explore are made of: panels, traces and hovers, as Plotly's own JSON.

Colours are ``@0`` for the first level's and ``@0/0.2`` for a fifth of it: the page knows whether it is
light or dark. ``meta`` says what a trace belongs to, so that levels and seeds can be switched off.
"""

import base64
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter

from sparse_rl.analysis.looks import Colour, Mark

MOST_RUNS = 600
"""With more runs than these a page shows no seeds: it would be too large to open."""
FONT = 13
"""Pixels; every text of every figure."""
DIGITS = 6
"""Of numbers in a page."""


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int = 300
    """Pixels."""


class Plot(NamedTuple):
    """Panels that are switched together."""

    panels: list[Panel]
    levels: Mapping[Any, Mark]
    """What is told apart, by look."""
    title: str = "sparsity"
    """What the levels are of."""
    seeds: bool = False
    """Whether single runs can be shown."""
    names: Mapping[Any, str] = {}
    """How levels are written, where not as numbers."""


@cache
def library() -> str:
    """Plotly's own JavaScript, compressed, as text: 2.0 instead of 4.8 MB."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def numbers(values: Iterable[Any]) -> list[float | None]:
    """For JSON, which has no nan."""
    found = [float(value) for value in values]
    return [float(f"{x:.{DIGITS}g}") if np.isfinite(x) else None for x in found]


def spread(value: float, low: float, high: float) -> str:
    """``value [low, high]``."""
    return f"{value:.4g}" if np.isnan(low) else f"{value:.4g} [{low:.4g}, {high:.4g}]"


def line(
    table: pd.DataFrame, x: str, y: str, level: int, mark: Mark, hovers: Sequence[str],
    targets: Sequence[str] = (), points: bool = True,
) -> list[dict[str, Any]]:  # fmt: skip
    """A line with its interval: a band, or a bar where there is one point.

    Args:
        table: ``x``, ``y``, ``low`` and ``high``.
        level: of its colour.
        hovers: what each point says.
        targets: what a click on each leads to (``data-cell`` or id of a row of the page).
        points: whether there are markers.
    """
    xs, ys, meta = numbers(table[x]), numbers(table[y]), {"level": level, "kind": "cell"}
    made: dict[str, Any] = {
        "type": "scatter", "x": xs, "y": ys, "meta": meta,
        "mode": "lines+markers" if points or len(xs) == 1 else "lines",
        "line": {"color": f"@{level}", "width": 2, "dash": _dash(mark)},
        "marker": {"color": f"@{level}", "symbol": mark.symbol, "size": 8},
        "customdata": [list(pair) for pair in zip(hovers, targets or [""] * len(xs), strict=True)],
        "hovertemplate": "%{customdata[0]}<extra></extra>",
    }  # fmt: skip
    known = table[table["low"].notna() & table[x].notna()]
    if known.empty:
        return [made]
    low, high = numbers(known["low"]), numbers(known["high"])
    if len(table) == 1:
        (at,), (bottom,), (top,) = ys, low, high
        assert at is not None and bottom is not None and top is not None  # noqa: PT018
        bar = {"type": "data", "symmetric": False, "array": [top - at], "arrayminus": [at - bottom]}
        return [made | {"error_y": bar | {"color": f"@{level}", "thickness": 1.5}}]
    along = numbers(known[x])
    band = {
        "type": "scatter", "x": along + along[::-1], "y": high + low[::-1], "fill": "toself",
        "mode": "lines", "line": {"width": 0}, "fillcolor": f"@{level}/0.18", "hoverinfo": "skip",
        "meta": meta,
    }  # fmt: skip
    return [band, made]


def _dash(mark: Mark) -> str:
    return ",".join(f"{length * 1.3:.3g}px" for length in mark.dash) or "solid"


def dots(
    x: Iterable[Any], y: Iterable[Any], level: int, symbol: str, hovers: Sequence[str],
    runs: Sequence[str], kind: str = "run", size: int = 7,
) -> dict[str, Any]:  # fmt: skip
    """Single runs as points; a click leads to the run's row."""
    return {
        "type": "scatter", "mode": "markers", "x": numbers(x), "y": numbers(y),
        "marker": {"color": f"@{level}", "symbol": symbol, "size": size, "opacity": 0.75,
                   "line": {"width": 1, "color": "@ground"}},
        "meta": {"level": level, "kind": kind}, "hovertemplate": "%{customdata[0]}<extra></extra>",
        "customdata": [[hover, f"run-{run}"] for hover, run in zip(hovers, runs, strict=True)],
    }  # fmt: skip


def thread(run: pd.DataFrame, x: str, y: str, level: int, hover: str, ended: bool) -> dict[str, Any]:
    """A single run as a thin line; dotted, and always shown, where it did not end done."""
    run_id = str(run["run_id"].iloc[0])
    return {
        "type": "scatter", "mode": "lines", "x": numbers(run[x]), "y": numbers(run[y]),
        "line": {"color": f"@{level}", "width": 1, "dash": "solid" if ended else "1px,3px"},
        "opacity": 0.6, "meta": {"level": level, "kind": "run" if ended else "cell"},
        "customdata": [[hover, f"run-{run_id}"]] * len(run),
        "hovertemplate": "%{customdata[0]}<br>%{y:.4g} at %{x}<extra></extra>",
    }  # fmt: skip


def edges(
    table: pd.DataFrame, x: str, y: str, level: int, ends: tuple[float, float], hovers: Sequence[str]
) -> list[dict[str, Any]]:
    """Values beyond the axis, as triangles at its edge with what they are."""
    made = []
    for (_, cell), hover in zip(table.iterrows(), hovers, strict=True):
        if ends[0] <= cell[y] <= ends[1] or np.isnan(cell[y]):
            continue
        below = cell[y] < ends[0]
        inside = 0.005 * (ends[1] - ends[0])  # what lies on the very end is not drawn
        at = ends[0] + inside if below else ends[1] - inside
        made.append(
            {
                "type": "scatter", "mode": "markers+text", "x": numbers([cell[x]]), "cliponaxis": False,
                "y": numbers([at]), "text": [f"{cell[y]:.4g}"],
                "textposition": "top right" if below else "bottom right",
                "textfont": {"color": f"@{level}"}, "meta": {"level": level, "kind": "cell"},
                "marker": {"symbol": "triangle-down" if below else "triangle-up", "size": 12,
                           "color": f"@{level}"},
                "customdata": [[f"{hover}<br>beyond the axis", ""]],
                "hovertemplate": "%{customdata[0]}<extra></extra>",
            }
        )  # fmt: skip
    return made


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis in the page's colours."""
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": FONT}}, "gridcolor": "@grid",
        "linecolor": "@line", "zeroline": False, "ticks": "outside", "tickcolor": "@line",
        "automargin": True, **more,
    }  # fmt: skip


def ranged(ends: tuple[float, float] | None, logarithmic: bool = False) -> dict[str, Any]:
    """An axis' ends; of a logarithmic one Plotly wants the exponents."""
    kind = {"type": "log", "dtick": "D2"} if logarithmic else {}
    if ends is None:
        return kind
    return kind | {"range": numbers(np.log10(ends) if logarithmic else ends)}


def size_axis(title: str, values: Sequence[float], ticks: bool) -> dict[str, Any]:
    """A logarithmic axis of sizes; ``ticks``: one at each value, else at powers of ten and, where these
    are few, at three times as much."""
    low, high = min(values), max(values)
    powers = [10.0**k for k in range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)]
    few = high < 100 * low
    round_ones = sorted(set(powers) | {3 * power for power in powers if few})
    told = sorted(set(values)) if ticks else [x for x in round_ones if low / 1.2 <= x <= high * 1.2]
    words = [f"{x:g}" if ticks else EngFormatter(sep="").format_eng(x) for x in told]
    ends = numbers(np.log10([low / 1.12, high * 1.12]))
    return axis(title, type="log", tickvals=told, ticktext=words, range=ends)


def layout(x: Mapping[str, Any], y: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What all panels share."""
    return {
        "xaxis": dict(x), "yaxis": dict(y), "margin": {"l": 8, "r": 14, "t": 8, "b": 8},
        "showlegend": False, "hovermode": "closest", "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)", "font": {"size": FONT, "color": "@text", "family": "@font"},
        "hoverlabel": {"align": "left", "bgcolor": "@card", "font": {"color": "@text", "size": FONT}},
        **more,
    }  # fmt: skip


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def as_json(plot: Plot) -> str:
    """For the page's script; safe inside of HTML."""
    levels = [
        {
            "label": plot.names.get(level, f"{level:g}" if not isinstance(level, str) else level),
            "light": _hex(mark.colour), "dark": _hex(mark.dark),
            "dash": " ".join(f"{length:g}" for length in mark.dash), "symbol": mark.symbol,
        }
        for level, mark in plot.levels.items()
    ]  # fmt: skip
    told = {
        "title": plot.title, "levels": levels, "seeds": plot.seeds,
        "panels": [panel._asdict() for panel in plot.panels],
    }  # fmt: skip
    text = json.dumps(told, separators=(",", ":"), allow_nan=False, default=_plain)
    return text.replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    """A number of numpy as Python's."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON")
