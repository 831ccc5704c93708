"""What the studies are for: how large dense should be, how sparse a width, what equal means."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sparse_rl.analysis import fits, laws, scores, statistics
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


class Stop(NamedTuple):
    """The size at which growing stops paying."""

    size: float
    """The smallest size measured where the law only falls, infinite where it rises to the largest."""
    low: float
    high: float
    share: float
    """Of resamples in which the peak lies within the sizes measured."""


def points(
    estimates: Sequence[Estimate], size: Sequence[float], sparsity: Sequence[float] | float = 0.0
) -> Points:
    """What a law of scores is fitted to: one estimate per size."""
    sizes = np.asarray(size, dtype=np.float64)
    kept = 1.0 - np.broadcast_to(np.asarray(sparsity, dtype=np.float64), sizes.shape)
    samples = np.stack([e.samples for e in estimates])
    never = np.zeros((len(sizes), 1 + samples.shape[1]), dtype=np.bool_)
    return Points(sizes, kept, np.array([float(e.value) for e in estimates]), samples, never)


def stops_paying(curve: Points) -> Stop:
    """Where the peak of score against size lies, if within the sizes measured.

    Raises:
        ValueError: the points cannot carry the law with a peak.
    """
    fit = fits.fit(laws.PEAK, curve)
    at = list(laws.PEAK.parameters).index("m")
    bend = list(laws.PEAK.parameters).index("k")
    everything = np.vstack([fit.theta, fit.thetas])
    sizes = fit.scale[2] * 2.0 ** everything[:, at]
    sizes = np.maximum(sizes, curve.size.min())
    sizes = np.where((sizes < curve.size.max()) & (everything[:, bend] > 1e-6), sizes, np.inf)
    tail = (1.0 - statistics.LEVEL) / 2.0
    low, high = np.quantile(sizes[1:], [tail, 1.0 - tail], method="nearest")
    return Stop(float(sizes[0]), float(low), float(high), float(np.isfinite(sizes[1:]).mean()))


class Optimum(NamedTuple):
    """The sparsity that scores best at one width."""

    sparsity: float
    low: float
    high: float
    share: float
    """Of resamples that agree with ``sparsity``."""


def best_measured(estimates: Sequence[Estimate], sparsity: Sequence[float]) -> Optimum:
    """The best of the sparsities that were trained, and how sure that is."""
    levels = np.asarray(sparsity, dtype=np.float64)
    best = levels[int(np.argmax([float(e.value) for e in estimates]))]
    winners = levels[np.stack([e.samples for e in estimates]).argmax(0)]
    tail = (1.0 - statistics.LEVEL) / 2.0
    low, high = np.quantile(winners, [tail, 1.0 - tail], method="nearest")
    return Optimum(float(best), float(low), float(high), float(np.mean(winners == best)))


def best_by_law(fit: Fit, size: float, sparsities: Floats) -> Optimum:
    """The best sparsity of a joint law at one total size, over a fine range of sparsities."""
    levels = np.asarray(sparsities, dtype=np.float64)
    sizes = np.full(levels.shape, float(size))
    best = levels[int(fit.predict(sizes, 1.0 - levels).argmax())]
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


def _at(sizes: Floats, values: Floats, where: Floats) -> Floats:
    """Linear in the logarithm of the size: [where, 1 + resamples]."""
    logs, x = np.log(sizes), np.log(where)
    right = np.clip(np.searchsorted(sizes, where), 1, max(len(sizes) - 1, 1))
    if len(sizes) == 1:
        return np.repeat(values, len(where), axis=0)
    share = ((x - logs[right - 1]) / (logs[right] - logs[right - 1]))[:, None]
    return (1.0 - share) * values[right - 1] + share * values[right]


def compare(
    final: pd.DataFrame, at: str = "width", metric: str = RETURN, reference: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """Every sparsity beside a reference at equal width, parameters, FLOPs or time.

    Where no pair of networks is equal, the other curve is read between its points, linear in the
    logarithm of the size; nothing is read beyond its ends.

    Args:
        final: one row per run, of one series (:func:`sparse_rl.analysis.scores.final_values`).
        at: what is held equal, of ``MATCHES``.
        reference: the sparsity that the others are compared with.

    Returns:
        ``sparsity``, ``size`` (of the reference's points), ``reference``, the value in column
        ``metric``, ``difference`` with ``low`` and ``high``, and ``better``, the share of resamples
        above the reference.

    Raises:
        ValueError: ``at`` is unknown, or no run has the reference's sparsity.
    """
    if at not in MATCHES:
        raise ValueError(f"at must be one of {', '.join(MATCHES)}, got {at!r}")
    by = ["width", "sparsity"]
    cells = scores.cell_estimates(final, metric, by, seed=seed)
    mean_sizes = final.assign(_size=final[at]).groupby(by)["_size"].mean()
    sizes = dict(zip(cells, mean_sizes.astype(float), strict=True))
    levels = sorted({float(cell[1]) for cell in cells})
    if reference not in levels:
        raise ValueError(f"no run has sparsity {reference:g}; there are {levels}")
    base_sizes, base = _along(cells, sizes, reference)
    found = []
    for level in (s for s in levels if s != reference):
        own_sizes, own = _along(cells, sizes, level)
        within = (base_sizes >= own_sizes[0]) & (base_sizes <= own_sizes[-1])
        if not within.any():
            continue
        theirs, ours = base[within], _at(own_sizes, own, base_sizes[within])
        low, high = interval((ours - theirs)[:, 1:])
        found.append(
            pd.DataFrame(
                {
                    "sparsity": level, "size": base_sizes[within], "reference": theirs[:, 0],
                    metric: ours[:, 0], "difference": ours[:, 0] - theirs[:, 0],
                    "low": low, "high": high, "better": (ours > theirs)[:, 1:].mean(1),
                }
            )
        )  # fmt: skip
    columns = ["sparsity", "size", "reference", metric, "difference", "low", "high", "better"]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)
