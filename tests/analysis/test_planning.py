"""Seeds that tell a difference: by simulation of whole studies, by hand, and refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import grid, only, rows
from scipy import stats

from sparse_rl import plan_seeds
from sparse_rl.analysis import intervals, planning, scores, statistics, verdicts

WIDTHS = (8, 16)


def told(seeds: int, delta: float, comparisons: int, studies: int = 120) -> float:
    """Share of studies whose joint t intervals see a true difference of ``delta``; other cells are equal
    to their dense ones, and cells lend each other no spread."""
    print("seed 2")
    generator, seen = np.random.default_rng(2), 0
    for study in range(studies):
        runs = generator.normal(size=(2 * comparisons, seeds))
        runs[0] += delta
        found = [
            intervals.estimate(statistics.scores({"": run}), resamples=300, seed=(study, i), method="t")
            for i, run in enumerate(runs)
        ]
        value = np.array([float(e.value) for e in found]).reshape(-1, 2)
        samples = np.stack([e.samples for e in found]).reshape(-1, 2, 300)
        low, _ = verdicts.together(value[:, 0] - value[:, 1], samples[:, 0] - samples[:, 1])
        seen += bool(low[0] > 0)
    return seen / studies


@pytest.mark.parametrize(("delta", "comparisons"), [(1.5, 1), (1.2, 3)])
def test_so_many_seeds_tell_the_difference_in_four_of_five_studies(
    delta: float, comparisons: int
) -> None:
    """And half as many do not: of two cells of standard deviation 1."""
    seeds = planning.seeds_to_tell(delta, 1.0, comparisons)
    assert 0.7 <= told(seeds, delta, comparisons) <= 0.92
    assert told(seeds // 2, delta, comparisons) < 0.6


def test_seeds_by_the_book() -> None:
    """Two samples, a difference of 1 sd, 80 %: 17 each (Cohen 1988); the interquartile mean takes 1.19
    times as many, and one degree of freedom more or less."""
    assert planning.power(17, 1.0, 2**0.5 / (2 * 1.19) ** 0.5) == pytest.approx(0.807, abs=0.002)
    by_scipy = stats.nct.sf(stats.t.ppf(0.975, 4), 4, 2.0) + stats.nct.cdf(
        -stats.t.ppf(0.975, 4), 4, 2.0
    )
    assert planning.power(3, 2.0, 1.5**0.5) == pytest.approx(by_scipy, abs=1e-4)
    assert planning.seeds_to_tell(1.0, 1.0) == 20
    assert planning.seeds_to_tell(1.0, 2.0) == pytest.approx(4 * 20, abs=4)
    assert planning.seeds_to_tell(1.0, 1.0, 8) > 25
    assert planning.power(20, 1.0, 1.0) >= 0.8 > planning.power(19, 1.0, 1.0)
    least = planning.least_delta(20, 1.0)
    assert planning.power(20, least, 1.0) == pytest.approx(0.8, abs=1e-6)
    assert planning.seeds_to_tell(1e-4, 1.0) == planning.MOST
    with pytest.raises(ValueError, match="one seed tells no difference"):
        planning.least_delta(1, 1.0)
    with pytest.raises(ValueError, match="delta and sd must be above 0, got 0 and 1"):
        planning.seeds_to_tell(0.0, 1.0)


def test_noise_is_pooled_within_cells() -> None:
    """−2, 0, 2 about each of four levels: a variance of 4, whatever the levels; 8 degrees of freedom."""
    made = grid({(w, s): 100.0 * w + s for w in WIDTHS for s in (0.0, 0.5)}, seeds=(-2.0, 0.0, 2.0))
    final = scores.final_values(made, "return_mean")
    found = planning.noise(final, ["width", "sparsity"])
    assert found.sd == pytest.approx(2.0)
    assert found.free == 8
    assert found.low == pytest.approx(2.0 * (8 / 17.5345) ** 0.5, rel=1e-4)
    assert found.high == pytest.approx(2.0 * (8 / 2.17973) ** 0.5, rel=1e-4)
    whole = planning.noise(final.assign(width=8, env=final["width"].astype(str)), ["width", "sparsity"])
    assert whole.sd == pytest.approx(2.0)  # tasks of other levels are apart


def test_a_plan_says_what_it_is_of() -> None:
    """Of a way of 800 from first returns up to the best cell 5 % are 40."""
    parts = [
        rows(f"{w}{s}{i}", [0.0] + [800.0 + 20 * (i - 1)] * 9, s, w, seed=i)
        for w in WIDTHS for s in (0.0, 0.5) for i in range(3)
    ]  # fmt: skip
    made = only(pd.concat(parts, ignore_index=True))
    found = planning.plan(made, 0.05)
    assert "a difference of 40 (δ = 0.05)" in found.words[0]
    assert "standard deviation of 20 [13.51, 38.32], pooled over 4 cells" in found.words[0]
    assert found.table["comparison"].tolist() == [
        "one comparison, chosen before", "all 2 comparisons of a sparse cell with dense",
    ]  # fmt: skip
    one, all_ = found.table["seeds"]
    first = planning.seeds_to_tell(40.0, 20.0)
    assert one.startswith(f"{first} [{planning.seeds_to_tell(40.0, 13.51)}, ")
    assert int(all_.split(" ")[0]) == planning.seeds_to_tell(40.0, 20.0, 2) > first
    assert found.table["told with 3 seeds"].iloc[0] == pytest.approx(
        planning.least_delta(3, 20.0), rel=1e-3
    )
    assert len(found.words) == 1
    half = planning.plan(made, 0.1)
    assert int(half.table["seeds"].iloc[0].split(" ")[0]) < first
    for delta in (0.0, 1.5):
        with pytest.raises(ValueError, match="delta is a share of the task's range"):
            planning.plan(made, delta)


def test_a_run_that_failed_is_said_to_make_the_noise() -> None:
    cells = {(w, s): 500.0 for w in (8, 16, 32) for s in (0.0, 0.5)}
    made = grid(cells)
    made.loc[made["run_id"] == "8-0.0-0", "return_mean"] = -900.0
    said = planning.plan(only(made), 0.05).words
    assert "1 of 6 cells spread out of line" in said[1]
    assert "Without them the standard deviation is 1," in said[1]


@pytest.mark.parametrize(
    ("seeds", "reason"),
    [((0.0,), "no cell has two seeds"), ((3.0, 3.0), "all seeds of every cell are equal")],
)
def test_what_has_no_noise_has_no_plan(seeds: tuple[float, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        planning.plan(only(grid({(8, 0.0): 1.0, (8, 0.5): 2.0}, seeds=seeds)), 0.05)


def test_the_command_refuses_what_is_no_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        plan_seeds.main([str(tmp_path), "--delta", "0.05"])
    assert stopped.value.code == 2
    assert "no runs in" in capsys.readouterr().err
