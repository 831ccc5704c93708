"""The calibration bench's tables by hand: every run's time, updates and end is made up."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparse_rl.analysis import lqr, lqr_words

AXES: dict[str, Any] = {
    "env": "lqr/chain", "width": 4, "pattern": "banded", "sparsity": 0.0, "estimator": "two_point",
    "learning_rate_over": "one", "clock": "simulated", "work": "latency", "durations": "exponential",
    "master": "asynchronous", "learning_rate": 0.01, "workers": 1, "variant": "", "mask_seed": 0,
    "agent": "azopg", "status": "done",
}  # fmt: skip
FOUND: dict[str, Any] = {
    "free_entries": 32.0, "structural_gap": 0.0, "flow_time": 2.0, "failures": 0.0, "delay_mean": 0.0,
}  # fmt: skip


def frames(*ends: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ended runs, and two rows of each, of which only the last one counts."""
    runs, rows = [], []
    for i, end in enumerate(ends):
        mine = AXES | FOUND | {"clock_time": 50.0, "updates": 400.0, "seed": i} | end
        mine["variant"] = f"agent.workers={mine['workers']} agent.learning_rate={mine['learning_rate']}"
        last = {
            name: mine.pop(name) for name in (*FOUND, "clock_time", "updates", lqr.TIME, lqr.UPDATES)
        }
        runs.append({"run_id": f"run{i}", **mine})
        before = {**last, lqr.TIME: math.inf, lqr.UPDATES: math.inf, "clock_time": 1.0, "updates": 1.0}
        rows += [{"run_id": f"run{i}", **each} for each in (before, last)]
    return pd.DataFrame(runs), pd.DataFrame(rows)


def outcomes(*ends: dict[str, Any]) -> pd.DataFrame:
    """What the bench reads of ended runs."""
    return lqr.outcomes(*frames(*ends))


def end(time: float, updates: float, **axes: Any) -> dict[str, Any]:
    return {lqr.TIME: time, lqr.UPDATES: updates, **axes}


def test_what_a_run_came_to_is_in_its_last_row() -> None:
    found = outcomes(
        end(30.0, 300.0),
        end(20.0, 200.0, status="diverged"),
        end(math.nan, math.nan),
        end(9.0, 90.0, sparsity=0.5, learning_rate_over="free_entries", free_entries=16.0),
    )
    assert found[lqr.TIME].tolist() == [30.0, math.inf, math.inf, 9.0]
    assert found[lqr.UPDATES].tolist() == [300.0, math.inf, math.inf, 90.0]
    assert found["reached"].tolist() == [True, False, False, True]
    assert found["pattern"].tolist() == ["dense", "dense", "dense", "banded"]
    # time of the exact flow over the step: 2/0.01, or 2 · 16/0.01 where the step is over the entries
    assert found["flow_updates"].tolist() == pytest.approx([200.0, 200.0, 200.0, 3200.0])
    assert found["updates"].tolist() == [400.0] * 4


def test_the_ledger_counts_each_end_once() -> None:
    found = outcomes(
        end(30.0, 300.0), end(math.inf, math.inf, failures=7.0), end(1.0, 1.0, status="diverged"),
        end(1.0, 1.0, status="failed"), end(31.0, 300.0),
    )  # fmt: skip
    (line,) = lqr.ledger(found).to_dict("records")
    counts = ("runs", "reached", "not reached", "diverged", "failed", "failed probes")
    assert [line[name] for name in counts] == [5, 2, 1, 1, 1, 7]


def workers_study() -> pd.DataFrame:
    """Seeds 1, 2, 3: with one worker 60, 100, 200 at the small step and half at the large one; with four
    20, 25, 40 at the small step, and the large one diverges for two of three."""
    ends = []
    for seed, (one, four) in enumerate(((60.0, 20.0), (100.0, 25.0), (200.0, 40.0))):
        ends += [
            end(one, 10 * one, seed=seed),
            end(one / 2, 5 * one, seed=seed, learning_rate=0.02),
            end(four, 40 * four, seed=seed, workers=4, delay_mean=3.0),
            end(
                1.0, 4.0, seed=seed, workers=4, learning_rate=0.02, status="diverged" if seed else "done"
            ),
        ]  # fmt: skip
    return outcomes(*ends)


def test_speed_ups_are_ratios_of_medians_beside_one_worker() -> None:
    table = lqr.speed_up(workers_study()).set_index(["choice", "workers"])
    fixed, tuned = table.loc["fixed"], table.loc["tuned"]
    assert fixed["step"].to_dict() == {1: 0.01, 4: 0.01}
    assert tuned["step"].to_dict() == {1: 0.02, 4: 0.01}  # the larger one diverges with four
    assert fixed["time"].to_dict() == {1: 100.0, 4: 25.0}
    assert fixed["speed_up"].to_dict() == {1: 1.0, 4: 4.0}
    assert tuned["speed_up"].to_dict() == {1: 1.0, 4: 2.0}
    assert fixed["updates"].to_dict() == {1: 1000.0, 4: 1000.0}
    assert tuned["updates"].to_dict() == {1: 500.0, 4: 1000.0}
    assert fixed["theory"].to_dict() == {1: 1.0, 4: 4.0}
    assert fixed["delay"].to_dict() == {1: 0.0, 4: 3.0}
    # seeds are resampled together: 60/20, 100/25, 200/40, and nothing but these
    assert fixed["low"].to_dict() == {1: 1.0, 4: 3.0}
    assert fixed["high"].to_dict() == {1: 1.0, 4: 5.0}
    said = lqr_words.words(workers_study())
    assert (
        "asynchronous, exponential durations, fixed step: 4 times as fast [3, 5] with 4 workers "
        in (said[0])
    )
    assert "theory: 4 in estimates per time), in 1 times the updates of one." in said[0]
    assert "tuned step: 2 times as fast" in said[1]
    assert "in 2 times the updates of one." in said[1]


