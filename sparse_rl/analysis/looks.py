"""How series are told apart, and what sets an axis: one rule for pictures on paper and on the page."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

Colour = tuple[float, float, float]

DASHES: tuple[tuple[float, ...], ...] = (
    (), (6, 2.5), (9, 2.5, 2, 2.5), (4, 1.5), (14, 3), (14, 3, 2, 3, 2, 3), (7, 2, 3, 2),
)  # fmt: skip
"""Lengths of line and gap in points; none is dotted, which is how runs look that did not end."""
MARKERS = "os^DvPX"
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x")
"""The same markers by the names of Plotly."""

LIGHT, DARK = (0.0, 0.6), (0.95, 0.45)
"""Parts of the colour-blind safe map viridis that can be seen on white and on black; the first level has
the strongest contrast."""
COLOUR_BLIND = (
    "#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133",
    "#56b4e9",
)  # fmt: skip
"""Seaborn's palette of that name, for things that have no order."""
FAR = 3.0
"""Quartile distances beyond the quartiles from which a value is "far out" (Tukey 1977)."""
FEWEST = 4
"""Values that have quartiles."""


class Mark(NamedTuple):
    """What tells a level from the next, by colour and without."""

    colour: Colour
    dark: Colour
    """On a dark page."""
    dash: tuple[float, ...]
    marker: str
    symbol: str

    @property
    def line(self) -> dict[str, Any]:
        """Colour and line style, as matplotlib takes them."""
        return {"color": self.colour, "linestyle": (0, self.dash) if self.dash else "-"}


def marks(levels: Iterable[Any]) -> dict[Any, Mark]:
    """Level → its look; the levels in ascending order."""
    ordered = sorted(set(levels))
    shares = np.linspace(0.0, 1.0, max(len(ordered), 2))
    viridis = mpl.colormaps["viridis"]

    def colour(ends: tuple[float, float], share: float) -> Colour:
        red, green, blue, _ = viridis(ends[0] + share * (ends[1] - ends[0]))
        return float(red), float(green), float(blue)

    return {
        level: Mark(
            colour(LIGHT, share), colour(DARK, share),
            DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)], SYMBOLS[i % len(SYMBOLS)],
        )
        for i, (level, share) in enumerate(zip(ordered, shares, strict=False))
    }  # fmt: skip


def palette(levels: Iterable[Any]) -> dict[Any, Colour]:
    """Level → its colour on white."""
    return {level: mark.colour for level, mark in marks(levels).items()}


def heat_map(values: Any, ax: Axes, **how: Any) -> None:
    """Seaborn's heat map. It is loaded when one is drawn: every command would start a second later."""
    import seaborn as sns

    sns.heatmap(values, ax=ax, **how)


def far_out(values: Iterable[float]) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which values do not set an axis: those more than three quartile distances beyond the quartiles.

    Of fewer than four, or of values half of which are equal, none is.
    """
    value = np.asarray(list(values), dtype=np.float64)
    known = value[np.isfinite(value)]
    if len(known) < FEWEST:
        return np.zeros(value.shape, dtype=np.bool_)
    low, high = np.quantile(known, [0.25, 0.75])
    if high == low:
        return np.zeros(value.shape, dtype=np.bool_)
    beyond = FAR * (high - low)
    return np.isfinite(value) & ((value < low - beyond) | (value > high + beyond))


def limits(table: pd.DataFrame, y: str) -> tuple[float, float] | None:
    """Ends of an axis for values with intervals (``low``, ``high``), which a failed cell does not set.

    An interval adds at most twice what the values span at either end: of two seeds it may be endless.

    Returns:
        ``None`` where no value is known.
    """
    near = table[np.isfinite(table[y]) & ~far_out(table[y])]
    if near.empty:
        return None
    low, high = float(near[y].min()), float(near[y].max())
    span = high - low or float((near["high"] - near["low"]).max()) or abs(high) or 1.0
    span = span if np.isfinite(span) else abs(high) or 1.0
    bottom = max(low - 2 * span, float(np.nanmin([low, near["low"].min()])))
    top = min(high + 2 * span, float(np.nanmax([high, near["high"].max()])))
    pad = 0.06 * (top - bottom) or 0.5 * span
    return bottom - pad, top + pad


def logarithmic_limits(table: pd.DataFrame, y: str) -> tuple[float, float] | None:
    """The same for an axis that is logarithmic; all values are above zero."""
    logs = pd.DataFrame({y: np.log10(table[y]), "low": np.nan, "high": np.nan})
    for end in ("low", "high"):
        logs[end] = np.log10(table[end].where(table[end] > 0))
    found = limits(logs, y)
    return None if found is None else (10.0 ** found[0], 10.0 ** found[1])
