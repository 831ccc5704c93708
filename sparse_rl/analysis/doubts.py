"""What is to be said against the intervals of a study's cells: where their runs know too little."""

from collections.abc import Iterator, Sequence

import numpy as np

from sparse_rl.analysis import intervals, statistics
from sparse_rl.analysis.statistics import Floats, Scores, Statistic

TWO_GROUPS = 3.0
"""How many times as wide as both groups together a gap between runs is that makes two groups of them."""


def in_two_groups(values: Floats) -> bool:
    """Whether four runs or more fall into two groups: a gap three times as wide as all that is left."""
    gaps = np.diff(np.sort(values))
    return len(gaps) > 2 and bool(gaps.max() > TWO_GROUPS * (gaps.sum() - gaps.max()))


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
    fewest = min((cell.values.shape[-1] for cell in cells), default=0)
    enough = intervals.ENOUGH if len(cells) == 1 else 4
    if not 0 < len(cells) < intervals.FEW or fewest >= enough:
        return
    least = 77 if fewest > 3 else 57 if len(cells) == 1 else 60 if len(cells) < 4 else 79
    yield (
        f"Intervals of {statistics.counted(len(cells), 'cell')} know of no failure that their runs "
        f"do not show: where one seed in ten, or in four, fails they cover as little as {least} %."
    )


def _groups(cells: Sequence[Scores]) -> Iterator[str]:
    """Runs that do well or fail have no mean that any of them reaches."""
    parts = [[cell.values[cell.task == t] for t in np.unique(cell.task)] for cell in cells]
    split = sum(any(map(in_two_groups, own)) for own in parts)
    if not split:
        return
    tasks = max(len(own) for own in parts)
    apart = " Over tasks that lie far apart intervals then cover as little as 80 %." if tasks > 1 else ""
    yield (
        f"In {split} of {statistics.counted(len(cells), 'cell')} the runs fall into two groups, as if "
        "some had failed: read how many are in each beside their mean." + apart
    )
