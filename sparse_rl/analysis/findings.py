"""What a series of runs shows, as tables and in words; every number with the query of its rows."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from sparse_rl.analysis import answers, laws, scores, statistics
from sparse_rl.analysis.answers import MATCHES
from sparse_rl.analysis.figures import METRICS
from sparse_rl.analysis.laws import Choice, Points
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.statistics import Estimate, interval
from sparse_rl.analysis.thresholds import Crossing, data_to_threshold

RESAMPLES = 500
"""For laws, each of which is fitted as often."""

HEALTH = ("dormant_ratio/critic", "srank/critic", "grad_norm/critic", "feature_norm/critic")


def spread(value: float, low: float, high: float) -> str:
    """``value [low, high]``; nothing in brackets where there is no interval."""
    return f"{value:.4g}" if np.isnan(low) else f"{value:.4g} [{low:.4g}, {high:.4g}]"


def _list(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]


def cell_table(series: Series, metrics: Sequence[str] = tuple(METRICS)) -> pd.DataFrame:
    """One row per width and sparsity: interquartile means with intervals, and where they come from.

    ``diverged`` runs are among ``runs``. ``rows`` is the query that finds the cell among the rows of
    :func:`sparse_rl.analysis.load`.
    """
    by = ["width", "sparsity"]
    columns = []
    for metric in (m for m in metrics if m in series.rows):
        table = scores.summary(scores.final_values(series.rows, metric), metric, by).set_index(by)
        text = [spread(*row) for row in table[[metric, "low", "high"]].itertuples(index=False)]
        columns.append(pd.Series(text, index=table.index, name=metric))
    final = scores.final_values(series.rows, RETURN)
    cells = final.groupby(by)
    table = pd.concat([cells[["parameters_total", "parameters_nonzero"]].first(), *columns], axis=1)
    table["runs"] = cells["run_id"].nunique()
    table["diverged"] = cells["status"].agg(lambda status: int((status == "diverged").sum()))
    table["rows"] = [series.query(int(width), float(sparsity)) for width, sparsity in table.index]
    return table.reset_index()


def missing(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that are no points of a curve, or count as untrained: everything that is not ``done``."""
    names = ["run_id", "env", "width", "sparsity", "seed", "status", "reason"]
    return runs.loc[runs["status"] != "done", [name for name in names if name in runs]]


def size_of(series: Series) -> str:
    """What laws take as network size: surviving parameters where they are known, else the width."""
    return "parameters_nonzero" if series.rows["parameters_nonzero"].notna().all() else "width"


def curve_points(series: Series, sparsity: float) -> Points:
    """Score against size at one sparsity.

    Raises:
        ValueError: no run of it has ended.
    """
    final = scores.final_values(series.rows, RETURN)
    chosen = final[final["sparsity"] == sparsity]
    if chosen.empty:
        raise ValueError(f"no run at sparsity {sparsity:g} has ended")
    cells = scores.cell_estimates(chosen, RETURN, [size_of(series)], resamples=RESAMPLES)
    return answers.points(list(cells.values()), [cell[0] for cell in cells], sparsity)


def joint_points(series: Series) -> Points:
    """Score against total parameters (or width) and sparsity."""
    size = "parameters_total" if size_of(series) == "parameters_nonzero" else "width"
    final = scores.final_values(series.rows, RETURN)
    cells = scores.cell_estimates(final, RETURN, [size, "sparsity"], resamples=RESAMPLES)
    return answers.points(list(cells.values()), [c[0] for c in cells], [c[1] for c in cells])


def law_table(choice: Choice, points: Points) -> pd.DataFrame:
    """One row per law: its parameters, its prediction of the held-out sizes and how far it was off."""
    count = next(iter(choice.trials.values())).predicted.size
    held = np.argsort(points.size, kind="stable")[-count:]
    low, high = interval(points.samples[held])
    rows = []
    for name, trial in choice.trials.items():
        parameters = [
            f"{key} = {v.problem or spread(v.value, v.low, v.high)}"
            for key, v in laws.values(trial.fit).items()
        ]
        told = zip(trial.predicted, trial.low, trial.high, strict=True)
        seen = zip(points.score[held], low, high, strict=True)
        rows.append(
            {
                "law": name, "formula": trial.fit.law.formula, "parameters": "; ".join(parameters),
                "predicted": "; ".join(spread(*each) for each in told),
                "measured": "; ".join(spread(*each) for each in seen),
                "held-out error": trial.error, "best in": f"{choice.shares[name]:.0%}",
            }
        )  # fmt: skip
    refused = [{"law": name, "parameters": reason} for name, reason in choice.refused.items()]
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(refused)], ignore_index=True)


