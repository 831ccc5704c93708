"""Which parts there are, in the order in which they run, and how the time is shared out."""

from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """One question to a device."""

    name: str
    """Of the module of this room that answers it."""
    asks: str
    share: float
    """Of the time. What a part leaves goes to those after it."""


DEVICE = Part("device", "What is this device?", 0.0)
PARTS = (
    Part("equal", "Are a chunk's numbers those of a CPU?", 0.27),
    Part("storages", "Which storage is how fast, beside what the device can do?", 0.24),
    Part("packs", "What does a pack of runs gain?", 0.23),
    Part("memory", "Is memory what was planned, and where is a pack cut?", 0.06),
    Part("resume", "Is a run that was killed the same run?", 0.06),
    Part("humanoid", "How fast does a humanoid learn, sparse and dense?", 0.14),
)
LEAST_SECONDS = 5.0


def limit(part: Part, after: Sequence[Part], left: float) -> float:
    """Seconds for a part, of those that are left for it and the parts after it."""
    shares = part.share + sum(other.share for other in after)
    return max(left * part.share / shares, LEAST_SECONDS)
