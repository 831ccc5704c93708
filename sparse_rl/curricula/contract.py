"""What a curriculum is: which levels come next, from what came of those before. It plays nothing.

A cycle is ``propose``, one wide rollout of all proposed levels, ``absorb``. Nothing branches around a
rollout: in a pack of runs under ``vmap`` both sides of a branch are taken.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from sparse_rl.settings.curricula import Score

NEW, REPLAYED, MUTATED, SCOUTED = range(4)
KINDS = ("new", "replayed", "mutated", "scouted")
"""Why a level is played: it was just drawn; it was kept; it is an edit of one that was kept; to see
whether it is worth keeping, with nothing learned from it."""
NONE = -1
"""A place in the buffer that is none."""


class Proposal(NamedTuple):
    """N levels to be played in the next rollout, one by each actor."""

    levels: Any
    """Each leaf with a leading N."""
    kind: Array
    """int32 ``[N]``: which of :data:`KINDS`."""
    place: Array
    """int32 ``[N]``: where the buffer has what is replayed, or the parent of what was mutated; else
    :data:`NONE`."""
    learns: Array
    """bool scalar: whether anything is learned from this rollout."""


class Outcome(NamedTuple):
    """What came of N levels in a rollout, over the episodes that ended in it."""

    score: Array
    """float32 ``[N]``: what the method wants more of; −inf where no episode ended."""
    highest: Array
    """float32 ``[N]``: the highest return; −inf where no episode ended."""
    solved: Array
    """float32 ``[N]``: share of the episodes that were solved; NaN where none ended."""


class Method(NamedTuple):
    """A curriculum's static parts and its pure functions."""

    actors: int
    """N: levels that are played in a cycle."""
    trained: slice
    """Which of the actors are learned from, if any is: as many as the agent has environments."""
    score: Score
    """What it wants more of."""
    begin: Callable[[Array], Any]
    """``key → state``: before the first cycle."""
    propose: Callable[[Any, Array], Proposal]
    """``(state, key) → levels to be played``."""
    absorb: Callable[[Any, Proposal, Outcome], Any]
    """``(state, proposal, outcome) → state``."""
    highest: Callable[[Any, Proposal], Array]
    """``(state, proposal) → float32 [N]``: the highest return that each level ever had; −inf where it
    was never played."""
    describe: Callable[[Any], dict[str, Array]]
    """``state → float32 scalars``, for a row."""
    kept: Callable[[Any], Any] | None = None
    """``state → LevelBuffer``: what it keeps, to be shown; ``None``: nothing."""
