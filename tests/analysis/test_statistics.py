"""Aggregates and intervals by hand, and beside the field's reference library where it is installed."""

import numpy as np
import pytest
from scipy import stats

from sparse_rl.analysis import intervals, statistics
from sparse_rl.analysis.statistics import Scores

TWO_TASKS = statistics.scores({"a": [0.0, 1.0, 2.0, 9.0], "b": [4.0, 5.0, 6.0, 7.0]})
UNEQUAL = statistics.scores({"a": [1.0], "b": [3.0, 5.0]})


def test_aggregates_by_hand() -> None:
    assert statistics.mean(TWO_TASKS) == pytest.approx((3.0 + 5.5) / 2)
    assert statistics.median(TWO_TASKS) == pytest.approx((3.0 + 5.5) / 2)
    assert statistics.iqm(TWO_TASKS) == pytest.approx((2 + 4 + 5 + 6) / 4)  # without 0, 1 and 7, 9
    assert statistics.optimality_gap(TWO_TASKS, 5.0) == pytest.approx(5 - (8 / 4 + 19 / 4) / 2)


def test_every_task_weighs_the_same() -> None:
    assert statistics.mean(UNEQUAL) == pytest.approx((1 + 4) / 2)
    assert statistics.iqm(UNEQUAL) == pytest.approx(2.5)  # three runs: nothing is cut
    many = statistics.scores({"a": np.zeros(90), "b": np.ones(10)})
    assert statistics.iqm(many) == pytest.approx(0.5)


def test_the_interquartile_mean_cuts_whole_runs() -> None:
    values = np.random.default_rng(0).normal(size=(7, 5))
    by_task = {str(i): row for i, row in enumerate(values)}
    assert statistics.iqm(statistics.scores(by_task)) == pytest.approx(
        stats.trim_mean(values, 0.25, axis=None), abs=1e-12
    )


def test_a_profile_counts_the_runs_above() -> None:
    profile = intervals.performance_profile(TWO_TASKS, [-1.0, 1.0, 5.0, 9.0])
    assert profile.value == pytest.approx([1.0, (0.5 + 1) / 2, (0.25 + 0.5) / 2, 0.0])
    for at in range(4):  # scipy's, of eight runs
        share = stats.binomtest(round(8 * profile.value[at]), 8).proportion_ci(method="wilson")
        assert (profile.low[at], profile.high[at]) == pytest.approx((share.low, share.high), abs=1e-9)


def test_improvement_by_hand() -> None:
    """Task a: 1 above 0, equal to 1: ¾; task b: never above: 0."""
    x = statistics.scores({"a": [1.0], "b": [0.0]})
    y = statistics.scores({"a": [0.0, 1.0], "b": [5.0]})
    assert intervals.probability_of_improvement(x, y).value == pytest.approx(0.375)
    with pytest.raises(ValueError, match="same tasks"):
        intervals.probability_of_improvement(x, statistics.scores({"a": [1.0]}))


def test_resampling_stays_within_tasks_and_obeys_its_seed() -> None:
    drawn = statistics.resample(UNEQUAL.task, 200, seed=3)
    assert (drawn[:, 0] == 0).all()
    assert set(np.unique(drawn[:, 1:])) == {1, 2}
    assert (drawn == statistics.resample(UNEQUAL.task, 200, seed=3)).all()
    assert (drawn != statistics.resample(UNEQUAL.task, 200, seed=4)).any()


def test_intervals_of_a_mean_are_those_of_theory() -> None:
    """The bootstrap's standard error of a mean is σ/√n with the population's σ of the sample."""
    values = np.random.default_rng(1).normal(size=50)
    estimate = statistics.bootstrap(statistics.scores({"a": values}), statistics.mean, 20_000)
    error = values.std() / np.sqrt(50)
    assert estimate.samples.std() == pytest.approx(error, rel=0.03)
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_intervals_cover_as_often_as_they_say() -> None:
    """95 % of intervals hold the true mean, in truth somewhat fewer at 20 runs: bounds are binomial."""
    generator, held = np.random.default_rng(2), 0
    for draw in range(400):
        scores = statistics.scores({"a": generator.normal(size=20), "b": generator.normal(3.0, size=20)})
        estimate = statistics.bootstrap(scores, statistics.mean, 500, seed=draw)
        held += bool(estimate.low <= 1.5 <= estimate.high)
    assert 0.90 <= held / 400 <= 0.98


def test_one_run_has_no_interval() -> None:
    estimate = statistics.bootstrap(statistics.scores({"a": [1.0], "b": [2.0]}))
    assert estimate.value == 1.5
    assert np.isnan(estimate.low)


def test_the_points_of_a_curve_are_resampled_together() -> None:
    curve = np.array([[0.0, 1.0, 5.0], [10.0, 11.0, 15.0]])
    estimate = statistics.bootstrap(statistics.scores({"a": curve}), statistics.mean, 100)
    assert estimate.value == pytest.approx([2.0, 12.0])
    assert estimate.samples[1] - estimate.samples[0] == pytest.approx(np.full(100, 10.0))