def holds(choice: Choice, points: Points) -> list[str]:
    """Laws whose interval for every held-out size meets the interval that was measured."""
    count = next(iter(choice.trials.values())).predicted.size
    low, high = interval(points.samples[np.argsort(points.size, kind="stable")[-count:]])
    return [
        name
        for name, trial in choice.trials.items()
        if ((trial.low <= high) & (low <= trial.high)).all()
    ]


def law_words(choice: Choice, points: Points, of: str) -> str:
    """Which law the data prefer, and whether it is any good."""
    best = choice.preferred
    agree = holds(choice, points)
    verdict = "within intervals no law agrees with what was measured"
    if agree:
        verb = "agrees" if len(agree) == 1 else "agree"
        verdict = f"within intervals {_list(agree)} {verb} with it"
    if "constant" in agree and len(agree) > 1:
        verdict += ", so these runs do not tell growth from none"
    return (
        f"{of}: shown all but the largest size, the {best} law is closest to what that size scored "
        f"(best of {len(choice.trials)} laws in {choice.shares[best]:.0%} of resamples); {verdict}."
    )


def _dense_words(series: Series) -> str:
    points = curve_points(series, 0.0)
    size = "surviving parameters" if size_of(series) == "parameters_nonzero" else "units of width"
    stop = answers.stops_paying(points)
    if np.isfinite(stop.size):
        far = f"{stop.high:,.0f}" if np.isfinite(stop.high) else "beyond the largest"
        return (
            f"Dense stops paying at {stop.size:,.0f} {size} [{stop.low:,.0f}, {far}]: the peak lies "
            f"before the largest size in {stop.share:.0%} of resamples (smallest measured: "
            f"{points.size.min():,.0f}, largest: {points.size.max():,.0f})."
        )
    return (
        f"Dense does not stop paying within the sizes measured (up to {points.size.max():,.0f} {size}; "
        f"a peak before that in {stop.share:.0%} of resamples)."
    )


def _best_words(series: Series) -> str:
    final = scores.final_values(series.rows, RETURN)
    words = []
    for width, of_width in final.groupby("width"):
        cells = scores.cell_estimates(of_width, RETURN, ["sparsity"])
        best = answers.best_measured(list(cells.values()), [c[0] for c in cells])
        words.append(f"{best.sparsity:g} [{best.low:g}, {best.high:g}] at width {width}")
    return f"The best of the sparsities measured is {_list(words)}."


def _comparison_words(series: Series, at: str) -> str:
    final = scores.final_values(series.rows, RETURN)
    table = answers.compare(final, at)
    if table.empty:
        return f"At equal {MATCHES[at]} no dense network has a sparse counterpart."
    words = [
        f"sparsity {last['sparsity']:g} differs from dense by "
        f"{last['difference']:+.4g} [{last['low']:+.4g}, {last['high']:+.4g}] at {last['size']:,.0f}"
        for _, last in table.groupby("sparsity").tail(1).iterrows()
    ]
    return f"At equal {MATCHES[at]}, where both reach furthest: {_list(words)}."


def _health_words(series: Series, metric: str = "dormant_ratio/critic") -> str:
    final = scores.final_values(series.rows, metric)
    widest = final[final["width"] == final["width"].max()]
    table = scores.summary(widest, metric, ["sparsity"])
    words = [
        f"{spread(r[metric], r['low'], r['high'])} at {r['sparsity']:g}" for _, r in table.iterrows()
    ]
    return (
        f"At width {widest['width'].iloc[0]} the critic's dormant ratio by sparsity is {_list(words)}."
    )


def words(series: Series) -> Iterator[str]:
    """What was found, one sentence after the other; what cannot be said is said to be so."""
    parts: list[Callable[[], str]] = [
        lambda: _best_words(series),
        lambda: _comparison_words(series, "width"),
        lambda: _comparison_words(series, "parameters_nonzero"),
        lambda: _dense_words(series),
    ]
    for sparsity in sorted(series.rows["sparsity"].unique()):
        parts.append(lambda s=float(sparsity): _law_words(series, s))  # type: ignore[misc]
    if "dormant_ratio/critic" in series.rows:
        parts.append(lambda: _health_words(series))
    for part in parts:
        try:
            yield part()
        except ValueError as error:
            yield f"Not to be had from these runs: {error}."


def _law_words(series: Series, sparsity: float) -> str:
    points = curve_points(series, sparsity)
    return law_words(laws.choose(laws.CURVES, points), points, f"Sparsity {sparsity:g}")


