"""What a series of runs shows, in words; what cannot be said is said to be so."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from sparse_rl.analysis import answers, fits, laws, scores, tables
from sparse_rl.analysis.answers import MATCHES
from sparse_rl.analysis.fits import Choice, Points
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.statistics import interval
from sparse_rl.records.results import EPISODES_DISTINCT


def _list(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]


def holds(choice: Choice, points: Points) -> list[str]:
    """Laws whose interval for every held-out size meets the interval that was measured."""
    low, high = interval(points.samples[choice.held])
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
    points = tables.curve_points(series, 0.0)
    size = "surviving parameters" if tables.size_of(series) == "parameters_nonzero" else "units of width"
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
    if final["sparsity"].nunique() == 1:
        raise ValueError(f"only sparsity {final['sparsity'].iloc[0]:g} was measured")
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
        f"{tables.spread(r[metric], r['low'], r['high'])} at {r['sparsity']:g}"
        for _, r in table.iterrows()
    ]
    return (
        f"At width {widest['width'].iloc[0]} the critic's dormant ratio by sparsity is {_list(words)}."
    )


def episode_words(series: Series) -> Iterator[str]:
    """Of how many runs the last evaluation was one episode over and over; nothing where of none."""
    if EPISODES_DISTINCT not in series.rows:
        return
    known = series.rows.dropna(subset=[EPISODES_DISTINCT]).sort_values("env_steps")
    last = known.groupby("run_id")[EPISODES_DISTINCT].last()
    alone = int((last == 1).sum())
    if alone:
        yield (
            f"In {alone} of {len(last)} runs all episodes of the last evaluation are one and the same: "
            "return_mean is the return of that one, to be read beside train_return_mean."
        )


def association_words(series: Series, measured: Sequence[str]) -> Iterator[str]:
    """Rank correlations of health with the return; two runs have none."""
    runs = scores.final_values(series.rows, RETURN)["run_id"].nunique()
    for metric in measured:
        of = f"{series.label}: Spearman's rank correlation of {metric} with the return"
        if runs < 3:
            yield f"{of} needs three runs, there are {runs}."
        else:
            low_high = tables.spread(*map(float, tables.association(series, metric)[:3]))
            yield f"{of} over {runs} runs is {low_high}."


def words(series: Series) -> Iterator[str]:
    """What was found, one sentence after the other; what cannot be said is said to be so."""
    yield from episode_words(series)
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
    points = tables.curve_points(series, sparsity)
    return law_words(fits.choose(laws.CURVES, points), points, f"Sparsity {sparsity:g}")


def data_words(series: Series) -> Iterator[str]:
    """Which law the data to the higher threshold follow, per sparsity."""
    threshold = tables.thresholds_of(series)[-1]
    for sparsity in sorted(series.rows["sparsity"].unique()):
        of = f"Env steps to a return of {threshold:g} at sparsity {sparsity:g}"
        try:
            points = tables.data_points(series, threshold, float(sparsity))
            yield law_words(fits.choose(laws.DATA, points), points, of)
        except ValueError as error:
            yield f"{of}: {error}."
