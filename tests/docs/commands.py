"""Every command line that the pages show, as whoever types it reads it."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}.*\n?)+", re.MULTILINE)
INLINE = re.compile(r"`((?:python|make|pip|sparse-rl)(?: [^`]+))`")
BEGINS = ("python ", "make ", "pip ", "sparse-rl ", "mkdir ", "tar ")


class Command(NamedTuple):
    """One command line."""

    page: str
    words: tuple[str, ...]
    """As a shell would split them, comments and omissions left out."""

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def _words(line: str) -> tuple[str, ...]:
    """A line as a shell splits it: a run's name in angle brackets becomes a word, the short name of a
    command its module."""
    words = shlex.split(re.sub(r"<(\w+)>", r"\1", line), comments=True)
    if words[0] == "sparse-rl" and len(words) > 1:
        words[:2] = ["python", "-m", f"sparse_rl.{words[1].replace('-', '_')}"]
    return tuple(word for word in words if word != "…")


def _lines(text: str) -> Iterator[str]:
    """Command lines among the lines of a block, each of several that go on with a backslash whole."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        for part in line.strip().split(" && "):
            if part.startswith(BEGINS):
                yield part


def commands_of(page: str, text: str) -> Iterator[Command]:
    """All command lines of a page."""
    for language, block in FENCE.findall(text):
        if language in ("", "bash", "console", "sh"):
            yield from (Command(page, _words(line)) for line in _lines(block))
    prose = FENCE.sub("", text)
    for block in INDENTED.findall(prose):
        yield from (Command(page, _words(line)) for line in _lines(block))
    for line in INLINE.findall(INDENTED.sub("", prose).replace("\n", " ")):
        yield Command(page, _words(line))


@cache
def commands(begin: str) -> list[Command]:
    """Those that begin so, each once, wherever it is shown."""
    found: dict[tuple[str, ...], Command] = {}
    for path in PAGES:
        for command in commands_of(path.name, path.read_text(encoding="utf-8")):
            found.setdefault(command.words, command)
    return [one for one in found.values() if " ".join(one.words).startswith(begin)]


def snippets(page: Path) -> list[str]:
    """Blocks of Python of a page, one after the other."""
    return [block for language, block in FENCE.findall(page.read_text("utf-8")) if language == "python"]