def association(series: Series, health: str) -> Estimate:
    """Spearman's rank correlation of a health metric with the return over runs, runs resampled."""
    final = scores.final_values(series.rows, RETURN).merge(
        scores.final_values(series.rows, health)[["run_id", health]], on="run_id"
    )
    both = final[[health, RETURN]].to_numpy()
    drawn = statistics.resample(np.zeros(len(both), dtype=np.int64), RESAMPLES, 0)
    samples = np.array([_rank_correlation(both[picked]) for picked in drawn])
    return Estimate(np.float64(_rank_correlation(both)), *interval(samples), samples)  # type: ignore[arg-type]


def _rank_correlation(both: statistics.Floats) -> float:
    ranks = pd.DataFrame(both).rank().to_numpy()
    if (ranks.std(axis=0) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks.T)[0, 1])


def budgets(series: Series, count: int = 4) -> list[float]:
    """Training FLOPs from what the cheapest run spent to what the dearest did, in equal ratios."""
    spent = scores.spent(series.rows, "flops").groupby(series.rows["run_id"]).max()
    return [float(b) for b in np.geomspace(spent[spent > 0].min(), spent.max() * 0.999, count)]


def frontier(series: Series) -> pd.DataFrame:
    """The best width and sparsity at each budget of FLOPs, and how sure that is."""
    found = []
    for budget in budgets(series):
        at = scores.at_budget(series.rows, "flops", budget)
        if at.empty:
            continue
        cells = scores.cell_estimates(at, RETURN, ["width", "sparsity"])
        best = max(cells, key=lambda cell: float(cells[cell].value))
        samples = np.stack([estimate.samples for estimate in cells.values()])
        share = float(np.mean(samples.argmax(0) == list(cells).index(best)))
        value = cells[best]
        found.append(
            {
                "training FLOPs": budget, "width": best[0], "sparsity": best[1],
                RETURN: spread(float(value.value), float(value.low), float(value.high)),
                "best in": f"{share:.0%}", "of cells": len(cells),
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def thresholds_of(series: Series) -> list[float]:
    """Two returns that tell cells apart: half and nine tenths of the way up to the best cell."""
    final = scores.final_values(series.rows, RETURN)
    best = scores.summary(final, RETURN, ["width", "sparsity"], resamples=2)[RETURN].max()
    first = series.rows[series.rows[RETURN].notna()].groupby("run_id")[RETURN].first().mean()
    return [float(f"{first + share * (best - first):.3g}") for share in (0.5, 0.9)]


def crossings(series: Series, threshold: float) -> dict[scores.Cell, Crossing]:
    """(width, sparsity) → env steps to a return; cells without a finished run are left out."""
    found = {}
    for cell, rows in series.rows.groupby(["width", "sparsity"]):
        if (rows["status"] == "done").any():
            found[cell] = data_to_threshold(scores.learning_curves(rows), threshold, RESAMPLES)
    return found


def data_table(series: Series) -> pd.DataFrame:
    """Env steps to each threshold, by width and sparsity."""
    columns = {}
    for threshold in thresholds_of(series):
        columns[f"env steps to {threshold:g}"] = {
            cell: f"> {c.env_steps:.0f}" if c.censored[0] else _steps(c)
            for cell, c in crossings(series, threshold).items()
        }
    return pd.DataFrame(columns).rename_axis(["width", "sparsity"]).reset_index()


def _steps(crossing: Crossing) -> str:
    low, high = interval(crossing.samples)
    never = "> " if crossing.censored[1:].mean() > 0.025 else ""
    return f"{crossing.env_steps:.0f} [{low:.0f}, {never}{high:.0f}]"


def data_points(series: Series, threshold: float, sparsity: float) -> Points:
    """Natural logarithm of the data to a threshold against size, censored where it is not reached."""
    found = {cell: c for cell, c in crossings(series, threshold).items() if cell[1] == sparsity}
    sizes = series.rows.groupby(["width", "sparsity"])[size_of(series)].first()
    size = np.array([float(sizes[cell]) for cell in found])
    return Points(
        size, np.full(size.shape, 1.0 - sparsity),
        np.log([c.env_steps for c in found.values()]),
        np.log(np.stack([c.samples for c in found.values()])),
        np.stack([c.censored for c in found.values()]),
    )  # fmt: skip


def data_words(series: Series) -> Iterator[str]:
    """Which law the data to the higher threshold follow, per sparsity."""
    threshold = thresholds_of(series)[-1]
    for sparsity in sorted(series.rows["sparsity"].unique()):
        of = f"Env steps to a return of {threshold:g} at sparsity {sparsity:g}"
        try:
            points = data_points(series, threshold, float(sparsity))
            yield law_words(laws.choose(laws.DATA, points), points, of)
        except ValueError as error:
            yield f"{of}: {error}."


def normalised_finals(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Final scores of every run, normalised: one table, or none where a task has no known range."""
    try:
        yield scores.normalised(scores.final_values(rows, RETURN))
    except ValueError:
        return
