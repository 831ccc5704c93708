"""What a series of runs shows, in tables; every line with the query of its rows."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from sparse_rl.analysis import answers, choices, fits, intervals, laws, ranges, scores, statistics
from sparse_rl.analysis.choices import Choice
from sparse_rl.analysis.figures import METRICS
from sparse_rl.analysis.fits import Fit, Points
from sparse_rl.analysis.load import TOGETHER, Problem
from sparse_rl.analysis.scores import RETURN, TRAINING_RETURN
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.statistics import Estimate, interval
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


def percent(share: float) -> str:
    """A share of resamples; nothing where no spread is known."""
    return "" if np.isnan(share) else f"{share:.0%}"


def over_runs(values: statistics.Floats) -> str:
    """The interquartile mean of one number per run, with its 95 % interval (t, from ten runs on
    percentiles)."""
    made = intervals.estimate(statistics.scores({"": values}), resamples=1)
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


def kind(series: Series) -> str:
    """What the intervals of a series' cells are called."""
    return scores.interval_words(scores.final_values(series.rows, RETURN), RETURN, ["width", "sparsity"])


def pack_note(series: Series) -> str:
    """A warning where cells shared the machine with different numbers of runs: their times differ by
    that."""
    if TOGETHER not in series.rows:
        return ""
    at_once = series.rows.groupby(["width", "sparsity"])[TOGETHER].first()
    if at_once.nunique() < 2:
        return ""
    least, most = at_once.min(), at_once.max()
    return f" (not comparable as it stands: cells trained {least:.0f} to {most:.0f} runs at once)"


