"""Scores, budgets, thresholds and comparisons by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from made_up import flops, grid, nonzero, rows
from scipy import stats

from sparse_rl.analysis import answers, curves, ranges, scores, statistics, thresholds
from sparse_rl.analysis.curves import Curves


def study(value: dict[tuple[int, float], float]) -> pd.DataFrame:
    """(width, sparsity) → return of three seeds that differ by 1; final values."""
    return scores.final_values(grid(value), "return_mean")


def test_final_values_and_what_they_cost() -> None:
    final = scores.final_values(rows("a", [0.0] * 8 + [3.0, 5.0]), "return_mean").iloc[0]
    assert final["return_mean"] == 4.0
    assert (final["env_steps"], final["updates"]) == (1000, 300)
    assert final["flops"] == 6 * (10 * 64 + 7) * 300
    assert (final["parameters_total"], final["train_seconds"]) == (647, 20.0)


def test_a_diverged_run_counts_as_untrained() -> None:
    both = pd.concat([rows("a", [0.0, 9.0]), rows("b", [-7.0, 8.0, 9.0], status="diverged")])
    assert scores.final_values(both, "return_mean")["return_mean"].tolist() == [9.0, -7.0]
    assert scores.final_values(both, "dormant_ratio/critic")["run_id"].tolist() == ["a"]
    failed = scores.final_values(rows("c", [1.0], status="failed"), "return_mean")
    assert failed.empty


def test_scores_are_shares_of_their_tasks_range() -> None:
    frame = pd.DataFrame({"env": ["dog-run", "gymnax/Pendulum-v1"], "return_mean": [250.0, -300.0]})
    assert ranges.normalised(frame)["return_mean"].tolist() == [0.25, 0.75]
    other = pd.DataFrame({"env": ["mine"], "return_mean": [3.0]})
    assert ranges.normalised(other, ranges={"mine": (2, 4)})["return_mean"].tolist() == [0.5]
    with pytest.raises(ValueError, match="no score range is known for mine"):
        ranges.normalised(other)


@pytest.mark.parametrize(
    ("unit", "budget"), [("env_steps", 250.0), ("flops", 75.0 * flops(8, 0.0)), ("wall_time", 5.0)]
)
def test_the_value_at_a_budget_lies_between_log_points(unit: str, budget: float) -> None:
    at = scores.at_budget(rows("a", [0.0, 2.0, 6.0]), unit, budget)
    assert at["return_mean"].tolist() == pytest.approx([4.0])


def test_nothing_is_read_beyond_what_was_spent() -> None:
    assert scores.at_budget(rows("a", [0.0, 2.0]), "env_steps", 201).empty
    with pytest.raises(ValueError, match="unit must be one of env_steps, flops, wall_time"):
        scores.at_budget(rows("a", [0.0]), "hours", 1)


def test_learning_curves_keep_what_all_runs_have() -> None:
    every = pd.concat([rows("a", [1.0, 2.0, 3.0]), rows("b", [5.0, math.nan, 6.0])])
    both = curves.learning_curves(every)
    assert both.env_steps.tolist() == [100, 300]
    assert both.values.tolist() == [[1, 5], [3, 6]]
    gone = rows("c", [-1.0, 4.0], status="diverged")
    assert curves.learning_curves(pd.concat([every, gone])).values[:, 2].tolist() == [-1, -1]
    with pytest.raises(ValueError, match="no run is done"):
        curves.learning_curves(gone)


def test_the_first_crossing_by_hand() -> None:
    """The fit of 0, 4, 2, 6 is 0, 3, 3, 6."""
    steps, curve = np.array([100.0, 200, 300, 400]), np.array([0.0, 4, 2, 6])
    assert thresholds.first_crossing(steps, curve, 1.5) == pytest.approx(150)
    assert thresholds.first_crossing(steps, curve, 4.5) == pytest.approx(350)
    assert thresholds.first_crossing(steps, curve, -1.0) == 100
    assert thresholds.first_crossing(steps, curve, 6.5) == math.inf


def test_runs_that_never_cross_are_censored() -> None:
    values = np.array([[0.0, 0.0], [10.0, 0.0]])
    crossing = thresholds.data_to_threshold(
        Curves(np.array([100.0, 200.0]), values), 4.0, 400, method="percentile"
    )
    assert crossing.env_steps == pytest.approx(180)  # the mean runs from 0 to 5
    never = crossing.censored[1:]
    assert never.mean() == pytest.approx(0.25, abs=0.08)  # both resampled from the second run
    assert (crossing.samples[never] == 200).all()
    assert set(np.round(crossing.samples[~never])) == {140, 180}


def test_comparison_at_equal_width_and_at_equal_survivors() -> None:
    """Dense: 10 per doubling of the width; sparsity 0.75 halves the width that counts."""
    final = study(
        {(w, s): 10 * math.log2(w * (1 - s) ** 0.5) for w in (8, 16, 32, 64) for s in (0, 0.75)}
    )
    equal_width = answers.compare(final, "width")
    assert equal_width["size"].tolist() == [8, 16, 32, 64]
    assert equal_width["difference"].tolist() == pytest.approx([-10] * 4)
    assert (equal_width["low"] < -9).all()
    assert set(equal_width["verdict"]) == {"worse"}
    for at in ("parameters_nonzero", "flops"):
        equal = answers.compare(final, at)
        assert len(equal) == 3  # the largest dense network has no sparse equal
        assert equal["difference"].tolist() == pytest.approx([0] * 3, abs=1e-9)
        assert (equal["low"] <= 0).all()
        assert (equal["high"] >= 0).all()
    total = answers.compare(final, "parameters_total")
    assert total["difference"].tolist() == pytest.approx([-10] * 4)


def test_comparison_reads_between_points_in_the_logarithm() -> None:
    final = study({(8, 0): 0, (32, 0): 20, (16, 0.5): 3, (64, 0.5): 7})
    between = answers.compare(final, "width")
    assert between["size"].tolist() == [32]  # 8 lies outside the sparse curve
    assert between["return_mean"].tolist() == pytest.approx([5.0])


def test_a_comparison_says_what_it_knows() -> None:
    final = study({(8, 0.5): 0.0})
    with pytest.raises(ValueError, match="no run has sparsity 0; there are"):
        answers.compare(final)
    with pytest.raises(ValueError, match="at must be one of width, parameters_total"):
        answers.compare(final, "depth")
    lone = answers.compare(study({(8, 0): 0, (64, 0.5): 1}))
    assert lone.empty


def test_the_best_sparsity_that_was_measured() -> None:
    final = study({(8, 0): 0.0, (8, 0.5): 5.0, (8, 0.9): 5.1})
    cells = scores.cell_estimates(final, "return_mean", ["width", "sparsity"])
    best = answers.best_measured(list(cells.values()), [s for _, s in cells])
    assert best.sparsity == 0.9
    assert (best.low, best.high) == (0.5, 0.9)  # dense is out
    assert 0.4 < best.share < 0.9


def test_a_summary_counts_runs() -> None:
    final = study({(8, 0): 2.0, (16, 0): 3.0, (32, 0): 4.0})
    table = scores.summary(final, "return_mean", ["width"])
    assert table["width"].tolist() == [8, 16, 32]
    assert table["return_mean"].tolist() == pytest.approx([2.0, 3.0, 4.0])
    half = stats.t.ppf(0.975, 4.0) / math.sqrt(3)  # cells of variance 1: 2 + 2 degrees of freedom
    assert table["low"].tolist() == pytest.approx([2.0 - half, 3.0 - half, 4.0 - half])
    assert table["runs"].tolist() == [3, 3, 3]


def test_so_few_runs_that_failures_may_not_show_have_no_interval() -> None:
    """Two cells of three runs: none is printed, and table and figure say so; a third cell tells it."""
    two = study({(8, 0): 2.0, (16, 0): 3.0})
    table = scores.summary(two, "return_mean", ["width"])
    assert table["return_mean"].tolist() == [2.0, 3.0]
    assert table[["low", "high"]].isna().all(axis=None)
    assert scores.interval_words(two, "return_mean", ["width"]).startswith("no interval (so few runs")
    assert scores.interval_doubts(two, "return_mean", ["width"])[0].startswith("No interval is given")
    found = scores.cell_estimates(two, "return_mean", ["width"])
    assert np.isfinite([e.samples for e in found.values()]).all()  # differences are still compared
    three = study({(8, 0): 2.0, (16, 0): 3.0, (32, 0): 3.0})
    assert scores.interval_words(three, "return_mean", ["width"]) == "95 % moderated t interval"


def test_returns_at_equal_flops_borrow_spread_from_all_sparsities() -> None:
    """Two widths alone have no interval, and have one beside those of another sparsity."""
    made = grid({(8, 0): 2.0, (16, 0): 3.0, (8, 0.5): 2.0, (16, 0.5): 3.0})
    cheapest = scores.final_values(made, "return_mean")["flops"].min() * 0.999
    own = scores.at_equal_flops(made, cheapest, 0.5)
    assert own["low"].notna().all()
    assert set(own["sparsity"]) == {0.5}
    alone = scores.at_equal_flops(made[made["sparsity"] == 0.5], cheapest, 0.5)
    assert alone["return_mean"].tolist() == own["return_mean"].tolist()
    assert len(alone) == 2
    assert alone["low"].isna().all()
    assert scores.at_equal_flops(made, 1e99, 0.5).empty


def test_a_range_that_is_given_stands_above_a_known_one() -> None:
    frame = pd.DataFrame({"env": ["gymnax/Pendulum-v1", "dog-run"], "return_mean": [-300.0, 250.0]})
    own = {"gymnax/Pendulum-v1": (-400.0, 600.0)}
    assert ranges.normalised(frame, ranges=own)["return_mean"].tolist() == [0.1, 0.25]


def test_what_a_run_had_spent_is_in_the_budgets_unit() -> None:
    run = rows("a", [0.0, 2.0, 6.0], sparsity=0.75, width=16)
    assert nonzero(16, 0.75) == 647
    assert scores.spent(run, "flops").tolist() == [6 * 647 * 30 * i for i in (1, 2, 3)]
    assert scores.spent(run, "env_steps").tolist() == [100, 200, 300]
    assert scores.spent(run, "wall_time").tolist() == [2.0, 4.0, 6.0]
    edge = scores.at_budget(run, "env_steps", 100.0)  # the first log point counts, and so does the last
    assert edge["return_mean"].tolist() == [0.0]
    assert scores.at_budget(run, "env_steps", 300.0)["return_mean"].tolist() == [6.0]
    assert scores.at_budget(run, "env_steps", 99.0).empty


def test_the_last_fifth_is_that_of_evaluations_and_later_than_four_fifths() -> None:
    """Evaluated at 200, 400 … 1000: of these only the last lies beyond 800."""
    values = [math.nan if i % 2 == 0 else 10.0 * i for i in range(10)]
    final = scores.final_values(rows("a", values), "return_mean").iloc[0]
    assert final["return_mean"] == 90.0
    longer = scores.final_values(rows("a", [float(i) for i in range(20)]), "return_mean").iloc[0]
    assert longer["return_mean"] == 17.5  # 1700 … 2000


def test_the_curve_of_a_cell_is_its_interquartile_mean_where_all_have_a_value() -> None:
    runs = [
        rows(f"a{i}", [v, math.nan, 2 * v], seed=i) for i, v in enumerate((0.0, 1.0, 2.0, 3.0, 30.0))
    ]
    table = curves.sample_efficiency(pd.concat(runs, ignore_index=True))
    assert table["env_steps"].tolist() == [100, 300]
    assert table["return_mean"].tolist() == [2.0, 4.0]  # of 0, 1, 2, 3, 30 without the ends
    assert (table["high"] > table["return_mean"]).all()
    failed = rows("f", [9.0, 9.0, 9.0], env="probe/y", status="failed")
    two = curves.sample_efficiency(pd.concat([*runs, failed], ignore_index=True))
    assert two["return_mean"].tolist() == [2.0, 4.0]


def test_cells_are_resampled_independently_of_each_other() -> None:
    """Two cells of equal scores: what one draws says nothing of what the other does."""
    final = study({(8, 0): 5.0, (16, 0): 5.0})
    one, two = scores.cell_estimates(final, "return_mean", ["width"], statistics.mean, 4000).values()
    assert abs(np.corrcoef(one.samples, two.samples)[0, 1]) < 4 / math.sqrt(4000)
    again, _ = scores.cell_estimates(final, "return_mean", ["width"], statistics.mean, 4000).values()
    assert (one.samples == again.samples).all()


def test_an_interval_of_a_difference_has_the_spread_of_both() -> None:
    """Dense scores 0, 2, 4, sparse 11, 13, 15: variance 4, 4 degrees of freedom each. The interval
    is that of a difference of two such t variables (Behrens and Fisher), drawn here by scipy."""
    frames = []
    for i, own in enumerate((0.0, 2.0, 4.0)):
        frames += [
            rows(f"d{i}", [own] * 3, 0.0, 8, seed=i),
            rows(f"s{i}", [11.0 + own] * 3, 0.5, 8, seed=i),
        ]
    final = scores.final_values(pd.concat(frames, ignore_index=True), "return_mean")
    (line,) = answers.compare(final, "width", margin=6.0).to_dict("records")
    assert (line["reference"], line["return_mean"]) == pytest.approx((2.0, 13.0))
    draws = stats.t.rvs(4.0, size=(2, 400_000), random_state=0) * math.sqrt(4 / 3)
    half = np.quantile(np.abs(draws[0] - draws[1]), 0.95)
    assert (line["low"], line["high"]) == pytest.approx((11 - half, 11 + half), abs=0.15 * half)
    assert (line["verdict"], line["between"]) == ("better", False)
    told = math.ceil(3 * ((line["high"] - line["low"]) / 2 / (0.7 * 6.0)) ** 2)
    assert line["seeds"] == told


def test_the_best_of_cells_whose_order_cannot_be_doubted() -> None:
    final = study({(8, 0): 20.0, (8, 0.5): 90.0, (8, 0.9): 50.0})
    cells = scores.cell_estimates(final, "return_mean", ["sparsity"])
    best = answers.best_measured(list(cells.values()), [s for (s,) in cells])
    assert best[:3] == (0.5, 0.5, 0.5)
    assert best.share > 0.99


def test_data_to_a_threshold_is_resampled_over_runs() -> None:
    """Runs that cross 5 at 100, 200 and 400 env steps; their mean 0, 10/3, 20/3, … by hand."""
    values = np.array([[10.0, 0, 0], [10, 10, 0], [10, 10, 0], [10, 10, 10]])
    crossing = thresholds.data_to_threshold(
        Curves(np.array([100.0, 200, 300, 400]), values), 5.0, 3000, method="percentile"
    )
    assert crossing.env_steps == pytest.approx(150)  # from 10/3 to 20/3
    assert not crossing.censored.any()
    assert (crossing.samples == 100).mean() == pytest.approx(7 / 27, abs=0.03)  # two or three fast ones
    assert crossing.samples.max() == pytest.approx(350)  # the slow one alone: from 0 to 10 at the end
    assert len(crossing.samples) == 3000
    assert len(crossing.censored) == 3001
