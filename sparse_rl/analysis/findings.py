"""What a series of runs shows, in words; what cannot be said is said to be so."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import get_args

import numpy as np

from sparse_rl.analysis import answers, budgets, choices, laws, scores, tables, verdicts
from sparse_rl.analysis.answers import MATCHES
from sparse_rl.analysis.choices import Choice
from sparse_rl.analysis.scores import RETURN
from sparse_rl.analysis.series import Series
from sparse_rl.analysis.statistics import counted
from sparse_rl.records.results import EPISODES_DISTINCT


def _list(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else words[0]


def holds(choice: Choice) -> list[str]:
    """Laws of which the interval of predicted − measured holds 0 at every held-out size."""
    return [
        name
        for name, trial in choice.trials.items()
        if ((trial.off_low <= 0) & (trial.off_high >= 0)).all()
    ]


def law_words(choice: Choice, of: str) -> str:
    """Which law the data prefer, and whether it is any good."""
    best = choice.preferred
    closest = (
        f"{of}: laws were fitted to all but the largest size. The {best} law came closest to that one"
    )
    if np.isnan(choice.shares[best]):
        return f"{closest}. How sure that is cannot be said: one seed, or no spread."
    agree = holds(choice)
    verdict = "No law agrees with what was measured, within its interval."
    if agree:
        verb = "agrees" if len(agree) == 1 else "agree"
        verdict = f"Within intervals {_list(agree)} {verb} with what was measured."
    if "constant" in agree and len(agree) > 1:
        verdict += " So these runs do not tell growth from none."
    left = choice.plausible
    likely = f" Judged by all sizes (BIC), {_list(left)} may be right." if left else ""
    through = choice.trials[best].fit.interpolates
    own = " It has as many parameters as points, and runs through all of them." if through else ""
    return (
        f"{closest}: best of {counted(len(choice.trials), 'law')} in {choice.shares[best]:.0%} of "
        f"resamples.{own} {verdict}{likely}"
    )


def _size_words(series: Series) -> str:
    known = tables.size_of(series) == "parameters_nonzero"
    return "surviving parameters" if known else "units of width"


def growth_words(series: Series, sparsity: float, margin: float) -> str:
    """Whether more size still pays at one sparsity: grows, enough, declines, or these runs cannot
    tell."""
    final = scores.final_values(series.rows, RETURN)
    by = [tables.size_of(series), "sparsity"]
    scores.refuse_uneven_tasks(final, by)
    every = scores.cell_estimates(final, RETURN, by, method="t")
    cells = {float(cell[0]): e for cell, e in every.items() if cell[1] == sparsity}
    if not cells:
        raise ValueError(f"no run at sparsity {sparsity:g} has ended")
    found = verdicts.growth(list(cells.values()), list(cells), margin)
    step = verdicts.signed(found.difference, found.low, found.high)
    name = "Dense" if sparsity == 0 else f"Sparsity {sparsity:g}"
    told = f"{found.size:,.0f} {_size_words(series)}"
    if found.kind == "grows":
        return f"{name} still grows at {told}, the largest size: the last step in size brought {step}."
    if found.kind == "declines":
        return f"{name} does best at {told}: a larger size differs from that by {step}."
    within = f"within {margin:.4g}"
    if found.kind == "enough":
        beyond = f"{name} gains nothing beyond {told} {within}"
        return f"{beyond}: the best larger size differs from it by {step}."
    runs = int(final[final["sparsity"] == sparsity].groupby(by)["run_id"].nunique().min())
    seeds = verdicts.seeds_at_most(runs, (found.high - found.low) / 2, margin)
    doubt = f"These runs cannot tell {within} whether {name.lower()} still grows"
    return f"{doubt}: the last step in size brought {step}. At most {seeds:,.0f} seeds would tell."


def _best_words(series: Series) -> str:
    final = scores.final_values(series.rows, RETURN)
    if final["sparsity"].nunique() == 1:
        raise ValueError(f"only sparsity {final['sparsity'].iloc[0]:g} was measured")
    cells = scores.cell_estimates(final, RETURN, ["width", "sparsity"])
    words = []
    for width in sorted(final["width"].unique()):
        own = {cell[1]: e for cell, e in cells.items() if cell[0] == width}
        best = answers.best_measured(list(own.values()), list(own))
        words.append(f"{best.sparsity:g} [{best.low:g}, {best.high:g}] at width {width}")
    return f"The best sparsity of those measured, with its interval, is {_list(words)}."


def _comparison_words(series: Series, at: str, margin: float) -> str:
    final = scores.final_values(series.rows, RETURN)
    table = answers.compare(final, at, margin=margin)
    if table.empty:
        return f"At equal {MATCHES[at]} no dense network has a sparse counterpart."
    counts = []
    for level, lines in table.groupby("sparsity"):
        told = lines["verdict"].value_counts()
        words = [f"{told[word]} {word}" for word in get_args(verdicts.Verdict) if word in told]
        counts.append(f"sparsity {level:g}: {', '.join(words)}")
    widest = [
        f"{verdicts.signed(*last[['difference', 'low', 'high']])} for sparsity {last['sparsity']:g} "
        f"at {last['size']:,.0f}"
        for _, last in table.groupby("sparsity").tail(1).iterrows()
    ]
    beside = f"Sparse beside dense at equal {MATCHES[at]}, {counted(len(table), 'comparison')}"
    margins = f"Differences within {margin:.4g} count as the same."
    largest = f"At the largest size that both have, sparse less dense is {_list(widest)}."
    return f"{beside}: {'; '.join(counts)}. {margins} {largest}"


def _health_words(series: Series, metric: str = "dormant_ratio/critic") -> str:
    final = scores.final_values(series.rows, metric)
    widest = final[final["width"] == final["width"].max()]
    table = scores.summary(final, metric, ["width", "sparsity"])
    table = table[table["width"] == final["width"].max()]
    words = [
        f"{tables.spread(r[metric], r['low'], r['high'])} at sparsity {r['sparsity']:g}"
        for _, r in table.iterrows()
    ]
    return (
        f"At width {widest['width'].iloc[0]} the share of dormant units in the critic is {_list(words)}."
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


def words(series: Series, margin: float | None = None) -> Iterator[str]:
    """What was found, one sentence after the other; what cannot be said is said to be so.

    Args:
        margin: differences within it do not matter; ``None``: :func:`.budgets.margin_of` these runs.
    """
    yield from episode_words(series)
    final = scores.final_values(series.rows, RETURN)
    if not final.empty:
        yield from scores.interval_doubts(final, RETURN, ["width", "sparsity"])
    levels = [float(sparsity) for sparsity in sorted(series.rows["sparsity"].unique())]
    if not final.empty:
        margin = budgets.margin_or(series, margin)
        parts: list[tuple[str, Callable[[], str]]] = [
            ("the best sparsity", lambda: _best_words(series)),
            *[(f"a comparison at equal {MATCHES[at]}", partial(_comparison_words, series, at, margin))
              for at in ("width", "parameters_nonzero")],
            *[(f"growth at sparsity {level:g}", partial(growth_words, series, level, margin))
              for level in levels],
            *[(f"a law at sparsity {level:g}", partial(_law_words, series, level)) for level in levels],
        ]  # fmt: skip
        if "dormant_ratio/critic" in series.rows:
            parts.append(("the dormant ratio", lambda: _health_words(series)))
        for what, part in parts:
            try:
                yield part()
            except ValueError as error:
                yield f"Not to be had from these runs, {what}: {error}."


def _law_words(series: Series, sparsity: float) -> str:
    points = tables.curve_points(series, sparsity)
    return law_words(choices.choose(laws.CURVES, points), f"Sparsity {sparsity:g}")


def data_words(series: Series, thresholds: Sequence[float] = ()) -> Iterator[str]:
    """Which law the data to the highest threshold follow, per sparsity."""
    threshold = max(thresholds or budgets.thresholds_of(series))
    for sparsity in sorted(series.rows["sparsity"].unique()):
        of = f"Env steps to a return of {threshold:g} at sparsity {sparsity:g}"
        try:
            points = budgets.data_points(series, threshold, float(sparsity))
            yield law_words(choices.choose(laws.DATA, points), of)
        except ValueError as error:
            yield f"{of}: {error}."
