"""A fault: one place of one file, another text, and what a user would get."""

import hashlib
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LISTS = ROOT / "tests" / "faults"


class Fault(NamedTuple):
    """A change of one file."""

    file: str
    """From the root of the tree."""
    start: int
    """Where in the file's text."""
    was: str
    now: str
    gives: str
    """What a user would get; of one from the syntax: which kind of change it is."""

    @property
    def room(self) -> str:
        """The room of the house: ``agents``, or ``diagnostics`` for a file that is a room."""
        return Path(self.file).with_suffix("").parts[1]

    def line(self, text: str) -> int:
        """Its line in the file, from 1."""
        return text.count("\n", 0, self.start) + 1

    def put(self, text: str) -> str:
        """The file's text with the fault in it."""
        return text[: self.start] + self.now + text[self.start + len(self.was) :]

    def lines(self, text: str) -> tuple[str, str]:
        """The lines that change, before and after, without their indentation."""
        begin = text.rfind("\n", 0, self.start) + 1
        last = text.find("\n", self.start + len(self.was))
        end = len(text) if last < 0 else last
        before, after = text[begin:end], self.put(text)[begin : end + len(self.now) - len(self.was)]
        return before.strip(), after.strip()

    def name(self, text: str) -> str:
        """What stays the same as long as the file does: a key for what was found out."""
        told = "\0".join((self.file, str(self.start), self.now, text))
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def listed(folder: Path = LISTS, root: Path = ROOT) -> list[Fault]:
    """The faults of our own list, in its order.

    Raises ``ValueError`` where a text is not found exactly once in its file, or changes nothing.
    """
    found = []
    for path in sorted(folder.glob("*.toml")):
        for entry in tomllib.loads(path.read_text()).get("faults", []):
            text = (root / entry["file"]).read_text()
            count = text.count(entry["was"])
            if count != 1 or entry["was"] == entry["now"]:
                what = f"is there {count} times" if count != 1 else "is not changed"
                raise ValueError(f"{path.name}: {entry['was']!r} {what} in {entry['file']}")
            found.append(Fault(**entry, start=text.index(entry["was"])))
    return found


def argued(path: Path = LISTS / "argued.toml") -> dict[tuple[str, str], tuple[str, str]]:
    """(file, the changed lines) → (``equivalent`` or ``lives``, the reason)."""
    if not path.exists():
        return {}
    entries = tomllib.loads(path.read_text()).get("argued", [])
    return {(entry["file"], entry["lines"]): (entry["verdict"], entry["why"]) for entry in entries}
