"""What the studies are for: how sparse a width should be, and what equal means."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sparse_rl.analysis import scores, statistics, verdicts
from sparse_rl.analysis.fits import Fit, Points
from sparse_rl.analysis.scores import RETURN, Cell
from sparse_rl.analysis.statistics import Estimate, Floats, interval

MATCHES = {
    "width": "width",
    "parameters_total": "total parameters",
    "parameters_nonzero": "surviving parameters",
    "flops": "training FLOPs",
    "train_seconds": "wall-clock seconds of training",
}
"""What a comparison may hold equal → its words."""


def points(
    estimates: Sequence[Estimate], size: Sequence[float], sparsity: Sequence[float] | float = 0.0
) -> Points:
    """What a law of scores is fitted to: one estimate per size."""
    sizes = np.asarray(size, dtype=np.float64)
    kept = 1.0 - np.broadcast_to(np.asarray(sparsity, dtype=np.float64), sizes.shape)
    samples = np.stack([e.samples for e in estimates])
    never = np.zeros((len(sizes), 1 + samples.shape[1]), dtype=np.bool_)
    return Points(sizes, kept, np.array([float(e.value) for e in estimates]), samples, never)


class Optimum(NamedTuple):
    """The sparsity that scores best at one width."""

    sparsity: float
    low: float
    high: float
    share: float
    """Of resamples that agree with ``sparsity``."""


def best_measured(estimates: Sequence[Estimate], sparsity: Sequence[float]) -> Optimum:
    """The best of the sparsities that were trained, and how sure that is.

    Raises:
        ValueError: the spread of one is not known, so nothing is known of a best one.
    """
    levels = np.asarray(sparsity, dtype=np.float64)
    unknown = [f"{level:g}" for level, e in zip(levels, estimates, strict=True) if np.isnan(e.low)]
    if unknown:
        raise ValueError(
            f"no best sparsity: {', '.join(unknown)} has one seed, or no spread, or too few runs"
        )
    best = levels[int(np.argmax([float(e.value) for e in estimates]))]
    winners = levels[np.stack([e.samples for e in estimates]).argmax(0)]
    tail = (1.0 - statistics.LEVEL) / 2.0
    low, high = np.quantile(winners, [tail, 1.0 - tail], method="nearest")
    return Optimum(float(best), float(low), float(high), float(np.mean(winners == best)))


def best_by_law(fit: Fit, size: float, sparsities: Floats) -> Optimum:
    """The best sparsity of a joint law at one total size, over a fine range of sparsities.

    Its interval and share are nan where no spread is known.
    """
    levels = np.asarray(sparsities, dtype=np.float64)
    sizes = np.full(levels.shape, float(size))
    best = levels[int(fit.predict(sizes, 1.0 - levels).argmax())]
    if np.isnan(fit.thetas).any():
        return Optimum(float(best), float("nan"), float("nan"), float("nan"))
    winners = levels[fit.predict_samples(sizes, 1.0 - levels).argmax(0)]
    step = float(np.diff(levels).max())
    low, high = interval(winners)
    return Optimum(float(best), float(low), float(high), float(np.mean(abs(winners - best) <= step)))


def _along(
    cells: Mapping[Cell, Estimate],
    sizes: Mapping[Cell, float],
    sparsity: float,
) -> tuple[Floats, Floats]:
    """One sparsity's curve: sizes in ascending order, and [points, 1 + resamples]."""
    chosen = sorted((sizes[cell], cell) for cell in cells if cell[1] == sparsity)
    values = [np.concatenate([[float(cells[c].value)], cells[c].samples]) for _, c in chosen]
    return np.array([size for size, _ in chosen], dtype=np.float64), np.array(values)


def _neighbours(sizes: Floats, values: Floats, where: Floats) -> tuple[Floats, Floats, Floats]:
    """[where, 1 + resamples]: a curve linear in the logarithm of the size; its points below and above.

    On a point all three are that point.
    """
    if len(sizes) == 1:
        alone = np.repeat(values, len(where), axis=0)
        return alone, alone, alone
    logs, x = np.log(sizes), np.log(where)
    right = np.clip(np.searchsorted(sizes, where), 1, len(sizes) - 1)
    share = ((x - logs[right - 1]) / (logs[right] - logs[right - 1]))[:, None]
    below, above = values[right - 1], values[right]
    between = (1.0 - share) * below + share * above
    return (
        between,
        np.where(np.isclose(share, 1.0), above, below),
        np.where(np.isclose(share, 0.0), below, above),
    )


