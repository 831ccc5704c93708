"""Do dense networks stop where sparse ones of the same width go on? What a grid of runs says of it.

A curve goes on if its widest network is better than the one before; it stops if no wider network is
better by the margin, or a wider one is worse (:func:`.verdicts.growth`). Where dense stops, sparse goes
on only if its widest network is better than every dense one: else it catches up, as it does where dense
is at a ceiling that sparse is slower to reach. All curves of a grid are judged at once, each at
1 − 0.05 / curves (Bonferroni), so that the best of many sparsities may be picked.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from sparse_rl.analysis import answers, keys, scores, statistics, verdicts
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.statistics import LEVEL, Estimate
from sparse_rl.analysis.verdicts import Growth

Verdict = Literal[
    "dense stops and sparse goes on",
    "dense stops and sparse catches up",
    "both go on",
    "both stop",
    "dense goes on and sparse stops",
    "cannot tell",
]
SHARES = (0.25, 0.5, 1.0)
"""Of the longest run: when is looked. Wide networks learn slower at first."""
EQUAL = ("width", "parameters_nonzero", "flops", "train_seconds")
STOPS = ("enough", "declines")


class Family(NamedTuple):
    """What one grid says."""

    verdict: Verdict
    curves: dict[float, Growth]
    """Sparsity → what more width brings."""


def judge(dense: Growth, sparse: Mapping[float, Growth], beyond: Collection[float]) -> Verdict:
    """What the curves say together; sparse networks go on if those of one sparsity do.

    Args:
        beyond: sparsities whose widest network is better than every dense one.
    """
    growing = [level for level, curve in sparse.items() if curve.kind == "grows"]
    all_stop = all(curve.kind in STOPS for curve in sparse.values())
    if growing and dense.kind in STOPS:
        goes_on = any(level in beyond for level in growing)
        return "dense stops and sparse goes on" if goes_on else "dense stops and sparse catches up"
    if growing and dense.kind == "grows":
        return "both go on"
    if all_stop and dense.kind in STOPS:
        return "both stop"
    return "dense goes on and sparse stops" if all_stop and dense.kind == "grows" else "cannot tell"


def _better_than_all(
    cells: Mapping[scores.Cell, Estimate], levels: Sequence[float], share: float
) -> set[float]:
    """Sparsities whose widest network is better than every dense one, at once in so many of studies."""
    found = set()
    for level in levels:
        widest = cells[max(width for width, own in cells if own == level), level]
        dense = [estimate for (_, own), estimate in cells.items() if own == 0]
        gain = np.array([float(widest.value) - float(other.value) for other in dense])
        samples = np.stack([widest.samples - other.samples for other in dense])
        low, _ = verdicts.together(gain, samples, share)
        if (low > 0).all():
            found.add(level)
    return found


def family(final: pd.DataFrame, margin: float, beyond: float = 0.0) -> Family:
    """A grid's verdict along its widths.

    Args:
        final: a row per run, of one series (:func:`.scores.final_values`).
        margin: the smallest gain that matters, in the scores' units.
        beyond: narrower networks are left out, for all grow at first.

    Raises:
        ValueError: a curve has one width, or a cell one seed; there is no dense or no sparse curve;
            cells hold different tasks.
    """
    by = ["width", "sparsity"]
    scores.refuse_uneven_tasks(final, by)
    cells = scores.cell_estimates(final, RETURN, by, method="t")
    levels = sorted({float(sparsity) for _, sparsity in cells})
    if levels[:1] != [0.0] or len(levels) < 2:
        raise ValueError("it takes dense runs and sparse ones to compare")
    share = 1.0 - (1.0 - LEVEL) / len(levels)
    curves = {}
    for level in levels:
        own = {
            float(width): found
            for (width, sparsity), found in cells.items()
            if sparsity == level and width >= beyond
        }
        try:
            curves[level] = verdicts.growth(list(own.values()), list(own), margin, share)
        except ValueError as error:
            raise ValueError(f"sparsity {level:g}: {error}") from None
    sparse = {level: curves[level] for level in levels[1:]}
    return Family(judge(curves[0.0], sparse, _better_than_all(cells, levels[1:], share)), curves)


def until(rows: pd.DataFrame, share: float) -> pd.DataFrame:
    """Rows of the first share of the longest run: what one would have seen who looked then."""
    return rows[rows["env_steps"] <= share * rows["env_steps"].max()]


def _words(curve: Growth) -> str:
    step = verdicts.signed(curve.difference, curve.low, curve.high)
    if curve.kind == "cannot tell":
        return f"cannot tell {step}"
    return f"{curve.kind} at {curve.size:g} {step}"


def table(rows: pd.DataFrame, margin: float, beyond: float = 0.0) -> pd.DataFrame:
    """A line per time of looking: the verdict, and what more width brings dense and at each sparsity.

    Args:
        rows: of one series.
    """
    lines = []
    for share in SHARES:
        seen = until(rows, share)
        line: dict[str, object] = {"env steps": f"{seen['env_steps'].max():,.0f}"}
        try:
            found = family(scores.final_values(seen, RETURN), margin, beyond)
        except ValueError as error:
            lines.append(line | {"verdict": f"cannot tell: {error}"})
            continue
        told = {("dense" if s == 0 else f"S = {s:g}"): _words(c) for s, c in found.curves.items()}
        lines.append(line | {"verdict": found.verdict} | told)
    return pd.DataFrame(lines)


def equal_table(final: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Sparse beside dense at equal width, survivors, FLOPs and seconds: how many comparisons say what.

    Args:
        final: a row per run, of one series.
    """
    lines: list[dict[str, object]] = []
    for at in EQUAL:
        unknown = int(final[at].isna().sum())
        try:
            if unknown:
                raise ValueError(f"{unknown} of {statistics.counted(len(final), 'run')} do not tell it")
            found = answers.compare(final, at, margin=margin)
        except ValueError as error:
            lines.append({"at equal": answers.MATCHES[at], "at the largest": f"not compared: {error}"})
            continue
        for level, own in found.groupby("sparsity"):
            told = {word: int((own["verdict"] == word).sum()) for word in get_args(verdicts.Verdict)}
            widest = own.iloc[-1]
            last = verdicts.signed(*widest[["difference", "low", "high"]])
            lines.append(
                {
                    "at equal": answers.MATCHES[at], "sparsity": level, **told,
                    "at the largest": f"{widest['size']:,.0f}: {last}",
                }
            )  # fmt: skip
    return pd.DataFrame(lines)


