"""What is to be said against the intervals of a study's cells: where their runs know too little."""

from collections.abc import Iterator, Sequence

import numpy as np

from sparse_rl.analysis import groups, intervals, statistics
from sparse_rl.analysis.statistics import Scores, Statistic


def doubts(cells: Sequence[Scores], statistic: Statistic = statistics.iqm) -> list[str]:
    """What is to be said against the intervals of a study's cells, with how often they cover then.

    The shares are those of `docs/analysis.md`, of runs that fail now and then.
    """
    if intervals.method_for(cells) == "percentile":
        return []
    several = [cell for cell in cells if int(np.bincount(cell.task).min()) > 1]
    return [*_out_of_line(several, statistic), *_unseen(several), *_groups(several)]


def _out_of_line(cells: Sequence[Scores], statistic: Statistic) -> Iterator[str]:
    """Cells whose variance is beyond what is likely; of one cell nothing can be said."""
    if len(cells) < 2:
        return
    found = [intervals.variance(cell, statistic) for cell in cells]
    runs = [cell.values.shape[-1] for cell in cells]
    of_runs = np.array([float(v) * n for (v, _), n in zip(found, runs, strict=True)])
    most = intervals.bound(of_runs, np.array([f for _, f in found]), intervals.SURE)
    odd = int((of_runs > most).sum())
    spread = "spreads" if odd == 1 else "spread"
    of = f"{odd} of {len(found)} cells {spread} out of line with the others"
    if odd and len(found) < intervals.RARE:
        yield f"{of} and widens their intervals too: a run there may have failed."
    elif odd:
        yield (
            f"{of}: a run there may have failed. If runs fail now and then everywhere, the other "
            "intervals are too narrow, for their runs do not show it."
        )


def _unseen(cells: Sequence[Scores]) -> Iterator[str]:
    """Few runs in few cells may show no failure where some do fail."""
    if not cells or len(cells) >= intervals.FEW:
        return
    if intervals.untold(cells):
        yield (
            f"No interval is given of {statistics.counted(len(cells), 'cell')} with so few runs: "
            "they may show none of the runs that fail, and an interval would hold the truth in 57 to "
            f"85 % where one in four does. {intervals.ENOUGH} runs of one cell have one, 4 runs of two "
            "cells, and 3 runs of three."
        )
    elif min(cell.values.shape[-1] for cell in cells) < groups.SHOWING:
        least = 73 if len(cells) < 4 else 79
        yield (
            f"Intervals of {len(cells)} cells know of no failure that their runs do not show: where one "
            f"seed in ten fails they cover as little as {least} %."
        )


def _groups(cells: Sequence[Scores]) -> Iterator[str]:
    """Runs that do well or fail have no mean that any of them reaches."""
    split = sum(any(map(groups.in_two_groups, groups.tasks_of(cell))) for cell in cells)
    if not split:
        return
    several = any(cell.task.max() > 0 for cell in cells)
    apart = " Over tasks that lie far apart intervals of two cells then cover as little as 82 %."
    yield (
        f"In {split} of {statistics.counted(len(cells), 'cell')} the runs fall into two groups, as if "
        "some had failed: read how many are in each beside their mean."
        + (apart if several and len(cells) == 2 else "")
    )