def test_the_gain_of_a_mask_is_dense_time_over_its_own() -> None:
    ends = []
    for sparsity, free, scale in ((0.0, 32.0, 1.0), (0.75, 8.0, 5.0)):
        for workers, time in ((1, 100.0), (4, 40.0 * (1 if sparsity else 0.5))):
            for rate, factor in ((0.01, 1.0), (0.02, 0.5)):
                ends.append(
                    end(
                        time * factor / scale, 9.0, sparsity=sparsity, free_entries=free,
                        workers=workers, learning_rate=rate,
                    )
                )  # fmt: skip
    table = lqr.joint(outcomes(*ends)).set_index(["sparsity", "workers"])
    assert table["time"].to_dict() == {(0.0, 1): 50.0, (0.0, 4): 10.0, (0.75, 1): 10.0, (0.75, 4): 4.0}
    assert table["gain"].to_dict() == {(0.0, 1): 1.0, (0.0, 4): 1.0, (0.75, 1): 5.0, (0.75, 4): 2.5}
    assert table["free_entries"].to_dict() == {
        (0.0, 1): 32, (0.0, 4): 32, (0.75, 1): 8, (0.75, 4): 8,
    }  # fmt: skip
    (said,) = [text for text in lqr_words.words(outcomes(*ends)) if text.startswith("Sparsity")]
    assert said == (
        "Sparsity 0.75 (8 entries) is 5 times as fast as dense with 1 worker(s) and 2.5 times with 4, "
        "each at its best step."
    )


def test_exponents_of_updates_away_from_one() -> None:
    """Updates 3·d^1.5, flow times d^0.5: the exponent is 1.5, and beside the flow 1."""
    ends = [
        end(
            1.0, 3 * free**1.5 * own, sparsity=1 - free / 32, free_entries=free, flow_time=free**0.5,
            learning_rate_over="free_entries", seed=seed, structural_gap=seed / 10,
        )
        for free in (4.0, 8.0, 16.0, 32.0)
        for seed, own in enumerate((0.9, 1.0, 1.2))
    ]  # fmt: skip
    (line,) = lqr.slopes(outcomes(*ends)).to_dict("records")
    assert line["slope"] == pytest.approx(1.5, abs=1e-9)
    assert line["at_equal_flow"] == pytest.approx(1.0, abs=1e-9)
    assert line["low"] < 1.5 < line["high"]
    points = lqr.entries(outcomes(*ends)).set_index("free_entries").to_dict("index")[8.0]
    assert points["updates"] == pytest.approx(3 * 8**1.5)
    assert points["low"] == pytest.approx(0.9 * 3 * 8**1.5)
    assert points["high"] == pytest.approx(1.2 * 3 * 8**1.5)
    assert points["flow_updates"] == pytest.approx(8**0.5 * 8 / 0.01)
    gaps = [points[name] for name in ("structural_gap", "gap_low", "gap_high")]
    assert gaps == pytest.approx([0.1, 0.0, 0.2])


def test_real_workers_are_counted_in_estimates_per_second() -> None:
    """400 updates in 50 s with two workers, in 20 s with six: 2.5 times as fast, of 3 possible."""
    ends = [
        end(1.0, 1.0, clock="real", workers=workers, clock_time=seconds, seed=seed, delay_mean=delay)
        for workers, seconds, delay in ((2, 50.0, 1.0), (6, 20.0, 5.0))
        for seed in range(3)
    ]
    table = lqr.throughput(outcomes(*ends)).set_index("workers")
    assert table["estimates_per_second"].to_dict() == {2: 8.0, 6: 20.0}
    assert table["speed_up"].to_dict() == {2: 1.0, 6: 2.5}
    assert table["efficiency"].to_dict() == {2: 1.0, 6: pytest.approx(2.5 / 3)}
    assert table["delay"].to_dict() == {2: 1.0, 6: 5.0}
    assert table["runs"].to_dict() == {2: 3, 6: 3}


def test_groups_of_a_slope_are_resampled_apart_and_pairs_of_a_ratio_together() -> None:
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    assert lqr._ratio(3 * values, values) == (3.0, 3.0)
    slope, low, high = lqr._slope(np.array([1.0, 2.0]), [values, values])
    assert slope == pytest.approx(0.0, abs=1e-12)
    assert low < -1.0  # equal indices would give 0 always
    assert high > 1.0


def test_a_dense_run_beside_every_pattern_counts_once() -> None:
    """It is the same whatever the pattern of the pruned ones beside it."""
    both = [end(3.0, 30.0, pattern=pattern, seed=0) for pattern in ("banded", "unstructured")]
    pruned = [end(3.0, 30.0, pattern=p, sparsity=0.5, seed=0) for p in ("banded", "unstructured")]
    assert lqr.outcomes(*frames(*both, *pruned))["pattern"].tolist() == [
        "dense", "banded", "unstructured",
    ]  # fmt: skip
