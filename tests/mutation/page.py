"""docs/mutants.md: the score by room, and what lives with the reason."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mutation.faults import ROOT, Fault

HEAD = """# Would a test notice?

    make mutants    # hours, in the background; it goes on where it stopped

A fault is put into a copy of the code, the tests that reach its line are run, and a test should fail.

- **The list of our own** (`tests/faults/*.toml`) has small mistakes that a person makes, each with the
  wrong number that a user would get.
- **The others are drawn at random from the syntax of the code**: comparisons, constants, axes, signs,
  dropped calls, swapped arguments, keys, as many of each kind.

A change that alters no number anybody sees is equivalent. Those are argued one by one in
`tests/faults/argued.toml`, and not counted. For one fault tests of at most four minutes are run, first
those of its own room. This page is written by the command.

**A share is a score only where nothing is left untried.** A quick round (`--quick`) tries faults that a
test is known to notice, so it can find that a test became blind, and nothing else.
"""

Argued = Mapping[tuple[str, str], tuple[str, str]]
Found = Mapping[str, Mapping[str, Any]]


def verdict(fault: Fault, name: str, found: Found, argued: Argued) -> tuple[str, str]:
    """(``killed``, ``lives``, ``equivalent`` or ``not tried``; the reason)."""
    if name not in found:
        return "not tried", ""
    if found[name]["killed"]:
        return "killed", ""
    lines = fault.lines((ROOT / fault.file).read_text())
    return argued.get((fault.file, lines[1]), ("lives", ""))


def score(verdicts: Mapping[str, tuple[str, str]], faults: Mapping[str, Fault]) -> Iterator[str]:
    """The rows of a table, one a room, and one of all."""
    counts: dict[str, Counter[str]] = {}
    for name, fault in faults.items():
        counts.setdefault(fault.room, Counter())[verdicts[name][0]] += 1
    total = sum(counts.values(), Counter())
    for room, count in [*sorted(counts.items()), ("all", total)]:
        tried = count["killed"] + count["lives"]
        share = f"{100 * count['killed'] / tried:.0f} %" if tried else "–"
        cells = (room, count["killed"], count["lives"], share, count["equivalent"], count["not tried"])
        yield "| " + " | ".join(map(str, cells)) + " |"


def living(verdicts: Mapping[str, tuple[str, str]], faults: Mapping[str, Fault]) -> Iterator[str]:
    """A line for each fault that no test notices."""
    for name, fault in faults.items():
        kind, why = verdicts[name]
        if kind == "lives":
            text = (ROOT / fault.file).read_text()
            before, after = (" ".join(part.split()) for part in fault.lines(text))
            place = f"{fault.file}:{fault.line(text)}"
            yield f"- `{place}`: `{before}` → `{after}`. {why or 'Not looked into.'}"


def section(title: str, faults: Mapping[str, Fault], found: Found, argued: Argued) -> Iterator[str]:
    """One source of faults: its table, and what lives."""
    verdicts = {name: verdict(fault, name, found, argued) for name, fault in faults.items()}
    yield from (f"## {title}", "")
    yield "| room | killed | live | killed of both | equivalent | not tried |"
    yield "|---|---|---|---|---|---|"
    yield from score(verdicts, faults)
    lines = list(living(verdicts, faults))
    yield from ("", "What lives:" if lines else "Nothing that was tried lives.", "", *lines, "")


def write(
    path: Path, own: Mapping[str, Fault], drawn: Mapping[str, Fault], found: Found, argued: Argued
) -> None:
    """Write the page of what was found out so far."""
    lines = [
        HEAD,
        *section("The list of our own", own, found, argued),
        *section("Drawn from the syntax", drawn, found, argued),
    ]
    path.write_text("\n".join(lines).rstrip() + "\n")