def missing(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that are no points of a curve, or count as untrained: everything that is not ``done``."""
    names = ["run_id", "env", "width", "sparsity", "seed", "status", "reason"]
    return runs.loc[runs["status"] != "done", [name for name in names if name in runs]]


def troubles(problems: Sequence[Problem], rows: pd.DataFrame) -> pd.DataFrame:
    """What could not be read, and runs whose evaluations stop early: run, file, reason."""
    early = scores.stopped_early(rows) if RETURN in rows else []
    stopped = "its evaluations stop before the last fifth of its training: it has no final value"
    found = [*problems, *(Problem(run_id, "", stopped) for run_id in early)]
    return pd.DataFrame(found, columns=list(Problem._fields))


def size_of(series: Series) -> str:
    """What laws take as network size: surviving parameters where they are known, else the width."""
    return "parameters_nonzero" if series.rows["parameters_nonzero"].notna().all() else "width"


def joint_fit(points: Points, choice: Choice | None = None) -> Fit | None:
    """The joint law that is likeliest by all sizes, fitted to them; none if none can be judged.

    Not the one that is closest to the largest size: that is one size's luck, and the law of total
    parameters, which knows of no best sparsity, has it now and then.
    """
    try:
        choice = choice or choices.choose(laws.JOINT, points)
    except ValueError:
        return None
    preferred = choice.plausible[0] if choice.plausible else choice.preferred
    (law,) = (law for law in laws.JOINT if law.name == preferred)
    return fits.fit(law, points)


def optimum_table(series: Series, choice: Choice | None = None) -> pd.DataFrame:
    """The best sparsity of each width: of those measured, and by the likeliest joint law.

    Args:
        choice: of the joint laws, where it was made already.
    """
    final = scores.final_values(series.rows, RETURN)
    points = joint_points(series)
    sizes = dict(zip(final["width"], final[_total(series)], strict=True))
    fit = joint_fit(points, choice)
    levels = np.linspace(0.0, float(final["sparsity"].max()), 96)
    cells = scores.cell_estimates(final, RETURN, ["width", "sparsity"])
    found = []
    for width in sorted(final["width"].unique()):
        own = {cell[1]: e for cell, e in cells.items() if cell[0] == width}
        measured, share = "", ""
        try:
            best = answers.best_measured(list(own.values()), list(own))
            measured, share = spread(*best[:3]), f"{best.share:.0%}"
        except ValueError as error:
            measured = str(error)
        told = "too few cells to fit a law"
        if fit:
            by_law = answers.best_by_law(fit, float(sizes[width]), levels)
            told = f"{spread(*by_law[:3])} ({fit.law.name})"
        found.append(
            {"width": width, "best measured": measured, "best in": share, "best by the law": told}
        )
    return pd.DataFrame(found)


def improvement_table(series: Series) -> pd.DataFrame:
    """Probability that a sparse run scores above a dense one of the same width (Agarwal et al. 2021).

    Intervals hold together for all lines (:func:`.intervals.probability_of_improvement`).
    """
    final = scores.final_values(series.rows, RETURN)
    cells = scores.cell_scores(final, RETURN, ["width", "sparsity"])
    tasks = {cell: set(own) for cell, own in final.groupby(["width", "sparsity"])["env"]}
    pairs = [
        (cell, (cell[0], 0.0))
        for cell in cells
        if cell[1] > 0 and (cell[0], 0.0) in cells and tasks[cell] == tasks[(cell[0], 0.0)]
    ]
    found = []
    for cell, dense in pairs:
        chance = intervals.probability_of_improvement(cells[cell], cells[dense], len(pairs))
        value, low, high = (float(x) for x in chance[:3])
        words = "" if np.isnan(low) else spread(value, low, high)
        found.append({"width": cell[0], "sparsity": cell[1], "P(above dense)": words})
    return pd.DataFrame(found)


def aggregates(series: Series) -> Iterator[pd.DataFrame]:
    """Mean, median, interquartile mean and optimality gap of normalised scores, per width and sparsity.

    One table, or none where a task has no known range.
    """
    final = scores.final_values(series.rows, RETURN)
    try:
        final = final if final["env"].nunique() > 1 else ranges.normalised(final)
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
    if not (final["sparsity"] == sparsity).any():
        raise ValueError(f"no run at sparsity {sparsity:g} has ended")
    every = scores.cell_estimates(final, RETURN, [size_of(series), "sparsity"], resamples=RESAMPLES)
    cells = {cell[0]: e for cell, e in every.items() if cell[1] == sparsity}
    return answers.points(list(cells.values()), list(cells), sparsity)


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
    """One row per law: its parameters, its prediction of the held-out sizes and how far it was off.

    ``left out``: the error at each size by the law fitted to the others; ``weight``: by BIC on all
    sizes; ``misfit``: the chance of residuals as large if the law holds.
    """
    low, high = interval(points.samples[choice.held])
    rows = []
    for name, trial in choice.trials.items():
        told = zip(trial.predicted, trial.low, trial.high, strict=True)
        seen = zip(points.score[choice.held], low, high, strict=True)
        row: dict[str, object] = {
            "law": name, "held-out error": trial.error, "best in": percent(choice.shares[name]),
            "predicted": "; ".join(spread(*each) for each in told),
            "measured": "; ".join(spread(*each) for each in seen),
        }  # fmt: skip
        if name in choice.whole:
            left, _, weight, misfit = choice.whole[name]
            row |= {"left out": left, "weight": f"{weight:.0%}", "misfit": misfit}
        exact = "runs through all points shown; " if trial.fit.interpolates else ""
        row |= {"parameters": exact + parameters(trial.fit), "formula": trial.fit.law.formula}
        rows.append(row)
    refused = [{"law": name, "parameters": reason} for name, reason in choice.refused.items()]
    return pd.concat([pd.DataFrame(rows), pd.DataFrame(refused)], ignore_index=True)


def association(series: Series, health: str) -> Estimate:
    """Spearman's rank correlation of a health metric with the return over runs, runs resampled."""
    final = scores.final_values(series.rows, RETURN).merge(
        scores.final_values(series.rows, health)[["run_id", health]], on="run_id"
    )
    both = final[[health, RETURN]].to_numpy()
    drawn = statistics.resample(np.zeros(len(both), dtype=np.int64), RESAMPLES, 0)
    (value,) = _rank_correlations(both[None])
    samples = _rank_correlations(both[drawn])
    low, high = interval(samples) if np.ptp(samples) > 0 else (np.nan, np.nan)
    return Estimate(value, low, high, samples)  # type: ignore[arg-type]


def _rank_correlations(both: statistics.Floats) -> statistics.Floats:
    """[resamples]: Spearman's, of [resamples, runs, 2]; 0 where all of one are equal."""
    resamples, runs, _ = both.shape
    columns = both.transpose(1, 0, 2).reshape(runs, -1)
    ranks = pd.DataFrame(columns).rank().to_numpy()
    ranks = (ranks - ranks.mean(axis=0)).reshape(runs, resamples, 2)
    spread = np.sqrt((ranks**2).sum(axis=0))
    known = (spread > 0).all(axis=1)
    together = (ranks[..., 0] * ranks[..., 1]).sum(axis=0)
    return np.where(known, together / np.where(known, spread.prod(axis=1), 1.0), 0.0)


def normalised_finals(series: Series) -> Iterator[pd.DataFrame]:
    """Final scores of a series' runs, normalised: one table, or none where a task has no known range."""
    final = scores.final_values(series.rows, RETURN)
    try:
        yield final if final["env"].nunique() > 1 else ranges.normalised(final)
    except ValueError:
        return
