"""What a series of runs shows, in tables; every line with the query of its rows."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from sparse_rl.analysis import answers, fits, laws, scores, statistics
from sparse_rl.analysis.figures import METRICS
from sparse_rl.analysis.fits import Choice, Fit, Points
from sparse_rl.analysis.scores import RETURN, TRAINING_RETURN
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.statistics import Estimate, interval
from sparse_rl.analysis.thresholds import Crossing, data_to_threshold
from sparse_rl.records.results import EPISODES_DISTINCT

RESAMPLES = 500
"""For laws, each of which is fitted as often."""

AGGREGATES = {
    "mean": statistics.mean, "median": statistics.median, "interquartile mean": statistics.iqm,
    "optimality gap": statistics.optimality_gap,
}  # fmt: skip

BESIDE_RETURN = (TRAINING_RETURN, EPISODES_DISTINCT)
"""What stands beside every return: one without the other can mislead."""

HEALTH = (
    "dormant_ratio/critic", "srank/critic", "grad_norm/critic", "feature_norm/critic",
    "unread_inputs/actor", "unread_inputs/critic",
    "disconnected_ratio/actor", "disconnected_ratio/critic",
)  # fmt: skip


def spread(value: float, low: float, high: float) -> str:
    """``value [low, high]``; nothing in brackets where there is no interval."""
    return f"{value:.4g}" if np.isnan(low) else f"{value:.4g} [{low:.4g}, {high:.4g}]"


def over_runs(values: statistics.Floats) -> str:
    """The interquartile mean of one number per run, with its 95 % interval."""
    made = statistics.bootstrap(statistics.scores({"": values}), seed=0)
    return spread(*(float(x) for x in made[:3]))


def _with_neighbours(metrics: Sequence[str]) -> Iterator[str]:
    for metric in metrics:
        yield metric
        yield from BESIDE_RETURN if metric == RETURN else ()


def cell_table(series: Series, metrics: Sequence[str] = tuple(METRICS)) -> pd.DataFrame:
    """One row per width and sparsity: interquartile means with intervals, and where they come from.

    Returns of evaluations stand beside those of training and the number of distinct episodes.

    ``diverged`` runs are among ``runs``. ``rows`` is the query that finds the cell among the rows of
    :func:`sparse_rl.analysis.load`.
    """
    by = ["width", "sparsity"]
    columns = []
    for metric in _with_neighbours(metrics):
        if metric not in series.rows or series.rows[metric].isna().all():
            continue
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


def optimum_table(series: Series) -> pd.DataFrame:
    """The best sparsity of each width: of those measured, and by the surface fitted to all of them."""
    final = scores.final_values(series.rows, RETURN)
    points = joint_points(series)
    sizes = dict(zip(final["width"], final[_total(series)], strict=True))
    fit = None if fits.unsupported(laws.SURFACE, points) else fits.fit(laws.SURFACE, points)
    levels = np.linspace(0.0, float(final["sparsity"].max()), 96)
    found = []
    for width, of_width in final.groupby("width"):
        cells = scores.cell_estimates(of_width, RETURN, ["sparsity"])
        best = answers.best_measured(list(cells.values()), [cell[0] for cell in cells])
        told = answers.best_by_law(fit, float(sizes[width]), levels) if fit else None
        found.append(
            {
                "width": width, "best measured": spread(*best[:3]), "best in": f"{best.share:.0%}",
                "best by the surface": spread(*told[:3]) if told else "too few cells to fit it",
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def improvement_table(series: Series) -> pd.DataFrame:
    """Probability that a sparse run scores above a dense one of the same width (Agarwal et al. 2021)."""
    cells = scores.cell_scores(scores.final_values(series.rows, RETURN), RETURN, ["width", "sparsity"])
    found = []
    for (width, sparsity), cell in cells.items():
        dense = cells.get((width, 0.0))
        if sparsity > 0 and dense is not None and len(set(dense.task)) == len(set(cell.task)):
            chance = statistics.probability_of_improvement(cell, dense, RESAMPLES)
            words = spread(float(chance.value), float(chance.low), float(chance.high))
            found.append({"width": width, "sparsity": sparsity, "P(above dense)": words})
    return pd.DataFrame(found)


def aggregates(series: Series) -> Iterator[pd.DataFrame]:
    """Mean, median, interquartile mean and optimality gap of normalised scores, per width and sparsity.

    One table, or none where a task has no known range.
    """
    final = scores.final_values(series.rows, RETURN)
    try:
        final = final if final["env"].nunique() > 1 else scores.normalised(final)
    except ValueError:
        return
    by = ["width", "sparsity"]
    columns = {
        name: {
            cell: spread(float(e.value), float(e.low), float(e.high))
            for cell, e in scores.cell_estimates(final, RETURN, by, statistic).items()
        }
        for name, statistic in AGGREGATES.items()
    }
    yield pd.DataFrame(columns).rename_axis(by).reset_index()


def _total(series: Series) -> str:
    return "parameters_total" if size_of(series) == "parameters_nonzero" else "width"


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
    final = scores.final_values(series.rows, RETURN)
    cells = scores.cell_estimates(final, RETURN, [_total(series), "sparsity"], resamples=RESAMPLES)
    return answers.points(list(cells.values()), [c[0] for c in cells], [c[1] for c in cells])


def parameters(fit: Fit) -> str:
    """A law's parameters with their intervals."""
    found = fits.values(fit).items()
    return "; ".join(f"{name} = {v.problem or spread(v.value, v.low, v.high)}" for name, v in found)


def law_table(choice: Choice, points: Points) -> pd.DataFrame:
    """One row per law: its parameters, its prediction of the held-out sizes and how far it was off."""
    low, high = interval(points.samples[choice.held])
    rows = []
    for name, trial in choice.trials.items():
        told = zip(trial.predicted, trial.low, trial.high, strict=True)
        seen = zip(points.score[choice.held], low, high, strict=True)
        rows.append(
            {
                "law": name, "formula": trial.fit.law.formula, "parameters": parameters(trial.fit),
                "predicted": "; ".join(spread(*each) for each in told),
                "measured": "; ".join(spread(*each) for each in seen),
                "held-out error": trial.error, "best in": f"{choice.shares[name]:.0%}",
            }
        )  # fmt: skip
    refused = [{"law": name, "parameters": reason} for name, reason in choice.refused.items()]
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(refused)], ignore_index=True)


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


def _training_return(series: Series, budget: float, cell: scores.Cell) -> dict[str, str]:
    """The return of training episodes of a cell's runs at a budget of FLOPs, where there is one."""
    if TRAINING_RETURN not in series.rows:
        return {}
    rows = series.rows[(series.rows["width"] == cell[0]) & (series.rows["sparsity"] == cell[1])]
    at = scores.at_budget(rows, "flops", budget, TRAINING_RETURN)
    if at.empty:
        return {}
    (found,) = scores.cell_estimates(at, TRAINING_RETURN, ["width", "sparsity"]).values()
    return {TRAINING_RETURN: spread(float(found.value), float(found.low), float(found.high))}


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
                **_training_return(series, budget, best),
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


def normalised_finals(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Final scores of every run, normalised: one table, or none where a task has no known range."""
    try:
        yield scores.normalised(scores.final_values(rows, RETURN))
    except ValueError:
        return