def common(rows: pd.DataFrame, key: str, seeds: Sequence[int] = ()) -> tuple[pd.DataFrame, str]:
    """All cells at the one setting of a key that serves them best: the highest mean of cells' scores.

    Args:
        rows: of one series, with the key's column (``load_all(…, by=[key])``).
        seeds: they choose and are left out of what comes back; none: all choose, which flatters every
            cell a little, and none more than another.

    Returns:
        The rows at that setting, and the setting in words.

    Raises:
        ValueError: no setting was tried in all cells.
    """
    column = keys.column_of(key)
    final = keys.beside(scores.final_values(rows, RETURN), rows, [key])
    choosing = final[final["seed"].isin(seeds)] if seeds else final
    cells = choosing.groupby(["width", "sparsity", column])[RETURN].mean().unstack(column)
    everywhere = cells.loc[:, cells.notna().all()]
    if everywhere.empty:
        raise ValueError(f"no {key} was tried in all cells")
    best = everywhere.mean().idxmax()
    kept = final[(final[column] == best) & ~final["seed"].isin(seeds)]
    words = (
        f"{key}={best}, of {statistics.counted(everywhere.shape[1], 'setting')} the best for all cells"
    )
    return rows[rows["run_id"].isin(kept["run_id"])], words


def transfer(rows: pd.DataFrame, key: str, base: float | None = None) -> pd.DataFrame:
    """Does the setting that is best in one dense cell serve all others?

    Args:
        rows: of one series, with the key's column.
        base: width of that cell; by default the narrowest.

    Returns:
        A line per cell: its ``best`` setting by the highest interquartile mean, how many ``times the
        base's`` it is, and what it ``gains`` over the base's, with ``low`` and ``high`` that hold
        together for all cells. The best is picked from the runs that are compared, which flatters it.
        nan where the base's setting is the best, or was not tried.

    Raises:
        ValueError: the key is no number, or the base's cell was not trained.
    """
    column = keys.column_of(key)
    final = keys.beside(scores.final_values(rows, RETURN), rows, [key])
    if not pd.api.types.is_numeric_dtype(final[column]):
        raise ValueError(f"{key} is no number, so its best settings have no ratio")
    found = scores.cell_estimates(final, RETURN, ["width", "sparsity", column], method="t")
    value = {cell: float(estimate.value) for cell, estimate in found.items()}
    best: dict[tuple[float, float], float] = {}
    for width, level, setting in sorted(value, key=lambda cell: value[cell]):
        best[float(width), float(level)] = float(setting)  # the last one is the highest
    start = (float(min(width for width, _ in best) if base is None else base), 0.0)
    if start not in best:
        raise ValueError(f"no dense run has width {start[0]:g}")
    cells = sorted(best)
    pairs = [((*cell, best[cell]), (*cell, best[start])) for cell in cells]
    known = [(own, common) for own, common in pairs if own != common and common in found]
    gain = np.array([value[own] - value[common] for own, common in known])
    samples = [found[own].samples - found[common].samples for own, common in known]
    low, high = verdicts.together(gain, np.array(samples)) if known else (gain, gain)
    told = {own[:2]: numbers for (own, _), *numbers in zip(known, gain, low, high, strict=True)}
    lines = [
        (*cell, best[cell], best[cell] / best[start], *told.get(cell, (float("nan"),) * 3))
        for cell in cells
    ]
    return pd.DataFrame(
        lines, columns=["width", "sparsity", "best", "times the base's", "gains", "low", "high"]
    )
