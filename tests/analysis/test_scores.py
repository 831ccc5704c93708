"""Scores, budgets, thresholds and comparisons by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from sparse_rl.analysis import answers, scores, thresholds
from sparse_rl.analysis.scores import Curves


def rows(
    run_id: str, returns: list[float], sparsity: float = 0.0, width: int = 8, status: str = "done",
    env: str = "probe/x", seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """A run with one row per 100 env steps; as many updates, 10·width FLOPs each."""
    points = np.arange(1, len(returns) + 1)
    kept = round((1 - sparsity) * width**2)
    return pd.DataFrame(
        {
            "env_steps": 100 * points, "updates": 100 * points, "wall_time": 2.0 * points,
            "return_mean": returns, "dormant_ratio/critic": 0.5, "run_id": run_id, "study": "s",
            "status": status, "env": env, "agent": "sac", "network": "simba", "pattern": "unstructured",
            "distribution": "uniform", "variant": "", "width": width, "sparsity": sparsity, "seed": seed,
            "mask_seed": seed, "parameters_total": width**2, "parameters_nonzero": kept,
            "flops_per_update": 10 * kept, "train_seconds": 2.0 * len(returns),
        }
    )  # fmt: skip


def study(value: dict[tuple[int, float], float]) -> pd.DataFrame:
    """(width, sparsity) → return of three seeds that differ by 1; final values."""
    runs = [
        rows(f"{width}-{sparsity}-{seed}", [at + seed - 1] * 10, sparsity, width, seed=seed)
        for (width, sparsity), at in value.items()
        for seed in range(3)
    ]
    return scores.final_values(pd.concat(runs, ignore_index=True), "return_mean")


def test_final_values_and_what_they_cost() -> None:
    final = scores.final_values(rows("a", [0.0] * 8 + [3.0, 5.0]), "return_mean").iloc[0]
    assert final["return_mean"] == 4.0
    assert (final["env_steps"], final["updates"]) == (1000, 1000)
    assert final["flops"] == 10 * 64 * 1000


def test_a_diverged_run_counts_as_untrained() -> None:
    both = pd.concat([rows("a", [0.0, 9.0]), rows("b", [-7.0, 8.0, 9.0], status="diverged")])
    assert scores.final_values(both, "return_mean")["return_mean"].tolist() == [9.0, -7.0]
    assert scores.final_values(both, "dormant_ratio/critic")["run_id"].tolist() == ["a"]
    failed = scores.final_values(rows("c", [1.0], status="failed"), "return_mean")
    assert failed.empty


def test_scores_are_shares_of_their_tasks_range() -> None:
    frame = pd.DataFrame({"env": ["dog-run", "gymnax/Pendulum-v1"], "return_mean": [250.0, -300.0]})
    assert scores.normalised(frame)["return_mean"].tolist() == [0.25, 0.75]
    other = pd.DataFrame({"env": ["mine"], "return_mean": [3.0]})
    assert scores.normalised(other, ranges={"mine": (2, 4)})["return_mean"].tolist() == [0.5]
    with pytest.raises(ValueError, match="no score range is known for mine"):
        scores.normalised(other)


@pytest.mark.parametrize(
    ("unit", "budget"), [("env_steps", 250.0), ("flops", 250.0 * 640), ("wall_time", 5.0)]
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
    curves = scores.learning_curves(every)
    assert curves.env_steps.tolist() == [100, 300]
    assert curves.values.tolist() == [[1, 5], [3, 6]]
    gone = rows("c", [-1.0, 4.0], status="diverged")
    assert scores.learning_curves(pd.concat([every, gone])).values[:, 2].tolist() == [-1, -1]
    with pytest.raises(ValueError, match="no run is done"):
        scores.learning_curves(gone)


def test_the_first_crossing_by_hand() -> None:
    """The fit of 0, 4, 2, 6 is 0, 3, 3, 6."""
    steps, curve = np.array([100.0, 200, 300, 400]), np.array([0.0, 4, 2, 6])
    assert thresholds.first_crossing(steps, curve, 1.5) == pytest.approx(150)
    assert thresholds.first_crossing(steps, curve, 4.5) == pytest.approx(350)
    assert thresholds.first_crossing(steps, curve, -1.0) == 100
    assert thresholds.first_crossing(steps, curve, 6.5) == math.inf


def test_runs_that_never_cross_are_censored() -> None:
    values = np.array([[0.0, 0.0], [10.0, 0.0]])
    crossing = thresholds.data_to_threshold(Curves(np.array([100.0, 200.0]), values), 4.0, 400)
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
    assert (equal_width["better"] < 0.01).all()
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
    table = scores.summary(study({(8, 0): 2.0, (16, 0): 3.0}), "return_mean", ["width"])
    assert table["width"].tolist() == [8, 16]
    assert table["return_mean"].tolist() == [2.0, 3.0]
    assert table["low"].tolist() == [1.0, 2.0]
    assert table["runs"].tolist() == [3, 3]
