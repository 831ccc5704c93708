"""How many seeds tell a difference δ, at the noise that these runs have."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from sparse_rl.analysis import budgets, intervals, scores
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.statistics import LEVEL, counted

POWER = 0.8
"""Share of studies in which the difference is to be told."""
MOST = 10_000
"""Seeds beyond which nobody trains."""
PARTS = 4000
"""Equal parts of χ² over which a chance is averaged."""


class Noise(NamedTuple):
    """How runs of one cell differ."""

    sd: float
    """Of a run, over all cells."""
    low: float
    high: float
    """95 % interval of ``sd`` (χ², of normal scores)."""
    free: int
    """Runs less cells (and tasks)."""


def noise(final: pd.DataFrame, by: Sequence[str], metric: str = RETURN) -> Noise:
    """The standard deviation of runs within cells and tasks, pooled.

    Args:
        final: one row per run.
        by: columns that name a cell.

    Raises:
        ValueError: no cell has two runs of a task.
    """
    groups = [group[metric] for _, group in final.groupby([*by, "env"], dropna=False)]
    free = sum(len(group) - 1 for group in groups)
    if free < 1:
        raise ValueError("no cell has two seeds: nothing is known of their noise")
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
    if squares <= 0:
        raise ValueError("all seeds of every cell are equal: nothing is known of their noise")
    tail = (1.0 - LEVEL) / 2.0
    low, high = (np.sqrt(squares / special.chdtri(free, p)) for p in (tail, 1.0 - tail))
    return Noise(float(np.sqrt(squares / free)), float(low), float(high), free)


def power(seeds: int, delta: float, sd: float, comparisons: int = 1) -> float:
    """Chance that a difference of ``delta`` between two cells is told: its t interval excludes 0.

    Args:
        seeds: of each of the two cells.
        comparisons: of how many it is one; all intervals hold together in 95 % (Šidák 1967).
    """
    free = 2.0 * (seeds - 1)
    costs = intervals.TRIMMED_COSTS if seeds > 3 else 1.0
    away = delta / (sd * np.sqrt(2.0 * costs / seeds))
    beyond = special.stdtrit(free, (1.0 + LEVEL ** (1.0 / comparisons)) / 2.0)
    parts = (np.arange(PARTS) + 0.5) / PARTS
    spread = np.sqrt(special.chdtri(free, parts) / free)  # scipy's noncentral t fails far out
    return float(np.mean(special.ndtr(away - beyond * spread) + special.ndtr(-away - beyond * spread)))


def seeds_to_tell(delta: float, sd: float, comparisons: int = 1) -> int:
    """The fewest seeds of each cell with which :func:`power` reaches 80 %; :data:`MOST` and no more.

    Of a study yet to be made. What one difference of this study lacks :func:`.verdicts.seeds_at_most`
    says.

    Raises:
        ValueError: delta or sd is not above 0.
    """
    if not (delta > 0 and sd > 0):
        raise ValueError(f"delta and sd must be above 0, got {delta:g} and {sd:g}")
    low, high = 1, MOST  # power grows with the seeds, but for the step from three to four
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, delta, sd, comparisons) >= POWER else (middle, high)
    return 3 if high == 5 and power(3, delta, sd, comparisons) >= POWER else high


def least_delta(seeds: int, sd: float, comparisons: int = 1) -> float:
    """The smallest difference that so many seeds tell in 80 % of studies.

    Raises:
        ValueError: there is one seed.
    """
    if seeds < 2:
        raise ValueError("one seed tells no difference")
    low, high = 0.0, sd
    while power(seeds, high, sd, comparisons) < POWER:
        high *= 2.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if power(seeds, middle, sd, comparisons) >= POWER else (middle, high)
    return high


class Plan(NamedTuple):
    """What seeds tell of a series."""

    table: pd.DataFrame
    """A line for one comparison and one for all of the study's with dense."""
    words: list[str]


def _seeds(delta: float, found: Noise, comparisons: int) -> str:
    told = [seeds_to_tell(delta, sd, comparisons) for sd in (found.sd, found.low, found.high)]
    words = [f"{n}" if n < MOST else f"{MOST:,} or more" for n in told]
    return f"{words[0]} [{words[1]}, {words[2]}]"


def plan(series: Series, delta: float) -> Plan:
    """How many seeds of each cell tell a difference.

    Args:
        delta: a share of the task's range, where it is known, and else of the way from the first returns
            up to the best cell (:func:`.budgets.margin_of`).

    Raises:
        ValueError: delta is not in (0, 1], nothing is known of the noise, or no run has ended.
    """
    if not 0 < delta <= 1:
        raise ValueError(f"delta is a share of the task's range, above 0 and at most 1; got {delta:g}")
    final = scores.final_values(series.rows, RETURN)
    if final.empty:
        raise ValueError("no run has ended")
    by = ["width", "sparsity"]
    found, margin = noise(final, by), budgets.margin_of(series, delta)
    counts = final.groupby([*by, "env"])["run_id"].nunique()
    fewest = int(counts.min())
    sparse = len({cell for cell in zip(final["width"], final["sparsity"], strict=True) if cell[1] > 0})
    asked = {"one comparison, chosen before": 1}
    if sparse > 1:
        asked[f"all {sparse} comparisons of a sparse cell with dense"] = sparse
    rows = []
    for name, many in asked.items():
        now = least_delta(fewest, found.sd, many) if fewest > 1 else float("nan")
        told = {"comparison": name, "seeds": _seeds(margin, found, many)}
        rows.append(told | {f"told with {counted(fewest, 'seed')}": now})
    sd = f"{found.sd:.4g} [{found.low:.4g}, {found.high:.4g}]"
    words = [
        f"{series.label}: a difference of {margin:.4g} (δ = {delta:g}) is to be told in {POWER:.0%} of "
        f"studies. Runs of one cell differ by a standard deviation of {sd}, pooled over "
        f"{counted(len(counts), 'cell')}; seeds in brackets are those of its interval.",
        *_against(final, by),
    ]
    return Plan(pd.DataFrame(rows), words)


def _against(final: pd.DataFrame, by: Sequence[str]) -> list[str]:
    """What is to be said against one noise for all cells."""
    cells = [cell for cell in scores.cell_scores(final, RETURN, by).values() if len(cell.values) > 1]
    of_runs = np.array([float(np.var(cell.values, ddof=1)) for cell in cells])
    free = np.array([len(cell.values) - 1.0 for cell in cells])
    odd = 0
    if len(cells) > 1:
        odd = int((of_runs > intervals.bound(of_runs, free, intervals.SURE)).sum())
    if not odd:
        return []
    rest = float(np.sqrt(np.sort(of_runs)[: len(cells) - odd].mean()))
    return [
        f"{odd} of {counted(len(cells), 'cell')} spread out of line and make most of this noise: a run "
        f"may have failed. Without them the standard deviation is {rest:.4g}, where no run fails."
    ]
