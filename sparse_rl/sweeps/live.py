"""A page that shows a study while it trains: progress, learning curves so far, what went wrong.

It is a file that reloads itself, so there is no server to start, to keep or to secure. It is made from
the files of the study, of which it changes none.
"""

import html
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparse_rl.analysis.looks import Mark, marks
from sparse_rl.records import results
from sparse_rl.sweeps.status import cell_words, is_over, totals

RETURN = "return_mean"
PAGE = "status.html"
MOST_CURVES = 400
"""Runs whose curves are drawn: the page is read every few seconds."""
WIDE, HIGH, LEFT, BELOW = 340, 210, 52, 30
"""Pixels of a panel, and of its margins for numbers."""


class Curve(NamedTuple):
    """A run's returns so far."""

    run: Mapping[str, Any]
    env_steps: "np.ndarray[Any, np.dtype[np.float64]]"
    value: "np.ndarray[Any, np.dtype[np.float64]]"


def reader(study: Path) -> Callable[[Mapping[str, Any]], Curve | None]:
    """Reads a run's curve, and again only when its file has changed; ``None`` before its first return.

    Rows that cannot be read just now are none: whoever writes them may be about to rename them.
    """
    known: dict[str, tuple[int, Curve | None]] = {}

    def read(run: Mapping[str, Any]) -> Curve | None:
        path = study / run["run_id"] / results.METRICS
        try:
            stamp = path.stat().st_mtime_ns
            if known.get(run["run_id"], (0, None))[0] != stamp:
                known[run["run_id"]] = (stamp, _curve(run, path.parent))
        except (OSError, results.RecordError):
            return None
        found = known[run["run_id"]][1]
        return found and found._replace(run=run)

    return read


def _curve(run: Mapping[str, Any], run_dir: Path) -> Curve | None:
    rows = results.read_rows(run_dir)
    if rows is None or RETURN not in rows.column_names:
        return None
    steps, value = (
        rows[name].to_numpy().astype(np.float64, copy=False) for name in ("env_steps", RETURN)
    )
    there = np.isfinite(value)
    return Curve(run, steps[there], value[there]) if there.any() else None


def _panel(title: str, curves: Sequence[Curve], looks: Mapping[float, Mark], most: float) -> str:
    """Curves of one width as SVG; each says by its title which run it is."""
    low = min(float(curve.value.min()) for curve in curves)
    high = max(float(curve.value.max()) for curve in curves)
    span = (high - low) or 1.0

    def place(steps: float, value: float) -> str:
        x = LEFT + (WIDE - LEFT - 8) * steps / most
        return f"{x:.1f},{8 + (HIGH - BELOW - 8) * (high - value) / span:.1f}"

    drawn = []
    for curve in curves:
        mark, run = looks[curve.run["sparsity"]], curve.run
        points = " ".join(place(*pair) for pair in zip(curve.env_steps, curve.value, strict=True))
        end = place(curve.env_steps[-1], curve.value[-1]).split(",")
        told = (
            f"{run['run_id']}, {run['status']}: {curve.value[-1]:.4g} at {curve.env_steps[-1]:,.0f} "
            "env steps"
        )
        dash = " ".join(f"{length:g}" for length in mark.dash)
        drawn.append(
            f'<g class="s{list(looks).index(run["sparsity"])}"><title>{html.escape(told)}</title>'
            f'<polyline points="{points}" stroke-dasharray="{dash}"/>'
            f'<circle cx="{end[0]}" cy="{end[1]}" r="2.5"/></g>'
        )
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDE - 8}" y1="{y}" y2="{y}"/><text x="{LEFT - 5}" y="{y + 4}" '
        f'text-anchor="end">{value:.4g}</text>'
        for y, value in ((8, high), ((HIGH - BELOW + 8) / 2, (high + low) / 2), (HIGH - BELOW, low))
    )
    name = html.escape(f"{title}: returns of {len(curves)} runs over env steps, {low:.4g} to {high:.4g}")
    return (
        f'<div><h3>{html.escape(title)}</h3><svg class="live" viewBox="0 0 {WIDE} {HIGH}" role="img" '
        f'aria-label="{name}"><g class="grid">{grid}<text x="{LEFT}" y="{HIGH - 10}">0</text>'
        f'<text x="{WIDE - 8}" y="{HIGH - 10}" text-anchor="end">{most:,.0f} env steps</text></g>'
        f"{''.join(drawn)}</svg></div>"
    )


def _panels(found: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Curve | None]) -> str:
    runs = found["runs"]
    looks = marks(run["sparsity"] for run in runs)
    curves = [curve for run in runs[:MOST_CURVES] if (curve := read(run))]
    if not curves:
        return "<p>No run has a return yet.</p>"
    several = len({run["env"] for run in runs}) > 1
    panels: dict[tuple[str, int], list[Curve]] = {}
    for curve in curves:
        panels.setdefault((curve.run["env"], curve.run["width"]), []).append(curve)
    drawn = "".join(
        _panel(
            f"{env}, width {width}" if several else f"width {width}", own, looks,
            max(curve.run["env_steps"] for curve in own),
        )
        for (env, width), own in sorted(panels.items())
    )  # fmt: skip
    styles = "".join(
        f".s{i} {{ --own: rgb({_rgb(mark.colour)}); --own-dark: rgb({_rgb(mark.dark)}) }}"
        for i, mark in enumerate(looks.values())
    )
    legend = " ".join(
        f'<span class="s{i}"><svg class="live key" viewBox="0 0 34 10" aria-hidden="true"><polyline '
        f'points="0,5 34,5" stroke-dasharray="{" ".join(f"{d:g}" for d in mark.dash)}"/></svg> '
        f"sparsity {level:g}</span>"
        for i, (level, mark) in enumerate(looks.items())
    )
    left_out = len(runs) - MOST_CURVES
    note = f'<p class="note">{left_out:,} more runs are not drawn.</p>' if left_out > 0 else ""
    return f'<style>{styles}</style><p class="keys">{legend}</p><div class="panels">{drawn}</div>{note}'