@pytest.mark.parametrize("bad", [{}, {"a": [np.nan]}, {"a": []}])
def test_scores_must_be_there_and_finite(bad: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="scores"):
        statistics.scores(bad)


def test_beside_the_reference_library() -> None:
    """Values exactly, bounds of the interval within what two random draws of 5000 differ."""
    library = pytest.importorskip("rliable.library", reason="extra stats is not installed")
    metrics = pytest.importorskip("rliable.metrics")
    matrix = np.random.default_rng(5).gamma(2.0, size=(10, 7))  # runs × tasks
    ours = statistics.scores({str(task): column for task, column in enumerate(matrix.T)})
    pairs = [
        (statistics.iqm, metrics.aggregate_iqm),
        (statistics.mean, metrics.aggregate_mean),
        (statistics.median, metrics.aggregate_median),
        (
            lambda s: statistics.optimality_gap(s, 2.0),
            lambda m: metrics.aggregate_optimality_gap(m, 2.0),
        ),
    ]
    for our, their in pairs:
        estimate = statistics.bootstrap(ours, our, 5000)
        value, bounds = library.get_interval_estimates(
            {"x": matrix}, lambda m, their=their: np.array([their(m)]), reps=5000
        )
        assert estimate.value == pytest.approx(value["x"][0], abs=1e-12)
        spread = estimate.high - estimate.low
        assert [estimate.low, estimate.high] == pytest.approx(
            bounds["x"][:, 0], abs=0.05 * float(spread)
        )
    other = np.random.default_rng(6).gamma(2.5, size=(10, 7))
    theirs = metrics.probability_of_improvement(matrix, other)
    y = statistics.scores({str(task): column for task, column in enumerate(other.T)})
    assert intervals.probability_of_improvement(ours, y).value == pytest.approx(theirs, abs=1e-12)
    profile = library.create_performance_profile({"x": matrix}, np.array([0.5, 2.0]), reps=10)[0]["x"]
    assert intervals.performance_profile(ours, [0.5, 2.0]).value == pytest.approx(profile)


def test_scores_know_their_task() -> None:
    assert UNEQUAL.task.tolist() == [0, 1, 1]
    assert isinstance(UNEQUAL, Scores)


def test_what_a_median_over_tasks_is_not() -> None:
    """Means over runs of 1, 2 and 9: their median is 2, their mean 4."""
    three = statistics.scores({"a": [0.0, 2.0], "b": [1.0, 1.0, 4.0], "c": [9.0]})
    assert statistics.median(three) == 2.0
    assert statistics.mean(three) == 4.0
    assert statistics.optimality_gap(three, 3.0) == pytest.approx(3 - (1 + 5 / 3 + 3) / 3)
    assert statistics.optimality_gap(statistics.scores({"a": [0.2, 1.4]})) == pytest.approx(0.4)


def test_the_interquartile_mean_of_unequal_tasks_by_hand() -> None:
    """Eight runs, so two of eight parts of the weight go at either end. Task a has six runs of 1/12, b
    two of 1/4: in order a 0, 1, 2 | b 3 | a 5, 6, 7 | b 8. What is left are b's 3 and a's 5, 6, 7."""
    pooled = statistics.scores({"a": [5.0, 0.0, 6.0, 1.0, 7.0, 2.0], "b": [8.0, 3.0]})
    assert statistics.iqm(pooled) == pytest.approx((3 * 3 + 5 + 6 + 7) / 6)


def test_tasks_are_resampled_apart_and_evenly() -> None:
    """Two tasks of five runs: their draws are uniform and know nothing of each other."""
    task = np.repeat([0, 1], 5)
    drawn = statistics.resample(task, 6000, seed=1)
    for first, columns in ((0, drawn[:, :5]), (5, drawn[:, 5:])):
        counts = np.bincount(columns.ravel() - first, minlength=5)
        assert len(counts) == 5
        assert stats.chisquare(counts).pvalue > 1e-4
    table = np.zeros((5, 5))
    np.add.at(table, (drawn[:, 0], drawn[:, 5] - 5), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert len({tuple(row) for row in drawn}) > 5900


def test_a_task_with_many_runs_counts_once_in_an_improvement() -> None:
    """Always above on the task of one run, never on that of four: ½, and not one in five."""
    x = statistics.scores({"a": [5.0], "b": [0.0, 0.0, 0.0, 0.0]})
    y = statistics.scores({"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]})
    assert intervals.probability_of_improvement(x, y).value == 0.5
    assert intervals.probability_of_improvement(y, x).value == 0.5
    above = statistics.scores({"a": [9.0], "b": [9.0]})
    assert intervals.probability_of_improvement(above, y).value == 1.0
    assert intervals.probability_of_improvement(y, above).value == 0.0


def test_an_interval_leaves_out_a_fortieth_at_either_end() -> None:
    low, high = statistics.interval(np.arange(1001.0))
    assert (low, high) == pytest.approx((25.0, 975.0))
    twice = statistics.interval(np.stack([np.arange(1001.0), np.arange(1001.0) / 2]))
    assert twice[1] == pytest.approx([975.0, 487.5])
