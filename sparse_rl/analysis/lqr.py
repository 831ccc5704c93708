"""The calibration bench: zero-order policy gradient on LQR, beside what theory says of it (docs/lqr.md).

A run's result is the time, on its clock, and the number of updates until 1 % of the cost gap is left.
Runs that never got there and runs that diverged count as ∞ in every median.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparse_rl.analysis.statistics import LEVEL, interval

AGENT = "azopg"
CURVE = [
    "env", "width", "pattern", "sparsity", "estimator", "learning_rate_over", "clock", "work",
    "durations", "master",
]  # fmt: skip
"""What the points of one curve over numbers of workers share."""
TIME, UPDATES = "time_to_target", "updates_to_target"
RESAMPLES = 2000
SIGMA = 1.0
"""Of a lognormal duration's logarithm."""


def outcomes(runs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run of azopg that has ended, with its last row's numbers and how it ended.

    Args:
        runs: of :func:`sparse_rl.analysis.load_runs`.
        rows: of :func:`sparse_rl.analysis.load`.

    Returns:
        The runs' columns, ``clock_time``, ``delay_mean``, ``free_entries``, ``structural_gap``,
        ``failures``, ``time_to_target`` and ``updates_to_target`` (∞ where the target was not met or the
        run did not end done), ``reached``, and ``flow_updates``: those of the exact gradient flow, what
        theory says where the step is small; dense runs have the pattern ``dense``.
    """
    ended = runs[(runs["agent"] == AGENT) & runs["status"].isin(["done", "diverged", "failed"])]
    measured = [
        "run_id", "updates", "clock_time", "delay_mean", "free_entries", "structural_gap", "flow_time",
        "failures", TIME, UPDATES,
    ]  # fmt: skip
    last = rows.groupby("run_id").tail(1).reindex(columns=measured)
    found = ended.merge(last, "left", on="run_id")
    found["pattern"] = found["pattern"].where(found["sparsity"] > 0, "dense")
    done = found["status"] == "done"
    for name in (TIME, UPDATES):
        found[name] = found[name].where(done & found[name].notna(), np.inf)
    over = found["free_entries"].where(found["learning_rate_over"] == "free_entries", 1.0)
    found["flow_updates"] = found["flow_time"] * over / found["learning_rate"]
    # A dense run is the same whatever the pattern of the pruned ones beside it.
    same = ["env", "width", "pattern", "sparsity", "variant", "seed", "mask_seed"]
    return found.assign(reached=np.isfinite(found[TIME])).drop_duplicates(same)


def ledger(found: pd.DataFrame) -> pd.DataFrame:
    """How runs ended: nothing is dropped from any median."""
    counts: dict[str, Any] = {
        "runs": 1,
        "reached": found["reached"],
        "not reached": (found["status"] == "done") & ~found["reached"],
        "diverged": found["status"] == "diverged",
        "failed": found["status"] == "failed",
        "failed probes": found["failures"].fillna(0.0),
    }
    by = ["env", "width", "clock", "durations", "master", "learning_rate_over", "learning_rate"]
    counted = found.assign(**counts).groupby(by)[list(counts)].sum().astype(int)
    return counted.reset_index()


def median(values: pd.Series) -> float:
    """The upper median: finite only if more than half of the runs got there."""
    ordered = np.sort(values.to_numpy(np.float64))
    return float(ordered[len(ordered) // 2])


def _interval(samples: np.ndarray) -> tuple[float, float]:
    """As :func:`~.statistics.interval`, but of samples that may be infinite, between which nothing can
    be interpolated, or nan."""
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.nanquantile(samples, [tail, 1.0 - tail], method="nearest")
    return float(low), float(high)


def _resampled(values: np.ndarray, seed: int) -> np.ndarray:
    """Medians of resamples, float64 ``[RESAMPLES]``; equal numbers of runs are resampled alike."""
    rng = np.random.default_rng(seed)
    drawn = values[rng.integers(len(values), size=(RESAMPLES, len(values)))]
    return np.asarray(np.sort(drawn, axis=1)[:, len(values) // 2])


def _ratio(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """Bootstrap interval of a ratio of medians over the same seeds: these draw the same directions and
    initial states whatever the number of workers, so they are resampled together."""
    first, second = _resampled(above, 0), _resampled(below, 0)
    both = np.isfinite(first) | np.isfinite(second)
    with np.errstate(invalid="ignore"):
        ratios = np.where(both, first / second, np.nan)
    return _interval(ratios)


def theory(durations: str, master: str, workers: int) -> float:
    """Estimates per mean duration that M workers bring, beside one: M without a barrier.

    With one, M / E[max of M durations]: M for constant ones, M / H_M for exponential ones.
    """
    if master == "asynchronous" or durations == "constant":
        return float(workers)
    from scipy import integrate, stats  # half a second, for who has such runs

    taken = (
        stats.expon
        if durations == "exponential"
        else stats.lognorm(SIGMA, scale=np.exp(-(SIGMA**2) / 2))
    )
    longest, _ = integrate.quad(lambda x: 1.0 - taken.cdf(x) ** workers, 0.0, np.inf, limit=200)
    return float(workers / longest)


def _points(curve: pd.DataFrame, steps: Sequence[float]) -> list[dict[str, Any]]:
    """For each number of workers, the best of these steps: the one of the least median time."""
    found: list[dict[str, Any]] = []
    one: np.ndarray | None = None
    for workers, group in curve[curve["learning_rate"].isin(steps)].groupby("workers"):
        by_step = group.groupby("learning_rate")[TIME].agg(median)
        step = by_step.idxmin() if np.isfinite(by_step).any() else by_step.index.min()
        chosen = group[group["learning_rate"] == step].sort_values(["seed", "mask_seed"])
        times = chosen[TIME].to_numpy(np.float64)
        one = times if one is None else one
        low, high = _ratio(one, times)
        found.append(
            {
                "workers": workers, "step": step, "runs": len(chosen),
                "reached": int(chosen["reached"].sum()),
                "diverged": int((chosen["status"] == "diverged").sum()),
                "time": median(chosen[TIME]), "updates": median(chosen[UPDATES]),
                "flow_updates": chosen["flow_updates"].median(),
                "delay": chosen["delay_mean"].median(), "low": low, "high": high,
            }
        )  # fmt: skip
    base = found[0] if found else {}
    for point in found:
        finite = np.isfinite(base["time"])
        point["speed_up"] = base["time"] / point["time"] if finite else np.nan
    return found


def speed_up(found: pd.DataFrame) -> pd.DataFrame:
    """Every curve over numbers of workers, at its smallest step (``fixed``) and at the best (``tuned``).

    Returns:
        :data:`CURVE`, ``choice``, ``workers``, ``step``, ``runs``, ``reached``, ``diverged``, median
        ``time``, ``updates`` and ``delay``, ``speed_up`` with its 95 % bootstrap interval, and
        ``theory`` (of estimates per time). Speed-ups are beside the least number of workers.
    """
    table = []
    for axes, curve in found.groupby(CURVE, dropna=False):
        shared: dict[str, Any] = dict(zip(CURVE, axes, strict=True))
        if curve["workers"].nunique() < 2:
            continue
        steps = sorted(curve["learning_rate"].unique())
        choices = {"fixed": steps[:1]} | ({"tuned": steps} if len(steps) > 1 else {})
        for choice, allowed in choices.items():
            for point in _points(curve, allowed):
                says = theory(shared["durations"], shared["master"], point["workers"])
                table.append({**shared, "choice": choice, **point, "theory": says})
    columns = [*CURVE, "choice", "workers", "speed_up", "theory"]
    return pd.DataFrame(table) if table else pd.DataFrame(columns=columns)


def entries(found: pd.DataFrame) -> pd.DataFrame:
    """Updates to the target and structural gap by free entries, one worker, the step over the entries.

    The dense point belongs to every pattern's curve.
    """
    chosen = found[(found["workers"] == 1) & (found["learning_rate_over"] == "free_entries")]
    table = []
    by = ["env", "width", "learning_rate"]
    for axes, curve in chosen.groupby(by):
        for pattern in sorted(set(curve["pattern"]) - {"dense"}):
            mine = curve[curve["pattern"].isin([pattern, "dense"])]
            for sparsity, group in mine.groupby("sparsity"):
                low, high = _interval(_resampled(group[UPDATES].to_numpy(np.float64), 0))
                table.append(
                    {
                        **dict(zip(by, axes, strict=True)), "pattern": pattern, "sparsity": sparsity,
                        "free_entries": group["free_entries"].median(), "runs": len(group),
                        "reached": int(group["reached"].sum()), "updates": median(group[UPDATES]),
                        "flow_updates": group["flow_updates"].median(), "low": low, "high": high,
                        "structural_gap": group["structural_gap"].median(),
                        "gap_low": group["structural_gap"].min(),
                        "gap_high": group["structural_gap"].max(),
                    }
                )  # fmt: skip
    return pd.DataFrame(table)


def _slope(x: np.ndarray, groups: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Exponent of medians in x, least squares in logarithms, with its bootstrap interval."""
    samples = np.stack([_resampled(values, i) for i, values in enumerate(groups)])
    usable = samples[:, np.isfinite(samples).all(0)]
    drawn = np.polyfit(np.log(x), np.log(usable), 1)[0]
    low, high = interval(drawn)
    middles = [median(pd.Series(values)) for values in groups]
    return float(np.polyfit(np.log(x), np.log(middles), 1)[0]), float(low), float(high)


def slopes(found: pd.DataFrame) -> pd.DataFrame:
    """The exponent of updates in free entries, through the medians of :func:`entries`.

    Points whose median is infinite take no part, and are counted. ``at_equal_flow``: of updates over the
    time of the exact gradient flow, which a mask changes too. Intervals are a bootstrap over the runs
    of each point.
    """
    points, table = entries(found), []
    one = found[(found["workers"] == 1) & (found["learning_rate_over"] == "free_entries")]
    by = ["env", "width", "learning_rate", "pattern"]
    for axes, curve in points.groupby(by) if len(points) else ():
        finite = curve[np.isfinite(curve["updates"])]
        if len(finite) < 3:
            continue
        env, width, step, pattern = axes
        same = (one["env"] == env) & (one["width"] == width) & (one["learning_rate"] == step)
        chosen = one[same & one["pattern"].isin([pattern, "dense"])]
        runs = [chosen[chosen["sparsity"] == sparsity] for sparsity in finite["sparsity"]]
        x = finite["free_entries"].to_numpy(np.float64)
        raw = _slope(x, [group[UPDATES].to_numpy(np.float64) for group in runs])
        even = _slope(x, [(group[UPDATES] / group["flow_time"]).to_numpy(np.float64) for group in runs])
        values = (*axes, len(finite), len(curve) - len(finite), *raw, *even)
        table.append(values)
    columns = [
        *by, "points", "without a median", "slope", "low", "high",
        "at_equal_flow", "flow_low", "flow_high",
    ]  # fmt: skip
    return pd.DataFrame(table, columns=columns)


def joint(found: pd.DataFrame) -> pd.DataFrame:
    """Free entries × workers at the best step of each: median time, and how much less than dense.

    Returns:
        ``env``, ``width``, ``pattern``, ``sparsity``, ``free_entries``, ``workers``, ``step``, ``time``,
        ``gain``: the dense time over this one.
    """
    chosen = found[
        (found["master"] == "asynchronous")
        & (found["clock"] == "simulated")
        & (found["durations"] == "exponential")
        & (found["learning_rate_over"] == "one")
    ]
    table = []
    for axes, group in chosen.groupby(["env", "width", "pattern", "sparsity"]):
        steps = sorted(group["learning_rate"].unique())
        if len(steps) < 2 or group["workers"].nunique() < 2:
            continue
        shared = dict(zip(["env", "width", "pattern", "sparsity"], axes, strict=True))
        free = group["free_entries"].median()
        table += [{**shared, "free_entries": free, **point} for point in _points(group, steps)]
    if not table or "dense" not in {point["pattern"] for point in table}:
        return pd.DataFrame()
    frame = pd.DataFrame(table).drop(columns=["low", "high"])
    dense = frame[frame["pattern"] == "dense"].set_index(["env", "width", "workers"])["time"]
    keys = pd.MultiIndex.from_frame(frame[["env", "width", "workers"]])
    return frame.assign(gain=dense.reindex(keys).to_numpy() / frame["time"].to_numpy())


def throughput(found: pd.DataFrame) -> pd.DataFrame:
    """The real clock: estimates per second by number of workers, and the efficiency beside one."""
    real = found[(found["clock"] == "real") & (found["status"] == "done")]
    real = real.assign(rate=real["updates"] / real["clock_time"])
    table = []
    for axes, curve in real.groupby(["env", "width", "work", "durations", "master"]):
        rates = curve.groupby("workers")["rate"].median()
        least = rates.index.min()
        table += [
            {
                **dict(zip(["env", "width", "work", "durations", "master"], axes, strict=True)),
                "workers": workers, "runs": int((curve["workers"] == workers).sum()),
                "estimates_per_second": rate,
                "speed_up": rate / rates[least], "efficiency": rate * least / (rates[least] * workers),
                "delay": curve.loc[curve["workers"] == workers, "delay_mean"].median(),
            }
            for workers, rate in rates.items()
        ]  # fmt: skip
    return pd.DataFrame(table)