def _rgb(colour: tuple[float, float, float]) -> str:
    return ", ".join(str(round(255 * part)) for part in colour)


def _bar(done: float, of: float, name: str) -> str:
    label = html.escape(name)
    return f'<progress value="{done:.0f}" max="{max(of, 1):.0f}" aria-label="{label}"></progress>'


def _grid(runs: Sequence[Mapping[str, Any]]) -> str:
    """How far each width and sparsity is."""
    levels = sorted({run["sparsity"] for run in runs})
    axes = [name for name in ("env", "pattern") if len({run[name] for run in runs}) > 1] + ["width"]
    lines = []
    for point in sorted({tuple(run[name] for name in axes) for run in runs}):
        here = [run for run in runs if tuple(run[name] for name in axes) == point]
        names = "".join(f'<th scope="row">{html.escape(str(value))}</th>' for value in point)
        cells = "".join(
            _cell([run for run in here if run["sparsity"] == level], f"width {point[-1]}, {level:g}")
            for level in levels
        )
        lines.append(f"<tr>{names}{cells}</tr>")
    heads = "".join(f'<th scope="col">{name}</th>' for name in (*axes, *(f"S = {s:g}" for s in levels)))
    return _framed(
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>", "progress"
    )


def _cell(runs: list[Mapping[str, Any]], name: str) -> str:
    if not runs:
        return "<td></td>"
    done, of = (sum(run[key] for run in runs) for key in ("done_env_steps", "env_steps"))
    words = html.escape(cell_words(runs)).replace("; ", "<br>")
    return f"<td>{_bar(done, of, name)}<br>{words}</td>"


def _framed(table: str, name: str) -> str:
    return f'<div class="frame" role="region" tabindex="0" aria-label="{name}">{table}</div>'


def _troubles(runs: Sequence[Mapping[str, Any]]) -> str:
    found = [run for run in runs if run["reason"]]
    if not found:
        return "<p>Nothing went wrong so far.</p>"
    lines = "".join(
        f"<tr><td>{html.escape(run['run_id'])}</td><td>{run['status']}</td>"
        f'<td class="words">{html.escape(str(run["reason"]))}</td></tr>'
        for run in found
    )
    heads = "<th>run</th><th>status</th><th>reason</th>"
    return _framed(
        f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>", "what went wrong"
    )


STYLE = """
body { display: block } main { max-width: 76rem } progress { width: 8rem; accent-color: var(--link) }
.whole progress { width: 100%; height: 1.1rem } .frame td, .frame thead th { text-align: left } .frame td { vertical-align: top }
.frame tbody th { font-weight: 600; vertical-align: top }
svg.live { width: 100%; max-width: 34rem; height: auto } svg.key { width: 2.2rem; height: .7rem } .keys span { margin-right: 1rem }
svg.live polyline { fill: none; stroke: var(--own); stroke-width: 1.6 } svg.live circle { fill: var(--own) }
svg.live g:hover polyline { stroke-width: 3.5 } svg.live .grid line { stroke: var(--grid) }
svg.live text { font-size: 11px; fill: var(--soft) }
@media (prefers-color-scheme: dark) { svg.live polyline { stroke: var(--own-dark) } svg.live circle { fill: var(--own-dark) } }
"""  # noqa: E501
ALLOWED = "default-src 'none'; style-src 'unsafe-inline'"


def page(
    found: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Curve | None], seconds: float
) -> str:
    """The page as it stands now; it reloads itself until all runs have ended.

    Args:
        found: of :func:`.status.survey`.
        read: of :func:`reader`.
        seconds: between two loads.
    """
    runs = found["runs"]
    over = is_over(found)
    refresh = "" if over else f'<meta http-equiv="refresh" content="{seconds:g}">'
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    again = "all runs have ended" if over else f"read again every {seconds:g} s"
    report = Path(found["study"]) / "report.html"
    link = f'<p><a href="{report.resolve().as_uri()}">report.html</a></p>' if report.exists() else ""
    name = html.escape(Path(found["study"]).resolve().name)
    css = files("sparse_rl.analysis.assets").joinpath("report.css").read_text()
    done, of = (sum(run[key] for run in runs) for key in ("done_env_steps", "env_steps"))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{refresh}'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{ALLOWED}"><title>{name}: status</title>'
        f"<style>{css}{STYLE}</style></head><body><main><h1>{name}</h1>"
        f'<p class="about">{html.escape(totals(found))}. As of {when}; {again}.</p>'
        f'<div class="whole">{_bar(done, of, "env steps of the study")}</div>{link}'
        f"<h2>Progress</h2>{_grid(runs)}<h2>Learning curves so far</h2>{_panels(found, read)}"
        f"<h2>What went wrong</h2>{_troubles(runs)}</main></body></html>"
    )