def compare(
    final: pd.DataFrame,
    at: str = "width",
    metric: str = RETURN,
    reference: float = 0.0,
    seed: int = 0,
    margin: float = 0.0,
) -> pd.DataFrame:
    """Every sparsity beside a reference at equal width, parameters, FLOPs or time.

    Where no pair of networks is equal, the other curve is read between its points, linear in the
    logarithm of the size; nothing is read beyond its ends. Where the two points beside differ beyond
    doubt there may be a cliff between them: the interval then reaches around what either would give.

    Args:
        final: one row per run, of one series (:func:`sparse_rl.analysis.scores.final_values`).
        at: what is held equal, of ``MATCHES``.
        reference: the sparsity that the others are compared with.
        margin: differences within it do not matter (:func:`.verdicts.verdict`).

    Returns:
        ``sparsity``, ``size`` (of the reference's points), ``reference``, the value in column
        ``metric``, ``difference`` with ``low`` and ``high``, which hold together for all lines,
        ``verdict``, ``seeds`` that at most would tell ``margin`` (nan without one), and ``between``:
        whether the interval is around two points.

    Raises:
        ValueError: ``at`` is unknown, no run has the reference's sparsity, several widths of a sparsity
            have the same size, or cells hold different tasks.
    """
    if at not in MATCHES:
        raise ValueError(f"at must be one of {', '.join(MATCHES)}, got {at!r}")
    by = ["width", "sparsity"]
    scores.refuse_uneven_tasks(final, by)
    cells = scores.cell_estimates(final, metric, by, seed=seed, method="t")
    mean_sizes = final.assign(_size=final[at]).groupby(by)["_size"].mean()
    sizes = dict(zip(cells, mean_sizes.astype(float), strict=True))
    if mean_sizes.groupby("sparsity").apply(lambda own: own.dropna().duplicated().any()).any():
        raise ValueError(
            f"networks of several widths have the same {MATCHES[at]}: no curve goes along it"
        )
    runs = int(final.groupby(by)["run_id"].nunique().min())
    levels = sorted({float(cell[1]) for cell in cells})
    if reference not in levels:
        raise ValueError(f"no run has sparsity {reference:g}; there are {levels}")
    lines, three = _differences(cells, sizes, reference, metric)
    table = pd.DataFrame(lines, columns=["sparsity", "size", "reference", metric, "difference"])
    if not lines:
        return table.assign(low=0.0, high=0.0, verdict="", seeds=0.0, between=False)
    return table.assign(**_judged(np.concatenate(three, axis=1), runs, margin))


def _differences(
    cells: Mapping[Cell, Estimate], sizes: Mapping[Cell, float], reference: float, metric: str
) -> tuple[list[dict[str, float]], list[Floats]]:
    """Every sparsity less the reference at its sizes: lines of values; per sparsity [between,
    below, above; sizes; 1 + resamples]."""
    base_sizes, base = _along(cells, sizes, reference)
    lines: list[dict[str, float]] = []
    three: list[Floats] = []
    for level in sorted({float(cell[1]) for cell in cells} - {reference}):
        own_sizes, own = _along(cells, sizes, level)
        within = (base_sizes >= own_sizes[0]) & (base_sizes <= own_sizes[-1])
        if not within.any():
            continue
        theirs = base[within]
        ours = np.stack(_neighbours(own_sizes, own, base_sizes[within]))
        three.append(ours - theirs)
        lines += [
            {"sparsity": level, "size": size, "reference": r, metric: o, "difference": o - r}
            for size, r, o in zip(base_sizes[within], theirs[:, 0], ours[0, :, 0], strict=True)
        ]
    return lines, three


def _judged(three: Floats, runs: int, margin: float) -> dict[str, list[Any]]:
    """Intervals and verdicts of differences [between, below, above; comparisons; 1 + resamples]."""
    value, samples = three[..., 0], three[..., 1:]
    step = samples[2] - samples[1]
    doubt = np.minimum((step > 0).mean(1), (step < 0).mean(1))
    cliff = (np.ptp(step, axis=1) > 0) & (doubt < (1.0 - statistics.LEVEL) / 2.0)
    low, high = verdicts.together(value[0], samples[0])
    around = [verdicts.together(value[i], samples[i]) for i in (1, 2)]
    low = np.where(cliff, np.minimum(around[0][0], around[1][0]), low)
    high = np.where(cliff, np.maximum(around[0][1], around[1][1]), high)
    seeds = [
        verdicts.seeds_at_most(runs, (b - a) / 2, margin) if margin > 0 and not c else float("nan")
        for a, b, c in zip(low, high, cliff, strict=True)
    ]
    words = [verdicts.verdict(a, b, margin) for a, b in zip(low, high, strict=True)]
    return {
        "low": list(low), "high": list(high), "verdict": words, "seeds": seeds, "between": list(cliff),
    }  # fmt: skip
