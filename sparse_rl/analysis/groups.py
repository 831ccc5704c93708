"""Runs that fall into two groups, as if some had failed, and tasks whose scores lie apart."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparse_rl.analysis.statistics import Floats, Scores

TWO_GROUPS = 3.0
"""How many times as wide as both groups together a gap between runs is that makes two groups of them."""
SHOWING = 4
"""Runs of a task from which on they can show two groups: of three, chance alone makes two in half of
all cells."""
OFTEN = 0.2
"""Share of a study's cells, task by task, in two groups from which on failing is taken to be the rule.
At five runs that is one run in twenty. Skewed scores show two groups in fewer."""


def in_two_groups(values: Floats) -> NDArray[np.bool_]:
    """[...]: whether four runs or more, the last axis, fall into two groups.

    A gap is three times as wide then as all that is left.
    """
    gaps = np.diff(np.sort(values, axis=-1), axis=-1)
    if gaps.shape[-1] < SHOWING - 1:
        return np.zeros(values.shape[:-1], dtype=np.bool_)
    widest = gaps.max(-1)
    return widest > TWO_GROUPS * (gaps.sum(-1) - widest)


def tasks_of(cell: Scores) -> list[Floats]:
    """[..., runs] of each task."""
    return [cell.values[..., cell.task == task] for task in np.unique(cell.task)]


def _apart(cell: Scores) -> NDArray[np.bool_]:
    """[...]: whether tasks' medians differ by more than runs of a task do."""
    tasks = tasks_of(cell)
    middles = np.stack([np.median(task, axis=-1) for task in tasks])
    within = np.sqrt(np.mean([task.var(-1, ddof=1) for task in tasks], axis=0))
    return np.ptp(middles, axis=0) > within


def fail_apart(cells: Sequence[Scores]) -> NDArray[np.bool_]:
    """[...]: whether tasks lie apart in most of a study's cells, and runs of a task often fall into two
    groups, or are too few to show it.

    An interquartile mean over such tasks cuts whole groups: which ones changes from draw to draw, and
    what it cuts is what varies.

    Args:
        cells: of one study, with the same leading axes, of two runs of each task at least.
    """
    several = [cell for cell in cells if cell.task.max() > 0]
    if not several:
        return np.zeros(cells[0].values.shape[:-1], dtype=np.bool_)
    apart = np.mean([_apart(cell) for cell in several], axis=0) > 0.5
    few = any(np.bincount(cell.task).min() < SHOWING and cell.task.max() > 1 for cell in several)
    shown = np.mean([in_two_groups(task) for cell in several for task in tasks_of(cell)], axis=0)
    return np.asarray(apart & ((shown >= OFTEN) | few))
