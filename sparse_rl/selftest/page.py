"""What was found, as JSON and as a page of Markdown."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_rl.records.console import duration
from sparse_rl.records.results import write_text
from sparse_rl.selftest.harness import Outcome
from sparse_rl.selftest.lines import NOT_RUN, WRONG
from sparse_rl.selftest.parts import Part

RESULTS, PAGE = "results.json", "page.md"
LAST = (WRONG, NOT_RUN)


def shown(value: Any) -> str:
    """A value in a cell: four digits of a number."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:,.4g}" if math.isfinite(value) and abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the columns that any of them has, in the order of their first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = [n for n in names if n not in LAST] + [n for n in LAST if n in names]
    cells = [[shown(row[name]) if name in row else "" for name in names] for row in rows]
    lines = [names, ["---"] * len(names), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _section(part: Part, outcome: Outcome) -> list[str]:
    why = f": {outcome.why}" if outcome.why else ""
    lines = [f"## {part.name}", "", f"{part.asks} **{outcome.status}**{why}", ""]
    if outcome.rows:
        lines += [table(outcome.rows), ""]
    return lines + [f"- {note}" for note in outcome.notes] + [""] * bool(outcome.notes)


def page(about: Mapping[str, Any], found: Mapping[Part, Outcome]) -> str:
    """The page. ``about``: what was asked, and of which device."""
    summary = [
        {
            "part": part.name,
            "asks": part.asks,
            "result": outcome.status,
            "took": f"{duration(outcome.seconds)} of {duration(outcome.limit)}",
            "why": outcome.why,
        }
        for part, outcome in found.items()
    ]
    lines = [
        f"# Self-test of {about['kind']}",
        "",
        table([{"what": name, "is": value} for name, value in about.items()]),
        "",
        table(summary),
        "",
        "What each number means: docs/accelerators.md.",
        "",
    ]
    for part, outcome in found.items():
        lines += _section(part, outcome)
    return "\n".join(lines)


def write(folder: Path, about: Mapping[str, Any], found: Mapping[Part, Outcome]) -> None:
    """Both files, each aside and renamed: whoever is killed leaves the last whole ones."""
    parts = {
        part.name: {
            "asks": part.asks,
            "status": outcome.status,
            "why": outcome.why,
            "seconds": round(outcome.seconds, 1),
            "limit": round(outcome.limit, 1),
            "rows": outcome.rows,
            "notes": outcome.notes,
        }
        for part, outcome in found.items()
    }
    write_text(folder / RESULTS, json.dumps({"about": dict(about), "parts": parts}, indent=1))
    write_text(folder / PAGE, page(about, found))
