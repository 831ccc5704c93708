"""What a part says while it runs: JSON lines in a file, so that a part that is killed has said it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Line = dict[str, Any]
"""One of the below."""
Lines = Iterator[Line]
WRONG, NOT_RUN = "wrong", "not run"
"""Columns of a row: what is wrong with its numbers; why there are none."""


def row(**numbers: Any) -> Line:
    """Something measured; with :data:`WRONG` in it where it should not be so."""
    return {"row": numbers}


def not_run(what: str, why: str) -> Line:
    """Something that cannot be measured here, and what to install for it. It is no success."""
    return {"row": {"what": what, NOT_RUN: f"{what} not run: {why}"}}


def note(text: str) -> Line:
    """A sentence for the page."""
    return {"note": text}


def doing(text: str) -> Line:
    """What comes next, for whoever waits."""
    return {"doing": text}


def done() -> Line:
    """The part has come to its end."""
    return {"done": True}


def write(path: Path, line: Line) -> None:
    """Append a line, on disk when this returns."""
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read(path: Path, begin: int) -> tuple[list[Line], int]:
    """Whole lines from byte ``begin`` on, and where they end; what is half written comes later."""
    if not path.exists():
        return [], begin
    with path.open("rb") as file:
        file.seek(begin)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], begin + len(whole)
